//! From the first line of a connection to TLS (docs/protocol/ring.md, between Homing directors).
//!
//! A dialler that has read an offer of TLS says STARTTLS in place of its VERSION; the acceptor
//! answers with the same line, and both begin TLS right behind it.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Certificates, Opened, Tls};
use crate::wire::ring::START_TLS;

/// Most bytes that an acceptor may have written before it answers: its VERSION and ME, and whatever
/// Homing will say besides.
const ANSWER_WITHIN: usize = 64 * 1024;

/// How the bytes of a connection are to be read and written.
#[derive(Debug)]
pub enum Link {
    /// As they are.
    Plain,
    /// We have offered TLS; the first line decides.
    Offered {
        /// In force when the connection was accepted.
        certificates: Arc<Certificates>,
        /// Where it comes from.
        peer: IpAddr,
        /// What may become [`START_TLS`].
        held: Vec<u8>,
    },
    /// We want TLS; what comes before the answer is not looked at.
    Asked {
        /// In force when it was wanted.
        certificates: Arc<Certificates>,
        /// Whom we dialled.
        peer: IpAddr,
        /// So many bytes of the line that is being read are those of the answer.
        matching: Option<usize>,
        /// Bytes read.
        read: usize,
    },
    /// By TLS; nothing is plain any more.
    Tls(Box<Tls>),
}

impl Link {
    /// Of a connection that was accepted from `peer`.
    pub fn accepted(certificates: Option<&Arc<Certificates>>, peer: IpAddr) -> Link {
        match certificates {
            None => Link::Plain,
            Some(certificates) => Link::Offered {
                certificates: Arc::clone(certificates),
                peer,
                held: Vec::new(),
            },
        }
    }

    /// A connection that we made goes over to TLS. `out` is to be written.
    pub fn ask(certificates: Arc<Certificates>, peer: IpAddr, out: &mut Vec<u8>) -> Link {
        out.extend_from_slice(START_TLS);
        Link::Asked {
            certificates,
            peer,
            matching: Some(0),
            read: 0,
        }
    }

    /// What is read is for the machine as it is.
    pub fn is_plain(&self) -> bool {
        matches!(self, Link::Plain)
    }

    /// What is read next decides about TLS, so what the machine has said must be written first.
    pub fn is_offered(&self) -> bool {
        matches!(self, Link::Offered { .. })
    }

    /// See [`Tls::is_secure`].
    pub fn is_secure(&self) -> bool {
        matches!(self, Link::Tls(tls) if tls.is_secure())
    }

    /// Takes what was read.
    ///
    /// # Errors
    /// As [`Tls::received`].
    pub fn received(&mut self, bytes: &[u8], opened: &mut Opened) -> Result<(), String> {
        match self {
            Link::Plain => opened.plain.extend_from_slice(bytes),
            Link::Tls(tls) => return tls.received(bytes, opened),
            Link::Offered {
                certificates,
                peer,
                held,
            } => {
                held.extend_from_slice(bytes);
                if let Some(rest) = held.strip_prefix(START_TLS) {
                    opened.out.extend_from_slice(START_TLS);
                    let mut tls = Box::new(Tls::server(certificates, *peer)?);
                    let received = tls.received(rest, opened);
                    *self = Link::Tls(tls);
                    return received;
                }
                if !START_TLS.starts_with(held) {
                    opened.plain.append(held);
                    *self = Link::Plain;
                }
            }
            Link::Asked {
                certificates,
                peer,
                matching,
                read,
            } => {
                let Some(end) = answer_end(bytes, matching) else {
                    *read += bytes.len();
                    if *read > ANSWER_WITHIN {
                        return Err("it has offered TLS and does not begin it".to_owned());
                    }
                    return Ok(());
                };
                let mut tls = Box::new(Tls::client(certificates, *peer)?);
                tls.unwritten(&mut opened.out);
                let received = tls.received(&bytes[end..], opened);
                *self = Link::Tls(tls);
                return received;
            }
        }
        Ok(())
    }

    /// Makes of what the machine says what is to be written.
    pub fn seal(&mut self, bytes: &mut Vec<u8>) {
        match self {
            Link::Plain | Link::Offered { .. } => {}
            Link::Tls(tls) if tls.is_secure() => {
                let plain = std::mem::take(bytes);
                tls.send(&plain, bytes);
            }
            // The machine says nothing while it waits for TLS, but that it closes; and that may
            // neither be plain nor be inside yet.
            Link::Asked { .. } | Link::Tls(_) => bytes.clear(),
        }
    }

    /// As [`Link::seal`], for the last bytes.
    pub fn seal_last(&mut self, bytes: &mut Vec<u8>) {
        self.seal(bytes);
        if let Link::Tls(tls) = self {
            tls.close(bytes);
        }
    }
}

/// Where the answer ends, if it is in `bytes`. `matching` goes from one read to the next.
fn answer_end(bytes: &[u8], matching: &mut Option<usize>) -> Option<usize> {
    for (at, &byte) in bytes.iter().enumerate() {
        *matching = match *matching {
            Some(count) if START_TLS[count] == byte => Some(count + 1),
            _ if byte == b'\n' => Some(0),
            _ => None,
        };
        if *matching == Some(START_TLS.len()) {
            return Some(at + 1);
        }
    }
    None
}
