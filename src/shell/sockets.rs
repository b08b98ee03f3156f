//! Makes what a [`Listener`] asks for: a listening socket or a FIFO, with its mode and owner set
//! before anybody can use it; and removes it again, but nothing that somebody else made.
//!
//! Two directors on one path would split the users between them, so a path on which something
//! answers is never taken over. What nobody answers on is left from a crash, and is replaced.

mod error;
mod node;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::settings::{Listener, ListenerKind, Place};

pub use error::{BindClass, BindError};
use node::Node;

/// Connections that may wait for `accept`. The kernel cuts it to `net.core.somaxconn`, which is
/// the operator's limit; a smaller value of ours would only refuse logins in the burst after a
/// restart, when every login process connects at once.
const BACKLOG: i32 = 65_535;

/// Longest path of a unix socket in bytes, without the closing NUL.
pub const PATH_LIMIT: usize = 107;

/// How long another process may hold the directory while it binds: its own work takes
/// milliseconds.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How long a FIFO stays open after its name is gone: a writer that found the name just before
/// is inside `open` for at most a moment, and without a reader it would stay there for ever.
pub const FIFO_GRACE: Duration = Duration::from_millis(200);

/// A made listener: listening, or a FIFO open for reading and writing; non-blocking and
/// close-on-exec.
#[derive(Debug)]
pub struct Bound {
    /// What it speaks.
    pub kind: ListenerKind,
    /// The listening socket, or the FIFO.
    pub fd: OwnedFd,
    /// Where it is.
    pub place: Place,
    /// `fd` is a FIFO: read it, do not accept.
    pub is_fifo: bool,
    /// The file in the file system. Held open, so that its inode number is not given to another
    /// file while we still compare against it.
    node: Option<Node>,
}

impl Bound {
    /// A listener that somebody else made: it is used like any other and never removed.
    pub fn adopted(kind: ListenerKind, fd: OwnedFd, place: Place, is_fifo: bool) -> Self {
        Self {
            kind,
            fd,
            place,
            is_fifo,
            node: None,
        }
    }

    /// Whether the path still leads to what we made. TCP: always.
    pub fn in_place(&self) -> bool {
        match (&self.node, path_of(&self.place)) {
            (Some(node), Some(path)) => node.is_at(path),
            _ => true,
        }
    }

    /// Removes the file if we made it and it is still ours. For a FIFO keep `self` for [`FIFO_GRACE`] afterwards.
    pub fn unlink(&self) {
        if let (Some(node), Some(path)) = (&self.node, path_of(&self.place))
            && node.is_at(path)
        {
            // It can only fail because somebody was faster or took our right to: nothing to do.
            let _ = fs::remove_file(path);
        }
    }

