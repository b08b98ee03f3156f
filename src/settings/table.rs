//! The one list of all settings. The loader, its messages, the reload classes, the import and the
//! settings reference all come from here; a new setting is a row here, a field in
//! [`Settings`](super::Settings) and a line in `resolve`.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::kinds::{Kind, show_size, show_time};
use super::{FlushUri, Settings};

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// At the reload.
    Live,
    /// After a restart.
    Restart,
    /// Never in a running director: the ring decides, orders change it.
    RingDecides,
}

impl Reload {
    /// Its name in the settings reference.
    pub fn name(self) -> &'static str {
        match self {
            Reload::Live => "live",
            Reload::Restart => "restart",
            Reload::RingDecides => "the ring decides",
        }
    }
}

/// One setting.
pub struct Spec {
    /// Its key in the file.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its default, as it would be written; empty for none.
    pub default: &'static str,
    /// Least value, in seconds, bytes or as a number. Unused for texts.
    pub min: u64,
    /// Greatest value, likewise.
    pub max: u64,
    /// When a change takes effect.
    pub reload: Reload,
    /// What it governs.
    pub about: &'static str,
    /// Its value in a configuration, as it would be written.
    pub show: fn(&Settings) -> String,
}

const U32: u64 = u32::MAX as u64;
use Kind::{AbsolutePath, Bool, List, Path as PathKind, Size, Text, Time, Uint};
use Reload::{Live, Restart, RingDecides};

/// A row without range.
const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    reload: Reload,
    show: fn(&Settings) -> String,
    about: &'static str,
) -> Spec {
    Spec {
        name,
        kind,
        default,
        min: 0,
        max: u64::MAX,
        reload,
        about,
        show,
    }
}

impl Spec {
    const fn range(mut self, min: u64, max: u64) -> Spec {
        self.min = min;
        self.max = max;
        self
    }

    /// What is accepted, with the range.
    pub fn accepts(&self) -> String {
        let range = self.range_text();
        match (self.name, range.is_empty()) {
            ("director_servers", _) => {
                "host, host:port, IPv6 or [IPv6]:port; an array of strings, or one string with \
                 items separated by blanks"
                    .to_owned()
            }
            ("director_mail_servers", _) => {
                "address, first-last or host name, each perhaps with @tag; an array of strings, or \
                 one string with items separated by blanks"
                    .to_owned()
            }
            ("director_flush_socket" | "director_flush_script", _) => {
                "unix:PATH, tcp:HOST:PORT or exec:PROGRAM".to_owned()
            }
            ("kick_service", _) => "auto, ipc, anvil or none".to_owned(),
            ("log_format", _) => "auto, plain, json or journal".to_owned(),
            (_, true) => self.kind.accepts().to_owned(),
            (_, false) => format!("{}; {range}", self.kind.accepts()),
        }
    }

    /// Its range in words, empty where there is none.
    pub fn range_text(&self) -> String {
        let show = |n: u64| match self.kind {
            Time => show_time(n),
            Size => show_size(n),
            _ => n.to_string(),
        };
        match (self.kind, self.min, self.max) {
            (Time | Uint | Size, 0, u64::MAX) | (Time | Uint, 0, U32) => String::new(),
            (Time | Uint | Size, min, U32 | u64::MAX) => format!("at least {}", show(min)),
            (Time | Uint | Size, min, max) => format!("{} to {}", show(min), show(max)),
            _ => String::new(),
        }
    }
}

/// The row of a setting.
pub fn find(name: &str) -> Option<&'static Spec> {
    TABLE.iter().find(|s| s.name == name)
}

