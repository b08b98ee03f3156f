//! What the machine must allow, checked before anything listens. Every failure is one sentence
//! with the fix, and says with which status to exit.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

use super::sockets::{PATH_LIMIT, path_of};
use crate::settings::{Place, Settings};

/// Exit status of a process that cannot run, as in sysexits.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The settings are wrong: EX_CONFIG.
    Config = 78,
    /// The machine refuses something: EX_UNAVAILABLE.
    Environment = 69,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Failure {
    /// How to exit.
    pub exit: Exit,
    /// What is wrong and what to do, on one line.
    pub sentence: String,
}

impl Failure {
    fn environment(sentence: impl Into<String>) -> Self {
        Self {
            exit: Exit::Environment,
            sentence: sentence.into(),
        }
    }
}

/// What the checks found on a machine that will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// CPUs that this process may use, in order.
    pub cpus: Vec<usize>,
    /// Things that may be right later, e.g. Dovecot that is not up yet; to be logged.
    pub warnings: Vec<String>,
}

/// Oldest kernel with everything the executors use.
const KERNEL: (u32, u32) = (5, 8);

/// Locked memory in bytes without which the executors refuse to start.
const MEMLOCK_FLOOR: u64 = 512 * 1024;

/// Descriptors besides those of connections: listeners, rings and event descriptors of the
/// executors (about ten for each core), ring and admin connections, files.
const DESCRIPTOR_RESERVE: u64 = 512;

/// A connection is a login process's and one to auth.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;

/// All checks. Raises the soft limits on the way, so call it before privileges are dropped (a
/// hard limit stays as it is) and before the executors start.
///
/// # Errors
/// The first check that failed.
pub fn check(settings: &Settings) -> Result<Report, Failure> {
    paths(settings)?;
    kernel()?;
    topology(Path::new("/sys/devices/system/cpu/online"))?;
    memlock()?;
    io_uring()?;
    descriptors(settings.client_limit)?;
    let warnings = [&settings.auth_login_path, &settings.auth_userdb_path]
        .into_iter()
        .filter_map(|path| auth_socket(path))
        .collect();
    Ok(Report {
        cpus: allowed_cpus(),
        warnings,
    })
}

/// CPUs that this process may use, by its affinity (taskset, cpuset, AllowedCPUs=), in order.
/// Empty only if the kernel does not say.
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    (0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect()
}

/// Socket paths fit into an address.
///
/// # Errors
/// Names the listener.
pub fn paths(settings: &Settings) -> Result<(), Failure> {
    let listeners = settings
        .listeners
        .iter()
        .filter_map(|listener| match &listener.place {
            Place::Unix(_) => path_of(&listener.place),
            _ => None,
        });
    let upstream = [
        settings.auth_login_path.as_path(),
        settings.auth_userdb_path.as_path(),
    ];
    for path in listeners.chain(upstream) {
        let length = path.as_os_str().len();
        if length > PATH_LIMIT {
            let path = path.display();
            return Err(Failure {
                exit: Exit::Config,
                sentence: format!(
                    "{path} has {length} bytes; a unix socket's path has at most {PATH_LIMIT}: \
                     choose a shorter one"
                ),
            });
        }
    }
    Ok(())
}

/// The kernel is new enough.
///
/// # Errors
/// Names both versions.
pub fn kernel() -> Result<(), Failure> {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    kernel_release(&release)
}

fn kernel_release(release: &str) -> Result<(), Failure> {
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        // An odd name proves nothing; the probe of io_uring decides.
        return Ok(());
    };
    if (major, minor) < KERNEL {
        return Err(Failure::environment(format!(
            "this kernel is {release} and Homing needs {}.{} or newer: upgrade it",
            KERNEL.0, KERNEL.1
        )));
    }
    Ok(())
}