    /// Unlinks, and lets go of the descriptor; blocks for [`FIFO_GRACE`] if it is a FIFO.
    pub fn remove(self) {
        self.unlink();
        if self.is_fifo && self.node.is_some() {
            std::thread::sleep(FIFO_GRACE);
        }
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The path of a unix socket or FIFO.
pub fn path_of(place: &Place) -> Option<&Path> {
    match place {
        Place::Unix(path) | Place::Fifo(path) => Some(path),
        Place::Tcp(_) => None,
    }
}

/// Makes the socket or FIFO of `listener`.
///
/// A missing directory is made (0755) if the directory above it exists. Blocks for at most a
/// second, when another process is binding in the same directory.
///
/// # Errors
/// One sentence: what could not be made, why, and what to do; with a class to decide by.
pub fn bind(listener: &Listener) -> Result<Bound, BindError> {
    let (fd, node) = match &listener.place {
        Place::Tcp(address) => (bind_tcp(*address)?, None),
        Place::Unix(path) => {
            let _lock = prepare_directory(path)?;
            let (fd, node) = bind_unix(path, listener)?;
            (fd, Some(node))
        }
        Place::Fifo(path) => {
            let _lock = prepare_directory(path)?;
            let (fd, node) = open_fifo(path, listener)?;
            (fd, Some(node))
        }
    };
    Ok(Bound {
        kind: listener.kind,
        fd,
        place: listener.place.clone(),
        is_fifo: matches!(listener.place, Place::Fifo(_)),
        node,
    })
}

/// Removes a socket or FIFO that a killed process left at the listener's path; leaves it alone if
/// anything still uses it or if it is another kind of file. Frees writers that wait in `open`.
pub fn remove_stale(listener: &Listener) {
    match &listener.place {
        Place::Unix(path) => {
            if matches!(probe_socket(path), Ok(Occupant::Stale)) {
                let _ = fs::remove_file(path);
            }
        }
        Place::Fifo(path) => {
            if matches!(probe_fifo(path), Ok(Occupant::Stale))
                && let Ok(_reader) = open_read_write(path)
            {
                let _ = fs::remove_file(path);
                std::thread::sleep(FIFO_GRACE);
            }
        }
        Place::Tcp(_) => {}
    }
}

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
enum Occupant {
    Nothing,
    /// Of the right kind, and nobody uses it.
    Stale,
    /// Somebody listens or reads.
    InUse,
    /// Of another kind.
    Other,
}

fn bind_tcp(address: SocketAddr) -> Result<OwnedFd, BindError> {
    let make = || -> io::Result<OwnedFd> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            None,
        )?;
        // Connections of the process before us in TIME_WAIT must not keep us from listening.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // `[::]` and `0.0.0.0` are two listeners; whoever wants both names both.
            socket.set_only_v6(true)?;
        }
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    make().map_err(|source| BindError::tcp(address, &source))
}

fn bind_unix(path: &Path, listener: &Listener) -> Result<(OwnedFd, Node), BindError> {
    let address = unix_address(path)?;
    match probe_socket(path).map_err(|source| BindError::file("listen on", path, &source))? {
        Occupant::Nothing => {}
        Occupant::Stale => fs::remove_file(path)
            .map_err(|source| BindError::file("remove the unused socket", path, &source))?,
        Occupant::InUse => return Err(BindError::in_use(path)),
        Occupant::Other => return Err(BindError::not_ours(path, "a socket")),
    }
    let fail = |source: io::Error| BindError::file("listen on", path, &source);
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(fail)?;
    // With the keeper's umask it is open to all. Between bind and listen nobody gets in for that, since
    // every connect is refused; and login processes try again when they are refused, but give up for
    // seconds when they may not connect.
    socket.bind(&address).map_err(fail)?;
    let node = Node::open(path).map_err(fail)?;
    let finish = || {
        set_access(&node, path, listener)?;
        socket.listen(BACKLOG).map_err(fail)
    };
    match finish() {
        Ok(()) => Ok((socket.into(), node)),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

fn open_fifo(path: &Path, listener: &Listener) -> Result<(OwnedFd, Node), BindError> {
    let fail = |source: io::Error| BindError::file("make the FIFO", path, &source);
    match probe_fifo(path).map_err(fail)? {
        Occupant::Nothing => make_fifo(path, listener),
        // Kept, not replaced: a login process may be waiting in `open` on this very FIFO, and
        // only a reader of the same inode lets it go on.
        Occupant::Stale => {
            let node = Node::open(path).map_err(fail)?;
            let opened = open_read_write(path).or_else(|_| {
                // Not for others meanwhile, but only where its owner could not open it either.
                node.set_mode(0o600)?;
                open_read_write(path)
            });
            let fd = opened.map_err(fail)?;
            set_access(&node, path, listener)?;
            Ok((fd, node))
        }
        Occupant::InUse => Err(BindError::in_use(path)),
        Occupant::Other => Err(BindError::not_ours(path, "a FIFO")),
    }
}

/// Makes the FIFO under another name and gives it its own when it is open and has its mode: a login
/// process that may not open it, or finds no reader, drops its keep-alive lines for a minute.
fn make_fifo(path: &Path, listener: &Listener) -> Result<(OwnedFd, Node), BindError> {
    let fail = |source: io::Error| BindError::file("make the FIFO", path, &source);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // Of a process that was killed in the middle of this.
    let _ = fs::remove_file(beside);
    mkfifo(beside, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| fail(errno.into()))?;
    let finish = || {
        let node = Node::open(beside).map_err(fail)?;
        let fd = open_read_write(beside).map_err(fail)?;
        set_access(&node, path, listener)?;
        // Unlike a rename it replaces nothing that appeared there meanwhile.
        fs::hard_link(beside, path).map_err(fail)?;
        Ok((fd, node))
    };
    let made = finish();
    let _ = fs::remove_file(beside);
    made
}

/// Read-write, so that readers never see the end of file when the last writer leaves.
fn open_read_write(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    Ok(open(path, flags, Mode::empty())?)
}

/// Length and content of a unix socket's path.
fn unix_address(path: &Path) -> Result<SockAddr, BindError> {
    let length = path.as_os_str().len();
    if length > PATH_LIMIT {
        return Err(BindError::path_too_long(path, length));
    }
    SockAddr::unix(path).map_err(|source| BindError::file("listen on", path, &source))
}

/// Asks a socket by connecting to it. What cannot be asked counts as in use.
fn probe_socket(path: &Path) -> io::Result<Occupant> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nothing),
        Err(error) => return Err(error),
    };
    if !meta.file_type().is_socket() {
        return Ok(Occupant::Other);
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.raw_os_error() == Some(Errno::ECONNREFUSED as i32) => {
            Ok(Occupant::Stale)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Occupant::Nothing),
        // Answered; or a full backlog; or another socket type; or no permission to ask.
        _ => Ok(Occupant::InUse),
    }
}

