//! TLS on the address.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::authority::Authority;
use crate::client::Request;
use crate::e2e::PATIENCE;
use crate::stage::{ADMIN, Stage};

#[test]
fn with_a_certificate_the_address_speaks_tls_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let authority = Authority::new();
    let given = authority.give([127, 0, 0, 1].into());
    std::fs::write(&cert, &given.0).expect("a certificate");
    std::fs::write(&key, &given.1).expect("a key");
    let stage = Stage::with(&format!(
        "http_tls_cert = {cert:?}\nhttp_tls_key = {key:?}\n"
    ));
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate");
    roots.add(ca).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = || {
        let stream = TcpStream::connect(stage.address()).expect("the listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream
    };
    let name = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let secure = StreamOwned::new(connection, stream());
    let request = Request::new("GET", "/api/v1/status").token(ADMIN);
    request.send_on(secure).expect(200);
    // In clear text nobody answers.
    let mut plain = stream();
    let mut said = Vec::new();
    use std::io::{Read, Write};
    plain.write_all(&request.bytes()).expect("a request");
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{}", said.escape_ascii());
    // A path needs none.
    Request::new("GET", "/api/v1/status")
        .send(&stage.path())
        .expect(200);
}
