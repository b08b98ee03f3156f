//! The certificates of `director_ring_tls_*`: read, checked against each other, and made into what
//! rustls needs for both ends of a connection.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{
    Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme, version,
};
use zeroize::{Zeroize, Zeroizing};

use super::fault::certificate_fault;
use crate::core::Wall;
use crate::settings::RingTls;

const CERT: &str = "director_ring_tls_cert";
const KEY: &str = "director_ring_tls_key";
const CA: &str = "director_ring_tls_ca";

/// Longest file. A bundle of every public authority has some 200 KB.
const MAX_FILE: usize = 1 << 20;

/// Files that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {what}")]
pub struct Unusable {
    /// The setting that names the file.
    pub setting: &'static str,
    /// What is wrong with it.
    pub what: String,
}

fn unusable(setting: &'static str, file: &Path, what: impl fmt::Display) -> Unusable {
    Unusable {
        setting,
        what: format!("{}: {what}", file.display()),
    }
}

/// Who we are, and whom we believe.
pub struct Certificates {
    own: Arc<SingleCertAndKey>,
    client: Arc<ClientConfig>,
    /// Of the authorities; whose certificate it is, is [`Named`]'s.
    diallers: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

/// Nothing of the key.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

/// Certificates, and what an operator should know of them.
#[derive(Debug)]
pub struct Loaded {
    /// To be used from now on.
    pub certificates: Arc<Certificates>,
    /// What other directors will not like.
    pub warnings: Vec<String>,
}

impl Certificates {
    /// Reads the files. `own`: our address in the ring, which the certificate must name.
    ///
    /// A certificate out of its time is only a warning: time passes in a running director as well,
    /// and logins should not stop for it. The other directors will refuse it.
    ///
    /// # Errors
    /// A file cannot be read or is no PEM, or they do not belong together.
    pub fn load(files: &RingTls, own: Option<IpAddr>, now: Wall) -> Result<Loaded, Unusable> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(CERT, &files.cert)?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(CA, &files.ca)? {
            roots
                .add(authority)
                .map_err(|error| unusable(CA, &files.ca, error))?;
        }
        let roots = Arc::new(roots);
        let key = certified_key((CERT, &files.cert), (KEY, &files.key), chain.clone())?;
        let fault = |error: &dyn fmt::Display| unusable(CA, &files.ca, error);
        let diallers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| fault(&error))?;
        let mut warnings = Vec::new();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.0));
        match check_own(&chain, &roots, &*diallers, &provider, own, time) {
            Ok(()) => {}
            Err(error) if is_of_time(&error) => {
                let what = certificate_fault(&error);
                warnings.push(format!("{}", unusable(CERT, &files.cert, what)));
            }
            Err(error) => {
                let what = certificate_fault(&error);
                return Err(unusable(CERT, &files.cert, what));
            }
        }
        let own = Arc::new(SingleCertAndKey::from(key));
        let acceptors = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| fault(&error))?;
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| fault(&error))?
            .with_webpki_verifier(acceptors)
            .with_client_cert_resolver(own.clone());
        // A resumed session is not checked again; the certificates may be others by then.
        client.resumption = Resumption::disabled();
        // Only names can be told this way, and we dial addresses.
        client.enable_sni = false;
        let certificates = Certificates {
            own,
            client: Arc::new(client),
            diallers,
            provider,
        };
        Ok(Loaded {
            certificates: Arc::new(certificates),
            warnings,
        })
    }

    /// For a connection that we make.
    pub(super) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// For a connection that comes from this address.
    pub(super) fn server(&self, peer: IpAddr) -> Result<Arc<ServerConfig>, Error> {
        let named = Named {
            authorities: Arc::clone(&self.diallers),
            peer,
        };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(Arc::new(named))
            .with_cert_resolver(self.own.clone());
        // As for the client.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// Reads a file that may hold a secret; what was read is wiped.
pub(in crate::shell) fn read(
    setting: &'static str,
    file: &Path,
) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    // With room for all of it at once: a vector that grows leaves copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE + 1024));
    File::open(file)
        .and_then(|file| file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unusable(setting, file, format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_FILE {
        let what = format!("longer than {MAX_FILE} bytes");
        return Err(unusable(setting, file, what));
    }
    Ok(bytes)
}

/// The certificates of a PEM file.
pub(in crate::shell) fn certificates(
    setting: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let bytes = read(setting, file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(setting, file, "no PEM certificate in it")),
        Ok(all) => Ok(all),
        Err(error) => Err(unusable(setting, file, format!("no PEM: {error}"))),
    }
}

/// Our key with its certificate. What was read of the key is wiped; rustls keeps what it needs.
pub(in crate::shell) fn certified_key(
    (cert_setting, cert): (&'static str, &Path),
    (setting, file): (&'static str, &Path),
    chain: Vec<CertificateDer<'static>>,
) -> Result<CertifiedKey, Unusable> {
    let fault = |what: &str| unusable(setting, file, what);
    let bytes = read(setting, file)?;
    // What the parser says could quote the file.
    let mut key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| fault("no PEM private key without passphrase in it"))?;
    let signing = ring::sign::any_supported_type(&key);
    key.zeroize();
    let signing = signing.map_err(|_| fault("no key of RSA, ECDSA P-256, P-384 or Ed25519"))?;
    let key = CertifiedKey::new(chain, signing);
    match key.keys_match() {
        Ok(()) => Ok(key),
        Err(Error::InconsistentKeys(_)) => {
            Err(fault(&format!("it is not the key of {cert_setting}")))
        }
        Err(error) => Err(unusable(cert_setting, cert, certificate_fault(&error))),
    }
}

/// What the other directors will check of us.
fn check_own(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    diallers: &dyn ClientCertVerifier,
    provider: &CryptoProvider,
    own: Option<IpAddr>,
    now: UnixTime,
) -> Result<(), Error> {
    let Some((first, others)) = chain.split_first() else {
        return Err(Error::NoCertificatesPresented);
    };
    let parsed = ParsedCertificate::try_from(first)?;
    if let Some(own) = own {
        verify_server_name(&parsed, &ServerName::IpAddress(own.into()))?;
    }
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, others, now, algorithms)?;
    diallers.verify_client_cert(first, others, now)?;
    Ok(())
}

fn is_of_time(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        )
    )
}

/// Takes a dialler's certificate that comes from an authority and names the address that it dials
/// from: any director's certificate would do otherwise, wherever it was stolen.
#[derive(Debug)]
struct Named {
    authorities: Arc<dyn ClientCertVerifier>,
    peer: IpAddr,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .authorities
            .verify_client_cert(end_entity, intermediates, now)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_name(&parsed, &ServerName::IpAddress(self.peer.into()))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
