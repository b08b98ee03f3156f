//! Why a listener could not be made, as one sentence with the fix.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::PATH_LIMIT;

/// What to do about a [`BindError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindClass {
    /// The settings ask for something impossible: exit 78.
    Config,
    /// Somebody else listens there: do not start.
    InUse,
    /// The directory may appear by itself, when Dovecot starts: try again.
    Waiting,
    /// The machine refuses: exit 69.
    Environment,
}

impl BindClass {
    /// One word, for messages between processes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::InUse => "in-use",
            Self::Waiting => "waiting",
            Self::Environment => "environment",
        }
    }

    /// The inverse of [`BindClass::word`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Config, Self::InUse, Self::Waiting, Self::Environment]
            .into_iter()
            .find(|class| class.word() == word)
    }
}

/// A listener that could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct BindError {
    /// What to do about it.
    pub class: BindClass,
    /// What, why and the fix, on one line.
    pub sentence: String,
}

impl BindError {
    fn new(class: BindClass, sentence: String) -> Self {
        Self { class, sentence }
    }

    pub(super) fn in_use(path: &Path) -> Self {
        let path = path.display();
        Self::new(
            BindClass::InUse,
            format!(
                "another director (or something else) already listens on {path}: stop it; if it \
                 is Dovecot's own director, set mode = 0 on that unix_listener or fifo_listener \
                 in \"service director\" and reload Dovecot"
            ),
        )
    }

    pub(super) fn not_ours(path: &Path, wanted: &str) -> Self {
        let path = path.display();
        Self::new(
            BindClass::Config,
            format!("{path} exists and is not {wanted}: remove it or choose another path"),
        )
    }

    pub(super) fn path_too_long(path: &Path, length: usize) -> Self {
        let path = path.display();
        Self::new(
            BindClass::Config,
            format!(
                "cannot listen on {path}: a unix socket's path has at most {PATH_LIMIT} bytes and \
                 this one has {length}: choose a shorter one"
            ),
        )
    }

    pub(super) fn unknown_name(kind: &str, name: &str, path: &Path) -> Self {
        let path = path.display();
        Self::new(
            BindClass::Config,
            format!(
                "there is no {kind} \"{name}\", wanted for {path}: create it or correct the name"
            ),
        )
    }

    pub(super) fn directory(directory: &Path, path: &Path, source: &io::Error) -> Self {
        let (directory, path) = (directory.display(), path.display());
        if source.kind() == io::ErrorKind::NotFound {
            return Self::new(
                BindClass::Waiting,
                format!(
                    "cannot make {path}: the directory above {directory} does not exist; Dovecot \
                     makes its own at its first start, any other must be made by hand"
                ),
            );
        }
        Self::new(
            BindClass::Environment,
            format!(
                "cannot make {path} in {directory}: {source}{}",
                hint(source)
            ),
        )
    }

    pub(super) fn file(what: &str, path: &Path, source: &io::Error) -> Self {
        let path = path.display();
        let class = match source.kind() {
            io::ErrorKind::NotFound => BindClass::Waiting,
            _ => BindClass::Environment,
        };
        Self::new(
            class,
            format!("cannot {what} {path}: {source}{}", hint(source)),
        )
    }

    pub(super) fn tcp(address: SocketAddr, source: &io::Error) -> Self {
        let port = address.port();
        let (class, fix) = match source.kind() {
            io::ErrorKind::AddrInUse => (
                BindClass::InUse,
                format!(
                    "stop what listens there (ss -ltnp 'sport = :{port}' shows it; Dovecot's own \
                     director is switched off by port = 0 in its inet_listener), or choose another \
                     port"
                ),
            ),
            io::ErrorKind::AddrNotAvailable => (
                BindClass::Environment,
                "no interface of this machine has that address".to_owned(),
            ),
            io::ErrorKind::PermissionDenied => (
                BindClass::Environment,
                "a port below 1024 needs CAP_NET_BIND_SERVICE, or choose a higher one".to_owned(),
            ),
            _ => (
                BindClass::Environment,
                "check the address and the descriptor limit".to_owned(),
            ),
        };
        Self::new(
            class,
            format!("cannot listen on {address}: {source}: {fix}"),
        )
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            ": start Homing as root, or use a directory that its user may write to"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": use a writable directory; under systemd add it to ReadWritePaths="
        }
        io::ErrorKind::NotADirectory => ": a part of the path is not a directory",
        _ => "",
    }
}
