//! Machines that do not allow what is needed: one sentence, and status 69 or 78.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::rig::homing::run;
use crate::rig::{Site, many_descriptors};

const ENVIRONMENT: i32 = 69;
const CONFIG: i32 = 78;

/// Runs it and returns the one sentence that it ends with.
fn refusal(site: &Site, command: Command, expected: i32) -> String {
    let (status, _, err) = run(command, &site.path(""));
    assert_eq!(status, expected, "{err}");
    let said: Vec<&str> = err
        .lines()
        .filter(|line| line.starts_with("homing: "))
        .collect();
    assert_eq!(said.len(), 1, "{err}");
    assert!(!err.contains("panicked"), "{err}");
    assert!(
        !site.path("login-socket").exists() || expected == CONFIG,
        "{err}"
    );
    said[0].to_owned()
}

/// The same behind a shell that lowers a limit.
fn limited(site: &Site, limit: &str) -> Command {
    site.write();
    let inner = site.command();
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(inner.get_program());
    command.args(inner.get_args());
    command
}

#[test]
fn too_little_locked_memory() {
    let site = Site::new();
    let said = refusal(&site, limited(&site, "-l 64"), ENVIRONMENT);
    assert!(
        said.contains("only 64 KiB of memory may be locked"),
        "{said}"
    );
    assert!(said.contains("LimitMEMLOCK=8M"), "{said}");
}

#[test]
fn too_few_descriptors() {
    many_descriptors();
    let site = Site::new();
    let said = refusal(&site, limited(&site, "-n 600"), ENVIRONMENT);
    assert!(
        said.contains("client_limit = 500 needs 1512 descriptors and 600"),
        "{said}"
    );
    assert!(said.contains("client_limit = 44"), "{said}");
    // What it says fits.
    let homing = Site::new().set("client_limit", "44");
    let command = limited(&homing, "-n 600");
    crate::rig::Homing::start(homing, command).stop();
}

#[test]
fn a_ring_port_that_somebody_else_has() {
    let taken = std::net::TcpListener::bind("127.0.98.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let site = Site::new()
        .set("director_servers", &format!("\"{address}\""))
        .append(&format!(
            "[[listener]]\ntype = \"ring\"\naddress = \"{address}\"\n"
        ));
    site.write();
    let said = refusal(&site, site.command(), ENVIRONMENT);
    let named = format!("cannot listen on {address}: Address already in use");
    assert!(said.contains(&named), "{said}");
    assert!(said.contains("stop what listens there"), "{said}");
}

#[test]
fn a_path_that_no_socket_address_can_hold() {
    let site = Site::new();
    let long = format!("/tmp/{}", "x".repeat(110));
    for (text, name) in [
        (
            site.text()
                .replace(&site.path("login-socket").display().to_string(), &long),
            "path",
        ),
        (
            site.text()
                .replace(&site.path("auth-login").display().to_string(), &long),
            "auth_login_path",
        ),
    ] {
        std::fs::write(site.config(), text).unwrap();
        let (status, _, err) = run(site.command(), &site.path(""));
        assert_eq!(status, CONFIG, "{name}: {err}");
        assert!(err.contains("107") && err.contains(name), "{name}: {err}");
    }
}

#[test]
fn a_path_that_another_director_answers_on() {
    let first = Site::new().start();
    let second = Site::new();
    let text = first.site.text();
    std::fs::write(second.config(), text).unwrap();
    let said = refusal(&second, second.command(), ENVIRONMENT);
    assert!(said.contains("login-socket"), "{said}");
    // The first one is not harmed.
    let mut peer = crate::rig::Peer::connect(&first.site.path("authreply-socket"));
    assert_eq!(peer.line(), "VERSION\tdirector-authreply-server\t1\t0");
    first.stop();
}

#[test]
fn a_directory_where_nothing_may_be_made() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root");
    let site = Site::new();
    site.write();
    std::fs::set_permissions(site.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = site.command();
    command.uid(65534).gid(65534);
    let (status, _, err) = run(command, &site.path(""));
    assert!([ENVIRONMENT, CONFIG].contains(&status), "{status} {err}");
    let sentences = err.lines().filter(|line| line.starts_with("homing: "));
    let said: Vec<&str> = sentences.collect();
    assert_eq!(said.len(), 1, "{err}");
    assert!(said[0].contains("login-socket"), "{err}");
}

/// Makes io_uring_setup fail with `errno` in the process to be started.
fn without_io_uring(command: &mut Command, errno: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        op(LOAD, 0, 0, 0), // the number of the system call
        op(EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        op(
            RETURN,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(),
        ),
        op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_ptr().cast_mut(),
        };
        // SAFETY: prctl is async-signal-safe; the program and its filter live until it returns.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(install) };
}

#[test]
fn io_uring_is_forbidden_or_missing() {
    for (errno, text) in [
        (libc::EPERM, "io_uring"),
        (libc::EACCES, "forbidden by a seccomp filter"),
        (libc::ENOSYS, "this kernel has no io_uring"),
        (libc::ENOMEM, "no locked memory is left for io_uring"),
    ] {
        let site = Site::new();
        site.write();
        let mut command = site.command();
        without_io_uring(&mut command, errno);
        let said = refusal(&site, command, ENVIRONMENT);
        assert!(said.contains(text), "{said}");
    }
}
