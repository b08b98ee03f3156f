//! Where the director is, and what its settings say: read only when something of them is needed.

use std::cell::OnceCell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::{Code, Failure};
use crate::core::ip_text::parse_lenient;
use crate::core::user_hash::Template;
use crate::settings::network::SystemNetwork;
use crate::settings::{self, ListenerKind, Settings, Sockets};

/// Dovecot's own place for it.
const DEFAULT_SOCKET: &str = "/run/dovecot/director-admin";
/// The settings file that is read when there is one.
const DEFAULT_SETTINGS: &str = "/etc/homing/homing.toml";

/// What every admin command takes.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Common {
    /// The director's admin socket: a path with a /, or host:port, or [IPv6]:port. Without it, that of
    /// the settings file; without that, /run/dovecot/director-admin.
    #[arg(short = 'a', long, value_name = "SOCKET")]
    socket_path: Option<String>,
    /// Settings file of the director [default: /etc/homing/homing.toml, if there is one].
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say what was done, on standard error.
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Print JSON, for programs (docs/cli.md).
    #[arg(long)]
    pub(super) json: bool,
}

/// What a command takes that hashes user names.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct HashArgs {
    /// How user names are hashed [default: director_username_hash of the settings file, or %Lu]. It
    /// must be the director's.
    #[arg(long, value_name = "TEMPLATE")]
    username_hash: Option<String>,
}

/// Where a director is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Unix socket.
    Unix(PathBuf),
    /// TCP, as it was named, and its addresses.
    Tcp {
        name: String,
        addresses: Vec<SocketAddr>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Unix(path) => path.display().fmt(f),
            Place::Tcp { name, .. } => f.write_str(name),
        }
    }
}

impl Place {
    /// What an operator typed.
    pub(super) fn parse(text: &str) -> Result<Place, Failure> {
        if text.contains('/') {
            return Ok(Place::Unix(PathBuf::from(text)));
        }
        let wrong = || {
            Failure::usage(format!(
                "-a {text}: neither a path (with a /) nor host:port or [IPv6]:port; a socket in this \
                 directory is ./{text}"
            ))
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port > 0);
        let port: u16 = port.ok_or_else(wrong)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        // An IPv6 address without brackets: its end was taken for the port.
        if bare.is_none() && host.contains(':') || host.is_empty() {
            return Err(wrong());
        }
        let found = (bare.unwrap_or(host), port).to_socket_addrs();
        let addresses: Vec<_> = found
            .map_err(|error| Failure::temporary(format!("-a {text}: {host}: {error}")))?
            .collect();
        Ok(Place::Tcp {
            name: text.to_owned(),
            addresses,
        })
    }
}

/// The settings of the director, as far as somebody asks.
pub(super) struct Source<'a> {
    common: &'a Common,
    settings: OnceCell<Option<Settings>>,
}

impl<'a> Source<'a> {
    /// Reads nothing yet.
    pub(super) fn new(common: &'a Common) -> Source<'a> {
        let settings = OnceCell::new();
        Source { common, settings }
    }

    /// The settings; `None`: no file was named, and there is none in the usual place.
    pub(super) fn settings(&self) -> Result<Option<&Settings>, Failure> {
        if self.settings.get().is_none() {
            let read = match &self.common.config {
                Some(file) => Some(load(file)?),
                None => {
                    let file = Path::new(DEFAULT_SETTINGS);
                    file.exists().then(|| load(file)).transpose()?
                }
            };
            // Nobody else can have put something there.
            let _ = self.settings.set(read);
        }
        Ok(self.settings.get().and_then(Option::as_ref))
    }

    /// Where the director is.
    pub(super) fn place(&self) -> Result<Place, Failure> {
        if let Some(text) = &self.common.socket_path {
            return Place::parse(text);
        }
        Ok(match self.settings()? {
            Some(settings) => of_settings(settings),
            None => Place::Unix(PathBuf::from(DEFAULT_SOCKET)),
        })
    }

    /// How user names are hashed.
    pub(super) fn template(&self, args: &HashArgs) -> Result<Template, Failure> {
        let (text, from) = match &args.username_hash {
            Some(text) => (text.clone(), "--username-hash"),
            None => match self.settings()? {
                Some(settings) => (
                    settings.director_username_hash.clone(),
                    "director_username_hash",
                ),
                None => (Settings::default().director_username_hash, "the default"),
            },
        };
        let environment = |name: &str| {
            use std::os::unix::ffi::OsStringExt;
            std::env::var_os(name).map(OsStringExt::into_vec)
        };
        Template::parse(&text, &environment)
            .map_err(|error| Failure::usage(format!("{from}: {error}")))
    }

    /// Auth's master socket, which lists users.
    pub(super) fn auth_userdb(&self) -> Result<PathBuf, Failure> {
        let settings = self.settings()?;
        Ok(settings.map_or_else(
            || Settings::default().auth_userdb_path,
            |settings| settings.auth_userdb_path.clone(),
        ))
    }
}

fn load(file: &Path) -> Result<Settings, Failure> {
    let problems = match settings::load(file) {
        Ok(loaded) => return Ok(loaded.settings),
        Err(problems) => problems,
    };
    if problems.iter().all(|problem| problem.key == RING)
        && let Some(settings) = without_ring(file)
    {
        return Ok(settings);
    }
    let listed: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Err(Failure {
        code: Code::Settings,
        text: format!(
            "the settings file cannot be used (-a and --username-hash do without):\n{}",
            listed.join("\n")
        ),
    })
}

/// The setting that only a director itself can judge.
const RING: &str = "director_servers";

/// The settings but for the list of directors. That must name the machine that it is read on, by a ring
/// listener; but Dovecot's master may have that listener, and operators may be on another machine.
fn without_ring(file: &Path) -> Option<Settings> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut table: toml::Table = text.parse().ok()?;
    table.remove(RING)?;
    let text = toml::to_string(&table).ok()?;
    let loaded = settings::parse(file, &text, &SystemNetwork, &Sockets::FromSettings);
    Some(loaded.ok()?.settings)
}

