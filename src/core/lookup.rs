//! What an auth reply asks of the director, and how the answer is written
//! (docs/protocol/login.md, what is rewritten).

use std::borrow::Cow;
use std::net::IpAddr;

use super::ip_text::parse_lenient;
use super::snapshot::{BackendView, Snapshot};
use super::user_hash::cut_master_user;
use super::{UserHash, UserKey};
use crate::wire::auth::{About, Found};
use crate::wire::line::{number, push_number};

/// Which protocol a reply belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Socket {
    /// Login processes.
    Login,
    /// lmtp and doveadm.
    Userdb,
    /// Programs that talk to auth themselves.
    Authreply,
}

impl Socket {
    /// Every socket type, in the order of [`Socket::index`].
    pub const ALL: [Socket; 3] = [Socket::Login, Socket::Userdb, Socket::Authreply];

    /// Position in [`Socket::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name used in settings, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Socket::Login => "login",
            Socket::Userdb => "userdb",
            Socket::Authreply => "authreply",
        }
    }
}

/// Where the client of a request connected to, as the request said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Address.
    pub ip: Option<IpAddr>,
    /// Port.
    pub port: Option<u32>,
}

impl Local {
    /// From the text of the request.
    pub fn of(about: &About<'_>) -> Local {
        Local {
            ip: parse_ip(about.lip),
            port: about.lport.filter(|&port| is_port(port)),
        }
    }
}

fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    parse_lenient(std::str::from_utf8(text).ok()?)
}

fn parse_port(text: &[u8]) -> Option<u32> {
    number(text).filter(|&port| is_port(port))
}

fn is_port(number: u32) -> bool {
    (1..=u32::from(u16::MAX)).contains(&number)
}

/// A lookup that a reply asks for. Owns nothing of the reply, so that it can wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// User hash.
    pub hash: UserHash,
    /// Tag name; may be one that no backend has.
    pub tag: Box<[u8]>,
    /// Set when the user may also live on this very server.
    pub maybe: Option<Maybe>,
}

/// `director_proxy_maybe`: the facts for "is the backend this server, and what if not".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maybe {
    local: Local,
    port: Option<u32>,
    proxy: bool,
    /// The field without which a login at another server cannot work.
    missing: Option<&'static str>,
}

/// What a reply asks for a user whose hash is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    tag: Box<[u8]>,
    maybe: Option<Maybe>,
}

impl Demand {
    /// Whether, and about which user name, a reply asks. `None`: the reply is passed on as it is.
    pub fn of<'a>(
        found: &'a Found<'_>,
        socket: Socket,
        local: impl FnOnce() -> Local,
        snapshot: &Snapshot,
    ) -> Option<(&'a [u8], Demand)> {
        if !(found.proxy || found.proxy_maybe) || found.host {
            return None;
        }
        let name = cut_master_user(found.name()?, snapshot.master_user_separator);
        let maybe = found.proxy_maybe.then(|| maybe(found, socket, local()));
        let tag = Box::from(&*found.tag);
        Some((name, Demand { tag, maybe }))
    }

    /// The identity of the user with this hash; `None` while no backend ever had the tag.
    pub fn key(&self, hash: UserHash, snapshot: &Snapshot) -> Option<UserKey> {
        let tag = snapshot.tag(&self.tag)?;
        Some(UserKey { tag, hash })
    }

    /// The question about the user with this hash.
    pub fn about(self, hash: UserHash) -> Question {
        let Demand { tag, maybe } = self;
        Question { hash, tag, maybe }
    }
}

/// Whether, and about whom, a reply asks. `None`: the reply is passed on as it is.
pub fn question(
    found: &Found<'_>,
    socket: Socket,
    local: impl FnOnce() -> Local,
    snapshot: &Snapshot,
    scratch: &mut Vec<u8>,
) -> Option<Question> {
    let (name, demand) = Demand::of(found, socket, local, snapshot)?;
    Some(demand.about(snapshot.username_hash.hash(name, scratch)))
}

fn maybe(found: &Found<'_>, socket: Socket, request: Local) -> Maybe {
    let lip = found.lip.as_deref().and_then(parse_ip);
    let lport = found.lport.as_deref().and_then(parse_port);
    let port = found.port.as_deref().and_then(parse_port);
    // lmtp and doveadm log in at the backend with no user password.
    // A master user's login needs the master's password: `master` without `pass` kills the login
    // process of 2.3, like `proxy` without `host`.
    let needs_password = socket != Socket::Userdb && !found.pass;
    Maybe {
        local: Local {
            ip: lip.or(request.ip),
            port: lport.or(request.port),
        },
        port,
        proxy: found.proxy,
        missing: needs_password.then_some("pass"),
    }
}

