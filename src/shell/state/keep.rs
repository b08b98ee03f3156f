//! The thread that writes the file. It may wait for a disk as long as the disk likes: nobody waits for it
//! but the end of the process, and that only for a while.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::write::{head_of, write};
use crate::core::Mono;
use crate::core::state::Head;
use crate::shell::clock;
use crate::shell::directory::Directory;
use crate::shell::health::Desk;
use crate::shell::log_limit::{LogLimit, left_out};
use crate::shell::rest::{Rest, Resting, rest};

/// How long the end waits for the last file.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Where and how often.
#[derive(Debug)]
pub struct Setup {
    /// `state_path`.
    pub path: PathBuf,
    /// `state_interval`; zero: only at the end.
    pub interval: Duration,
    /// The settings in force; the time in it does not count.
    pub head: Head,
    /// See [`super::Recollection::settled`].
    pub settled: Arc<AtomicBool>,
}

enum Message {
    Tune(Duration),
    Rest(Rest),
    Leave(Sender<()>),
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    failed: AtomicU64,
    /// When the last file was written; 0: never.
    last: AtomicU64,
}

/// The thread, as seen by control.
pub struct Keep {
    mailbox: Sender<Message>,
    counts: Arc<Counts>,
}

impl Keep {
    /// Starts it, if there is something to do for it.
    pub fn start(
        setup: Option<Setup>,
        directory: &Arc<Directory>,
        health: &Arc<Desk>,
    ) -> Option<Keep> {
        let setup = setup?;
        let (mailbox, messages) = unbounded();
        let counts = Arc::new(Counts::default());
        let writer = Writer {
            setup,
            directory: Arc::clone(directory),
            health: Arc::clone(health),
            counts: Arc::clone(&counts),
            limit: LogLimit::rare(),
            failing: false,
        };
        let thread = std::thread::Builder::new().name("state".to_owned());
        if let Err(error) = thread.spawn(move || writer.serve(&messages)) {
            tracing::error!("state: will not be written: {error}");
        }
        Some(Keep { mailbox, counts })
    }

    /// After a reload.
    pub fn tune(&self, interval: Duration) {
        // A thread that is not there needs not know.
        let _ = self.mailbox.send(Message::Tune(interval));
    }

    /// Writes nothing while the guard is there, since another process may be about to. `None`: it is writing, and
    /// not done after ten seconds.
    pub fn rest(&self) -> Option<Resting> {
        let (message, asked) = rest();
        // A thread that is not there does not write.
        let _ = self.mailbox.send(Message::Rest(message));
        asked.wait(END_LIMIT)
    }

    /// The process ends: writes once more. Waits for that, ten seconds at most.
    pub fn leave(&self) {
        let (sender, receiver) = bounded(1);
        if self.mailbox.send(Message::Leave(sender)).is_ok()
            && receiver.recv_timeout(END_LIMIT) == Err(RecvTimeoutError::Timeout)
        {
            let limit = END_LIMIT.as_secs();
            tracing::error!(
                "state: could not be written within {limit} s, the file is an older one"
            );
        }
    }

    /// One line for the log.
    pub fn summary(&self) -> String {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts {
            written,
            failed,
            last,
        } = &*self.counts;
        let (written, failed, last) = (count(written), count(failed), count(last));
        format!("state: written={written} failed={failed} last={last}")
    }
}

struct Writer {
    setup: Setup,
    directory: Arc<Directory>,
    health: Arc<Desk>,
    counts: Arc<Counts>,
    limit: LogLimit,
    failing: bool,
}

impl Writer {
    fn serve(mut self, messages: &Receiver<Message>) {
        let mut due = self.next();
        loop {
            let left = due.map(|due| Duration::from_nanos(due.since(clock::mono())));
            let message = match left {
                Some(left) => messages.recv_timeout(left),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Tune(interval)) => {
                    self.setup.interval = interval;
                    due = self.next();
                }
                Ok(Message::Rest(rest)) => {
                    rest.take();
                    due = self.next();
                }
                Ok(Message::Leave(done)) => {
                    self.write();
                    // Whoever waits may have given up.
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.write();
                    due = self.next();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn next(&self) -> Option<Mono> {
        let nanos = clock::nanos(self.setup.interval);
        (nanos > 0).then(|| clock::mono().after(nanos))
    }

    fn write(&mut self) {
        // The file has users that we do not know yet, and nobody else may.
        let joined = self.directory.snapshot().handshaked;
        if !joined || !self.setup.settled.load(Ordering::Acquire) {
            return tracing::debug!("state: not written, no ring was found yet");
        }
        let begun = clock::mono();
        let wall = clock::wall();
        let head = head_of(&self.setup.head, wall);
        match write(
            &self.setup.path,
            &head,
            &self.directory,
            &self.health.marks(),
        ) {
            Ok(users) => {
                let took = clock::mono().since(begun) / 1_000_000;
                self.counts.written.fetch_add(1, Ordering::Relaxed);
                self.counts.last.store(wall.0, Ordering::Relaxed);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("state: written again, {users} users in {took} ms");
                } else {
                    tracing::debug!("state: {users} users written in {took} ms");
                }
            }
            Err(error) => {
                self.failing = true;
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                if let Some(more) = self.limit.allow(clock::mono()) {
                    let (path, more) = (self.setup.path.display(), left_out(more));
                    tracing::error!("state: {path} cannot be written: {error}{more}");
                }
            }
        }
    }
}
