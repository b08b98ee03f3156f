//! What can stop a run before it has a result, and whose fault it is.

use std::io;
use std::path::PathBuf;

/// Why a run could not be made. Wrong replies are not errors in this sense: they are counted in
/// the [`Report`](crate::Report).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The plan contradicts itself or names something impossible.
    #[error("{setting}: {problem}; {right}")]
    Plan {
        /// The setting at fault, as it is called on the command line.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What would be right.
        right: &'static str,
    },
    /// Nobody answers at the target's address.
    #[error(
        "cannot connect to the target {address}: {source}; is it running, and is this its socket?"
    )]
    Connect {
        /// Where the target was to be.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The target took the connection and then did not finish the handshake.
    #[error("the target {address} {problem}; {hint}")]
    Handshake {
        /// Where the target is.
        address: String,
        /// What it did.
        problem: String,
        /// Where to look.
        hint: &'static str,
    },
    /// The stub auth server cannot listen where it should.
    #[error("cannot listen as auth server at {}: {source}; {hint}", path.display())]
    Listen {
        /// The socket to be made.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
        /// Where to look.
        hint: &'static str,
    },
    /// The process to be measured cannot be read.
    #[error(
        "cannot measure process {pid}: {source}; give the director's own process id, not its master's"
    )]
    Process {
        /// The process given.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused something that the generator itself needs.
    #[error("{what}: {source}")]
    Kernel {
        /// What the generator was doing.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on calls of the generator's own.
    pub(crate) fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { what, source }
    }
}