impl Question {
    /// Where the client connected to, as far as that matters to the answer.
    pub fn local(&self) -> Local {
        self.maybe
            .as_ref()
            .map(|maybe| maybe.local)
            .unwrap_or_default()
    }

    /// Whether auth believes that the user logs in on this very server, and keeps the request for
    /// a mail process. Unless that comes, it must be told to forget the request.
    pub fn auth_waits(&self) -> bool {
        self.maybe.as_ref().is_some_and(|maybe| !maybe.proxy)
    }

    /// The identity asked for; `None` while no backend ever had the tag.
    pub fn key(&self, snapshot: &Snapshot) -> Option<UserKey> {
        Some(UserKey {
            tag: snapshot.tag(&self.tag)?,
            hash: self.hash,
        })
    }
}

/// How a reply is answered once the user's backend is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With the backend appended.
    Proxy,
    /// With `proxy` and the backend appended, for auth thinks that the user logs in here.
    ProxyAdded,
    /// As it is: the user logs in on this very server.
    Here,
    /// With a temporary failure: the passdb's answer cannot work, and this is why.
    Misconfigured(&'static str),
}

/// Decides between [`Answer`]s.
pub fn answer(question: &Question, backend: &BackendView) -> Answer {
    let Some(maybe) = &question.maybe else {
        return Answer::Proxy;
    };
    let is_here = maybe.local.ip == Some(backend.ip)
        && !matches!((maybe.port, maybe.local.port), (Some(port), Some(lport)) if port != lport);
    match (is_here, maybe.proxy) {
        // The reference sends `proxy` without `host` here, which kills the login process.
        (true, true) => Answer::Misconfigured(
            "the passdb returns both proxy and director_proxy_maybe, and the user's backend is \
             this server; it should return director_proxy_maybe alone",
        ),
        (true, false) => Answer::Here,
        (false, true) => Answer::Proxy,
        (false, false) if maybe.missing.is_some() => Answer::Misconfigured(
            "the passdb returns director_proxy_maybe without the field pass, and the user's backend \
             is another server, which cannot be logged in to without a password (the user's own, or \
             that of the master user in the field master)",
        ),
        (false, false) => Answer::ProxyAdded,
    }
}

/// Appends the answered line, LF included. `director_hash`: also tell the login process the
/// user's hash, by which its sessions can be ended (auth protocol 1.3 and later).
pub fn write_answer(
    line: &[u8],
    answer: Answer,
    backend: &BackendView,
    director_hash: Option<UserHash>,
    out: &mut Vec<u8>,
) {
    match answer {
        Answer::Misconfigured(_) => return write_failure(line, out),
        Answer::Here => out.extend_from_slice(line),
        Answer::Proxy | Answer::ProxyAdded => {
            out.extend_from_slice(line);
            if answer == Answer::ProxyAdded {
                out.extend_from_slice(b"\tproxy");
            }
            out.extend_from_slice(&backend.suffix);
            if let Some(hash) = director_hash {
                out.extend_from_slice(b"\tuser_director_hash=");
                push_number(u64::from(hash.0), out);
            }
        }
    }
    out.push(b'\n');
}

/// Appends the temporary failure that replaces `line` (docs/protocol/login.md, failure replies).
/// `temp_fail` makes the login process answer "temporary authentication failure" and lmtp 451.
pub fn write_failure(line: &[u8], out: &mut Vec<u8>) {
    let id = line.split(|&byte| byte == b'\t').nth(1).unwrap_or_default();
    out.extend_from_slice(b"FAIL\t");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\tcode=temp_fail\n");
}

/// What a reply gets appended for a backend: `proxy_refresh` is half the expiry, so that a live
/// session's user is refreshed twice before it would be forgotten.
pub fn suffix(ip_text: &str, name: Option<&str>, expire_secs: u64) -> Box<[u8]> {
    let refresh = expire_secs / 2;
    let host: Cow<'_, str> = match name {
        Some(name) => Cow::Owned(format!("{name}\thostip={ip_text}")),
        None => Cow::Borrowed(ip_text),
    };
    format!("\tproxy_refresh={refresh}\thost={host}")
        .into_bytes()
        .into_boxed_slice()
}

#[cfg(test)]
mod tests;
