//! Life as a service process of Dovecot's master, in place of its built-in director: inherited
//! listeners, the status pipe, the death watch, the user to become. The contract, with what
//! differs between 2.3 and 2.4, is docs/protocol/dovecot-service.md.

use std::env;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::geteuid;
use socket2::SockRef;

use super::privileges::{self, PrivilegeError};
use super::sockets::{Bound, is_fifo, is_listening};
use crate::settings::{ListenerKind, Place};

/// Writing end of the status pipe.
const STATUS_FD: RawFd = 5;
/// Writing end of a pipe whose reader is the master.
const DEATH_FD: RawFd = 6;
/// Where the listeners begin: 7 in Dovecot 2.3; in 2.4 descriptor 7 is kept for the configuration.
const FIRST_LISTENER: [RawFd; 2] = [7, 8];
/// More listeners are a mistake; a director has about five.
const LISTENER_LIMIT: usize = 256;
/// The master wants to hear of changes, not of every connection.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// Why a process cannot be a service of Dovecot's master.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// An environment variable of the contract.
    #[error("{0} is missing or wrong in the environment: is this started by Dovecot's master?")]
    Variable(&'static str),
    /// The descriptors do not fit the environment.
    #[error(
        "the {0} listeners that Dovecot announced are not among the descriptors: this version \
             of Dovecot hands them over differently"
    )]
    Descriptors(usize),
    /// A descriptor of the contract.
    #[error("descriptor {0}, which Dovecot's master should have opened, is not open")]
    Closed(RawFd),
}

/// Whom the master wants the process to become. Absent where the service runs as root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrict {
    /// `user`.
    pub uid: Option<u32>,
    /// `group`, or the user's.
    pub gid: Option<u32>,
    /// `extra_groups` and `privileged_group`.
    pub groups: Vec<u32>,
    /// `chroot`. Homing does not enter it: it opens auth's sockets by their full paths whenever a
    /// login comes, and reads its settings again on request. What protects the machine is the
    /// user; the default, `base_dir`, would only hide other files from a process that may not
    /// read them anyway.
    pub chroot: Option<PathBuf>,
}

impl Restrict {
    /// Becomes that user for good. `fallback`: user and group of the settings, for a service that
    /// has none (2.4 runs a service without `user` as root).
    ///
    /// # Errors
    /// One sentence with the fix; also when it would have to stay root.
    pub fn apply(&self, fallback: Option<(&str, Option<&str>)>) -> Result<(), PrivilegeError> {
        match (self.uid, self.gid, fallback) {
            (Some(uid), Some(gid), _) => privileges::drop_ids(uid, gid, &self.groups),
            (_, _, Some((user, group))) => privileges::drop(user, group),
            _ if geteuid().is_root() => Err(PrivilegeError::Root),
            _ => Ok(()),
        }
    }
}

/// What the master handed over.
#[derive(Debug)]
pub struct DovecotService {
    /// In the master's order: unix sockets, FIFOs, TCP.
    pub listeners: Vec<Inherited>,
    /// Most connections at once, from the service's `client_limit`.
    pub client_limit: u32,
    /// `DOVECOT_VERSION`.
    pub version: String,
    /// `SERVICE_NAME`.
    pub service: String,
    /// Working directory at start: `base_dir`.
    pub base_dir: PathBuf,
    /// Whom to become.
    pub restrict: Restrict,
    /// Tells the master how many connections fit.
    pub status: StatusReporter,
    /// For [`ControlSource::new`](super::signals::ControlSource::new).
    pub death_watch: OwnedFd,
}

/// One listener of the master.
#[derive(Debug)]
pub struct Inherited {
    /// Name in Dovecot's configuration: last part of the path, or the inet_listener's name.
    pub name: String,
    /// What it speaks, by its name.
    pub kind: ListenerKind,
    /// The listening socket, or the FIFO; non-blocking and close-on-exec.
    pub fd: OwnedFd,
    /// Where it is. For a FIFO only the name is known.
    pub place: Place,
    /// `fd` is a FIFO.
    pub is_fifo: bool,
}

