//! The new process: takes everything in, and waits for the word.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::unistd::dup2_stdin;

use super::channel::{Channel, ChannelError};
use crate::core::state::{Decoder, Saved};
use crate::shell::relay::carry::Carried;
use crate::wire::takeover::{End, Fault, Kind, Listeners, Offer, decode};

/// How long the old process may take with anything before the word: it waits until no user is being moved.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to leave the director ring.
const LEAVE_LIMIT: Duration = Duration::from_secs(30);

/// The process that is to be taken over.
#[derive(Debug)]
pub struct Old {
    channel: Channel,
}

/// Everything that it had.
#[derive(Debug)]
pub struct Everything {
    old: Old,
    /// The keeper's socket. Not yet to be used, and never to be shut down.
    pub keeper: Option<OwnedFd>,
    /// Listeners by their place in [`Offer::kept`].
    pub kept: Vec<(usize, OwnedFd)>,
    /// Listeners by their place in [`Offer::handed`].
    pub handed: Vec<(usize, OwnedFd)>,
    /// Backends and users.
    pub saved: Saved,
    /// Connections.
    pub relays: Vec<Carried>,
}

impl Old {
    /// The process at the other end of the standard input, which is taken away.
    ///
    /// # Errors
    /// There is none, or none that this one can take over from.
    pub fn at_stdin() -> Result<Old, ChannelError> {
        let take = || -> io::Result<OwnedFd> {
            let socket = io::stdin().as_fd().try_clone_to_owned()?;
            // Children would inherit it.
            dup2_stdin(OpenOptions::new().read(true).open("/dev/null")?)?;
            Ok(socket)
        };
        let mut channel = Channel::new(take().map_err(ChannelError::Io)?, PATIENCE);
        channel.expect_hello()?;
        channel.send_hello()?;
        Ok(Old { channel })
    }

    /// What must be known before anything stops.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub fn offer(&mut self) -> Result<Offer, ChannelError> {
        let frame = self.channel.expect(Kind::Offer)?;
        Ok(decode(Kind::Offer, &frame.payload)?)
    }

    /// Says why not. It may be gone.
    pub fn refuse(&mut self, why: &str) {
        let _ = self.channel.send(Kind::Refused, why.as_bytes(), &[]);
    }

    /// Says that all is ready, and takes in what comes. Nothing of it may be touched before
    /// [`Everything::wait_for_the_word`].
    ///
    /// # Errors
    /// The old process has thought better of it, or sent what cannot be used, which it was told.
    pub fn take_all(mut self, max_users: u64) -> Result<Everything, String> {
        let taken = self.take_in(max_users);
        match taken {
            Ok((listeners, saved, relays)) => Ok(Everything {
                keeper: listeners.keeper,
                kept: listeners.kept,
                handed: listeners.handed,
                saved,
                relays,
                old: self,
            }),
            Err(why) => {
                self.refuse(&why);
                Err(why)
            }
        }
    }

    fn take_in(&mut self, max_users: u64) -> Result<(Descriptors, Saved, Vec<Carried>), String> {
        let said = |error: ChannelError| error.to_string();
        let wrong = |fault: Fault| fault.to_string();
        self.channel.allow(PATIENCE);
        self.channel.send(Kind::Willing, &[], &[]).map_err(said)?;
        let mut listeners = None;
        let mut state = Decoder::new(max_users);
        let mut relays: Vec<Carried> = Vec::new();
        let mut seen = End::default();
        loop {
            let frame = self.channel.receive().map_err(said)?;
            match frame.kind {
                Kind::Listeners => listeners = Some(Descriptors::of(frame).map_err(wrong)?),
                Kind::State => state
                    .feed(&frame.payload)
                    .map_err(|fault| format!("the state of the old process: {fault}"))?,
                Kind::Relay => {
                    relays.push(Carried::new(frame).map_err(wrong)?);
                    seen.relays += 1;
                }
                Kind::Parked => {
                    let relay = relays.last_mut().ok_or(Fault::Damaged(frame.kind));
                    relay.and_then(|relay| relay.park(frame)).map_err(wrong)?;
                    seen.parked += 1;
                }
                Kind::End => {
                    let end: End = decode(frame.kind, &frame.payload).map_err(wrong)?;
                    let listeners = listeners.filter(|_| end == seen);
                    let listeners = listeners.ok_or_else(|| wrong(Fault::Damaged(frame.kind)))?;
                    let saved = state.finish();
                    let saved =
                        saved.map_err(|fault| format!("the state of the old process: {fault}"))?;
                    return Ok((listeners, saved, relays));
                }
                kind => return Err(said(ChannelError::OutOfTurn(kind))),
            }
        }
    }
}

/// The descriptors of listeners, sorted.
struct Descriptors {
    keeper: Option<OwnedFd>,
    kept: Vec<(usize, OwnedFd)>,
    handed: Vec<(usize, OwnedFd)>,
}

impl Descriptors {
    fn of(frame: super::channel::Frame) -> Result<Descriptors, Fault> {
        let which: Listeners = decode(frame.kind, &frame.payload)?;
        let mut fds = frame.descriptors.into_iter();
        let keeper = if which.keeper { fds.next() } else { None };
        let mut sort = |places: &[u32]| -> Vec<(usize, OwnedFd)> {
            let places = places.iter().map(|&place| place as usize);
            places.zip(&mut fds).collect()
        };
        let (kept, handed) = (sort(&which.kept), sort(&which.handed));
        let all = keeper.is_some() == which.keeper
            && kept.len() == which.kept.len()
            && handed.len() == which.handed.len();
        if !all {
            return Err(Fault::Damaged(frame.kind));
        }
        Ok(Descriptors {
            keeper,
            kept,
            handed,
        })
    }
}

impl Everything {
    /// Says that everything is here, and waits until the old process says that it will never touch it
    /// again.
    ///
    /// # Errors
    /// It goes on itself.
    pub fn wait_for_the_word(&mut self) -> Result<(), ChannelError> {
        let channel = &mut self.old.channel;
        channel.allow(PATIENCE);
        channel.send(Kind::Taken, &[], &[])?;
        channel.expect(Kind::Go).map(drop)
    }

    /// What is left when the rest was used: see [`Leaving::wait`].
    pub fn leaving(self) -> Leaving {
        Leaving(self.old.channel)
    }
}

/// The old process, which is about to leave the director ring.
pub struct Leaving(Channel);

impl Leaving {
    /// Waits until it has. If it does not say so, it is gone or hangs, and the ring will see to that.
    pub fn wait(mut self) {
        self.0.allow(LEAVE_LIMIT);
        if let Err(error) = self.0.expect(Kind::Gone) {
            tracing::warn!(
                "upgrade: the old process did not say that it has left the ring: {error}"
            );
        }
    }
}
