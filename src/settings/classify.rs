//! What a listener of Dovecot's director service speaks: its name decides
//! (docs/protocol/configuration.md, listener classification).

use super::ListenerKind;

/// How clients reach a listener of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `unix_listener`.
    Unix,
    /// `fifo_listener`.
    Fifo,
    /// `inet_listener`.
    Tcp,
}

/// Type of a listener. `name` is the section's name: a path for unix sockets and FIFOs, any word or
/// nothing for TCP. Case matters, and only the part after the last `-` counts.
pub fn classify(name: &str, transport: Transport) -> ListenerKind {
    if transport == Transport::Fifo {
        return ListenerKind::Notify;
    }
    let base = name.rsplit('/').next().unwrap_or(name);
    match (base.rsplit('-').next().unwrap_or(base), transport) {
        ("auth", _) => ListenerKind::Login,
        ("userdb", _) => ListenerKind::Userdb,
        ("authreply", _) => ListenerKind::Authreply,
        ("ring", _) => ListenerKind::Ring,
        ("admin" | "doveadm", _) => ListenerKind::Admin,
        ("notify", _) => ListenerKind::Notify,
        (_, Transport::Tcp) => ListenerKind::Ring,
        _ => ListenerKind::Login,
    }
}

#[cfg(test)]
mod tests {
    use super::ListenerKind::*;
    use super::Transport::*;
    use super::*;

    #[test]
    fn every_row_of_the_table() {
        let rows = [
            ("login/director", Unix, Login),
            ("plainname", Unix, Login),
            ("login/foo", Unix, Login),
            ("director-userdb", Unix, Userdb),
            ("a-b-userdb", Unix, Userdb),
            ("director-authreply", Unix, Authreply),
            ("director-admin", Unix, Admin),
            ("Director-Admin", Unix, Login),
            ("director-admin-old", Unix, Login),
            ("my-notify", Unix, Notify),
            ("my-ring", Unix, Ring),
            ("login/proxy-notify", Fifo, Notify),
            ("login/anything", Fifo, Notify),
            ("x-admin", Tcp, Admin),
            ("doveadm", Tcp, Admin),
            ("notify", Tcp, Notify),
            ("", Tcp, Ring),
            ("a-ring", Tcp, Ring),
            ("admin-foo", Tcp, Ring),
            ("auth", Tcp, Login),
            ("my-userdb", Tcp, Userdb),
            ("x-authreply", Tcp, Authreply),
        ];
        for (name, transport, kind) in rows {
            assert_eq!(classify(name, transport), kind, "{name} {transport:?}");
        }
    }
}
