//! What can be driven, and how it is written on the command line.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// What is driven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A director's login socket: auth client protocol, an auth server is needed behind it.
    Login(PathBuf),
    /// A director's userdb socket: `PASS` lookups of LMTP and doveadm.
    Userdb(PathBuf),
    /// A director's authreply socket: it is sent auth's replies and adds the host; no auth needed.
    Authreply(PathBuf),
    /// A mail server or proxy: whole sessions.
    Mail(MailTarget),
}

/// A mail server or proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailTarget {
    /// What is spoken.
    pub protocol: MailProtocol,
    /// Whether and when TLS begins.
    pub security: Security,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What is spoken with a mail server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailProtocol {
    /// IMAP4rev1.
    Imap,
    /// POP3.
    Pop3,
}

/// How a mail session is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Not at all.
    Plain,
    /// TLS from the first byte.
    Tls,
    /// `STARTTLS` or `STLS` before the login.
    StartTls,
}

const RIGHT: &str = "expected login:PATH, userdb:PATH, authreply:PATH, or imap:HOST:PORT \
                     (imaps, imap-starttls, pop3, pop3s, pop3-starttls)";

impl Target {
    /// The kind, as on the command line.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Login(_) => "login",
            Self::Userdb(_) => "userdb",
            Self::Authreply(_) => "authreply",
            Self::Mail(mail) => match (mail.protocol, mail.security) {
                (MailProtocol::Imap, Security::Plain) => "imap",
                (MailProtocol::Imap, Security::Tls) => "imaps",
                (MailProtocol::Imap, Security::StartTls) => "imap-starttls",
                (MailProtocol::Pop3, Security::Plain) => "pop3",
                (MailProtocol::Pop3, Security::Tls) => "pop3s",
                (MailProtocol::Pop3, Security::StartTls) => "pop3-starttls",
            },
        }
    }

    /// Where it is.
    pub fn address(&self) -> String {
        match self {
            Self::Mail(mail) if mail.host.contains(':') => format!("[{}]:{}", mail.host, mail.port),
            Self::Mail(mail) => format!("{}:{}", mail.host, mail.port),
            Self::Login(path) | Self::Userdb(path) | Self::Authreply(path) => {
                path.display().to_string()
            }
        }
    }

    /// The socket in the file system, for kinds that have one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Login(path) | Self::Userdb(path) | Self::Authreply(path) => Some(path),
            Self::Mail(_) => None,
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_struct("Target", 2)?;
        fields.serialize_field("kind", self.kind())?;
        fields.serialize_field("address", &self.address())?;
        fields.end()
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').ok_or(RIGHT)?;
        if rest.is_empty() {
            return Err(format!("the address is empty; {RIGHT}"));
        }
        let mail = |protocol, security| mail(protocol, security, rest);
        match kind {
            "login" => Ok(Self::Login(rest.into())),
            "userdb" => Ok(Self::Userdb(rest.into())),
            "authreply" => Ok(Self::Authreply(rest.into())),
            "imap" => mail(MailProtocol::Imap, Security::Plain),
            "imaps" => mail(MailProtocol::Imap, Security::Tls),
            "imap-starttls" => mail(MailProtocol::Imap, Security::StartTls),
            "pop3" => mail(MailProtocol::Pop3, Security::Plain),
            "pop3s" => mail(MailProtocol::Pop3, Security::Tls),
            "pop3-starttls" => mail(MailProtocol::Pop3, Security::StartTls),
            _ => Err(format!("unknown kind of target \"{kind}\"; {RIGHT}")),
        }
    }
}

fn mail(protocol: MailProtocol, security: Security, address: &str) -> Result<Target, String> {
    let (host, port) = address
        .rsplit_once(':')
        .ok_or_else(|| format!("\"{address}\" has no port; {RIGHT}"))?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("\"{port}\" is no TCP port; {RIGHT}"))?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    if host.is_empty() {
        return Err(format!("the host is empty; {RIGHT}"));
    }
    Ok(Target::Mail(MailTarget {
        protocol,
        security,
        host: host.to_owned(),
        port,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        assert_eq!("login:/a:b".parse(), Ok(Target::Login("/a:b".into())));
        let kinds = "imap imaps imap-starttls pop3 pop3s pop3-starttls";
        for kind in kinds.split(' ') {
            let target: Target = format!("{kind}:[::1]:143").parse().unwrap();
            assert_eq!(
                (target.kind(), target.address().as_str()),
                (kind, "[::1]:143")
            );
        }
        for (text, part) in [
            ("login:", "empty"),
            ("smtp:/a", "unknown kind"),
            ("imap:localhost", "no port"),
            ("imap::143", "host is empty"),
            ("imap:a:0", "no TCP port"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
