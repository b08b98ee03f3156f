//! The null relay on io_uring completions: multishot accept and receive, provided buffers, sends that
//! are submitted with the next wait. Beside `null_relay`, which does the same with epoll, it shows
//! which of the two a director's hot path should be made of; nothing else uses it.
//!
//! `uring_relay LISTEN AUTH [SECONDS]`: listens at one path, relays to the other, ends after a time.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// Provided buffers, a power of two, and the size of each: what 32 requests in flight need.
const BUFFERS: u16 = 2048;
const SIZE: usize = 8192;
const ENTRIES: u32 = 4096;
const GROUP: u16 = 0;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;

/// The buffers that the kernel chooses from.
struct Buffers {
    entries: *mut BufRingEntry,
    memory: Vec<u8>,
    tail: u16,
}

impl Buffers {
    fn new(ring: &IoUring) -> io::Result<Buffers> {
        let length = usize::from(BUFFERS) * size_of::<BufRingEntry>();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which nothing else has; it is never unmapped.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is page-aligned, as long as the entries are, and lives for ever.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(at as u64, BUFFERS, GROUP, 0)?;
        }
        let mut buffers = Buffers {
            entries: at.cast(),
            memory: vec![0; usize::from(BUFFERS) * SIZE],
            tail: 0,
        };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        Ok(buffers)
    }

    fn at(&self, buffer: u16) -> *const u8 {
        self.memory[usize::from(buffer) * SIZE..].as_ptr()
    }

    /// The kernel may use a buffer again.
    fn give_back(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: `slot` is within the entries; the kernel does not read it before the tail says so.
        let entry = unsafe { &mut *self.entries.add(slot) };
        entry.set_addr(self.at(buffer) as u64);
        entry.set_len(SIZE as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail is two aligned bytes of the mapping, which the kernel reads atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// One direction of a connection, by the descriptor that is read from.
struct Way {
    from: UnixStream,
    to: RawFd,
    /// What was received and not sent, the first of which is being sent: buffers and their lengths.
    unsent: VecDeque<(u16, u32)>,
    /// Nothing more comes.
    ended: bool,
}

struct Relay {
    ring: IoUring,
    buffers: Buffers,
    /// By descriptor.
    ways: Vec<Option<Way>>,
    /// Descriptors whose receive has to be submitted anew.
    again: Vec<RawFd>,
}

impl Relay {
    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what an entry points to is a provided buffer, which lives for ever.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    fn receive(&mut self, fd: RawFd) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fd(fd), GROUP).build();
        self.push(&entry.user_data(RECEIVE | fd as u64))
    }

    /// Sends the first of what waits.
    fn send(&mut self, from: RawFd) -> io::Result<()> {
        let Some(Some(way)) = self.ways.get(from as usize) else {
            return Ok(());
        };
        let Some(&(buffer, length)) = way.unsent.front() else {
            return Ok(());
        };
        let entry = opcode::Send::new(Fd(way.to), self.buffers.at(buffer), length)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(&entry.user_data(SEND | from as u64))
    }

    fn add(&mut self, from: UnixStream, to: RawFd) -> io::Result<()> {
        let fd = from.as_raw_fd();
        if self.ways.len() <= fd as usize {
            self.ways.resize_with(fd as usize + 1, || None);
        }
        self.ways[fd as usize] = Some(Way {
            from,
            to,
            unsent: VecDeque::new(),
            ended: false,
        });
        self.receive(fd)
    }

    fn accepted(&mut self, client: UnixStream, auth: &str) -> io::Result<()> {
        let auth = UnixStream::connect(auth)?;
        let (client_fd, auth_fd) = (client.as_raw_fd(), auth.as_raw_fd());
        self.add(client, auth_fd)?;
        self.add(auth, client_fd)
    }

    fn received(&mut self, fd: RawFd, result: i32, flags: u32) -> io::Result<()> {
        let Some(Some(way)) = self.ways.get_mut(fd as usize) else {
            return Ok(());
        };
        if let Some(buffer) = cqueue::buffer_select(flags).filter(|_| result > 0) {
            way.unsent.push_back((buffer, result.unsigned_abs()));
            if way.unsent.len() == 1 {
                self.send(fd)?;
            }
        } else if result != -libc::ENOBUFS {
            return self.end(fd);
        }
        if !cqueue::more(flags) {
            self.again.push(fd);
        }
        Ok(())
    }

    fn sent(&mut self, from: RawFd) -> io::Result<()> {
        let Some(Some(way)) = self.ways.get_mut(from as usize) else {
            return Ok(());
        };
        if let Some((buffer, _)) = way.unsent.pop_front() {
            self.buffers.give_back(buffer);
        }
        if way.ended && way.unsent.is_empty() {
            return self.end(from);
        }
        self.send(from)
    }

    /// One side has ended: so does the other, and when both have nothing under way, they are closed.
    fn end(&mut self, fd: RawFd) -> io::Result<()> {
        let Some(Some(way)) = self.ways.get_mut(fd as usize) else {
            return Ok(());
        };
        way.ended = true;
        let other = way.to;
        // It may be gone already.
        let _ = way.from.shutdown(std::net::Shutdown::Both);
        if let Some(Some(way)) = self.ways.get_mut(other as usize) {
            let _ = way.from.shutdown(std::net::Shutdown::Both);
        }
        let over = |fd: RawFd| match self.ways.get(fd as usize) {
            Some(Some(way)) => way.ended && way.unsent.is_empty(),
            _ => false,
        };
        if over(fd) && over(other) {
            (self.ways[fd as usize], self.ways[other as usize]) = (None, None);
        }
        Ok(())
    }

    fn completed(&mut self, entry: &cqueue::Entry, auth: &str) -> io::Result<()> {
        let (kind, fd) = (entry.user_data() & (3 << 32), entry.user_data() as RawFd);
        match kind {
            RECEIVE => self.received(fd, entry.result(), entry.flags()),
            SEND => self.sent(fd),
            _ if entry.result() >= 0 => {
                use std::os::fd::FromRawFd;
                // SAFETY: the kernel has just accepted it, and nobody else has it.
                let client = unsafe { UnixStream::from_raw_fd(entry.result()) };
                self.accepted(client, auth)
            }
            _ => Err(io::Error::from_raw_os_error(-entry.result())),
        }
    }
}

