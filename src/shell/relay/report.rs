//! What is logged about lookups, in Dovecot's words where it has them, limited per cause. No line
//! of auth is ever logged: it holds the password.

use std::io;
use std::path::Path;

use super::Context;
use super::conn::Asked;
use super::lookups::{LogAbout, Waiting};
use crate::core::lookup::Socket;
use crate::core::parking::Parked;
use crate::core::user_hash::cut_master_user;
use crate::shell::log_limit::{LogLimit, left_out};
use crate::wire::line::TooLong;

/// One limit per cause.
#[derive(Debug)]
pub struct Limits {
    lookup: LogLimit,
    dial: LogLimit,
    auth_ended: LogLimit,
    long_line: LogLimit,
    notify: LogLimit,
    version: LogLimit,
    names: LogLimit,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            lookup: LogLimit::default(),
            dial: LogLimit::default(),
            auth_ended: LogLimit::default(),
            long_line: LogLimit::default(),
            notify: LogLimit::default(),
            version: LogLimit::default(),
            names: LogLimit::rare(),
        }
    }
}

/// Text from outside, safe to print.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).escape_debug().to_string()
}

impl Context {
    /// A lookup failed at once.
    pub(super) fn report_failure(&mut self, about: &LogAbout, why: &str) {
        let Some(more) = self.limits.lookup.allow(self.now) else {
            return;
        };
        let user = printable(cut_master_user(
            &about.user,
            self.snapshot.master_user_separator,
        ));
        tracing::error!(
            session = about.asked.session(),
            "User {user} host lookup failed: {why}{}",
            left_out(more)
        );
    }

    /// A lookup waited until its deadline.
    pub(super) fn report_timeout(&mut self, parked: &Parked<Waiting>) {
        let question = parked.lookup.question();
        let tag = match &*question.tag {
            [] => String::new(),
            tag => format!(", tag={}", printable(tag)),
        };
        let key = question.key(&self.snapshot);
        let known = key.and_then(|key| self.directory.peek(key, self.wall, &self.snapshot));
        let user = known.map_or_else(String::new, |user| {
            let weak = if user.is_weak() { ", weak user" } else { "" };
            let age = self.wall.0.saturating_sub(user.stamp().0);
            format!("{weak}, user refreshed {age} secs ago")
        });
        let why = format!(
            "Timeout because {} - queued for {} secs ({}{user}, hash={}{tag})",
            parked.reason,
            self.now.since(parked.since) / 1_000_000_000,
            self.snapshot.ring_state(self.wall),
            question.hash.0,
        );
        self.report_failure(&parked.lookup.about, &why);
    }

    /// Auth could not be reached.
    pub(super) fn report_dial_failure(&mut self, socket: Socket, error: &io::Error) {
        let Some(more) = self.limits.dial.allow(self.now) else {
            return;
        };
        let setting = match socket {
            Socket::Userdb => "auth_userdb_path",
            Socket::Login | Socket::Authreply => "auth_login_path",
        };
        let path: &Path = self.tunables.load().auth(socket).path();
        tracing::error!(
            "connect({}) failed: {error}; is Dovecot's auth running, and is {setting} right?{}",
            path.display(),
            left_out(more)
        );
    }

    /// Auth closed a connection.
    pub(super) fn report_auth_ended(&mut self, socket: Socket) {
        if let Some(more) = self.limits.auth_ended.allow(self.now) {
            let name = socket.name();
            tracing::warn!(
                "Auth server disconnected unexpectedly ({name} socket){}",
                left_out(more)
            );
        }
    }

    /// Auth, or an authreply client, sent a line that is too long.
    pub(super) fn report_long_line(&mut self, socket: Socket, error: TooLong) {
        if let Some(more) = self.limits.long_line.allow(self.now) {
            let who = match socket {
                Socket::Authreply => "The authreply client",
                Socket::Login | Socket::Userdb => "Auth",
            };
            tracing::error!("{who} sent a {error}; connection closed{}", left_out(more));
        }
    }

    /// A login process wrote a keep-alive line that is too long.
    pub(super) fn report_long_notify_lines(&mut self, count: usize) {
        if let Some(more) = self.limits.notify.allow(self.now) {
            tracing::warn!(
                "notify: {count} lines longer than 1024 bytes skipped{}",
                left_out(more)
            );
        }
    }

    /// A passdb gives a user two names whose hashes differ.
    pub(super) fn report_names_differ(&mut self, user: &[u8], destuser: &[u8], asked: &Asked) {
        if let Some(more) = self.limits.names.allow(self.now) {
            tracing::warn!(
                session = asked.session(),
                "User {} has destuser={}, and their director_username_hash differs: moves will \
                 not end such sessions; the passdb should return names that hash alike{}",
                printable(user),
                printable(destuser),
                left_out(more)
            );
        }
    }

    /// An authreply client speaks another protocol.
    pub(super) fn report_authreply_version(&mut self) {
        if let Some(more) = self.limits.version.allow(self.now) {
            tracing::error!(
                "authreply: the client's first line must be \
                 VERSION<TAB>director-authreply-client<TAB>1<TAB>0; connection closed{}",
                left_out(more)
            );
        }
    }

    /// A random number for jitter (xorshift; nothing secret depends on it).
    pub(super) fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
