//! The machine of the ring from the settings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::run::Refused;
use crate::core::director::{Config, Director, Seed};
use crate::core::names::Names;
use crate::core::ring::{Limits, Now, Ring, Tls};
use crate::core::state::SavedBackend;
use crate::core::user_hash::Template;
use crate::settings::Settings;
use crate::shell::ring_io::tls::{Certificates, Unusable};
use crate::shell::{clock, random};
use crate::wire::ring::DirectorId;

/// Whom a director without others takes itself for; nobody can connect to port 0.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The director of these settings, with its place among the others or alone.
///
/// `saved`: backends to begin with instead of those of the settings.
pub(super) fn build(settings: &Settings, saved: &[SavedBackend]) -> Result<Ring, Refused> {
    let me = settings.director_self.unwrap_or(NOBODY);
    let others = settings.director_servers.iter().filter(|&&it| it != me);
    let now = Now {
        mono: clock::mono(),
        wall: clock::wall(),
    };
    let mut director = director(settings)?;
    let mut gone = None;
    if !saved.is_empty() {
        match director.recall(saved, now.wall) {
            Ok(()) => gone = Some(super::state::differences(settings, saved)),
            Err(error) => tracing::error!("state: its backends are not used: {error}"),
        }
    }
    let mut ring = Ring::new(
        director,
        id(me),
        others.map(|&address| id(address)),
        limits(settings),
        now,
    )
    .map_err(|error| Refused::config(format!("director_servers: {error}")))?;
    if let Some(gone) = gone {
        ring.recall_backends(saved.to_vec(), gone);
    }
    Ok(ring)
}

fn id(address: SocketAddr) -> DirectorId {
    DirectorId {
        ip: address.ip(),
        port: address.port(),
    }
}

fn director(settings: &Settings) -> Result<Director, Refused> {
    let environment = |name: &str| {
        use std::os::unix::ffi::OsStringExt;
        std::env::var_os(name).map(OsStringExt::into_vec)
    };
    let template = Template::parse(&settings.director_username_hash, &environment)
        .map_err(|error| Refused::config(format!("director_username_hash: {error}")))?;
    let config = Config {
        expire_secs: settings.director_user_expire,
        username_hash: Arc::new(template),
        master_user_separator: settings.auth_master_user_separator,
        hasher: ahash::RandomState::with_seed(random::seed() as usize),
    };
    let seeds = settings.director_mail_servers.iter().map(|server| Seed {
        ip: server.ip,
        name: server.name.as_deref(),
        tag: &server.tag,
        vhosts: server.vhosts,
    });
    Director::new(config, seeds)
        .map_err(|error| Refused::config(format!("director_mail_servers: {error}")))
}

/// The host names among the backends.
pub(super) fn names(settings: &Settings) -> Names {
    let servers = settings.director_mail_servers.iter();
    Names::new(servers.filter_map(|server| {
        let name = server.name.as_deref()?;
        Some((name, server.tag.as_str(), server.ip))
    }))
}

/// What the machine needs of the settings besides; a reload changes it at once.
pub(super) fn limits(settings: &Settings) -> Limits {
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Limits {
        ping_idle: clock::nanos(settings.director_ping_idle_timeout),
        ping_max: clock::nanos(settings.director_ping_max_timeout),
        kick_delay: clock::nanos(settings.director_user_kick_delay),
        move_limit: clock::nanos(settings.move_timeout),
        max_parallel_moves: number(settings.director_max_parallel_moves),
        max_parallel_kicks: number(settings.director_max_parallel_kicks),
        output_buffer: usize::try_from(settings.director_output_buffer_size).unwrap_or(usize::MAX),
        flush_script: settings.director_flush_socket.is_some()
            || settings.director_flush_command.is_some(),
        tls: tls(settings),
        jitter: random::seed(),
    }
}

fn tls(settings: &Settings) -> Tls {
    match (
        &settings.director_ring_tls,
        settings.director_ring_tls_required,
    ) {
        (None, _) => Tls::Off,
        (Some(_), false) => Tls::Offered,
        (Some(_), true) => Tls::Required,
    }
}

/// The certificates of these settings, if there are any, and what an operator should know of them.
pub(super) fn certificates(
    settings: &Settings,
    me: Option<SocketAddr>,
) -> Result<(Option<Arc<Certificates>>, Vec<String>), Unusable> {
    let Some(files) = &settings.director_ring_tls else {
        return Ok((None, Vec::new()));
    };
    let own = me.map(|me| me.ip());
    let loaded = Certificates::load(files, own, clock::wall())?;
    Ok((Some(loaded.certificates), loaded.warnings))
}
