//! One probe of a backend.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::stream::{Came, Stream};
use super::target::Target;
use crate::core::Mono;
use crate::core::health::Probe;
use crate::core::health::dialogue::{Act, Dialogue};
use crate::settings::CheckTls;
use crate::shell::epoll::Interest;

/// A probe that is under way.
pub(super) struct Probing {
    /// Which.
    pub probe: Probe,
    target: Arc<Target>,
    /// Host name of the backend.
    name: Option<String>,
    stream: Stream,
    dialogue: Dialogue,
    /// TLS has begun and is not there yet; what follows when it is.
    handshake: Option<Begun>,
    /// When it has failed.
    pub deadline: Mono,
}

#[derive(Clone, Copy)]
enum Begun {
    /// From the first byte on.
    AtOnce,
    /// By STARTTLS.
    Asked,
}

/// What came of it; `None`: nothing yet.
pub(super) type Outcome = Option<Result<(), String>>;

impl Probing {
    /// Begins one.
    ///
    /// # Errors
    /// The kernel refuses to begin, for want of something or since there is no way to the backend.
    pub fn begin(
        probe: Probe,
        target: Arc<Target>,
        name: Option<String>,
        now: Mono,
    ) -> io::Result<Probing> {
        let to = SocketAddr::new(probe.ip, target.check.port);
        let timeout = crate::shell::clock::nanos(target.check.timeout);
        Ok(Probing {
            probe,
            stream: Stream::dial(target.check.source, to)?,
            dialogue: target.dialogue(),
            handshake: None,
            name,
            deadline: now.after(timeout),
            target,
        })
    }

    /// The socket is ready for something.
    pub fn go_on(&mut self, readable: bool) -> Outcome {
        match self.try_to_go_on(readable) {
            Ok(outcome) => outcome.then_some(Ok(())),
            Err(why) => Some(Err(why)),
        }
    }

    /// Its time is over.
    pub fn is_late(&self) -> String {
        let seconds = self.target.check.timeout.as_secs();
        let what = match (self.stream.dialling, &self.handshake) {
            (true, _) => "no connection",
            (false, Some(_)) => "TLS does not begin",
            (false, None) => self.dialogue.waits_for(),
        };
        format!("{what} within {seconds} s")
    }

    /// As [`Stream::interest`].
    pub fn interest(&mut self) -> Option<Interest> {
        self.stream.interest()
    }

    fn try_to_go_on(&mut self, readable: bool) -> Result<bool, String> {
        if self.stream.dialling {
            self.stream.finish_dial().map_err(|error| plainly(&error))?;
            if self.target.check.tls == CheckTls::Yes {
                self.begin_tls(Begun::AtOnce)?;
            } else {
                let acts = self.dialogue.connected();
                if self.perform(acts)? {
                    return Ok(true);
                }
            }
        } else if readable && self.read()? {
            return Ok(true);
        }
        match self.stream.flush() {
            true => Ok(false),
            false => Err("it has closed the connection".to_owned()),
        }
    }

    fn read(&mut self) -> Result<bool, String> {
        let mut plain = Zeroizing::new(Vec::with_capacity(64 * 1024));
        let came = self.stream.read(&mut plain);
        if came.is_err() {
            // The other side should know why.
            self.stream.flush();
        }
        let came = came?;
        if self.stream.is_ready()
            && let Some(begun) = self.handshake.take()
        {
            let acts = match begun {
                Begun::AtOnce => self.dialogue.connected(),
                Begun::Asked => self.dialogue.secured(),
            };
            if self.perform(acts)? {
                return Ok(true);
            }
        }
        if !plain.is_empty() {
            let acts = self.dialogue.receive(&plain)?;
            if self.perform(acts)? {
                return Ok(true);
            }
        }
        match came {
            Came::Open => Ok(false),
            Came::End => {
                let what = self.dialogue.waits_for();
                Err(format!("it has closed the connection: {what}"))
            }
        }
    }

    /// True: the backend works.
    fn perform(&mut self, acts: Vec<Act>) -> Result<bool, String> {
        for act in acts {
            match act {
                Act::Send(bytes) => self.stream.send(&bytes),
                Act::StartTls => self.begin_tls(Begun::Asked)?,
                Act::Done(goodbye) => {
                    self.stream.send(goodbye);
                    self.stream.flush();
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn begin_tls(&mut self, begun: Begun) -> Result<(), String> {
        // What was said before is plain.
        if !self.stream.flush() {
            return Err("it has closed the connection".to_owned());
        }
        let connection = self
            .target
            .connection(self.probe.ip, self.name.as_deref())?;
        self.stream.begin_tls(connection.into());
        self.handshake = Some(begun);
        Ok(())
    }
}

/// Without the number of the error.
pub(super) fn plainly(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

impl AsFd for Probing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
