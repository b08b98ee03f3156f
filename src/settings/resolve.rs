//! Second step of loading: the single values to [`Settings`], and everything that only shows when
//! several settings are looked at together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{self, Document};
use super::kinds::{self, Value};
use super::listener::Listed;
use super::load::Sockets;
use super::network::Network;
use super::problem::Problems;
use super::{
    FlushUri, HttpTls, KickService, ListenerKind, LogFormat, Place, RingTls, Settings, listener,
    servers, table,
};
use crate::core::user_hash::Template;

/// Longest lookup timeout in seconds that login processes wait for.
const LOGIN_PATIENCE: u64 = 29;

/// The settings of a document. Useful only if `problems` has no errors afterwards.
pub(crate) fn resolve(
    document: &Document,
    network: &dyn Network,
    sockets: &Sockets,
    problems: &mut Problems<'_>,
) -> Settings {
    let mut s = simple(document);
    let check = Check { document };
    check.username_hash(&s, problems);
    s.auth_master_user_separator = check.separator(problems);
    check.log_level(&s, problems);
    check.timeouts(&s, problems);
    s.director_flush_socket = check.flush(&s, problems);
    s.kick_service = check.one_of("kick_service", &KickService::ALL, problems);
    s.log_format = check.one_of("log_format", &LogFormat::ALL, problems);
    s.director_ring_tls = check.ring_tls(problems);
    s.http_tls = check.http_tls(problems);
    check.http_listeners(&s, problems);
    check.base_dir(&s, problems);
    let auth = [s.auth_login_path.as_path(), s.auth_userdb_path.as_path()];
    listener::check_together(&document.listeners, &s.base_dir, &auth, network, problems);
    let (user, group) = (document.place("user"), document.place("group"));
    listener::check_user("user", s.user.as_deref(), user, network, problems);
    listener::check_group("group", s.group.as_deref(), group, network, problems);
    s.health_checks.clone_from(&document.health_checks);
    s.listeners = document
        .listeners
        .iter()
        .map(|l| l.listener.clone())
        .collect();
    let handed = match sockets {
        Sockets::FromSettings => [].as_slice(),
        Sockets::HandedOver(ring) => ring,
    };
    if *sockets == Sockets::FromSettings && s.listeners.is_empty() && problems.errors.is_empty() {
        let what = "There is no [[listener]]: nobody could ask";
        problems.warning(None, "listener", what);
    }
    let ring = servers::ring_listeners(handed, &s.listeners);
    (s.director_servers, s.director_self) =
        servers::directors(document.list("director_servers"), &ring, network, problems);
    s.director_mail_servers = servers::mail_servers(
        document.list("director_mail_servers"),
        document.place("director_mail_servers"),
        network,
        problems,
    );
    warn_of_lonely_checks(&s, sockets, problems);
    s
}

/// Checks whose results the other directors never hear of.
fn warn_of_lonely_checks(s: &Settings, sockets: &Sockets, problems: &mut Problems<'_>) {
    let votes = s.listeners.iter().any(|it| it.kind == ListenerKind::Health);
    let is_ring = s.director_servers.len() > 1;
    let from_settings = *sockets == Sockets::FromSettings;
    if is_ring && !s.health_checks.is_empty() && !votes && from_settings {
        let what = "There are checks, other directors, and no [[listener]] of type health to hear of \
                    their checks: failures are only reported";
        problems.warning(None, "health_check", what);
    }
}

/// Every default; no backends, no listeners.
pub(crate) fn defaults() -> Settings {
    simple(&document::defaults())
}

