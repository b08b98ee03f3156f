//! The state on disk: taken at the start, and shown.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::unistd::{Gid, Group, Uid, User};
use serde_json::json;

use crate::core::ip_text::ip_text;
use crate::core::state::{Head, Saved, SavedBackend};
use crate::settings::{self, Settings};
use crate::shell::clock;
use crate::shell::preflight::Exit;
use crate::shell::privileges;
use crate::shell::state::{self, Recollection, Setup, Unread};
use crate::wire::health::MarkLine;

/// Differences from the settings file that are logged one by one.
const DIFFERENCES: usize = 20;

/// What a start has of the file.
#[derive(Default)]
pub(super) struct Kept {
    /// To begin with instead of the settings'; empty: there are none.
    pub(super) backends: Vec<SavedBackend>,
    /// Users, if there is a file at all.
    pub(super) saved: Option<Recollection>,
    /// Who has set which backend's state.
    pub(super) marks: Vec<MarkLine>,
    /// How it is written from now on.
    pub(super) setup: Option<Setup>,
}

/// Reads the file of the settings. Whatever is wrong with it is logged, and no reason not to start.
pub(super) fn recall(settings: &Settings) -> Kept {
    let Some(path) = &settings.state_path else {
        return Kept::default();
    };
    let shown = path.display();
    let saved = match state::at_start(path, settings.user_table_limit) {
        Ok(saved) => Some(saved),
        Err(Unread::Missing) => {
            tracing::info!("state: {shown}: there is none yet");
            None
        }
        Err(error) => {
            tracing::error!("state: {shown} is not used: {error}");
            None
        }
    };
    if let Some(saved) = &saved {
        tell(settings, saved);
    }
    kept(settings, saved)
}

/// What a start has of the director that it takes over: as of a file made just now. Users are taken out of it.
pub(super) fn taken_over(settings: &Settings, saved: &mut Saved) -> Kept {
    let saved = Saved {
        head: saved.head.clone(),
        backends: std::mem::take(&mut saved.backends),
        users: std::mem::take(&mut saved.users),
    };
    kept(settings, Some(saved))
}

fn kept(settings: &Settings, saved: Option<Saved>) -> Kept {
    let settled = Arc::new(AtomicBool::new(saved.is_none()));
    let setup = settings.state_path.as_ref().map(|path| Setup {
        path: path.clone(),
        interval: settings.state_interval,
        head: Head {
            created: clock::wall(),
            expire_secs: settings.director_user_expire,
            username_hash: settings.director_username_hash.clone(),
            master_user_separator: settings.auth_master_user_separator,
        },
        settled: Arc::clone(&settled),
    });
    let marks = saved.iter().flat_map(marks).collect();
    let (backends, saved) = match saved {
        None => (Vec::new(), None),
        Some(saved) => take(settings, saved, settled),
    };
    Kept {
        backends,
        saved,
        marks,
        setup,
    }
}

/// Who has set which state.
fn marks(saved: &Saved) -> Vec<MarkLine> {
    saved.backends.iter().filter_map(|it| it.mark).collect()
}

fn take(
    settings: &Settings,
    saved: Saved,
    settled: Arc<AtomicBool>,
) -> (Vec<SavedBackend>, Option<Recollection>) {
    let hash = &settings.director_username_hash;
    let mut users = Vec::new();
    match saved.misfit(hash, settings.auth_master_user_separator) {
        Some(why) => tracing::warn!("state: its users are not used: {why}"),
        None => {
            let of = |(backend, its): (&SavedBackend, _)| (backend.ip, its);
            users.extend(saved.backends.iter().zip(saved.users).map(of));
        }
    }
    (saved.backends, Some(Recollection { users, settled }))
}

/// What the log says of it.
fn tell(settings: &Settings, saved: &Saved) {
    let (backends, users) = (saved.backends.len(), saved.user_count());
    match saved.age(clock::wall()) {
        None => tracing::warn!(
            "state: {backends} backends and {users} users, from the future: the clock was set back. Its \
             users count as seen now"
        ),
        Some(age) if age > settings.director_user_expire.into() => tracing::warn!(
            "state: {backends} backends and {users} users, {age} s old: users have expired since \
             (director_user_expire)"
        ),
        Some(age) => {
            tracing::info!("state: {backends} backends and {users} users, {age} s old");
        }
    }
}

