//! Memory that held a password is wiped before it is freed.
//!
//! An allocator that looks into every block as it is given back. The only test of its binary, so
//! that no other thread's memory is looked at.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use homing::wire::auth::parse_reply;
use homing::wire::line::Splitter;

/// Bytes that occur nowhere else.
const SECRET: [u8; 12] = *b"\xf1s3cr3t-\xf2\xf3\xf4\xf5";

static LEFT_BEHIND: AtomicUsize = AtomicUsize::new(0);

struct Watching;

// SAFETY: everything is passed on to the system's allocator. A block is only read where it was
// handed out as at least that long; zeroed allocation leaves no byte of it uninitialised.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller owns the block of this size until the call below.
        let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
        if bytes.windows(SECRET.len()).any(|window| window == SECRET) {
            LEFT_BEHIND.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as for the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// How many blocks with the secret were freed meanwhile.
fn left_behind(work: impl FnOnce()) -> usize {
    let before = LEFT_BEHIND.load(Ordering::Relaxed);
    work();
    LEFT_BEHIND.load(Ordering::Relaxed) - before
}

/// A line with the secret in the middle, on the stack.
fn line() -> [u8; 1200] {
    let mut line = [b'x'; 1200];
    line[300..300 + SECRET.len()].copy_from_slice(&SECRET);
    line[1199] = b'\n';
    line
}

#[test]
fn nothing_secret_is_left_in_freed_memory() {
    assert_eq!(left_behind(|| drop(SECRET.to_vec())), 1, "the test sees");
    let line = line();
    let in_pieces = |splitter: &mut Splitter, until: usize, skip: bool| {
        for piece in line[..until].chunks(7) {
            if skip {
                splitter.feed_skipping(piece, 2000, |_| {});
            } else {
                splitter.feed(piece, 2000, |_| {}).expect("short enough");
            }
        }
    };
    for skip in [false, true] {
        for until in [500, 1199, 1200] {
            let freed = left_behind(|| in_pieces(&mut Splitter::default(), until, skip));
            assert_eq!(
                freed, 0,
                "a splitter fed {until} bytes in pieces, skipping {skip}"
            );
        }
    }
    let freed = left_behind(|| {
        let mut splitter = Splitter::default();
        in_pieces(&mut splitter, 500, false);
        splitter.feed(&line, 600, |_| {}).expect_err("too long");
    });
    assert_eq!(freed, 0, "a line that became too long");

    let mut reply = [0; 64];
    let mut length = 0;
    for part in [&b"OK\t5\tuser=a\x01tb\tpass="[..], b"c\x01t", &SECRET] {
        reply[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    let freed = left_behind(|| drop(parse_reply(&reply[..length], false)));
    assert_eq!(freed, 0, "a reply with an escaped password");
}