impl DovecotService {
    /// What the master handed over; `None` when it did not start this process. Call it once, first
    /// thing in `main`: it takes the descriptors into possession.
    ///
    /// # Errors
    /// The environment or the descriptors break the contract.
    pub fn from_env() -> Result<Option<Self>, ServiceError> {
        let var = |name: &str| env::var(name).ok();
        if var("DOVECOT_CHILD_PROCESS").is_none() {
            return Ok(None);
        }
        let plan = Plan::parse(var)?;
        let first = FIRST_LISTENER
            .into_iter()
            .find(|&first| fits(first, &plan.names))
            .ok_or(ServiceError::Descriptors(plan.names.len()))?;
        close_all_on_exec();
        let mut listeners = Vec::with_capacity(plan.names.len());
        for (number, name) in (first..).zip(plan.names) {
            listeners.push(inherit(take(number)?, name));
        }
        Ok(Some(Self {
            listeners,
            client_limit: plan.client_limit,
            version: plan.version,
            service: plan.service,
            base_dir: env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            restrict: plan.restrict,
            status: StatusReporter::new(take(STATUS_FD)?, plan.generation, plan.client_limit),
            death_watch: take(DEATH_FD)?,
        }))
    }
}

/// The environment's part of the contract. Public only for tests/fuzz, which is a crate of its own.
#[doc(hidden)]
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of the listeners, in the order of their descriptors.
    pub names: Vec<String>,
    /// What the master tells the processes of one reload by.
    pub generation: u32,
    /// Most connections at once.
    pub client_limit: u32,
    /// `DOVECOT_VERSION`.
    pub version: String,
    /// `SERVICE_NAME`.
    pub service: String,
    /// Whom to become.
    pub restrict: Restrict,
}

impl Plan {
    /// `var`: the value of an environment variable.
    ///
    /// # Errors
    /// [`ServiceError::Variable`].
    pub fn parse(var: impl Fn(&str) -> Option<String>) -> Result<Self, ServiceError> {
        let number = |name: &'static str| -> Result<u32, ServiceError> {
            let value = var(name).and_then(|text| text.parse().ok());
            value.ok_or(ServiceError::Variable(name))
        };
        // A variable that is there but is no number must not mean "stay root".
        let optional = |name: &'static str| match var(name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(_) => number(name).map(Some),
        };
        let count = usize::try_from(number("SOCKET_COUNT")?).unwrap_or(usize::MAX);
        if count > LISTENER_LIMIT {
            return Err(ServiceError::Variable("SOCKET_COUNT"));
        }
        let mut names = Vec::with_capacity(count);
        for index in 0..count {
            let settings = var(&format!("SOCKET{index}_SETTINGS"))
                .ok_or(ServiceError::Variable("SOCKETn_SETTINGS"))?;
            // Options such as `ssl` and `haproxy` follow; a director's listeners have none.
            names.push(tab_unescape(
                settings.split('\t').next().unwrap_or_default(),
            ));
        }
        let mut groups = Vec::new();
        for name in ["RESTRICT_SETEXTRAGROUPS", "RESTRICT_SETGID_PRIV"] {
            for text in var(name)
                .unwrap_or_default()
                .split(',')
                .filter(|text| !text.is_empty())
            {
                let id = text
                    .trim()
                    .parse()
                    .map_err(|_| ServiceError::Variable(name))?;
                if !groups.contains(&id) {
                    groups.push(id);
                }
            }
        }
        let restrict = Restrict {
            uid: optional("RESTRICT_SETUID")?,
            gid: optional("RESTRICT_SETGID")?,
            groups,
            chroot: var("RESTRICT_CHROOT")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
        };
        Ok(Self {
            names,
            generation: number("GENERATION")?,
            client_limit: number("CLIENT_LIMIT")?,
            version: var("DOVECOT_VERSION").unwrap_or_default(),
            service: var("SERVICE_NAME").unwrap_or_default(),
            restrict,
        })
    }
}

/// Dovecot escapes TAB, LF, NUL, CR and byte 1 as byte 1 and a letter.
fn tab_unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\x01' => match chars.next() {
                Some('1') => '\x01',
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('0') => '\0',
                other => other.unwrap_or('\x01'),
            },
            c => c,
        });
    }
    out
}

/// What a listener of this name speaks: the part after the last `-` decides.
pub fn kind_of(name: &str, is_fifo: bool, is_tcp: bool) -> ListenerKind {
    if is_fifo {
        return ListenerKind::Notify;
    }
    match name.rsplit('-').next().unwrap_or(name) {
        "auth" => ListenerKind::Login,
        "userdb" => ListenerKind::Userdb,
        "authreply" => ListenerKind::Authreply,
        "ring" => ListenerKind::Ring,
        "admin" | "doveadm" => ListenerKind::Admin,
        "health" => ListenerKind::Health,
        "notify" => ListenerKind::Notify,
        "http" => ListenerKind::Http,
        _ if is_tcp => ListenerKind::Ring,
        _ => ListenerKind::Login,
    }
}

