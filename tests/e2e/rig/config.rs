//! Configuration files: templates with `@NAME@` in the places that differ.

use super::dovecot::{LoginMode, Version};

/// TCP ports of one Dovecot, all above 1024.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub imap: u16,
    pub pop3: u16,
    pub lmtp: u16,
    pub sieve: u16,
    pub submission: u16,
    pub doveadm: u16,
}

impl Ports {
    /// The usual port numbers, shifted by `base`.
    pub const fn at(base: u16) -> Self {
        Self {
            imap: base + 143,
            pop3: base + 110,
            lmtp: base + 24,
            sieve: base + 419,
            submission: base + 587,
            doveadm: base + 245,
        }
    }

    /// Each protocol as Dovecot's auth calls it, with its port.
    pub fn by_protocol(self) -> [(&'static str, u16); 5] {
        [
            ("imap", self.imap),
            ("pop3", self.pop3),
            ("lmtp", self.lmtp),
            ("sieve", self.sieve),
            ("submission", self.submission),
        ]
    }

    /// For the templates.
    pub fn values(self) -> Vec<(&'static str, String)> {
        vec![
            ("PORT_IMAP", self.imap.to_string()),
            ("PORT_POP3", self.pop3.to_string()),
            ("PORT_LMTP", self.lmtp.to_string()),
            ("PORT_SIEVE", self.sieve.to_string()),
            ("PORT_SUBMISSION", self.submission.to_string()),
            ("PORT_DOVEADM", self.doveadm.to_string()),
        ]
    }
}

/// Lines for a login service.
pub fn login_mode(version: Version, mode: LoginMode) -> String {
    let lines = match (version, mode) {
        (Version::V23, LoginMode::OnePerProcess) => "service_count = 1",
        (Version::V23, LoginMode::ManyPerProcess) => "service_count = 0\n  process_min_avail = 2",
        (Version::V24, LoginMode::OnePerProcess) => "restart_request_count = 1",
        (Version::V24, LoginMode::ManyPerProcess) => {
            "restart_request_count = unlimited\n  process_min_avail = 2"
        }
    };
    lines.to_owned()
}

/// Puts the values into a template. Every placeholder must have one.
pub fn render(template: &str, values: &[(&'static str, String)]) -> String {
    let filled = values
        .iter()
        .fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("@{name}@"), value)
        });
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase());
    let left = filled
        .split('@')
        .find(|text| is_name(&text.replace('_', "")));
    assert!(left.is_none(), "no value for {left:?}");
    filled
}
