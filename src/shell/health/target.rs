//! What a check needs of the machine: authorities, the password.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use zeroize::Zeroizing;

use crate::core::health::dialogue::{Dialogue, Login};
use crate::settings::{CheckTls, HealthCheck};

/// Longest password file that is read.
const MAX_PASSWORD: usize = 4096;

/// A check that can be made.
#[derive(Debug)]
pub struct Target {
    /// As the settings have it.
    pub check: HealthCheck,
    client: Option<Arc<ClientConfig>>,
    login: Option<Arc<Login>>,
}

impl Target {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// A file cannot be used; in words that name it, and nothing of what is in it.
    pub fn load(check: &HealthCheck) -> Result<Target, String> {
        let client = match check.tls {
            CheckTls::No => None,
            CheckTls::Yes | CheckTls::StartTls => Some(client(check)?),
        };
        let login = match (&check.user, &check.password_file) {
            (Some(user), Some(file)) => Some(Arc::new(Login {
                user: user.clone(),
                password: password(file)?,
                mechanism: check.mechanism,
            })),
            _ => None,
        };
        Ok(Target {
            check: check.clone(),
            client,
            login,
        })
    }

    /// A conversation with a backend.
    pub fn dialogue(&self) -> Dialogue {
        let starttls = self.check.tls == CheckTls::StartTls;
        Dialogue::new(self.check.protocol, starttls, self.login.clone())
    }

    /// TLS with a backend. `name`: its host name, if it has one.
    ///
    /// # Errors
    /// The name that its certificate must have is none.
    pub fn connection(&self, ip: IpAddr, name: Option<&str>) -> Result<ClientConnection, String> {
        let client = self.client.clone().ok_or("the check is one without TLS")?;
        let name = match self.check.tls_name.as_deref().or(name) {
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| format!("'{name}' is no name that a certificate can have"))?,
            None => ServerName::IpAddress(ip.into()),
        };
        ClientConnection::new(client, name).map_err(|error| error.to_string())
    }
}

fn client(check: &HealthCheck) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (&check.tls_ca, check.tls_verify) {
        (Some(file), true) => {
            let mut roots = RootCertStore::empty();
            let fault = |what: &dyn std::fmt::Display| format!("tls_ca {}: {what}", file.display());
            let all = CertificateDer::pem_file_iter(file).map_err(|error| fault(&error))?;
            for authority in all {
                let authority = authority.map_err(|error| fault(&error))?;
                roots.add(authority).map_err(|error| fault(&error))?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| fault(&error))?
        }
        _ => Arc::new(Anybody(Arc::clone(&provider))),
    };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // A probe is to find out whether a new client is served.
    client.resumption = Resumption::disabled();
    Ok(Arc::new(client))
}

/// The first line of a file.
fn password(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let fault = |what: &dyn std::fmt::Display| format!("password_file {}: {what}", file.display());
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PASSWORD + 64));
    let read = |bytes: &mut Vec<u8>| -> io::Result<usize> {
        File::open(file)?
            .take(MAX_PASSWORD as u64 + 1)
            .read_to_end(bytes)
    };
    read(&mut bytes).map_err(|error| fault(&format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_PASSWORD {
        return Err(fault(&format!("longer than {MAX_PASSWORD} bytes")));
    }
    let end = memchr::memchr2(b'\n', b'\r', &bytes).unwrap_or(bytes.len());
    let line = Zeroizing::new(bytes[..end].to_vec());
    if line.is_empty() {
        return Err(fault(&"its first line is empty"));
    }
    if line.contains(&0) {
        return Err(fault(&"there is a NUL in its first line"));
    }
    Ok(line)
}

/// `tls_verify = false`: whoever answers. That it has the key of its certificate is checked all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
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
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn of(text: &[u8]) -> Result<Vec<u8>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        password(file.path()).map(|line| line.to_vec())
    }

    #[test]
    fn a_password_is_the_first_line_of_its_file() {
        assert_eq!(of(b"secret").unwrap(), b"secret");
        assert_eq!(of(b"se cret\r\nmore\n").unwrap(), b"se cret");
        for (text, why) in [
            (&b"\nsecret"[..], "empty"),
            (b"", "empty"),
            (b"a\0b", "NUL"),
            (&[b'x'; 5000], "longer"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(why) && error.contains("/tmp"), "{error}");
        }
        let error = password(Path::new("/nowhere/password")).unwrap_err();
        assert!(
            error.contains("/nowhere/password: cannot be read"),
            "{error}"
        );
    }
}
