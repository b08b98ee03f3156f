//! The socket between the two processes: frames with descriptors, each by a deadline.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use zeroize::Zeroizing;

use crate::core::Mono;
use crate::shell::clock;
use crate::wire::takeover::{Fault, HEAD, Head, Kind, MAX_DESCRIPTORS, check_hello, hello};

/// Pause while the kernel has too many of our descriptors on their way to the other process.
const CROWDED_PAUSE: u64 = 1_000_000;
/// Longest sleep in `poll`; the deadline is looked at again then.
const POLL_MS: u64 = 1_000;

/// Why nothing more is to be expected of the other process.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// It is too slow.
    #[error("the other process did not answer in time")]
    TooLate,
    /// It has ended, or hung up.
    #[error("the other process has ended")]
    Ended,
    /// It refuses, and says why.
    #[error("{0}")]
    Refused(String),
    /// It said something else than it should have.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A frame that should have come later, or never.
    #[error("the other process sent {0:?} out of turn")]
    OutOfTurn(Kind),
    /// More than a frame can have.
    #[error("a connection has more to hand over than fits")]
    TooLarge,
    /// The kernel refused.
    #[error("the other process cannot be spoken to: {0}")]
    Io(#[source] io::Error),
}

impl From<Errno> for ChannelError {
    fn from(errno: Errno) -> ChannelError {
        match errno {
            Errno::EPIPE | Errno::ECONNRESET => ChannelError::Ended,
            errno => ChannelError::Io(errno.into()),
        }
    }
}

/// What came.
#[derive(Debug)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its content, wiped when it is dropped.
    pub payload: Zeroizing<Vec<u8>>,
    /// Its descriptors.
    pub descriptors: VecDeque<OwnedFd>,
}

/// One end.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    deadline: Mono,
}

impl Channel {
    /// Over a non-blocking stream socket.
    pub fn new(socket: OwnedFd, limit: Duration) -> Channel {
        let mut channel = Channel {
            socket,
            deadline: Mono(0),
        };
        channel.allow(limit);
        channel
    }

    /// Everything from now on must be over by then.
    pub fn allow(&mut self, limit: Duration) {
        let nanos = clock::nanos(limit);
        self.deadline = clock::mono().after(nanos);
    }

