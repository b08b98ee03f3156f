//! Every setting with its default, unit and range. This file holds the resolved form that the rest
//! of the program uses; nothing in it is still text that could be wrong.
//!
//! | file | what |
//! |---|---|
//! | [`table`] | the one list of all settings; [`reference`] prints it |
//! | [`kinds`] | times, sizes, numbers: text to value |
//! | [`load`] | a TOML file to [`Settings`], or everything that is wrong with it |
//! | `servers`, `listener` | the two server lists; the `[[listener]]` tables |
//! | [`health`] | the `[[health_check]]` tables |
//! | [`diff`] | what a reload would change, and whether it can |
//! | [`import`] | a Dovecot 2.3 configuration to a settings file |
//!
//! The grammar is in docs/protocol/configuration.md. Only [`network`] asks the system anything
//! (names, own addresses), and a caller can put something else in its place.

pub mod address;
pub mod classify;
pub mod diff;
mod document;
pub mod health;
pub mod import;
pub mod kinds;
mod listener;
mod load;
pub mod network;
mod problem;
mod resolve;
mod servers;
pub mod table;

pub use diff::{Change, diff};
pub use import::import_dovecot;
pub use listener::{MAX_LISTENERS, kind_name, place_text};
pub use load::{Loaded, Sockets, load, load_with, parse};
pub use problem::Problem;
pub use table::reference;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::core::health::dialogue::{Mechanism, Protocol};

/// A complete, valid configuration. [`Settings::default`] has every default of the table, no
/// backends and no listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directors of the ring, ourselves included, sorted by address (IPv4 first) and port, all of
    /// one family; empty: alone.
    pub director_servers: Vec<SocketAddr>,
    /// The entry of `director_servers` that is this process; `None` when alone.
    pub director_self: Option<SocketAddr>,
    /// Backends at start, sorted by address (IPv4 first), without duplicates.
    pub director_mail_servers: Vec<MailServer>,
    /// How often their host names are looked up again; 0: never. Whole seconds.
    pub resolve_interval: Duration,
    /// How long a user stays assigned after its last refresh, in seconds (10..=4294967295).
    pub director_user_expire: u32,
    /// What is hashed, e.g. `%Lu`. Known to parse.
    pub director_username_hash: String,
    /// Whom to ask when a user has been moved (`director_flush_socket`, or its older name
    /// `director_flush_script`).
    pub director_flush_socket: Option<FlushUri>,
    /// Program run directly when a user has been moved, with the same arguments. Never together
    /// with `director_flush_socket`.
    pub director_flush_command: Option<PathBuf>,
    /// No input at all for this long after a PING ends a ring connection. Whole seconds.
    pub director_ping_idle_timeout: Duration,
    /// No PONG for this long after a PING ends a ring connection. Whole seconds, at least
    /// `director_ping_idle_timeout`.
    pub director_ping_max_timeout: Duration,
    /// Pause after a move's kicks. Whole seconds; may be 0.
    pub director_user_kick_delay: Duration,
    /// Who is asked to end sessions.
    pub kick_service: KickService,
    /// How long an answer of who ends sessions may take. Whole seconds.
    pub kick_timeout: Duration,
    /// How long a move may take. Whole seconds.
    pub move_timeout: Duration,
    /// Default number of users that `director flush` moves at a time (1..).
    pub director_max_parallel_moves: u32,
    /// Kicks of administrators under way at a time (1..).
    pub director_max_parallel_kicks: u32,
    /// Most bytes waiting for one ring neighbour; a write that does not fit ends the connection.
    pub director_output_buffer_size: u64,
    /// Certificates for ring connections between Homing directors; `None`: plain.
    pub director_ring_tls: Option<RingTls>,
    /// With certificates: directors without TLS are refused.
    pub director_ring_tls_required: bool,
    /// File of bearer tokens for HTTP; absolute.
    pub http_tokens: Option<PathBuf>,
    /// Certificate for HTTP over TCP; `None`: plain.
    pub http_tls: Option<HttpTls>,
    /// HTTP listeners that others can reach must have a certificate.
    pub http_tls_required: bool,
    /// How backends are checked; empty: they are not.
    pub health_checks: Vec<HealthCheck>,
    /// So many directors must agree about a backend; 0: the majority of all.
    pub health_quorum: u32,
    /// So many of a hundred of a tag's backends stay in service, whatever their health (0..=100).
    pub health_floor: u32,
    /// How long a backend that comes back takes to get its whole weight. Whole seconds.
    pub health_slow_start: Duration,
    /// Whether backends that fail are taken down. Else it is only told.
    pub health_act: bool,
    /// Dovecot's run directory, absolute. Relative paths of the settings are taken from here.
    pub base_dir: PathBuf,
    /// First byte of `auth_master_user_separator`.
    pub auth_master_user_separator: Option<u8>,
    /// Dovecot's auth client socket.
    pub auth_login_path: PathBuf,
    /// Dovecot's auth master socket.
    pub auth_userdb_path: PathBuf,
    /// Longest time a lookup may wait before it is answered with a temporary failure.
    pub lookup_timeout: Duration,
    /// Longest time that a busy core lets lookups gather, in microseconds; 0: never.
    pub lookup_batch_delay: u32,
    /// Most users the table may hold; new ones beyond it get a temporary failure.
    pub user_table_limit: u64,
    /// Most new users per second, over all cores; 0: no limit.
    pub new_user_rate: u32,
    /// File in which backends and users outlive the process; `None`: they do not.
    pub state_path: Option<PathBuf>,
    /// How often that is written; zero: only at the end.
    pub state_interval: Duration,
    /// Unix user and group to become when started as root.
    pub user: Option<String>,
    /// Group to become when started as root; default: the user's.
    pub group: Option<String>,
    /// Serving cores; `None`: one for every CPU this process may use.
    pub cores: Option<usize>,
    /// Most client connections at once, over all listeners.
    pub client_limit: u32,
    /// Filter of the log, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log_level: String,
    /// See [`LogFormat`].
    pub log_format: LogFormat,
    /// Sockets to make. Empty when Dovecot's master hands them over.
    pub listeners: Vec<Listener>,
}

