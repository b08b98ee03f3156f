//! What can be wrong with a line. The client is at fault in every case.

use thiserror::Error;

/// Why a line was refused. The connection is closed without a reply, as tools expect. The client's
/// words are cut short and escaped for the log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdminError {
    /// The first line is not the handshake.
    #[error("not the director-doveadm protocol, or another version of it: {0}")]
    WrongProtocol(String),
    /// A line without a byte.
    #[error("empty line")]
    Empty,
    /// Not a command.
    #[error("unknown command {0}")]
    Unknown(String),
    /// An argument is missing.
    #[error("{command}: {argument} is missing")]
    Missing {
        /// The command.
        command: &'static str,
        /// Which argument.
        argument: &'static str,
    },
    /// An argument is not what it should be.
    #[error("{command}: {argument} is {value}")]
    BadArgument {
        /// The command.
        command: &'static str,
        /// Which argument.
        argument: &'static str,
        /// What it is.
        value: String,
    },
}

/// A client's bytes for the log: printable, and not many.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 64;
    let cut = &bytes[..bytes.len().min(MOST)];
    let dots = if cut.len() < bytes.len() { "..." } else { "" };
    format!("\"{}\"{dots}", cut.escape_ascii())
}
