//! Every setting with its default, unit and range. This file holds the resolved form that the rest
//! of the program uses; nothing in it is still text that could be wrong.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// A complete, valid configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directors of the ring, ourselves included; empty: alone.
    pub director_servers: Vec<SocketAddr>,
    /// Backends at start, sorted by address (IPv4 first), without duplicates.
    pub director_mail_servers: Vec<MailServer>,
    /// How long a user stays assigned after its last refresh, in seconds (10..=4294967295).
    pub director_user_expire: u32,
    /// What is hashed, e.g. `%Lu`. Known to parse.
    pub director_username_hash: String,
    /// First byte of `auth_master_user_separator`.
    pub auth_master_user_separator: Option<u8>,
    /// Dovecot's auth client socket.
    pub auth_login_path: PathBuf,
    /// Dovecot's auth master socket.
    pub auth_userdb_path: PathBuf,
    /// Longest time a lookup may wait before it is answered with a temporary failure.
    pub lookup_timeout: Duration,
    /// Most users the table may hold; new ones beyond it get a temporary failure.
    pub user_table_limit: u64,
    /// Most new users per second, over all cores; 0: no limit.
    pub new_user_rate: u32,
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
    /// HTTP.
    Http,
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
#[derive(Clone, Debug)]
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
}
