//! A director's place in a ring, in the words of both programs.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
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
    /// They are at [`over_ipv6`] of their addresses.
    pub ipv6: bool,
}

/// The IPv6 address of a director that is known by this one otherwise. The order of several is the same.
pub fn over_ipv6(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = address.octets().map(u16::from);
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, a << 8 | b, c << 8 | d)
}

impl Seat {
    /// `director_servers`.
    pub fn directors(&self) -> String {
        let all = self.directors.iter();
        all.map(|address| self.place(*address).to_string())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn place(&self, address: Ipv4Addr) -> SocketAddr {
        match self.ipv6 {
            true => (over_ipv6(address), self.port).into(),
            false => (address, self.port).into(),
        }
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
        let place = self.place(address);
        let (address, port) = (place.ip(), place.port());
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
        let place = self.place(address);
        format!("\n[[listener]]\ntype = \"ring\"\naddress = \"{place}\"\n")
    }
}
