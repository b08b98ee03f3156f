//! The floor of a director's work: the same sockets, accept, connect, copy both ways; plain epoll,
//! no parsing, no table. What a director costs beyond this is what it does.
//!
//! `null_relay LISTEN AUTH [SECONDS]`: listens at one path, relays to the other, ends after a time.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

const READ_SIZE: usize = 64 * 1024;
const BATCH: usize = 256;

/// By descriptor: a connection and the descriptor at its other end.
type Pairs = Vec<Option<(UnixStream, RawFd)>>;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn watch(epoll: RawFd, fd: RawFd) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: fd as u64,
    };
    // SAFETY: `event` is valid; the kernel checks the descriptors.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) }).map(drop)
}

fn add(pairs: &mut Pairs, epoll: RawFd, stream: UnixStream, other: RawFd) -> io::Result<()> {
    let fd = stream.as_raw_fd();
    if pairs.len() <= fd as usize {
        pairs.resize_with(fd as usize + 1, || None);
    }
    pairs[fd as usize] = Some((stream, other));
    watch(epoll, fd)
}

fn accept(listener: &UnixListener, auth: &str, epoll: RawFd, pairs: &mut Pairs) -> io::Result<()> {
    let (client, _) = listener.accept()?;
    let auth = UnixStream::connect(auth)?;
    let (client_fd, auth_fd) = (client.as_raw_fd(), auth.as_raw_fd());
    add(pairs, epoll, client, auth_fd)?;
    add(pairs, epoll, auth, client_fd)
}

/// One read, one write. The write blocks: the floor has no buffers.
fn copy(pairs: &mut Pairs, fd: usize, buffer: &mut [u8]) {
    let Some(Some((from, to))) = pairs.get(fd) else {
        return;
    };
    let to = *to as usize;
    let copied = match (&mut &*from).read(buffer) {
        Ok(count) if count > 0 => match pairs.get(to) {
            Some(Some((to, _))) => (&mut &*to).write_all(&buffer[..count]).is_ok(),
            _ => false,
        },
        _ => false,
    };
    if !copied {
        (pairs[fd], pairs[to]) = (None, None);
    }
}

fn relay(listen: &str, auth: &str, seconds: i32) -> io::Result<()> {
    let listener = UnixListener::bind(listen)?;
    std::fs::set_permissions(listen, std::fs::Permissions::from_mode(0o666))?;
    // SAFETY: no memory is passed.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: no memory is passed. The process ends when the alarm comes.
    unsafe { libc::alarm(seconds.max(1) as libc::c_uint) };
    watch(epoll, listener.as_raw_fd())?;
    let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
    let (mut pairs, mut buffer) = (Pairs::new(), vec![0; READ_SIZE]);
    loop {
        // SAFETY: `events` has room for as many as given.
        let count = check(unsafe {
            libc::epoll_wait(epoll, events.as_mut_ptr(), BATCH as libc::c_int, -1)
        })?;
        for event in &events[..count as usize] {
            match event.u64 as RawFd {
                fd if fd == listener.as_raw_fd() => {
                    accept(&listener, auth, epoll, &mut pairs)?;
                }
                fd => copy(&mut pairs, fd as usize, &mut buffer),
            }
        }
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [listen, auth] => relay(listen, auth, 3600),
        [listen, auth, seconds] => relay(listen, auth, seconds.parse().unwrap_or(3600)),
        _ => Err(io::Error::other("usage: null_relay LISTEN AUTH [SECONDS]")),
    };
    if let Err(error) = result {
        eprintln!("null_relay: {error}");
        std::process::exit(1);
    }
}