/// Whether the listeners begin at `first`: every one listens or is a FIFO, and a unix socket has
/// its announced name.
fn fits(first: RawFd, names: &[String]) -> bool {
    (first..).zip(names).all(|(number, name)| {
        // SAFETY: only asked about, not kept; a closed number gives an error and no more.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        if is_fifo(fd) {
            return true;
        }
        is_listening(fd)
            && match unix_path(fd) {
                Some(path) => path
                    .file_name()
                    .is_some_and(|last| last.to_str() == Some(name)),
                None => true,
            }
    })
}

fn unix_path(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    let address = SockRef::from(&fd).local_addr().ok()?;
    address.as_pathname().map(Path::to_path_buf)
}

/// Takes an inherited descriptor into possession.
fn take(number: RawFd) -> Result<OwnedFd, ServiceError> {
    // SAFETY: only asked about here.
    let open = fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_GETFD).is_ok();
    if !open {
        return Err(ServiceError::Closed(number));
    }
    // SAFETY: the master opened it for this process, `from_env` runs first and once, so nothing
    // else in the process owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let _ = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    Ok(fd)
}

/// Scripts that Homing starts must not inherit the master's pipes, known or not: a status pipe or
/// listener that lives on in a child would outlast us.
fn close_all_on_exec() {
    // SAFETY: changes a flag of descriptors, closes none. Kernels before 5.11 refuse the flag;
    // `take` sets it for what we know.
    unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        )
    };
}

fn inherit(fd: OwnedFd, name: String) -> Inherited {
    let fifo = is_fifo(fd.as_fd());
    let _ = SockRef::from(&fd).set_nonblocking(true);
    let tcp = SockRef::from(&fd)
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket());
    let place = match (fifo, tcp) {
        (true, _) => Place::Fifo(PathBuf::from(&name)),
        (_, Some(address)) => Place::Tcp(address),
        _ => Place::Unix(unix_path(fd.as_fd()).unwrap_or_else(|| PathBuf::from(&name))),
    };
    Inherited {
        kind: kind_of(&name, fifo, tcp.is_some()),
        name,
        fd,
        place,
        is_fifo: fifo,
    }
}

impl From<Inherited> for Bound {
    /// The master made the file and removes it: [`Bound::remove`] would leave it alone.
    fn from(inherited: Inherited) -> Self {
        Self::adopted(
            inherited.kind,
            inherited.fd,
            inherited.place,
            inherited.is_fifo,
        )
    }
}

/// Tells the master how many more connections this process takes.
///
/// The first message must come within 30 seconds of the start, or the master kills the process;
/// send it when everything listens to the loop. While the number is 0 the master tells nobody.
#[derive(Debug)]
pub struct StatusReporter {
    pipe: OwnedFd,
    generation: u32,
    limit: u32,
    told: Option<(u32, Duration)>,
}

impl StatusReporter {
    fn new(pipe: OwnedFd, generation: u32, limit: u32) -> Self {
        Self {
            pipe,
            generation,
            limit,
            told: None,
        }
    }

    /// Tells that `connections` are open at `now` (monotonic, any origin), unless it is too soon:
    /// at most once a second, but at once when the room becomes or stops being 0. Call it on every
    /// change and again after the returned time; `None`: nothing is left to tell.
    ///
    /// # Errors
    /// The master is gone (EPIPE). A full pipe is no error: it is tried again.
    pub fn update(&mut self, connections: u32, now: Duration) -> Result<Option<Duration>, Errno> {
        let room = self.limit.saturating_sub(connections);
        if let Some((told, at)) = self.told {
            let waited = now.saturating_sub(at);
            if told == room {
                return Ok(None);
            }
            if (told == 0) == (room == 0) && waited < STATUS_PAUSE {
                return Ok(Some(STATUS_PAUSE - waited));
            }
        }
        match nix::unistd::write(
            &self.pipe,
            &status(std::process::id(), self.generation, room),
        ) {
            Ok(_) => {
                self.told = Some((room, now));
                Ok(None)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Some(STATUS_PAUSE)),
            Err(errno) => Err(errno),
        }
    }
}

/// One status message.
fn status(pid: u32, generation: u32, room: u32) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&pid.to_ne_bytes());
    out[4..8].copy_from_slice(&generation.to_ne_bytes());
    out[8..].copy_from_slice(&room.to_ne_bytes());
    out
}

#[cfg(test)]
mod tests;