fn seconds(time: Duration) -> String {
    show_time(time.as_secs())
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn text(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

fn flush(uri: &Option<FlushUri>) -> String {
    match uri {
        None => String::new(),
        Some(FlushUri::Unix(path)) => format!("unix:{path}"),
        Some(FlushUri::Tcp(host, port)) if host.contains(':') => format!("tcp:[{host}]:{port}"),
        Some(FlushUri::Tcp(host, port)) => format!("tcp:{host}:{port}"),
        Some(FlushUri::Exec(path)) => format!("exec:{path}"),
    }
}

fn mail_servers(s: &Settings) -> String {
    let items = s.director_mail_servers.iter().map(super::diff::mail_server);
    items.collect::<Vec<_>>().join(" ")
}

fn directors(s: &Settings) -> String {
    s.director_servers
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn tls(s: &Settings, part: fn(&super::RingTls) -> &Path) -> String {
    s.director_ring_tls
        .as_ref()
        .map(|t| path(part(t)))
        .unwrap_or_default()
}

/// Every setting but the `[[listener]]` tables, in the order of the reference.
pub static TABLE: &[Spec] = &[
    row("director_servers", List, "", Restart, directors,
        "All directors of the ring, this one included. Empty: alone. Without a port an item has \
         the port of the ring listener. Names are looked up once."),
    row("director_mail_servers", List, "", RingDecides, mail_servers,
        "Backends at start; must not be empty. A running ring's own list wins. Host names are looked up \
         again, see resolve_interval."),
    row("resolve_interval", Time, "60 s", Live, |s| seconds(s.resolve_interval),
        "How often host names of director_mail_servers are looked up again; 0: never.")
        .range(0, 86_400),
    row("director_user_expire", Time, "15 min", Restart, |s| show_time(s.director_user_expire.into()),
        "How long a user stays on its backend after its last sign of life. Must be the same on all \
         directors.").range(10, U32),
    row("director_username_hash", Text, "%Lu", Restart, |s| s.director_username_hash.clone(),
        "What of the user name decides: %u whole name, %n before the @, %d behind it; L before the \
         letter makes lower case. Must be the same on all directors, login processes and doveadm."),
    row("auth_master_user_separator", Text, "", Restart,
        |s| s.auth_master_user_separator.map(|b| char::from(b).to_string()).unwrap_or_default(),
        "User names are cut before this character for the choice of a backend. Leave it empty in a \
         ring with Dovecot directors of 2.3.19 and older, which ignore it."),
    row("director_flush_socket", Text, "", Live, |s| flush(&s.director_flush_socket),
        "Whom to ask when a user has been moved: unix:PATH, tcp:HOST:PORT or exec:PROGRAM, with %i \
         and %h for address and name of the new backend. A relative path is taken from base_dir."),
    row("director_flush_script", Text, "", Live, |_| String::new(),
        "Older name of director_flush_socket; a plain absolute path means exec:."),
    row("director_flush_command", AbsolutePath, "", Live,
        |s| s.director_flush_command.as_deref().map(path).unwrap_or_default(),
        "Program to run when a user has been moved, with the arguments of a flush script. Not \
         together with director_flush_socket."),
    row("director_ping_idle_timeout", Time, "30 s", Live, |s| seconds(s.director_ping_idle_timeout),
        "A ring neighbour that sends nothing for this long after a PING is given up.").range(1, U32),
    row("director_ping_max_timeout", Time, "60 s", Live, |s| seconds(s.director_ping_max_timeout),
        "A ring neighbour that answers no PING for this long is given up, whatever else it sends.")
        .range(1, U32),
    row("director_user_kick_delay", Time, "2 s", Live, |s| seconds(s.director_user_kick_delay),
        "Pause after the kicks of a move, before the user may log in again.").range(0, 3600),
    row("kick_service", Text, "auto", Live, |s| s.kick_service.name().to_owned(),
        "Which of Dovecot's services ends the sessions of users that are moved or kicked: ipc (2.3) or \
         anvil (2.4), sockets in base_dir; auto: whichever is there. none: sessions are not ended."),
    row("kick_timeout", Time, "10 s", Live, |s| seconds(s.kick_timeout),
        "How long an answer of kick_service may take; then its connection is given up and the kick \
         counts as failed.").range(1, 3600),
    row("move_timeout", Time, "30 s", Live, |s| seconds(s.move_timeout),
        "How long a move may take, flush script included and director_user_kick_delay not: then the \
         user may log in whatever has ended. The same at all directors of a ring; Dovecot's have 30 s.")
        .range(5, 3600),
    row("director_max_parallel_moves", Uint, "100", Live, |s| s.director_max_parallel_moves.to_string(),
        "Users moved at a time by one flush, unless the order says otherwise.").range(1, U32),
    row("director_max_parallel_kicks", Uint, "100", Live, |s| s.director_max_parallel_kicks.to_string(),
        "Kicks ordered by administrators that are under way at a time.").range(1, U32),
    row("director_output_buffer_size", Size, "10 M", Live, |s| show_size(s.director_output_buffer_size),
        "Bytes that may wait for one ring neighbour. One more ends the connection.")
        .range(64 << 10, 16 << 30),
    row("director_ring_tls_cert", AbsolutePath, "", Live, |s| tls(s, |t| &t.cert),
        "PEM file with our certificate and those between it and the authority: TLS between Homing \
         directors. Its subjectAltName must have this director's address. All three or none. The \
         files are read again at every reload."),
    row("director_ring_tls_key", AbsolutePath, "", Live, |s| tls(s, |t| &t.key),
        "PEM file with the private key of director_ring_tls_cert, without passphrase. The user of \
         the process must be able to read it."),
    row("director_ring_tls_ca", AbsolutePath, "", Live, |s| tls(s, |t| &t.ca),
        "PEM file with the authorities that the other directors' certificates must come from."),
    row("director_ring_tls_required", Bool, "yes", Live,
        |s| if s.director_ring_tls_required { "yes" } else { "no" }.to_owned(),
        "With certificates: directors without TLS are refused. no: TLS where the other side offers \
         it, e.g. while Dovecot directors are in the ring, or certificates are being rolled out; who \
         can change what is sent can then prevent TLS."),
    row("http_tokens", AbsolutePath, "", Live, |s| s.http_tokens.as_deref().map(path).unwrap_or_default(),
        "File with the bearer tokens of the HTTP interface, a line for each: a name, read or admin, and the token \
         or sha256: with its digest. Required for listeners of type http on an address. Nobody else may be \
         able to read it; it is read again at every reload."),
    row("http_tls_cert", AbsolutePath, "", Live,
        |s| s.http_tls.as_ref().map(|t| path(&t.cert)).unwrap_or_default(),
        "PEM file with the certificate of the HTTP interface and those between it and the authority: TLS for all \
         its listeners on addresses. With http_tls_key or not at all; both are read again at every reload."),
    row("http_tls_key", AbsolutePath, "", Live,
        |s| s.http_tls.as_ref().map(|t| path(&t.key)).unwrap_or_default(),
        "PEM file with the private key of http_tls_cert, without passphrase."),
    row("http_tls_required", Bool, "yes", Live,
        |s| if s.http_tls_required { "yes" } else { "no" }.to_owned(),
        "A listener of type http on an address that other machines can reach needs http_tls_cert. no: tokens \
         may cross the network in clear text, and whoever reads them there can use them."),
    row("health_quorum", Uint, "0", Live, |s| s.health_quorum.to_string(),
        "So many directors must agree that a backend has failed, or is good again. 0: the majority of all \
         directors of the ring, reachable or not.").range(0, 1024),
    row("health_floor", Uint, "50", Live, |s| s.health_floor.to_string(),
        "So many of a hundred of each tag's backends stay in service, whatever their health; at least one. \
         Backends that an operator has taken out do not count.").range(0, 100),
    row("health_slow_start", Time, "1 min", Live, |s| seconds(s.health_slow_start),
        "How long a backend that comes back takes to get its whole weight, in five steps. 0: at once.")
        .range(0, 86_400),
    row("health_act", Bool, "yes", Live, |s| if s.health_act { "yes" } else { "no" }.to_owned(),
        "Whether backends that fail their checks are taken down. no: it is only told in the log and by \
         homing health."),
    row("base_dir", AbsolutePath, "/run/dovecot", Restart, |s| path(&s.base_dir),
        "Dovecot's run directory."),
    row("auth_login_path", PathKind, "auth-login", Live, |s| path(&s.auth_login_path),
        "Dovecot's socket for authentication clients, dialled once for each login connection."),
    row("auth_userdb_path", PathKind, "auth-userdb", Live, |s| path(&s.auth_userdb_path),
        "Dovecot's socket for authentication masters, dialled once for each userdb connection."),
    row("lookup_timeout", Time, "25 s", Live, |s| seconds(s.lookup_timeout),
        "Longest time that a login waits for a backend before it fails temporarily. Login processes \
         themselves give up after about 30 s.").range(1, 3600),
    row("lookup_batch_delay", Uint, "2500", Live, |s| s.lookup_batch_delay.to_string(),
        "Microseconds for which a core with more than 5000 lookups a second may let them gather, to \
         work on many at once; it stops that where it makes clients ask less. 0: never.")
        .range(0, 10_000),
    row("user_table_limit", Uint, "10000000", Live, |s| s.user_table_limit.to_string(),
        "Most users that are remembered. Beyond it new users fail temporarily, known ones are \
         served.").range(1, u64::MAX),
    row("new_user_rate", Uint, "0", Live, |s| s.new_user_rate.to_string(),
        "Most new users in a second, over all cores; beyond it new users fail temporarily. 0: no \
         limit.").range(0, U32),
    row("state_path", AbsolutePath, "", Restart,
        |s| s.state_path.as_deref().map(path).unwrap_or_default(),
        "File in which backends and users are kept for the next start: a director that finds no running \
         ring begins with them instead of director_mail_servers. Its directory must belong to user; one \
         that is not there is made. Empty: none."),
    row("state_interval", Time, "60 s", Live, |s| seconds(s.state_interval),
        "How often state_path is written, besides at an orderly end; 0: then only.")
        .range(0, 86_400),
    row("user", Text, "", Restart, |s| text(&s.user),
        "Unix user to become when started as root. Empty: stay."),
    row("group", Text, "", Restart, |s| text(&s.group),
        "Unix group to become when started as root. Empty: the user's."),
    row("cores", Uint, "0", Restart, |s| s.cores.unwrap_or(0).to_string(),
        "Cores that serve logins. 0: every CPU that the process may use.").range(0, 1024),
    row("client_limit", Uint, "8192", Restart, |s| s.client_limit.to_string(),
        "Most client connections at a time, over all listeners. Each login connection needs two \
         descriptors.").range(1, 4_000_000),
    row("log_level", Text, "info", Live, |s| s.log_level.clone(),
        "What is logged: error, warn, info, debug or trace, or a filter such as \
         info,homing::wire=debug."),
    row("log_format", Text, "auto", Restart, |s| s.log_format.name().to_owned(),
        "How it is written: as text, as JSON, or with fields for systemd's journal; auto is the \
         journal under systemd and text elsewhere. A service of Dovecot's master always logs through \
         Dovecot."),
];

/// A key of a `[[listener]]` table.
pub struct ListenerKey {
    /// Its name.
    pub name: &'static str,
    /// What is accepted.
    pub accepts: &'static str,
    /// What it governs.
    pub about: &'static str,
}

const fn key(name: &'static str, accepts: &'static str, about: &'static str) -> ListenerKey {
    ListenerKey {
        name,
        accepts,
        about,
    }
}

/// Every key of a `[[listener]]` table. A change of listeners needs a restart.
pub static LISTENER_KEYS: &[ListenerKey] = &[
    key(
        "type",
        "login, userdb, authreply, notify, ring, admin, health or http",
        "What it speaks. Required.",
    ),
    key(
        "path",
        "an absolute path of at most 107 bytes, not directly in base_dir's login directory",
        "Unix socket or FIFO. A listener has either a path or an address.",
    ),
    key(
        "address",
        "IP:PORT, [IPv6]:PORT or *:PORT, the port 1 to 65535",
        "TCP.",
    ),
    key(
        "mode",
        "permission bits as an octal string of \"0001\" to \"0777\"",
        "Who may connect, for a path. Default \"0600\".",
    ),
    key(
        "owner",
        "a user name or number",
        "Owner of the path. Default: who makes it.",
    ),
    key(
        "group",
        "a group name or number",
        "Group of the path. Default: who makes it.",
    ),
    key(
        "fifo",
        "true or false",
        "For a path of type notify: a FIFO (the default) or a socket.",
    ),
    key(
        "allow",
        "an array of networks, e.g. [\"10.0.0.0/8\", \"::1\"]",
        "Networks whose clients may connect over TCP. Required for admin and http on an address.",
    ),
];

/// Every key of a `[[health_check]]` table. A change takes effect at a reload.
pub static HEALTH_KEYS: &[ListenerKey] = &[
    key(
        "name",
        "a word",
        "Its name in logs and tables. Default: protocol and port, e.g. imap-143.",
    ),
    key(
        "protocol",
        "tcp, imap, pop3 or lmtp",
        "What is spoken: tcp only connects, the others want a greeting and an answer. Required.",
    ),
    key(
        "port",
        "1 to 65535",
        "Default: the protocol's, with tls = \"yes\" that of the protocol over TLS. Required for tcp.",
    ),
    key(
        "tls",
        "no, yes or starttls",
        "TLS not at all, from the first byte on, or after STARTTLS. Default no.",
    ),
    key(
        "tls_verify",
        "true or false",
        "A wrong certificate is a failure. Default true.",
    ),
    key(
        "tls_ca",
        "an absolute path",
        "PEM file with the authorities of the backends' certificates. Required to verify them.",
    ),
    key(
        "tls_name",
        "a host name or an address",
        "The name that certificates must have. Default: the backend's host name, or its address.",
    ),
    key(
        "user",
        "a user name",
        "Whom to log in. Only imap and pop3, with password_file. Over imap INBOX is opened as well.",
    ),
    key(
        "password_file",
        "an absolute path",
        "File whose first line is the password. The user of the process must be able to read it.",
    ),
    key(
        "mechanism",
        "plain or login",
        "AUTH PLAIN, or the protocol's own login command. Default plain.",
    ),
    key(
        "interval",
        "a time of 1 s to 1 hour",
        "From one probe of a backend to the next, a tenth more or less. Default 10 s.",
    ),
    key(
        "timeout",
        "a time of 1 s to interval",
        "How long a probe may take. Default 5 s, or interval if that is less.",
    ),
    key(
        "rise",
        "1 to 100",
        "Successes in a row that make a backend good that was bad. Default 2.",
    ),
    key(
        "fall",
        "1 to 100",
        "Failures in a row that make a backend bad. Default 3.",
    ),
    key(
        "tag",
        "a director tag, or \"\" for none",
        "Only backends of this tag. Default: all.",
    ),
    key(
        "backends",
        "addresses, as an array or separated by blanks",
        "Only these backends. Default: all.",
    ),
    key(
        "source",
        "an address of this machine",
        "Where probes come from. Default: the system chooses.",
    ),
];

/// The settings reference, as Markdown.
pub fn reference() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         | setting | type | default | range | a change takes effect | what it governs |\n\
         |---|---|---|---|---|---|\n",
    );
    for s in TABLE {
        let default = match s.default {
            "" => "none".to_owned(),
            default => format!("`{default}`"),
        };
        let (kind, range, reload) = (s.kind.name(), s.range_text(), s.reload.name());
        let name = s.name;
        let _ = writeln!(
            out,
            "| `{name}` | {kind} | {default} | {range} | {reload} | {} |",
            s.about
        );
    }
    out.push_str("\n## Types\n\n| type | accepted |\n|---|---|\n");
    for kind in [Time, Uint, Size, Bool, Text, PathKind, AbsolutePath, List] {
        let _ = writeln!(out, "| {} | {} |", kind.name(), kind.accepts());
    }
    out.push_str(
        "\n## Listeners\n\nEach `[[listener]]` table is one socket. A change needs a restart.\n\n\
         | key | accepted | what it governs |\n|---|---|---|\n",
    );
    keys(LISTENER_KEYS, &mut out);
    out.push_str(
        "\n## Health checks\n\nEach `[[health_check]]` table is one check of backends. A change takes \
         effect at a reload.\n\n| key | accepted | what it governs |\n|---|---|---|\n",
    );
    keys(HEALTH_KEYS, &mut out);
    out
}

fn keys(keys: &[ListenerKey], out: &mut String) {
    for k in keys {
        let _ = writeln!(out, "| `{}` | {} | {} |", k.name, k.accepts, k.about);
    }
}
