//! What lookup cores tell the thread of the ring: of which users the others must hear.
//!
//! A note is only a user's identity; what the ring is told is the state that its entry has when the
//! note is read. A queue that is full therefore loses nothing that could not be found again: the
//! shard is marked, and the reader looks through it for users that nobody was told of.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::epoll::Wake;
use crate::core::UserKey;
use crate::core::users::{SHARDS, shard_of};

/// Notes that may wait. At 300,000 new users a second, more than two cores can place, the reader may
/// be away for a fifth of a second; it is 1 MiB of memory.
const CAPACITY: usize = 65_536;

/// Shards marked in one word.
const WORD: usize = u64::BITS as usize;

/// The queue from all lookup cores to the ring.
pub struct Notes {
    queue: ArrayQueue<UserKey>,
    /// A bit for each shard with users whose notes found the queue full.
    lost: [AtomicU64; SHARDS / WORD],
    /// The reader waits for its descriptor and must be woken. While it is awake a note costs no
    /// system call.
    asleep: CachePadded<AtomicBool>,
    wake: Wake,
}

impl Notes {
    /// An empty queue, whose reader is awake.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> io::Result<Notes> {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> io::Result<Notes> {
        Ok(Notes {
            queue: ArrayQueue::new(capacity),
            lost: std::array::from_fn(|_| AtomicU64::new(0)),
            asleep: CachePadded::new(AtomicBool::new(false)),
            wake: Wake::new()?,
        })
    }

    /// Leaves a note. [`Notes::rouse`] must follow, when no lock is held.
    pub fn put(&self, key: UserKey) {
        if self.queue.push(key).is_err() {
            let shard = shard_of(key.hash);
            self.lost[shard / WORD].fetch_or(1 << (shard % WORD), Ordering::Release);
        }
    }

    /// Wakes the reader if it sleeps.
    pub fn rouse(&self) {
        // Either this sees that the reader went to sleep, or the reader, which looks once more after
        // it said so, sees the note.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    /// Takes what waits, `most` at most; returns how many that were. For the reader.
    pub fn drain(&self, most: usize, each: impl FnMut(UserKey)) -> usize {
        let notes = std::iter::from_fn(|| self.queue.pop());
        notes.take(most).map(each).count()
    }

    /// How many fit into the queue.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// Takes the marks of shards that lost notes, `most` at most. For the reader.
    pub fn take_lost(&self, most: usize) -> Vec<usize> {
        let mut shards = Vec::new();
        for (at, word) in self.lost.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 && shards.len() < most {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                word.fetch_and(!(1 << bit), Ordering::AcqRel);
                shards.push(at * WORD + bit);
            }
        }
        shards
    }

    /// Whether nothing was left.
    pub fn is_empty(&self) -> bool {
        let marked = |word: &AtomicU64| word.load(Ordering::Acquire) != 0;
        self.queue.is_empty() && !self.lost.iter().any(marked)
    }

    /// The reader is about to wait for the descriptor. `false`: it must not, there are notes.
    pub fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.is_empty() {
            return true;
        }
        if !self.asleep.swap(false, Ordering::AcqRel) {
            // Whoever left it has just woken us, which is no longer needed.
            self.wake.clear();
        }
        false
    }

    /// The reader has been woken, through the descriptor or by something else, and will look at the
    /// notes before it sleeps again.
    pub fn woken(&self) {
        if !self.asleep.swap(false, Ordering::AcqRel) {
            self.wake.clear();
        }
    }
}

/// Readable when the reader sleeps and is to wake up.
impl AsFd for Notes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::core::{TagId, UserHash};

    fn user(hash: u32) -> UserKey {
        UserKey {
            tag: TagId(0),
            hash: UserHash(hash),
        }
    }

    fn in_shard(shard: u32) -> UserKey {
        user(shard << 22 | 1)
    }

    fn readable(notes: &Notes, millis: u16) -> bool {
        let mut fds = [PollFd::new(notes.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(millis)).unwrap() == 1
    }

    fn leave(notes: &Notes, key: UserKey) {
        notes.put(key);
        notes.rouse();
    }

    #[test]
    fn a_reader_that_is_awake_costs_no_wake_up() {
        let notes = Notes::new().unwrap();
        leave(&notes, user(1));
        assert!(!readable(&notes, 0));
        assert!(!notes.fall_asleep(), "there is a note");
        assert_eq!(notes.drain(9, |key| assert_eq!(key, user(1))), 1);
        assert!(notes.fall_asleep());
        assert!(!readable(&notes, 0));
        for hash in 2..10 {
            leave(&notes, user(hash));
        }
        assert!(readable(&notes, 0));
        notes.woken();
        assert!(!readable(&notes, 0), "eight notes, one wake-up");
        assert_eq!(notes.drain(5, drop), 5);
        assert_eq!(notes.drain(5, drop), 3);
    }

    #[test]
    fn a_full_queue_marks_the_shards_of_what_does_not_fit() {
        let notes = Notes::with_capacity(2).unwrap();
        assert!(notes.fall_asleep());
        for shard in [5, 5, 0, 63, 64, 1023, 64] {
            leave(&notes, in_shard(shard));
        }
        assert!(readable(&notes, 0));
        assert_eq!(notes.drain(9, |key| assert_eq!(key, in_shard(5))), 2);
        assert!(!notes.fall_asleep(), "marks are left");
        assert_eq!(notes.take_lost(3), [0, 63, 64]);
        assert_eq!(notes.take_lost(3), [1023]);
        assert_eq!(notes.take_lost(3), [0; 0]);
        notes.woken();
        assert!(notes.fall_asleep());
    }

    /// Producers and a reader that sleeps whenever it may: a note whose wake-up is missed would
    /// leave the reader asleep beside it.
    #[test]
    fn no_wake_up_is_missed() {
        const EACH: u32 = 20_000;
        let notes = Arc::new(Notes::with_capacity(64).unwrap());
        let producer = |from: u32| {
            let notes = Arc::clone(&notes);
            std::thread::spawn(move || {
                for n in 0..EACH {
                    leave(&notes, user((from * EACH + n).wrapping_mul(0x9e37_79b1)));
                    if n % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        };
        let producers = [producer(0), producer(1)];
        let mut seen: BTreeMap<usize, u32> = BTreeMap::new();
        let mut lost = 0;
        loop {
            notes.drain(100, |key| *seen.entry(shard_of(key.hash)).or_default() += 1);
            lost += notes.take_lost(SHARDS).len();
            let ended = producers.iter().all(|thread| thread.is_finished());
            if notes.fall_asleep() {
                if ended {
                    break;
                }
                if readable(&notes, 50) {
                    notes.woken();
                } else {
                    // Nothing came for so long: then nothing may be there.
                    assert!(notes.is_empty(), "asleep beside a note");
                }
            }
        }
        let told: u32 = seen.values().sum();
        assert!(told <= 2 * EACH && (told == 2 * EACH || lost > 0));
    }
}
