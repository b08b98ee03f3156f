//! A program that is run when a user has been moved, with all of its children.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::Pid;

use super::flush::{Handle, Running, register};
use crate::core::Mono;
use crate::shell::clock;
use crate::wire::script::{Answer, Arguments};

/// How often it is looked at whether a program has ended that has closed its output, or whose
/// children keep it open.
const LOOK_MS: u16 = 20;

/// A running program. Until it is reaped its number stays its own.
pub(super) struct Program {
    child: Child,
    reaped: bool,
    /// We have ended it.
    killed: bool,
}

impl Program {
    /// Ends it and all that it has started.
    pub fn kill(&mut self) {
        if self.reaped {
            return;
        }
        let group = Pid::from_raw(self.child.id().cast_signed());
        self.killed = true;
        // Nobody left is what was wanted.
        let _ = killpg(group, Signal::SIGKILL);
    }

    fn status(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        self.reaped |= status.is_some();
        status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        // That it cannot be waited for means that it was reaped before.
        let _ = self.child.wait();
    }
}

/// Runs a program. Errors: in words.
pub(super) fn run(
    path: &str,
    arguments: &Arguments,
    handle: &Handle,
    until: Mono,
) -> Result<(), String> {
    let fault = |error: std::io::Error| format!("cannot run {path}: {error}");
    let (mut output, input) = std::io::pipe().map_err(fault)?;
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(input.try_clone().map_err(fault)?)
        .stderr(input)
        .process_group(0);
    // SAFETY: between fork and exec only pthread_sigmask is called, which may be called there.
    unsafe {
        command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?));
    }
    let child = command.spawn().map_err(fault)?;
    // It has our end of the pipe too.
    drop(command);
    let program = Program {
        child,
        reaped: false,
        killed: false,
    };
    register(handle, Running::Program(program))?;
    let mut answer = Answer::default();
    let (status, killed) = loop {
        let mut ready = false;
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(LOOK_MS)).is_ok_and(|count| count > 0) {
            let mut buffer = [0; 4096];
            let count = output.read(&mut buffer).unwrap_or(0);
            answer.push(&buffer[..count]);
            ready = count > 0;
            if count == 0 {
                clock::sleep_until(clock::mono().after(u64::from(LOOK_MS) * 1_000_000));
            }
        }
        let mut state = handle.lock();
        let Running::Program(program) = &mut *state else {
            return Err("aborted".to_owned());
        };
        if !ready && let Some(status) = program.status() {
            let killed = program.killed;
            *state = Running::Nothing;
            break (status, killed);
        }
        if until <= clock::mono() {
            state.end();
        }
    };
    if status.success() {
        return Ok(());
    }
    let why = match killed {
        true => "ended, the move has taken too long".to_owned(),
        false => status.to_string(),
    };
    Err(format!("{path}: {why}: {}", answer.text()))
}
