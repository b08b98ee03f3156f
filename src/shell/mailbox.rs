//! Messages to a thread that waits in an epoll instance of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::SegQueue;

use super::epoll::Wake;

/// Messages of any thread to one, in order.
pub struct Mailbox<T> {
    messages: SegQueue<T>,
    /// Set while a wake-up is on its way, so that a burst of messages costs one.
    woken: AtomicBool,
    wake: Wake,
}

impl<T> Mailbox<T> {
    /// An empty one.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Mailbox {
            messages: SegQueue::new(),
            woken: AtomicBool::new(false),
            wake: Wake::new()?,
        })
    }

    /// Leaves a message, and wakes the reader.
    pub fn send(&self, message: T) {
        self.messages.push(message);
        self.wake();
    }

    /// Makes the reader look at its mailbox.
    pub fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    /// What waits. Called by the reader once it was woken.
    pub fn take(&self) -> Vec<T> {
        self.wake.clear();
        // A swap, not a store: what was pushed before a wake-up that this takes back is then seen
        // below. A store could be overtaken by the look at the queue, and the message lie there.
        self.woken.swap(false, Ordering::AcqRel);
        std::iter::from_fn(|| self.messages.pop()).collect()
    }
}

/// Readable when there is something to take.
impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