fn relay(listen: &str, auth: &str, seconds: u32) -> io::Result<()> {
    let listener = UnixListener::bind(listen)?;
    std::fs::set_permissions(listen, std::fs::Permissions::from_mode(0o666))?;
    // SAFETY: no memory is passed. The process ends when the alarm comes.
    unsafe { libc::alarm(seconds.max(1)) };
    let ring = IoUring::builder()
        .setup_coop_taskrun()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(4 * ENTRIES)
        .build(ENTRIES)?;
    let buffers = Buffers::new(&ring)?;
    let mut relay = Relay {
        ring,
        buffers,
        ways: Vec::new(),
        again: Vec::new(),
    };
    let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).build();
    relay.push(&entry.user_data(ACCEPT))?;
    let mut entries = Vec::new();
    loop {
        relay.ring.submit_and_wait(1)?;
        entries.extend(relay.ring.completion());
        for entry in entries.drain(..) {
            relay.completed(&entry, auth)?;
        }
        for fd in std::mem::take(&mut relay.again) {
            relay.receive(fd)?;
        }
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [listen, auth] => relay(listen, auth, 3600),
        [listen, auth, seconds] => relay(listen, auth, seconds.parse().unwrap_or(3600)),
        _ => Err(io::Error::other("usage: uring_relay LISTEN AUTH [SECONDS]")),
    };
    if let Err(error) = result {
        eprintln!("uring_relay: {error}");
        std::process::exit(1);
    }
}
