//! A TCP connection, with or without TLS.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::error::Error;
use crate::plan::Session;

/// A session's replies before it rests are a few lines; more without an end is nonsense.
const INBOX_MAX: usize = 64 * 1024;

/// A client connection.
pub(crate) struct Transport {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Transport {
    /// Begins to connect. The first writable event ends it.
    pub(crate) fn connect(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, tls: None })
    }

    /// Whether the connection stands by now, or why it never will.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                // A login is a few short lines to and fro, and each waits for the other.
                self.stream.set_nodelay(true)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// TLS begins.
    pub(crate) fn secure(
        &mut self,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> io::Result<()> {
        let tls = ClientConnection::new(Arc::clone(config), name.clone());
        self.tls = Some(Box::new(tls.map_err(io::Error::other)?));
        Ok(())
    }

    /// Reads all that is there. True: the peer has closed.
    pub(crate) fn read(&mut self, scratch: &mut [u8], inbox: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            if inbox.len() > INBOX_MAX {
                return Err(io::Error::other("the peer sent an endless line"));
            }
            let read = match &mut self.tls {
                None => self.stream.read(scratch),
                Some(tls) => tls.read_tls(&mut self.stream),
            };
            match read {
                Ok(0) => return Ok(true),
                Ok(count) => match &mut self.tls {
                    None => inbox.extend_from_slice(&scratch[..count]),
                    Some(tls) => decrypted(tls, scratch, inbox)?,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what is in the outbox, as far as the kernel takes it; the rest waits for the next
    /// writable event.
    pub(crate) fn write(&mut self, outbox: &mut Vec<u8>) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            if !outbox.is_empty() {
                tls.writer().write_all(outbox)?;
                outbox.clear();
            }
            while tls.wants_write() {
                match tls.write_tls(&mut self.stream) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                    Ok(_) => {}
                }
            }
            return Ok(());
        }
        while !outbox.is_empty() {
            match self.stream.write(outbox) {
                Ok(count) => drop(outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn decrypted(
    tls: &mut ClientConnection,
    scratch: &mut [u8],
    inbox: &mut Vec<u8>,
) -> io::Result<()> {
    tls.process_new_packets().map_err(io::Error::other)?;
    loop {
        match tls.reader().read(scratch) {
            Ok(0) => return Ok(()),
            Ok(count) => inbox.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// How TLS is done: version 1.3, every handshake a full one, as of a client that comes for the
/// first time.
pub(crate) fn tls_config(session: &Session) -> Result<Arc<ClientConfig>, Error> {
    let failed = |error: rustls::Error| Error::kernel("cannot use TLS")(io::Error::other(error));
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let mut config = match &session.tls_ca {
        Some(path) => builder
            .with_root_certificates(roots(path)?)
            .with_no_client_auth(),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any(provider)))
            .with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let wrong = |problem: String| Error::Plan {
        setting: "--tls-ca",
        problem: format!("{}: {problem}", path.display()),
        right: "a file of certificates in PEM",
    };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in found {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// Trusts any certificate; signatures are still checked, as they are part of the work.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
