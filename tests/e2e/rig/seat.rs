//! A director's place in a ring, in the words of both programs.

use std::net::Ipv4Addr;
use std::path::Path;

/// With whom a director sits, and how.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The addresses of all directors of the ring, its own included.
    pub directors: Vec<Ipv4Addr>,
    /// Ring port of all of them.
    pub port: u16,
    /// `director_ping_idle_timeout` in seconds.
    pub ping_idle: u32,
}

impl Seat {
    /// `director_servers`.
    pub fn directors(&self) -> String {
        let all = self.directors.iter();
        all.map(|address| format!("{address}:{}", self.port))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Every line to and from others goes to a file of its own, which no failure prints.
    pub fn dovecot_settings(&self, log: &Path) -> String {
        format!(
            "director_ping_idle_timeout = {}s\nlog_debug = category=director\n\
             debug_log_path = {}",
            self.ping_idle,
            log.with_extension("debug").display()
        )
    }

    /// Inside its service.
    pub fn dovecot_listener(&self, address: Ipv4Addr) -> String {
        let port = self.port;
        format!("  inet_listener {{\n    address = {address}\n    port = {port}\n  }}")
    }

    /// Before the listeners.
    pub fn homing_settings(&self) -> String {
        format!(
            "director_servers = \"{}\"\ndirector_ping_idle_timeout = \"{} s\"\n\
             log_level = \"debug\"\n",
            self.directors(),
            self.ping_idle
        )
    }

    /// Among the listeners.
    pub fn homing_listener(&self, address: Ipv4Addr) -> String {
        let port = self.port;
        format!("\n[[listener]]\ntype = \"ring\"\naddress = \"{address}:{port}\"\n")
    }
}
