//! The keeper process: one thread, one poll loop, a bounded list.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, shutdown};

use super::messages::{DONE, decode_listeners, encode_made, encode_problem, receive, send};
use super::watch::Watch;
use super::{LISTENER_LIMIT, confine};
use crate::settings::Listener;
use crate::shell::preflight::Exit;
use crate::shell::sockets::{BindError, Bound, FIFO_GRACE, bind};

/// How often everything is looked at even if nothing seems to have changed: inotify does not
/// see a remount, and its queue can overflow.
const SLOW_POLL_MS: u16 = 1_000;

/// Time for the rest of a burst of changes to happen, so that it is handled as one.
const SETTLE: Duration = Duration::from_millis(20);

/// How long the list of listeners may take to come.
const FIRST_MESSAGE_MS: u16 = 10_000;

/// `homing keeper`, started by the main process only: standard input is its socket.
pub fn run() -> ExitCode {
    let stdin = io::stdin();
    let main = stdin.as_fd();
    let Some(listeners) = first_message(main) else {
        eprintln!("homing keeper is started by homing itself, not by hand");
        return ExitCode::from(Exit::Config.code());
    };
    if let Err(errno) = confine::confine() {
        eprintln!("keeper: cannot give up privileges: {errno}");
        return ExitCode::from(Exit::Environment.code());
    }
    let mut slots: Vec<Slot> = listeners.into_iter().map(Slot::new).collect();
    // Without inotify (no instances left) the slow poll alone does it, a second later.
    let mut watch = Watch::new().ok();
    serve(main, &mut slots, &mut watch);
    remove(slots);
    // The main process waits for this, and not for our end: on a busy machine the kernel takes seconds to
    // close an inotify instance.
    let _ = shutdown(main.as_raw_fd(), Shutdown::Both);
    ExitCode::SUCCESS
}

fn first_message(main: BorrowedFd<'_>) -> Option<Vec<Listener>> {
    let mut fds = [PollFd::new(main, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(FIRST_MESSAGE_MS)).ok()?;
    let (bytes, _) = receive(main).ok().filter(|(bytes, _)| !bytes.is_empty())?;
    let listeners = decode_listeners(std::str::from_utf8(&bytes).ok()?).ok()?;
    (listeners.len() <= LISTENER_LIMIT).then_some(listeners)
}

/// One listener and what the main process knows of it.
struct Slot {
    listener: Listener,
    bound: Option<Bound>,
    news: Option<News>,
    /// The last problem told, so that it is not told every second.
    told: Option<BindError>,
}

enum News {
    Made,
    Problem(BindError),
}

impl Slot {
    fn new(listener: Listener) -> Self {
        Self {
            listener,
            bound: None,
            news: None,
            told: None,
        }
    }

    /// Makes the listener if it is not there (any more).
    fn tend(&mut self) {
        if self.bound.as_ref().is_some_and(Bound::in_place) {
            return;
        }
        match bind(&self.listener) {
            Ok(bound) => {
                self.bound = Some(bound);
                self.told = None;
                self.news = Some(News::Made);
            }
            Err(error) => {
                if self.told.as_ref() != Some(&error) {
                    self.news = Some(News::Problem(error));
                }
            }
        }
    }

    /// Tells what is new. Left for the next time if the main process does not take it now.
    fn tell(&mut self, index: usize, main: BorrowedFd<'_>) -> Result<(), Errno> {
        match (&self.news, &self.bound) {
            (Some(News::Made), Some(bound)) => {
                send(main, encode_made(index).as_bytes(), Some(bound.as_fd()))?;
            }
            (Some(News::Problem(error)), _) => {
                send(main, encode_problem(index, error).as_bytes(), None)?;
                self.told = Some(error.clone());
            }
            _ => {}
        }
        self.news = None;
        Ok(())
    }
}

/// Runs until the main process is gone.
fn serve(main: BorrowedFd<'_>, slots: &mut [Slot], watch: &mut Option<Watch>) {
    let mut first = true;
    loop {
        if let Some(watch) = watch {
            // Before looking, so that a change after the look is seen.
            watch.cover(slots.iter().map(|slot| &slot.listener.place));
        }
        slots.iter_mut().for_each(Slot::tend);
        match tell_all(main, slots, &mut first) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ETOOMANYREFS) => {}
            Err(_) => return,
        }
        if !wait(main, watch.as_ref()) {
            return;
        }
        if let Some(watch) = watch {
            watch.drain();
        }
    }
}

fn tell_all(main: BorrowedFd<'_>, slots: &mut [Slot], first: &mut bool) -> Result<(), Errno> {
    for (index, slot) in slots.iter_mut().enumerate() {
        slot.tell(index, main)?;
    }
    if *first {
        send(main, DONE.as_bytes(), None)?;
        *first = false;
    }
    Ok(())
}

/// Waits for a change or the slow poll; `false` when the main process is gone.
fn wait(main: BorrowedFd<'_>, watch: Option<&Watch>) -> bool {
    let mut fds = vec![PollFd::new(main, PollFlags::POLLIN)];
    fds.extend(watch.map(|watch| PollFd::new(watch.as_fd(), PollFlags::POLLIN)));
    let _ = poll(&mut fds, PollTimeout::from(SLOW_POLL_MS));
    let spoken = fds[0].any().unwrap_or(true);
    let changed = fds.get(1).and_then(PollFd::any).unwrap_or(false);
    if spoken {
        // It says nothing after the list, so this is its end; anything else is thrown away.
        return match receive(main) {
            Ok((bytes, _)) => !bytes.is_empty(),
            Err(errno) => matches!(errno, Errno::EAGAIN | Errno::EINTR),
        };
    }
    if changed {
        std::thread::sleep(SETTLE);
    }
    true
}

/// Removes all that was made. Sockets are closed at once, so that login processes are refused and
/// need not wait; FIFOs stay open for a moment after their names are gone.
fn remove(slots: Vec<Slot>) {
    let bounds: Vec<Bound> = slots.into_iter().filter_map(|slot| slot.bound).collect();
    bounds.iter().for_each(Bound::unlink);
    let fifos: Vec<Bound> = bounds.into_iter().filter(|bound| bound.is_fifo).collect();
    if !fifos.is_empty() {
        std::thread::sleep(FIFO_GRACE);
    }
}
