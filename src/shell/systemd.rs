//! systemd: descriptors handed over by a socket unit or the descriptor store, and readiness.

use std::env;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

use crate::settings::Place;

/// The first handed-over descriptor.
const FIRST: RawFd = 3;

/// More than this many descriptors are a mistake: a listener each, and the settings have few.
const LIMIT: usize = 256;

/// The descriptors that systemd handed over, with their names (`FileDescriptorName=`, `unknown`
/// without one), close-on-exec and non-blocking. Empty when the process was not started so. Call it once, first
/// thing in `main`: it takes the descriptors into possession.
pub fn adopted() -> Vec<(String, OwnedFd)> {
    let Some(names) = parse(std::process::id(), |name| env::var(name).ok()) else {
        return Vec::new();
    };
    let take = |(number, name): (RawFd, String)| {
        // SAFETY: nothing else owns these: systemd opened them for us (LISTEN_PID says so), and
        // nothing has been opened since that could have taken a number below the last of them.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        let open = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok();
        if !open {
            // The count was wrong; this number is not open and must not be closed later.
            std::mem::forget(fd);
            return None;
        }
        // systemd leaves them as they are made, unless the unit has NonBlocking=: a core that looks whether
        // there is another client would wait for one.
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
        let _ = flags.and_then(|flags| fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)));
        Some((name, fd))
    };
    (FIRST..).zip(names).filter_map(take).collect()
}

/// The names, one for each descriptor; `None` when they are not meant for this process.
fn parse(pid: u32, var: impl Fn(&str) -> Option<String>) -> Option<Vec<String>> {
    if var("LISTEN_PID")?.parse() != Ok(pid) {
        return None;
    }
    let count: usize = var("LISTEN_FDS")?
        .parse()
        .ok()
        .filter(|count| *count <= LIMIT)?;
    let names = var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names
        .split(':')
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    Some(
        names
            .chain(std::iter::repeat("unknown".to_owned()))
            .take(count)
            .collect(),
    )
}

/// Whether a handed-over socket or FIFO is the one at `place`.
pub fn is_at(fd: &OwnedFd, place: &Place) -> bool {
    use nix::sys::socket::{UnixAddr, getsockname};
    match place {
        Place::Unix(path) => getsockname::<UnixAddr>(fd.as_raw_fd())
            .is_ok_and(|address| address.path() == Some(path.as_path())),
        Place::Fifo(path) => {
            let ours = nix::sys::stat::fstat(fd);
            let theirs = nix::sys::stat::stat(path.as_path());
            matches!((ours, theirs), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
        }
        Place::Tcp(address) => socket2::SockRef::from(fd)
            .local_addr()
            .is_ok_and(|own| own.as_socket() == Some(*address)),
    }
}

/// Tells systemd about a change, e.g. `READY=1`, `RELOADING=1`, `STOPPING=1`, `STATUS=text`.
/// `Ok(false)`: nobody asked to be told. Not for a service of Dovecot's master: the variable it
/// passes on is Dovecot's own.
///
/// # Errors
/// The socket is not there or not ours to write to.
pub fn notify(state: &str) -> io::Result<bool> {
    match env::var("NOTIFY_SOCKET") {
        Ok(path) if !path.is_empty() => notify_at(&path, state).map(|()| true),
        _ => Ok(false),
    }
}

/// How long systemd waits for `WATCHDOG=1` (`WatchdogSec=`); `None`: it does not wait for this process.
pub fn watchdog() -> Option<Duration> {
    watchdog_of(std::process::id(), |name| env::var(name).ok())
}

fn watchdog_of(pid: u32, var: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    if var("WATCHDOG_PID").is_some_and(|meant| meant.parse() != Ok(pid)) {
        return None;
    }
    let micros = var("WATCHDOG_USEC")?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

fn notify_at(path: &str, state: &str) -> io::Result<()> {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_us_is_taken() {
        let var = |name: &str| {
            let value = match name {
                "LISTEN_PID" => "17",
                "LISTEN_FDS" => "3",
                "LISTEN_FDNAMES" => "login:userdb",
                _ => return None,
            };
            Some(value.to_owned())
        };
        assert_eq!(parse(17, var).unwrap(), ["login", "userdb", "unknown"]);
        assert_eq!(parse(18, var), None);
        assert_eq!(parse(17, |_| None), None);
        assert_eq!(
            parse(17, |name| Some(
                if name == "LISTEN_PID" { "17" } else { "-1" }.into()
            )),
            None
        );
    }

    #[test]
    fn the_watchdog_is_ours_only_if_it_says_so() {
        let env = |pid: Option<&'static str>, micros: &'static str| {
            move |name: &str| match name {
                "WATCHDOG_PID" => pid.map(str::to_owned),
                "WATCHDOG_USEC" => Some(micros.to_owned()),
                _ => None,
            }
        };
        let half_minute = Some(Duration::from_secs(30));
        assert_eq!(watchdog_of(17, env(Some("17"), "30000000")), half_minute);
        assert_eq!(watchdog_of(17, env(None, "30000000")), half_minute);
        assert_eq!(watchdog_of(18, env(Some("17"), "30000000")), None);
        assert_eq!(watchdog_of(17, env(Some("17"), "0")), None);
        assert_eq!(watchdog_of(17, env(Some("17"), "-1")), None);
        assert_eq!(watchdog_of(17, |_| None), None);
    }

    #[test]
    fn readiness_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        notify_at(path.to_str().unwrap(), "READY=1").unwrap();
        let mut bytes = [0; 32];
        let length = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"READY=1");
        assert!(notify_at(dir.path().join("none").to_str().unwrap(), "READY=1").is_err());
    }
}
