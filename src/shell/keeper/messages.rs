//! What the two processes say to each other: one packet each.
//!
//! To the keeper, once: the listeners as TOML. From it: `made INDEX` with a descriptor,
//! `problem INDEX CLASS TEXT`, `done`.
//!
//! The codec is public only for tests/fuzz, which is a crate of its own: whoever may become the main
//! process's user can speak to the keeper, so that no bytes at all may make either side panic.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use super::{KeeperError, KeeperEvent, LISTENER_LIMIT};
use crate::settings::{Listener, ListenerKind, Place};
use crate::shell::sockets::{BindClass, BindError};

/// Largest packet in bytes: 64 listeners of a path, names and a few words; well below what a
/// socket buffer takes at once.
pub(super) const PACKET_LIMIT: usize = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct List {
    listener: Vec<Entry>,
}

/// A [`Listener`]; what it speaks does not matter to the keeper.
#[derive(Serialize, Deserialize)]
struct Entry {
    at: At,
    mode: u32,
    owner: Option<String>,
    group: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum At {
    Unix(PathBuf),
    Fifo(PathBuf),
    Tcp(std::net::SocketAddr),
}

/// The packet that tells the keeper what to make.
///
/// # Errors
/// [`KeeperError::Listeners`].
pub fn encode_listeners(listeners: &[Listener]) -> Result<String, KeeperError> {
    let fail = |why: String| Err(KeeperError::Listeners(why));
    if listeners.len() > LISTENER_LIMIT {
        return fail(format!(
            "{} of them, at most {LISTENER_LIMIT}",
            listeners.len()
        ));
    }
    let entry = |listener: &Listener| Entry {
        at: match &listener.place {
            Place::Unix(path) => At::Unix(path.clone()),
            Place::Fifo(path) => At::Fifo(path.clone()),
            Place::Tcp(address) => At::Tcp(*address),
        },
        mode: listener.mode,
        owner: listener.owner.clone(),
        group: listener.group.clone(),
    };
    let list = List {
        listener: listeners.iter().map(entry).collect(),
    };
    match toml::to_string(&list) {
        Ok(text) if text.len() <= PACKET_LIMIT => Ok(text),
        Ok(text) => fail(format!("{} bytes, at most {PACKET_LIMIT}", text.len())),
        Err(error) => fail(error.to_string()),
    }
}

/// The keeper's side of [`encode_listeners`].
///
/// # Errors
/// It is not what that wrote.
pub fn decode_listeners(text: &str) -> Result<Vec<Listener>, toml::de::Error> {
    let list: List = toml::from_str(text)?;
    let listener = |entry: Entry| {
        let place = match entry.at {
            At::Unix(path) => Place::Unix(path),
            At::Fifo(path) => Place::Fifo(path),
            At::Tcp(address) => Place::Tcp(address),
        };
        // Any kind will do.
        listener_of(
            ListenerKind::Login,
            place,
            entry.mode,
            entry.owner,
            entry.group,
        )
    };
    Ok(list.listener.into_iter().map(listener).collect())
}

/// In one place, for whatever else a listener gets that the keeper need not know.
fn listener_of(
    kind: ListenerKind,
    place: Place,
    mode: u32,
    owner: Option<String>,
    group: Option<String>,
) -> Listener {
    Listener {
        kind,
        place,
        mode,
        owner,
        group,
        allow: Vec::new(),
    }
}

/// A listener was made; its descriptor goes with the packet.
pub fn encode_made(index: usize) -> String {
    format!("made {index}")
}

/// A listener could not be made.
pub fn encode_problem(index: usize, error: &BindError) -> String {
    format!("problem {index} {} {}", error.class.word(), error.sentence)
}

/// Every listener was tried once.
pub const DONE: &str = "done";

/// The main process's side of the other three.
///
/// # Errors
/// [`KeeperError::Message`].
pub fn decode_event(text: &str, fd: Option<OwnedFd>) -> Result<KeeperEvent, KeeperError> {
    let unknown = || KeeperError::Message(text.to_owned());
    let mut words = text.splitn(4, ' ');
    let verb = words.next().unwrap_or_default();
    let mut index = || {
        let index = words.next().and_then(|word| word.parse().ok());
        index
            .filter(|&index: &usize| index < LISTENER_LIMIT)
            .ok_or_else(unknown)
    };
    match verb {
        "done" => Ok(KeeperEvent::FirstRoundDone),
        "made" => Ok(KeeperEvent::Made {
            index: index()?,
            fd: fd.ok_or_else(unknown)?,
        }),
        "problem" => {
            let index = index()?;
            let class = words
                .next()
                .and_then(BindClass::from_word)
                .ok_or_else(unknown)?;
            let text = words.next().unwrap_or_default().to_owned();
            Ok(KeeperEvent::Problem { index, class, text })
        }
        _ => Err(unknown()),
    }
}

/// Sends one packet whole or not at all.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let fds = fd.map(|fd| [fd.as_raw_fd()]);
    let rights = fds.as_ref().map(|fds| [ControlMessage::ScmRights(fds)]);
    let control: &[ControlMessage<'_>] = rights.as_ref().map_or(&[], |rights| rights);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        flags,
        None,
    )
    .map(drop)
}

/// Takes one packet; empty at the end of the connection.
pub(super) fn receive(socket: BorrowedFd<'_>) -> Result<(Vec<u8>, Option<OwnedFd>), Errno> {
    let mut bytes = vec![0; PACKET_LIMIT];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            for fd in fds {
                // SAFETY: the kernel has just made it for this process; each is taken once, and
                // all but the last are closed.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let length = message.bytes;
    bytes.truncate(length);
    Ok((bytes, received))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_come_back() {
        let place = [
            Place::Unix("/run/dovecot/login/director/au th\"".into()),
            Place::Fifo("/run/dovecot/login/director/notify".into()),
            Place::Tcp("[::1]:9090".parse().unwrap()),
        ];
        let listeners: Vec<_> = place
            .into_iter()
            .map(|place| listener_of(ListenerKind::Login, place, 0o666, Some("a".into()), None))
            .collect();
        let text = encode_listeners(&listeners).unwrap();
        let back = decode_listeners(&text).unwrap();
        for (a, b) in listeners.iter().zip(&back) {
            assert_eq!(
                (&a.place, a.mode, &a.owner, &a.group),
                (&b.place, b.mode, &b.owner, &b.group)
            );
        }
        assert_eq!(listeners.len(), back.len());
        assert!(
            decode_listeners(&encode_listeners(&[]).unwrap())
                .unwrap()
                .is_empty()
        );
        let many = vec![listeners[0].clone(); LISTENER_LIMIT + 1];
        assert!(encode_listeners(&many).is_err());
    }

    #[test]
    fn events_come_back() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let made = decode_event(&encode_made(3), Some(reader.into())).unwrap();
        assert!(matches!(made, KeeperEvent::Made { index: 3, .. }));
        let error = BindError {
            class: BindClass::Waiting,
            sentence: "not yet: wait".into(),
        };
        let KeeperEvent::Problem {
            index: 5,
            class: BindClass::Waiting,
            text,
        } = decode_event(&encode_problem(5, &error), None).unwrap()
        else {
            panic!("not a problem");
        };
        assert_eq!(text, "not yet: wait");
        assert!(matches!(
            decode_event(DONE, None),
            Ok(KeeperEvent::FirstRoundDone)
        ));
        for bad in ["made 1", "made", "made 64", "problem 1 odd x", "", "x"] {
            assert!(decode_event(bad, None).is_err(), "{bad}");
        }
    }
}