/// All fields that one value alone decides.
fn simple(d: &Document) -> Settings {
    let base_dir = d.path("base_dir");
    Settings {
        director_servers: Vec::new(),
        director_self: None,
        director_mail_servers: Vec::new(),
        resolve_interval: d.duration("resolve_interval"),
        director_user_expire: d.time("director_user_expire"),
        director_username_hash: d.text("director_username_hash"),
        director_flush_socket: None,
        director_flush_command: Some(d.path("director_flush_command")).filter(|p| set(p)),
        director_ping_idle_timeout: d.duration("director_ping_idle_timeout"),
        director_ping_max_timeout: d.duration("director_ping_max_timeout"),
        director_user_kick_delay: d.duration("director_user_kick_delay"),
        kick_service: KickService::Auto,
        kick_timeout: d.duration("kick_timeout"),
        move_timeout: d.duration("move_timeout"),
        director_max_parallel_moves: d.uint32("director_max_parallel_moves"),
        director_max_parallel_kicks: d.uint32("director_max_parallel_kicks"),
        director_output_buffer_size: d.number("director_output_buffer_size"),
        director_ring_tls: None,
        director_ring_tls_required: d.yes("director_ring_tls_required"),
        http_tokens: Some(d.path("http_tokens")).filter(|path| set(path)),
        http_tls: None,
        http_tls_required: d.yes("http_tls_required"),
        health_checks: Vec::new(),
        health_quorum: d.uint32("health_quorum"),
        health_floor: d.uint32("health_floor"),
        health_slow_start: d.duration("health_slow_start"),
        health_act: d.yes("health_act"),
        auth_master_user_separator: None,
        auth_login_path: base_dir.join(d.path("auth_login_path")),
        auth_userdb_path: base_dir.join(d.path("auth_userdb_path")),
        base_dir,
        lookup_timeout: d.duration("lookup_timeout"),
        lookup_batch_delay: d.uint32("lookup_batch_delay"),
        user_table_limit: d.number("user_table_limit"),
        new_user_rate: d.uint32("new_user_rate"),
        state_path: Some(d.path("state_path")).filter(|p| set(p)),
        state_interval: d.duration("state_interval"),
        user: Some(d.text("user")).filter(|t| !t.is_empty()),
        group: Some(d.text("group")).filter(|t| !t.is_empty()),
        cores: Some(d.number("cores") as usize).filter(|&n| n > 0),
        client_limit: d.uint32("client_limit"),
        log_level: d.text("log_level"),
        log_format: LogFormat::Auto,
        listeners: Vec::new(),
    }
}

fn set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

impl Document {
    fn time(&self, name: &str) -> u32 {
        match self.value(name) {
            Value::Time(seconds) => *seconds,
            other => unreachable!("{name} is a time, not {other:?}"),
        }
    }

    fn duration(&self, name: &str) -> Duration {
        Duration::from_secs(self.time(name).into())
    }

    fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(n) | Value::Size(n) => *n,
            other => unreachable!("{name} is a number, not {other:?}"),
        }
    }

    fn uint32(&self, name: &str) -> u32 {
        self.number(name)
            .try_into()
            .expect("the table's range fits in 32 bits")
    }

    fn yes(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(yes) => *yes,
            other => unreachable!("{name} is yes or no, not {other:?}"),
        }
    }

    fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text.clone(),
            other => unreachable!("{name} is a text, not {other:?}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        match self.value(name) {
            Value::Path(path) => path.clone(),
            other => unreachable!("{name} is a path, not {other:?}"),
        }
    }
}

/// Checks one setting of a document each.
struct Check<'d> {
    document: &'d Document,
}