/// Says in what the backends are not those of the settings file; those of the file that are not there are
/// returned.
pub(super) fn differences(settings: &Settings, saved: &[SavedBackend]) -> Vec<IpAddr> {
    let servers = &settings.director_mail_servers;
    let mut lines = Vec::new();
    let mut gone = Vec::new();
    for server in servers {
        let ip = ip_text(server.ip);
        match saved.iter().find(|backend| backend.ip == server.ip) {
            None => {
                gone.push(server.ip);
                lines.push(format!(
                    "{ip} had been removed (to add it: homing add {ip})"
                ));
            }
            Some(it) if it.down => lines.push(format!("{ip} is down")),
            Some(it) if it.vhosts != server.vhosts => {
                lines.push(format!("{ip} has {} vhosts", it.vhosts));
            }
            Some(_) => {}
        }
    }
    let added = saved
        .iter()
        .filter(|it| servers.iter().all(|server| server.ip != it.ip));
    lines.extend(added.map(|it| format!("{} had been added", ip_text(it.ip))));
    for line in lines.iter().take(DIFFERENCES) {
        tracing::info!("state: not as in director_mail_servers: {line}");
    }
    if let Some(more @ 1..) = lines.len().checked_sub(DIFFERENCES) {
        tracing::info!("state: {more} more backends are not as in director_mail_servers");
    }
    gone
}

/// Before the process becomes the user of the settings.
pub(super) fn prepare(settings: &Settings) {
    let user = settings
        .user
        .as_deref()
        .and_then(|user| match user.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)).ok()?,
            Err(_) => User::from_name(user).ok()?,
        });
    let group = settings.group.as_deref();
    let group = group.and_then(|group| match group.parse() {
        Ok(number) => Some(number),
        Err(_) => Some(Group::from_name(group).ok()??.gid.as_raw()),
    });
    let Some(user) = user else {
        return prepare_for(settings, None, None);
    };
    let gid = group.unwrap_or(user.gid.as_raw());
    prepare_for(settings, Some(user.uid.as_raw()), Some(gid));
}

/// As [`prepare`], for a known user.
pub(super) fn prepare_for(settings: &Settings, uid: Option<u32>, gid: Option<u32>) {
    let Some(path) = &settings.state_path else {
        return;
    };
    let ids = match (uid, gid) {
        (Some(uid), Some(gid)) if privileges::is_root() => {
            Some((Uid::from_raw(uid), Gid::from_raw(gid)))
        }
        _ => None,
    };
    if let Err(error) = state::prepare(path, ids) {
        tracing::warn!(
            "state: the place of {} is not ready: {error}",
            path.display()
        );
    }
}

/// `homing state`.
#[derive(clap::Args)]
pub(super) struct StateArgs {
    /// The file; that of the settings by default.
    file: Option<PathBuf>,
    /// Settings file.
    #[arg(long, short, default_value = "/etc/homing/homing.toml")]
    config: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Shows a file.
pub(super) fn show(args: &StateArgs) -> ExitCode {
    match find(args).and_then(|path| {
        let read = state::read(&path);
        read.map_err(|error| format!("{}: {error}", path.display()))
    }) {
        Ok(saved) => {
            print(&saved, args.json);
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("homing: {sentence}");
            ExitCode::from(Exit::Config.code())
        }
    }
}

fn find(args: &StateArgs) -> Result<PathBuf, String> {
    if let Some(file) = &args.file {
        return Ok(file.clone());
    }
    let config = args.config.display();
    let loaded = settings::load(&args.config)
        .map_err(|_| format!("{config} is not right (homing check), or name the file"))?;
    let path = loaded.settings.state_path;
    path.ok_or_else(|| format!("{config} has no state_path: name the file"))
}

fn print(saved: &Saved, json: bool) {
    let rows = saved.backends.iter().zip(&saved.users);
    if json {
        let backend = |(it, users): (&SavedBackend, &Vec<_>)| {
            json!({
                "address": ip_text(it.ip),
                "name": it.name,
                "tag": String::from_utf8_lossy(&it.tag),
                "vhosts": it.vhosts,
                "down": it.down,
                "by_hand": it.by_hand(),
                "by_health": it.mark.is_some_and(|line| line.mark.is_down_by_health()),
                "last_updown_change": Some(it.last_updown_change.0).filter(|time| *time > 0),
                "users": users.len(),
            })
        };
        let all: Vec<_> = rows.map(backend).collect();
        let text = json!({
            "created": saved.head.created.0,
            "director_user_expire": saved.head.expire_secs,
            "director_username_hash": saved.head.username_hash,
            "backends": all,
            "users": saved.user_count(),
        });
        println!("{text:#}");
        return;
    }
    match saved.age(clock::wall()) {
        Some(age) => println!("made {age} s ago, {} users", saved.user_count()),
        None => println!("made in the future, {} users", saved.user_count()),
    }
    for (it, users) in rows {
        let state = if it.down { "down" } else { "up" };
        let (ip, vhosts, count) = (ip_text(it.ip), it.vhosts, users.len());
        let tag = String::from_utf8_lossy(&it.tag);
        let by = match it.mark {
            _ if it.by_hand() => "\tset by hand",
            Some(line) if line.mark.is_down_by_health() => "\tset by health",
            _ => "",
        };
        println!("{ip}\t{state}\tvhosts={vhosts}\tusers={count}\ttag={tag:?}{by}");
    }
}