/// The executors read from sysfs which CPUs there are, and panic without it.
///
/// # Errors
/// Says what to mount.
pub fn topology(online: &Path) -> Result<(), Failure> {
    match fs::read_to_string(online) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::environment(format!(
            "cannot read {}: {error}: in a chroot or container, mount sysfs on /sys (read-only will \
             do)",
            online.display()
        ))),
    }
}

/// Raises the soft limit of locked memory to the hard one; enough must come out.
///
/// # Errors
/// Says how to raise it.
pub fn memlock() -> Result<(), Failure> {
    let limit = raise(Resource::RLIMIT_MEMLOCK)?;
    if limit < MEMLOCK_FLOOR {
        return Err(Failure::environment(format!(
            "only {} KiB of memory may be locked and io_uring needs {} KiB: set LimitMEMLOCK=8M \
             in the systemd unit, --ulimit memlock=8388608 in Docker, or ulimit -l 8192",
            limit / 1024,
            MEMLOCK_FLOOR / 1024
        )));
    }
    Ok(())
}

/// Raises the soft limit of descriptors to the hard one; `client_limit` connections must fit.
///
/// # Errors
/// Says how to raise it.
pub fn descriptors(client_limit: u32) -> Result<(), Failure> {
    let limit = raise(Resource::RLIMIT_NOFILE)?;
    let needed = DESCRIPTORS_PER_CONNECTION * u64::from(client_limit) + DESCRIPTOR_RESERVE;
    if limit < needed {
        let fits = limit.saturating_sub(DESCRIPTOR_RESERVE) / DESCRIPTORS_PER_CONNECTION;
        let fewer = match fits {
            0 => String::new(),
            fits => format!(", or client_limit = {fits}"),
        };
        return Err(Failure::environment(format!(
            "client_limit = {client_limit} needs {needed} descriptors and {limit} are allowed: set \
             LimitNOFILE={needed} in the systemd unit (of Dovecot, as its service) or --ulimit \
             nofile={needed} in Docker{fewer}"
        )));
    }
    Ok(())
}

/// Lifts the limit of address space that Dovecot's master sets for its services (`vsz_limit`, by
/// default 256 MiB). Threads' stacks and arenas reserve that much before the first login, and it
/// says nothing about memory in use, which `user_table_limit` and `client_limit` bound. Returns a
/// warning where that is not allowed.
pub fn address_space() -> Option<String> {
    let unlimited = libc::RLIM_INFINITY;
    match getrlimit(Resource::RLIMIT_AS) {
        Ok((soft, _)) if soft != unlimited => {
            setrlimit(Resource::RLIMIT_AS, unlimited, unlimited).err()?;
            Some(format!(
                "only {} MiB of address space are allowed, and this process may not change that: \
                 set vsz_limit = 0 (Dovecot 2.4: unlimited) in Dovecot's service director",
                soft / (1024 * 1024)
            ))
        }
        _ => None,
    }
}

/// Sets the soft limit to the hard one and returns what is in force.
fn raise(resource: Resource) -> Result<u64, Failure> {
    let fail = |errno: Errno| Failure::environment(format!("cannot read {resource:?}: {errno}"));
    let (soft, hard) = getrlimit(resource).map_err(fail)?;
    if soft < hard && setrlimit(resource, hard, hard).is_ok() {
        return Ok(hard);
    }
    Ok(soft)
}

/// The kernel lets this process make an io_uring.
///
/// # Errors
/// Says who forbids it.
pub fn io_uring() -> Result<(), Failure> {
    // 120 bytes: struct io_uring_params, all zero.
    let mut params = [0u64; 15];
    // SAFETY: one entry and a zeroed parameter block of the right size and alignment, which the
    // kernel fills in.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    if let Ok(fd) = i32::try_from(fd)
        && fd >= 0
    {
        // SAFETY: the kernel just gave it to us.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        return Ok(());
    }
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    Err(io_uring_refused(Errno::last(), disabled.trim()))
}