impl Check<'_> {
    fn error(&self, problems: &mut Problems<'_>, key: &str, what: String, accepted: &str) {
        problems.error(self.document.place(key), key, what, accepted);
    }

    fn username_hash(&self, s: &Settings, problems: &mut Problems<'_>) {
        let key = "director_username_hash";
        let template = s.director_username_hash.as_str();
        if let Err(why) = check_username_hash(template) {
            let what = format!("Failed to expand director_username_hash={template}: {why}");
            self.error(
                problems,
                key,
                what,
                "e.g. %Lu, %Ln, %Ld; %% for a percent sign",
            );
        } else if !template.replace("%%", "").contains('%') {
            let what = "No variable in it: all users have one hash, and one backend";
            problems.warning(self.document.place(key), key, what);
        }
    }

    fn separator(&self, problems: &mut Problems<'_>) -> Option<u8> {
        let key = "auth_master_user_separator";
        let text = self.document.text(key);
        let first = text.chars().next()?;
        if !first.is_ascii() {
            self.error(
                problems,
                key,
                format!("'{first}' is not ASCII"),
                "one ASCII character",
            );
        } else if text.len() > 1 {
            let what = format!("Only the first character counts: '{first}'");
            problems.warning(self.document.place(key), key, what);
        }
        Some(text.as_bytes()[0])
    }

    fn log_level(&self, s: &Settings, problems: &mut Problems<'_>) {
        if tracing_subscriber::EnvFilter::builder()
            .parse(&s.log_level)
            .is_err()
        {
            let accepted =
                "error, warn, info, debug, trace, or a filter like info,homing::wire=debug";
            self.error(
                problems,
                "log_level",
                format!("Invalid filter '{}'", s.log_level),
                accepted,
            );
        }
    }

    fn timeouts(&self, s: &Settings, problems: &mut Problems<'_>) {
        if s.director_ping_max_timeout < s.director_ping_idle_timeout {
            let key = match self.document.place("director_ping_max_timeout") {
                Some(_) => "director_ping_max_timeout",
                None => "director_ping_idle_timeout",
            };
            let what = format!(
                "director_ping_max_timeout ({}) is below director_ping_idle_timeout ({})",
                kinds::show_time(s.director_ping_max_timeout.as_secs()),
                kinds::show_time(s.director_ping_idle_timeout.as_secs())
            );
            self.error(problems, key, what, "director_ping_idle_timeout or more");
        }
        if s.lookup_timeout.as_secs() > LOGIN_PATIENCE {
            let what = "Login processes give up after about 30 s: they would not see the answer";
            problems.warning(
                self.document.place("lookup_timeout"),
                "lookup_timeout",
                what,
            );
        }
    }

    fn flush(&self, s: &Settings, problems: &mut Problems<'_>) -> Option<FlushUri> {
        let (new, old) = ("director_flush_socket", "director_flush_script");
        let mut given = [new, old, "director_flush_command"]
            .into_iter()
            .filter(|key| {
                let value = self.document.value(key);
                *value != Value::Text(String::new()) && *value != Value::Path(PathBuf::new())
            });
        let first = given.next()?;
        if let Some(second) = given.next() {
            let what = format!("{first} is set too");
            self.error(problems, second, what, "one of them");
        }
        if first == "director_flush_command" {
            return None;
        }
        match flush_uri(&self.document.text(first), &s.base_dir, first == old) {
            Ok(uri) => Some(uri),
            Err(what) => {
                let accepted = table::find(first).expect("in the table").accepts();
                self.error(problems, first, what, &accepted);
                None
            }
        }
    }

    /// The value of this name; the first one, and an error, for a text that is none of them.
    fn one_of<T: Copy>(&self, key: &str, all: &[(T, &str)], problems: &mut Problems<'_>) -> T {
        let text = self.document.text(key);
        let found = all.iter().find(|(_, name)| *name == text);
        found.map_or_else(
            || {
                let accepted = table::find(key).expect("in the table").accepts();
                self.error(problems, key, format!("Unknown value '{text}'"), &accepted);
                all[0].0
            },
            |&(value, _)| value,
        )
    }

    fn ring_tls(&self, problems: &mut Problems<'_>) -> Option<RingTls> {
        let keys = [
            "director_ring_tls_cert",
            "director_ring_tls_key",
            "director_ring_tls_ca",
        ];
        let [cert, key, ca] = keys.map(|k| Some(self.document.path(k)).filter(|p| set(p)));
        if let (Some(cert), Some(key), Some(ca)) = (&cert, &key, &ca) {
            return Some(RingTls {
                cert: cert.clone(),
                key: key.clone(),
                ca: ca.clone(),
            });
        }
        let given = keys
            .iter()
            .zip([&cert, &key, &ca])
            .find(|(_, path)| path.is_some());
        for (name, path) in keys.iter().zip([&cert, &key, &ca]) {
            if let (Some((other, _)), None) = (given, path) {
                let what = format!("{name} is missing");
                self.error(
                    problems,
                    other,
                    what,
                    "all of director_ring_tls_cert, _key and _ca",
                );
            }
        }
        let required = "director_ring_tls_required";
        let place = self.document.place(required);
        if given.is_none() && place.is_some() && self.document.yes(required) {
            let what = "There are no certificates: connections of the ring are plain";
            problems.warning(place, required, what);
        }
        None
    }

    fn http_tls(&self, problems: &mut Problems<'_>) -> Option<HttpTls> {
        let keys = ["http_tls_cert", "http_tls_key"];
        let [cert, key] = keys.map(|k| Some(self.document.path(k)).filter(|p| set(p)));
        match (cert, key) {
            (Some(cert), Some(key)) => return Some(HttpTls { cert, key }),
            (Some(_), None) => {
                let what = "http_tls_key is missing".to_owned();
                self.error(problems, keys[0], what, "both or neither");
            }
            (None, Some(_)) => {
                let what = "http_tls_cert is missing".to_owned();
                self.error(problems, keys[1], what, "both or neither");
            }
            (None, None) => {}
        }
        None
    }

    /// Over TCP a token is all that tells an administrator from anybody else, so there must be one, and
    /// nobody may read it on its way.
    fn http_listeners(&self, s: &Settings, problems: &mut Problems<'_>) {
        let listed = &self.document.listeners;
        for Listed { listener, at, .. } in listed {
            let Place::Tcp(address) = listener.place else {
                continue;
            };
            if listener.kind != ListenerKind::Http {
                continue;
            }
            if s.http_tokens.is_none() {
                let what = "An http listener on an address needs tokens: whoever may connect could do everything";
                let accepted = "http_tokens = \"FILE\", or a path instead of an address";
                problems.error(Some(*at), "listener.address", what, accepted);
            }
            if s.http_tls.is_none() && s.http_tls_required && !address.ip().is_loopback() {
                let what = "Tokens would cross the network in clear text";
                let accepted = "http_tls_cert and http_tls_key, or http_tls_required = false";
                problems.error(Some(*at), "listener.address", what, accepted);
            }
        }
    }

    fn base_dir(&self, s: &Settings, problems: &mut Problems<'_>) {
        for key in ["base_dir", "auth_login_path", "auth_userdb_path"] {
            if !set(&self.document.path(key)) {
                self.error(problems, key, "It is empty".to_owned(), "a path");
            }
        }
        for (key, path) in [
            ("auth_login_path", &s.auth_login_path),
            ("auth_userdb_path", &s.auth_userdb_path),
        ] {
            let length = path.as_os_str().len();
            if length > listener::MAX_SOCKET_PATH {
                let what = format!("The path {} has {length} bytes", path.display());
                let accepted = format!("at most {} bytes", listener::MAX_SOCKET_PATH);
                self.error(problems, key, what, &accepted);
            }
        }
    }
}