/// The first admin listener, or Dovecot's own place below `base_dir`.
fn of_settings(settings: &Settings) -> Place {
    let mut admin = settings
        .listeners
        .iter()
        .filter(|listener| listener.kind == ListenerKind::Admin);
    match admin.next().map(|listener| &listener.place) {
        Some(settings::Place::Unix(path) | settings::Place::Fifo(path)) => {
            Place::Unix(path.clone())
        }
        Some(settings::Place::Tcp(address)) => {
            let address = reachable(*address);
            Place::Tcp {
                name: address.to_string(),
                addresses: vec![address],
            }
        }
        None => Place::Unix(settings.base_dir.join("director-admin")),
    }
}

/// A director that listens on all addresses is reached by loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// All addresses of a backend that an operator named: an address as the director would read it, or a
/// name. In the order of the resolver, each once.
pub(super) fn addresses(host: &str) -> Result<Vec<IpAddr>, Failure> {
    if host.bytes().all(|byte| byte.is_ascii_digit()) {
        // A director would take it for an address (12 is 0.0.0.12): more likely something is missing.
        return Err(Failure::usage(format!(
            "invalid host '{host}': an address or a host name is needed"
        )));
    }
    if host.contains('@') {
        let what = "a tag is given with -t, and only to add";
        return Err(Failure::usage(format!("invalid host '{host}': {what}")));
    }
    if let Some(ip) = parse_lenient(host) {
        return Ok(vec![ip]);
    }
    let found = (host, 0u16)
        .to_socket_addrs()
        .map_err(|error| Failure::temporary(format!("{host}: no address: {error}")))?;
    let mut addresses = Vec::new();
    for found in found {
        if !addresses.contains(&found.ip()) {
            addresses.push(found.ip());
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_path_or_an_address_with_a_port() {
        let tcp = |name: &str, address: &str| Place::Tcp {
            name: name.to_owned(),
            addresses: vec![address.parse().expect("an address")],
        };
        for (text, place) in [
            ("./admin", Place::Unix(PathBuf::from("./admin"))),
            ("/run/a:1", Place::Unix(PathBuf::from("/run/a:1"))),
            ("127.0.0.1:9091", tcp("127.0.0.1:9091", "127.0.0.1:9091")),
            ("[::1]:9091", tcp("[::1]:9091", "[::1]:9091")),
        ] {
            assert_eq!(Place::parse(text), Ok(place));
        }
        for wrong in [
            "admin",
            "localhost",
            "127.0.0.1:0",
            "::1:9091",
            ":9091",
            "a:b",
            "[::1]",
        ] {
            let failure = Place::parse(wrong).expect_err(wrong);
            assert_eq!(failure.code, Code::Usage, "{wrong}");
            assert!(failure.text.contains("host:port"), "{failure}");
        }
    }

    #[test]
    fn the_settings_name_the_socket() {
        let mut settings = Settings {
            base_dir: PathBuf::from("/srv/mail"),
            ..Settings::default()
        };
        let unix = |path: &str| Place::Unix(PathBuf::from(path));
        assert_eq!(of_settings(&settings), unix("/srv/mail/director-admin"));
        settings.listeners = vec![settings::Listener {
            kind: ListenerKind::Admin,
            place: settings::Place::Tcp("0.0.0.0:9091".parse().expect("an address")),
            mode: 0,
            owner: None,
            group: None,
            allow: Vec::new(),
        }];
        assert_eq!(of_settings(&settings).to_string(), "127.0.0.1:9091");
        settings.listeners[0].place = settings::Place::Unix(PathBuf::from("/run/a"));
        assert_eq!(of_settings(&settings), unix("/run/a"));
    }

    #[test]
    fn hosts_are_addresses_or_names_but_no_numbers() {
        let ip = |text: &str| vec![text.parse::<IpAddr>().expect("an address")];
        assert_eq!(addresses("10.0.0.1"), Ok(ip("10.0.0.1")));
        assert_eq!(addresses("[2001:db8::1]"), Ok(ip("2001:db8::1")));
        assert_eq!(addresses("10.1"), Ok(ip("10.0.0.1")));
        for wrong in ["12", "", "10.0.0.1@a"] {
            let failure = addresses(wrong).expect_err(wrong);
            assert_eq!(failure.code, Code::Usage, "{wrong}");
        }
        let failure = addresses("no-such-host.invalid").expect_err("reserved for that");
        assert_eq!(failure.code, Code::Temporary);
    }
}
