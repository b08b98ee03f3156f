//! TLS 1.3 between Homing directors, without sockets: bytes in, bytes out.
//!
//! | module | what it does |
//! |---|---|
//! | [`certificates`] | the files of `director_ring_tls_*` |
//! | `fault` | what went wrong, in words |
//! | [`link`] | from the first plain line of a connection to TLS |
//!
//! Nothing is kept here that grows: what comes in is given on at once, up to one record; what goes
//! out is the caller's.

pub mod certificates;
mod fault;
pub mod link;

use std::io::{Read, Write};
use std::net::IpAddr;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, Error, ServerConnection};

pub use certificates::{Certificates, Loaded, Unusable};
pub use link::Link;

/// What came of bytes that were read.
#[derive(Debug, Default)]
pub struct Opened {
    /// For the machine.
    pub plain: Vec<u8>,
    /// To be written.
    pub out: Vec<u8>,
}

/// One connection's TLS.
#[derive(Debug)]
pub struct Tls {
    connection: Connection,
}

impl Tls {
    /// For a connection that we made to this address.
    ///
    /// # Errors
    /// Out of random numbers.
    pub fn client(certificates: &Certificates, peer: IpAddr) -> Result<Tls, String> {
        let name = ServerName::IpAddress(peer.into());
        ClientConnection::new(certificates.client(), name)
            .map(|connection| Tls {
                connection: connection.into(),
            })
            .map_err(|error| fault::fault(&error))
    }

    /// For a connection that came from this address.
    ///
    /// # Errors
    /// Out of random numbers.
    pub fn server(certificates: &Certificates, peer: IpAddr) -> Result<Tls, String> {
        certificates
            .server(peer)
            .and_then(ServerConnection::new)
            .map(|connection| Tls {
                connection: connection.into(),
            })
            .map_err(|error| fault::fault(&error))
    }

    /// As rustls has it, for a connection that is inside TLS from its first byte on.
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// The other side has shown a certificate of a director at its address. A client knows so before
    /// the server has seen its own.
    pub fn is_secure(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Takes what was read. After an error there is still something to write: what the other side
    /// should know of it.
    ///
    /// # Errors
    /// Who is at fault and why, as the end of a sentence about the other director. The connection
    /// is to be closed.
    pub fn received(&mut self, mut bytes: &[u8], opened: &mut Opened) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.connection.read_tls(&mut bytes) {
                // It has said that it would send no more.
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(format!("TLS has failed: {error}")),
            }
            let state = self.connection.process_new_packets();
            self.unwritten(&mut opened.out);
            let state = state.map_err(|error: Error| fault::fault(&error))?;
            let start = opened.plain.len();
            opened
                .plain
                .resize(start + state.plaintext_bytes_to_read(), 0);
            let read = self
                .connection
                .reader()
                .read_exact(&mut opened.plain[start..]);
            debug_assert!(read.is_ok(), "as much as it said: {read:?}");
        }
        Ok(())
    }

    /// Encrypts.
    pub fn send(&mut self, mut plain: &[u8], out: &mut Vec<u8>) {
        debug_assert!(self.is_secure(), "nothing is said before");
        while !plain.is_empty() {
            // Its buffer is bounded, and empty each time.
            let taken = self.connection.writer().write(plain).unwrap_or(0);
            debug_assert!(taken > 0);
            if taken == 0 {
                return;
            }
            plain = &plain[taken..];
            self.unwritten(out);
        }
    }

    /// Says that nothing comes after what was sent, so that an end that was not ours shows.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.unwritten(out);
    }

    /// What TLS itself has to say: the handshake, alerts.
    pub fn unwritten(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let written = self.connection.write_tls(out);
            debug_assert!(written.is_ok(), "a vector takes everything");
            if written.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