/// Checks the syntax of `director_username_hash`. Errors: one sentence.
pub fn check_username_hash(template: &str) -> Result<(), String> {
    Template::parse(template, &|_| None)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Reads `unix:PATH`, `tcp:HOST:PORT` or `exec:PROGRAM`; a plain absolute path where `script` says
/// so. Errors: one sentence.
fn flush_uri(text: &str, base_dir: &Path, script: bool) -> Result<FlushUri, String> {
    let absolute = |path: &str| match path.starts_with('/') {
        true => path.to_owned(),
        false => base_dir.join(path).display().to_string(),
    };
    if script && text.starts_with('/') {
        return Ok(FlushUri::Exec(text.to_owned()));
    }
    let invalid = || format!("Invalid flush address '{text}'");
    match text.split_once(':') {
        Some((_, "")) => Err(invalid()),
        Some(("unix", path)) => Ok(FlushUri::Unix(absolute(path))),
        Some(("exec", path)) => Ok(FlushUri::Exec(absolute(path))),
        Some(("tcp", place)) => match servers::split_host_port(place) {
            Some((host, Some(port))) if !host.is_empty() => {
                Ok(FlushUri::Tcp(host.to_owned(), kinds::port(port)?))
            }
            _ => Err(invalid()),
        },
        _ => Err(invalid()),
    }
}