    /// Says who we are.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub fn send_hello(&mut self) -> Result<(), ChannelError> {
        self.send(Kind::Hello, &hello(), &[])
    }

    /// Hears who the other one is.
    ///
    /// # Errors
    /// It is none of us, or of another version.
    pub fn expect_hello(&mut self) -> Result<(), ChannelError> {
        let hello = self.expect(Kind::Hello)?;
        Ok(check_hello(&hello.payload)?)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// Parts of it may have been sent: there is nothing more to be said then.
    pub fn send(
        &mut self,
        kind: Kind,
        payload: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let head = Head {
            kind,
            descriptors: descriptors.len(),
            length: payload.len(),
        };
        let head = head.encode().ok_or(ChannelError::TooLarge)?;
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let mut rights: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let mut sent = 0;
        while sent < HEAD + payload.len() {
            let head = &head[sent.min(HEAD)..];
            let rest = &payload[sent.saturating_sub(HEAD)..];
            let slices = [IoSlice::new(head), IoSlice::new(rest)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let socket = self.socket.as_raw_fd();
            match sendmsg::<UnixAddr>(socket, &slices, rights, flags, None) {
                Ok(count) => {
                    sent += count;
                    // They go with the first bytes.
                    rights = &[];
                }
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                Err(Errno::ETOOMANYREFS) => {
                    self.in_time()?;
                    clock::sleep_until(clock::mono().after(CROWDED_PAUSE));
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`ChannelError::Refused`] too, whenever that comes.
    pub fn receive(&mut self) -> Result<Frame, ChannelError> {
        let mut descriptors = VecDeque::new();
        let mut head = [0; HEAD];
        self.fill(&mut head, &mut descriptors)?;
        let head = Head::decode(head)?;
        let mut payload = Zeroizing::new(vec![0; head.length]);
        self.fill(&mut payload, &mut descriptors)?;
        if descriptors.len() != head.descriptors {
            // The kernel drops those that are more than this process may have.
            return Err(ChannelError::Io(Errno::EMFILE.into()));
        }
        if head.kind == Kind::Refused {
            let why = String::from_utf8_lossy(&payload).into_owned();
            return Err(ChannelError::Refused(why));
        }
        Ok(Frame {
            kind: head.kind,
            payload,
            descriptors,
        })
    }

    /// The next frame, which must be of this kind.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub fn expect(&mut self, kind: Kind) -> Result<Frame, ChannelError> {
        let frame = self.receive()?;
        if frame.kind == kind {
            Ok(frame)
        } else {
            Err(ChannelError::OutOfTurn(frame.kind))
        }
    }

    fn fill(
        &mut self,
        mut buffer: &mut [u8],
        descriptors: &mut VecDeque<OwnedFd>,
    ) -> Result<(), ChannelError> {
        let mut space = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        while !buffer.is_empty() {
            let mut slices = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let socket = self.socket.as_raw_fd();
            let count = match recvmsg::<UnixAddr>(socket, &mut slices, Some(&mut space), flags) {
                Ok(message) => {
                    for control in message.cmsgs()? {
                        if let ControlMessageOwned::ScmRights(fds) = control {
                            // SAFETY: the kernel has just made them for this process; each is taken once.
                            let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
                            descriptors.extend(fds.into_iter().map(own));
                        }
                    }
                    message.bytes
                }
                Err(Errno::EAGAIN) => {
                    self.wait(PollFlags::POLLIN)?;
                    continue;
                }
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if count == 0 {
                return Err(ChannelError::Ended);
            }
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    fn in_time(&self) -> Result<u64, ChannelError> {
        match self.deadline.since(clock::mono()) {
            0 => Err(ChannelError::TooLate),
            left => Ok(left),
        }
    }

    fn wait(&self, what: PollFlags) -> Result<(), ChannelError> {
        let left = self.in_time()?.div_ceil(1_000_000).min(POLL_MS);
        let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.socket.as_fd(), what)];
        match poll(&mut fds, limit) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    fn pair() -> (Channel, Channel) {
        let (a, b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        (Channel::new(a.into(), SOON), Channel::new(b.into(), SOON))
    }

    /// Frames and descriptors arrive in order and together, however much is on the way.
    #[test]
    fn frames_keep_their_descriptors() {
        let (mut old, mut new) = pair();
        let sender = std::thread::spawn(move || {
            for n in 0..2_000_usize {
                let (mut writer, reader) = UnixStream::pair().unwrap();
                writer.write_all(&n.to_le_bytes()).unwrap();
                let payload = vec![n as u8; (n * 7919) % 5_000];
                let fds = [reader.as_fd(), writer.as_fd()];
                old.send(Kind::Relay, &payload, &fds[..n % 3]).unwrap();
            }
            old.send(Kind::State, &vec![9; 3 << 20], &[]).unwrap();
        });
        for n in 0..2_000_usize {
            let mut frame = new.expect(Kind::Relay).unwrap();
            assert!(frame.payload.iter().all(|&byte| byte == n as u8));
            assert_eq!(frame.payload.len(), (n * 7919) % 5_000);
            assert_eq!(frame.descriptors.len(), n % 3);
            if let Some(reader) = frame.descriptors.pop_front() {
                let mut number = [0; 8];
                UnixStream::from(reader).read_exact(&mut number).unwrap();
                assert_eq!(usize::from_le_bytes(number), n);
            }
        }
        assert_eq!(new.expect(Kind::State).unwrap().payload.len(), 3 << 20);
        sender.join().unwrap();
        assert!(matches!(new.receive(), Err(ChannelError::Ended)));
    }

    #[test]
    fn whoever_is_silent_is_not_waited_for_for_ever() {
        let (mut old, new) = pair();
        old.allow(Duration::from_millis(20));
        assert!(matches!(old.receive(), Err(ChannelError::TooLate)));
        // Nobody reads: it does not fit.
        let sent = old.send(Kind::State, &vec![0; 8 << 20], &[]);
        assert!(matches!(sent, Err(ChannelError::TooLate)), "{sent:?}");
        drop(new);
        old.allow(SOON);
        assert!(matches!(old.send_hello(), Err(ChannelError::Ended)));
    }

    #[test]
    fn a_refusal_is_heard_whatever_was_expected() {
        let (mut old, mut new) = pair();
        old.send_hello().unwrap();
        new.expect_hello().unwrap();
        new.send(Kind::Refused, b"other listeners", &[]).unwrap();
        let Err(ChannelError::Refused(why)) = old.expect(Kind::Willing) else {
            panic!("not refused");
        };
        assert_eq!(why, "other listeners");
        new.send(Kind::Taken, b"", &[]).unwrap();
        let error = old.expect(Kind::Willing).unwrap_err();
        assert!(matches!(error, ChannelError::OutOfTurn(Kind::Taken)));
    }
}
