//! Certificates for tests: an authority, and what it gives to directors.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType, date_time_ymd,
};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key of whoever is at this address.
    pub fn give(&self, address: IpAddr) -> (String, String) {
        self.give_with(address, |_| {})
    }

    /// One certificate for directors at all these addresses, and its key.
    #[allow(dead_code, reason = "not every program of tests needs it")]
    pub fn give_all(&self, addresses: &[Ipv4Addr]) -> (String, String) {
        let names = addresses.iter().map(|&ip| SanType::IpAddress(ip.into()));
        let names: Vec<SanType> = names.collect();
        self.give_with(addresses[0].into(), |params| {
            params.subject_alt_names = names;
        })
    }

    pub fn give_with(
        &self,
        address: IpAddr,
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

pub fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
}

#[allow(dead_code, reason = "not every program of tests needs it")]
pub fn only_for_servers(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

/// Writes certificate, key and authority; their paths.
pub fn write(dir: &Path, (cert, key): &(String, String), ca: &str) -> [PathBuf; 3] {
    let paths = ["cert", "key", "ca"].map(|name| dir.join(format!("{name}.pem")));
    for (path, text) in paths.iter().zip([cert.as_str(), key, ca]) {
        std::fs::write(path, text).unwrap();
    }
    paths
}
