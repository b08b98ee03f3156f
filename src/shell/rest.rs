//! Has a thread stand still for a while, in the middle of its messages.

use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// The message to it.
pub struct Rest {
    stands: Sender<()>,
    over: Receiver<()>,
}

/// What whoever asks for it is given.
pub struct Asked {
    stands: Receiver<()>,
    resting: Resting,
}

/// While it is there, the thread stands still.
pub struct Resting(#[expect(dead_code, reason = "its end is the message")] Sender<()>);

/// A message, and its sender's part.
pub fn rest() -> (Rest, Asked) {
    let (standing, stands) = bounded(1);
    let (resting, over) = bounded(0);
    let rest = Rest {
        stands: standing,
        over,
    };
    let resting = Resting(resting);
    (rest, Asked { stands, resting })
}

impl Rest {
    /// For the thread: stands still.
    pub fn take(self) {
        // Whoever waits may have given up.
        let _ = self.stands.send(());
        // Nothing is ever sent: it waits for the end.
        let _ = self.over.recv();
    }
}

impl Asked {
    /// Waits until the thread stands still, or is not there. `None`: it goes on.
    pub fn wait(self, limit: Duration) -> Option<Resting> {
        let waited = self.stands.recv_timeout(limit);
        (waited != Err(RecvTimeoutError::Timeout)).then_some(self.resting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stands_still_until_the_guard_is_dropped() {
        let soon = Duration::from_secs(60);
        let (messages, inbox) = bounded::<Rest>(9);
        let (begun, goes_on) = bounded(9);
        let thread = std::thread::spawn(move || {
            for rest in inbox {
                rest.take();
                begun.send(()).expect("somebody listens");
            }
        });
        let (message, asked) = rest();
        messages.send(message).expect("it is there");
        let resting = asked.wait(soon).expect("it stands still");
        assert!(goes_on.try_recv().is_err());
        // It hears nothing now.
        let (message, asked) = rest();
        messages.send(message).expect("it is there");
        assert!(asked.wait(Duration::from_millis(1)).is_none());
        drop(resting);
        // Nobody waited for the second one any more, so that it was no rest.
        assert!(goes_on.recv_timeout(soon).is_ok() && goes_on.recv_timeout(soon).is_ok());
        drop(messages);
        thread.join().expect("no panic");
        // Who is not there does nothing either.
        let (message, asked) = rest();
        drop(message);
        assert!(asked.wait(soon).is_some());
    }
}