/// Asks a FIFO by opening it for writing without waiting, which fails when nobody reads it.
fn probe_fifo(path: &Path) -> io::Result<Occupant> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nothing),
        Err(error) => return Err(error),
    };
    if !meta.file_type().is_fifo() {
        return Ok(Occupant::Other);
    }
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    match open(path, flags, Mode::empty()) {
        Ok(_) => Ok(Occupant::InUse),
        Err(Errno::ENXIO) => Ok(Occupant::Stale),
        Err(errno) => Err(errno.into()),
    }
}

fn set_access(node: &Node, path: &Path, listener: &Listener) -> Result<(), BindError> {
    let owner = listener
        .owner
        .as_deref()
        .map(|name| node::user_id(name, path))
        .transpose()?;
    let group = listener
        .group
        .as_deref()
        .map(|name| node::group_id(name, path))
        .transpose()?;
    if owner.is_some() || group.is_some() {
        node.set_owner(owner, group)
            .map_err(|source| BindError::file("set the owner and group of", path, &source))?;
    }
    // After chown, which clears bits.
    node.set_mode(listener.mode)
        .map_err(|source| BindError::file("set the mode of", path, &source))
}

/// Makes the directory if only it is missing, and keeps other processes from binding in it until
/// the lock is dropped: two that start together could each take the other's fresh socket, bound
/// but not yet listening, for a stale one.
fn prepare_directory(path: &Path) -> Result<Flock<OwnedFd>, BindError> {
    let directory = directory_of(path);
    let fail = |source: io::Error| BindError::directory(&directory, path, &source);
    // Never open to all, not even for a moment.
    match fs::DirBuilder::new().mode(0o755).create(&directory) {
        // Login processes are not of our group and must pass through it; the umask may forbid.
        Ok(()) => {
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).map_err(fail)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(fail(error)),
        // There already, or it shows below that it is not.
        Err(_) => {}
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut handle = open(&directory, flags, Mode::empty()).map_err(|errno| fail(errno.into()))?;
    for _ in 0..LOCK_TRIES {
        handle = match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((handle, Errno::EWOULDBLOCK)) => handle,
            Err((_, errno)) => return Err(fail(errno.into())),
        };
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(fail(io::Error::other("another process keeps it locked")))
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Whether `fd` is a socket that listens.
pub fn is_listening(fd: BorrowedFd<'_>) -> bool {
    socket2::SockRef::from(&fd).is_listener().unwrap_or(false)
}

/// Whether `fd` is a FIFO.
pub fn is_fifo(fd: BorrowedFd<'_>) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO)
}

#[cfg(test)]
mod tests;
