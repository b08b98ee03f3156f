//! How far a connection's handshake is, as far as it decides which commands may come.

use super::Command;

/// Who began the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We did: the peer is our right, and sends no hosts or users.
    Dialler,
    /// The peer did.
    Acceptor,
}

/// What has been received from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: VERSION is due.
    Version,
    /// VERSION: ME is due.
    Me,
    /// ME, but no DONE: handshake lines and all others.
    Handshake,
    /// HOST-HAND-START: nothing but hosts up to HOST-HAND-END.
    Hosts,
    /// DONE: no handshake line any more.
    Established,
}

impl Stage {
    /// The stage after a command that was accepted in this one.
    #[must_use]
    pub fn after(self, command: &Command<'_>) -> Stage {
        match command {
            Command::Version { .. } => Stage::Me,
            Command::Me { .. } | Command::HostHandEnd(_) => Stage::Handshake,
            Command::HostHandStart(_) => Stage::Hosts,
            Command::Done => Stage::Established,
            _ => self,
        }
    }
}

/// What the meaning of a line depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// How far the handshake is.
    pub stage: Stage,
    /// Who began the connection.
    pub role: Role,
    /// Minor version that the peer has announced; 0 before.
    pub peer_minor: u32,
}