/// `disabled`: the value of `kernel.io_uring_disabled`, empty where there is none.
fn io_uring_refused(errno: Errno, disabled: &str) -> Failure {
    Failure::environment(match (errno, disabled) {
        (Errno::ENOSYS, _) => "this kernel has no io_uring: use Linux 5.8 or newer, built with \
                               CONFIG_IO_URING; in a sandbox such as gVisor it is not available"
            .to_owned(),
        (Errno::EPERM, "1" | "2") => format!(
            "io_uring is switched off by kernel.io_uring_disabled = {disabled}: run sysctl -w \
             kernel.io_uring_disabled=0 and set it in /etc/sysctl.d"
        ),
        (Errno::EPERM | Errno::EACCES, _) => {
            "io_uring is forbidden by a seccomp filter or security policy: in Docker or containerd \
             allow io_uring_setup, io_uring_enter and io_uring_register by --security-opt \
             seccomp=PROFILE.json; in a systemd unit allow @aio in \
             SystemCallFilter="
                .to_owned()
        }
        (Errno::ENOMEM, _) => "no locked memory is left for io_uring, all processes of a user \
                               share it: raise LimitMEMLOCK= or run Homing as a user of its own"
            .to_owned(),
        (errno, _) => format!("io_uring does not work here: {errno}"),
    })
}

/// A warning unless there is a socket at `path`: Dovecot may come up later.
fn auth_socket(path: &Path) -> Option<String> {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => None,
        Ok(_) => Some(format!(
            "{shown} is not a socket; logins fail until Dovecot's auth listens there"
        )),
        Err(error) => Some(format!(
            "{shown}: {error}; logins fail until Dovecot's auth listens there and Homing's user \
             may reach it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_named() {
        assert!(kernel_release("5.8.0-1-amd64").is_ok());
        assert!(kernel_release("6.18.44-fc").is_ok());
        assert!(kernel_release("10.0").is_ok());
        assert!(kernel_release("strange").is_ok());
        let error = kernel_release("4.19.0-26-amd64").unwrap_err();
        assert_eq!((error.exit, error.exit.code()), (Exit::Environment, 69));
        assert!(error.sentence.contains("4.19") && error.sentence.contains("5.8"));
    }

    #[test]
    fn refusals_of_io_uring_name_who_refuses() {
        let says = |errno, disabled, text: &str| {
            let failure = io_uring_refused(errno, disabled);
            assert!(failure.sentence.contains(text), "{failure}");
        };
        says(Errno::ENOSYS, "", "no io_uring");
        says(Errno::EPERM, "2", "kernel.io_uring_disabled = 2");
        says(Errno::EPERM, "0", "seccomp");
        says(Errno::EPERM, "", "seccomp");
        says(Errno::ENOMEM, "0", "LimitMEMLOCK");
    }

    #[test]
    fn this_machine_will_do() {
        kernel().unwrap();
        topology(Path::new("/sys/devices/system/cpu/online")).unwrap();
        memlock().unwrap();
        io_uring().unwrap();
        descriptors(16).unwrap();
        let cpus = allowed_cpus();
        assert!(!cpus.is_empty() && cpus.is_sorted());
    }

    #[test]
    fn without_a_limit_of_address_space_there_is_no_warning() {
        assert_eq!(address_space(), None);
    }

    #[test]
    fn a_missing_sysfs_is_named() {
        let failure = topology(Path::new("/nowhere/cpu/online")).unwrap_err();
        assert_eq!(failure.exit, Exit::Environment);
        assert!(failure.sentence.contains("mount sysfs"), "{failure}");
    }

    #[test]
    fn too_many_clients_are_refused_with_the_number_that_fits() {
        let failure = descriptors(u32::MAX).unwrap_err();
        assert!(
            failure.sentence.contains("LimitNOFILE=8589935102"),
            "{failure}"
        );
        assert!(failure.sentence.contains("client_limit = "), "{failure}");
    }

    #[test]
    fn a_missing_auth_socket_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth-login");
        assert!(auth_socket(&path).unwrap().contains("auth-login"));
        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(auth_socket(&path), None);
    }
}
