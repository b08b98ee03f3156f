//! Tokens and certificates of the settings, and the settings themselves as they are shown.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring as provider;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;

use crate::http::documents::Setting;
use crate::http::tokens::Tokens;
use crate::settings::{HttpTls, Settings, table};
use crate::shell::ring_io::tls::Unusable;
use crate::shell::ring_io::tls::certificates::{certificates, certified_key, read};

const TOKENS: &str = "http_tokens";
const CERT: &str = "http_tls_cert";
const KEY: &str = "http_tls_key";

/// What the HTTP interface needs of the settings.
pub struct Config {
    /// Whose requests over TCP are answered.
    pub tokens: Tokens,
    /// For TCP; `None`: plain.
    pub tls: Option<Arc<ServerConfig>>,
    /// `director_user_expire`, seconds.
    pub stay: u64,
    /// `user_table_limit`.
    pub users_max: u64,
    /// `auth_userdb_path`.
    pub auth_userdb: PathBuf,
    /// All settings, for people.
    pub settings: Vec<Setting>,
}

/// Nothing of the key.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({:?})", self.tokens)
    }
}

impl Config {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn load(settings: &Settings) -> Result<Config, Unusable> {
        let tokens = settings.http_tokens.as_deref();
        let shown = |spec: &table::Spec| Setting {
            name: spec.name,
            value: (spec.show)(settings),
            default: spec.default,
            reload: spec.reload.name(),
            about: spec.about,
        };
        Ok(Config {
            tokens: tokens.map(tokens_of).transpose()?.unwrap_or_default(),
            tls: settings.http_tls.as_ref().map(tls_of).transpose()?,
            stay: settings.director_user_expire.into(),
            users_max: settings.user_table_limit,
            auth_userdb: settings.auth_userdb_path.clone(),
            settings: table::TABLE.iter().map(shown).collect(),
        })
    }
}

fn unusable(setting: &'static str, what: String) -> Unusable {
    Unusable { setting, what }
}

fn tokens_of(file: &Path) -> Result<Tokens, Unusable> {
    let name = file.display();
    let bytes = read(TOKENS, file)?;
    let mode = std::fs::metadata(file).map_or(0, |it| it.mode());
    if mode & 0o007 != 0 {
        let what = format!("{name}: everybody on this machine may use it: chmod o-rwx {name}");
        return Err(unusable(TOKENS, what));
    }
    let tokens =
        Tokens::parse(&bytes).map_err(|fault| unusable(TOKENS, format!("{name}: {fault}")))?;
    match tokens.is_empty() {
        true => Err(unusable(TOKENS, format!("{name}: no token in it"))),
        false => Ok(tokens),
    }
}

fn tls_of(files: &HttpTls) -> Result<Arc<ServerConfig>, Unusable> {
    let chain = certificates(CERT, &files.cert)?;
    let key = certified_key((CERT, &files.cert), (KEY, &files.key), chain)?;
    let fault = |error: rustls::Error| unusable(CERT, error.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(fault)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