/// One backend of `director_mail_servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    /// Address; with the tag it identifies the backend.
    pub ip: IpAddr,
    /// Host name it was configured by.
    pub name: Option<String>,
    /// Director tag, empty for none.
    pub tag: String,
    /// Virtual nodes on the hash ring; 100 at start.
    pub vhosts: u32,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerKind {
    /// Auth client protocol, for login processes.
    Login,
    /// Auth master protocol, for lmtp and doveadm.
    Userdb,
    /// Auth replies only, for programs that talk to auth themselves.
    Authreply,
    /// Keep-alive lines of login processes: a FIFO or a stream socket.
    Notify,
    /// Other directors.
    Ring,
    /// `doveadm director`.
    Admin,
    /// Other Homing directors: the health of backends.
    Health,
    /// HTTP.
    Http,
}

/// How a check uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckTls {
    /// Not.
    No,
    /// From the first byte on.
    Yes,
    /// After STARTTLS, or STLS.
    StartTls,
}

/// How backends are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Its name in logs and tables.
    pub name: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// At which port.
    pub port: u16,
    /// With TLS.
    pub tls: CheckTls,
    /// The certificate must be right.
    pub tls_verify: bool,
    /// Authorities that it must come from.
    pub tls_ca: Option<PathBuf>,
    /// The name that it must have; `None`: the backend's host name, or its address.
    pub tls_name: Option<String>,
    /// Whom to log in.
    pub user: Option<String>,
    /// Where the password is; there if `user` is.
    pub password_file: Option<PathBuf>,
    /// How to log in.
    pub mechanism: Mechanism,
    /// From one probe to the next. Whole seconds, at least 1.
    pub interval: Duration,
    /// How long a probe may take. Whole seconds, at least 1, at most `interval`.
    pub timeout: Duration,
    /// Successes in a row that make a bad backend good (1..).
    pub rise: u32,
    /// Failures in a row that make a backend bad (1..).
    pub fall: u32,
    /// Only backends of this tag.
    pub tag: Option<String>,
    /// Only these backends; empty: all.
    pub backends: BTreeSet<IpAddr>,
    /// Where probes come from; `None`: the system chooses.
    pub source: Option<IpAddr>,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Unix stream socket.
    Unix(PathBuf),
    /// FIFO (only `Notify`).
    Fifo(PathBuf),
    /// TCP.
    Tcp(SocketAddr),
}

/// One listener of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What it speaks.
    pub kind: ListenerKind,
    /// Where it is.
    pub place: Place,
    /// Permission bits of a unix socket or FIFO.
    pub mode: u32,
    /// Owner name or number of a unix socket or FIFO.
    pub owner: Option<String>,
    /// Group name or number of a unix socket or FIFO.
    pub group: Option<String>,
    /// Networks whose clients may connect over TCP; never empty for `Admin` and `Http` on TCP,
    /// empty elsewhere when anybody may.
    pub allow: Vec<IpNet>,
}

/// Where a flush request goes. The texts may still hold `%i`, `%{ip}`, `%h`, `%{host}` (address
/// and name of the user's new backend) and `%%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlushUri {
    /// Unix socket; absolute, unless it begins with a variable.
    Unix(String),
    /// TCP host (name or address) and port.
    Tcp(String, u16),
    /// Program to run; absolute.
    Exec(String),
}

/// Which of Dovecot's services ends sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KickService {
    /// Whichever is there.
    Auto,
    /// Dovecot 2.3's `ipc`.
    Ipc,
    /// Dovecot 2.4's `anvil`.
    Anvil,
    /// None: sessions are not ended.
    None,
}

impl KickService {
    /// Every value, with its name in settings.
    pub const ALL: [(KickService, &str); 4] = [
        (KickService::Auto, "auto"),
        (KickService::Ipc, "ipc"),
        (KickService::Anvil, "anvil"),
        (KickService::None, "none"),
    ];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        KickService::ALL[self as usize].1
    }
}

/// PEM files of the HTTP interface's TLS. Both absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTls {
    /// Our certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How a line of the log is written. A service of Dovecot's master writes what Dovecot's log process reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Fields for systemd's journal where standard error leads there, text elsewhere.
    Auto,
    /// Text.
    Plain,
    /// One JSON object a line.
    Json,
    /// Fields for systemd's journal.
    Journal,
}

impl LogFormat {
    /// Every value, with its name in settings.
    pub const ALL: [(LogFormat, &str); 4] = [
        (LogFormat::Auto, "auto"),
        (LogFormat::Plain, "plain"),
        (LogFormat::Json, "json"),
        (LogFormat::Journal, "journal"),
    ];

    /// Its name in settings.
    pub fn name(self) -> &'static str {
        LogFormat::ALL[self as usize].1
    }
}

/// PEM files of the ring's TLS. All absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingTls {
    /// Our certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificate authorities that the other directors' certificates must come from.
    pub ca: PathBuf,
}

impl Default for Settings {
    fn default() -> Settings {
        resolve::defaults()
    }
}
