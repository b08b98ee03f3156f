//! systemd's watchdog hears of a director only while all of its threads answer.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::rig::{Homing, Site};

/// Whether "WATCHDOG=1" comes within so long.
fn hears(socket: &UnixDatagram, seconds: u64) -> bool {
    socket
        .set_read_timeout(Some(Duration::from_secs(seconds)))
        .unwrap();
    let mut bytes = [0; 256];
    loop {
        match socket.recv(&mut bytes) {
            Ok(length) if &bytes[..length] == b"WATCHDOG=1" => return true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// The thread of this name, behind which its executor has a number.
fn thread(pid: u32, name: &str) -> i32 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| task.unwrap().file_name().into_string().unwrap())
        .find(|tid| {
            let own = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"));
            own.is_ok_and(|own| {
                own.trim()
                    .rsplit_once('-')
                    .is_some_and(|(own, _)| own == name)
            })
        })
        .unwrap_or_else(|| panic!("no thread {name}"))
        .parse()
        .unwrap()
}

fn ptrace(request: libc::c_uint, thread: i32) {
    // SAFETY: these requests take no pointer, and the thread is one of our child's.
    let done = unsafe { libc::ptrace(request, thread, 0usize, 0usize) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Stops one thread and nothing else, as a debugger does.
fn freeze(thread: i32) {
    ptrace(libc::PTRACE_SEIZE, thread);
    ptrace(libc::PTRACE_INTERRUPT, thread);
    let mut status = 0;
    // SAFETY: writes the status, which outlives the call.
    let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    assert_eq!(waited, thread);
}

#[test]
fn a_thread_that_hangs_is_noticed() {
    let site = Site::new().arg("--cores=1");
    site.write();
    let path = site.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let mut command = site.command();
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1500000")
        .env_remove("WATCHDOG_PID");
    let homing = Homing::start(site, command);
    for (name, said) in [
        ("serve-0", "core 0 does not answer"),
        ("ring", "the thread of the director ring does not answer"),
    ] {
        assert!(hears(&socket, 60), "{}", homing.log());
        let thread = thread(homing.pid(), name);
        freeze(thread);
        homing.wait_said(said);
        // What was asked before the thread hung is answered; then nothing for two of its periods.
        while hears(&socket, 3) {
            assert!(!homing.log().contains("panicked"));
        }
        ptrace(libc::PTRACE_DETACH, thread);
        assert!(hears(&socket, 60), "{}", homing.log());
    }
    homing.stop();
}
