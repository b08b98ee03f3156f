//! Gives up everything that the keeper does not need. Started as root it has to stay root, for
//! directories that belong to root and for `chown`; of root's powers it keeps four.

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

/// CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER (owner and mode in any directory) and
/// CAP_NET_BIND_SERVICE (ports below 1024).
const KEPT: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 10;

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Signals that a terminal or systemd sends to the whole group: the keeper ends when the main
/// process does, and not before, or the FIFO would be unheld.
const IGNORED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGPIPE,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

pub(super) fn confine() -> Result<(), Errno> {
    for ignored in IGNORED {
        // SAFETY: ignoring a signal installs no handler that could run.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    SigSet::empty().thread_set_mask()?;
    // What it makes gets its mode explicitly.
    umask(Mode::empty());
    // SAFETY: nothing above the three standard descriptors has been opened by this process yet;
    // what is there was inherited by mistake. Kernels before 5.9 do not know the call.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    nix::sys::prctl::set_no_new_privs()?;
    let _ = nix::sys::prctl::set_name(c"homing-keeper");
    if geteuid().is_root() {
        limit_capabilities()?;
    }
    Ok(())
}

/// Struct __user_cap_data_struct of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Capabilities {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn limit_capabilities() -> Result<(), Errno> {
    // struct __user_cap_header_struct: version, and the process, 0 for this one.
    let mut header = [CAPABILITY_VERSION, 0];
    let mut sets = [Capabilities::default(); 2];
    // SAFETY: header and data have the layout that this version has; the kernel writes two
    // elements.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    Errno::result(got)?;
    // Only what is there can be kept: a container may have taken some.
    let kept = sets[0].permitted & KEPT;
    sets = [
        Capabilities {
            effective: kept,
            permitted: kept,
            inheritable: 0,
        },
        Default::default(),
    ];
    // SAFETY: as above; the kernel only reads.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) };
    Errno::result(set).map(drop)
}
