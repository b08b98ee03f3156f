//! Moves bytes between one client and auth: one read, all its lines, one write.

use super::batch::settle;
use super::conn::{Conn, Greeting, Role, Side, Upstream};
use super::lookups::{Line, reply};
use super::{ConnId, Context};
use crate::core::Mono;
use crate::core::lookup::Socket;
use crate::shell::clock;
use crate::shell::epoll::Interest;
use crate::shell::io::{Read, is_at_end, read};
use crate::wire::auth::MAX_LINE;
use crate::wire::line::{fields, push_number};

/// What is to be done with a connection after a turn's work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until it becomes ready again.
    Wait,
    /// More can be read now.
    Again,
    /// Close it.
    Close,
}

/// Auth's backlog may be full for a moment, and auth may just be restarting; Dovecot's director
/// waits as long (docs/protocol/login.md, connection life).
const DIAL_TOTAL_NANOS: u64 = 1_000_000_000;
const DIAL_PAUSE_MIN_NANOS: u64 = 10_000_000;
const DIAL_PAUSE_MAX_NANOS: u64 = 100_000_000;

/// First minor version of auth's protocol in which a CANCEL is confirmed.
const MINOR_THAT_CONFIRMS: u32 = 4;
/// Confirmations expected per connection; auth that confirms is never this far behind.
const CANCELLED_MAX: usize = 1024;

/// Longest line of the proxy-notify protocol, LF included.
const NOTIFY_MAX_LINE: usize = 1024;

/// Says what a server of this role says first. False: the peer is gone.
pub fn greet(conn: &mut Conn) -> bool {
    match conn.role {
        Role::Authreply(_) => conn
            .client
            .send(b"VERSION\tdirector-authreply-server\t1\t0\n"),
        Role::Relay(_) | Role::Notify => true,
    }
}

/// Does a turn's share of work on a connection.
pub fn run(conn: &mut Conn, id: ConnId, cx: &mut Context) -> Next {
    let next = move_bytes(conn, id, cx);
    if next != Next::Close {
        watch_out(&mut conn.client, id, false, cx);
        if let Upstream::Open(auth) = &mut conn.upstream {
            watch_out(auth, id, true, cx);
        }
    }
    next
}

fn move_bytes(conn: &mut Conn, id: ConnId, cx: &mut Context) -> Next {
    if !conn.client.flush() {
        return Next::Close;
    }
    if let Upstream::Open(auth) = &mut conn.upstream {
        if !auth.flush() {
            // It shows as the end when it is read from; what auth said last is passed on first.
            auth.backlog.forget();
        }
        if conn.client.hung_up && auth.is_slow() {
            // The client's end would be read only when auth reads again, perhaps never.
            return Next::Close;
        }
    }
    if conn.client.readable {
        let open = match conn.role {
            Role::Relay(socket) => from_client(conn, socket, id, cx),
            Role::Authreply(_) => from_authreply_client(conn, id, cx),
            Role::Notify => from_notifier(conn, cx),
        };
        if !open {
            return Next::Close;
        }
    }
    match from_auth(conn, id, cx) {
        FromAuth::Open => {}
        FromAuth::Ended => return auth_ended(conn, cx),
        FromAuth::Broken => return Next::Close,
    }
    send_cancels(conn);
    if has_more(conn) {
        Next::Again
    } else {
        Next::Wait
    }
}

/// Whether a side has more to read than one turn's share, and its reader keeps up.
fn has_more(conn: &Conn) -> bool {
    match (&conn.role, &conn.upstream) {
        (Role::Relay(_), Upstream::Open(auth)) => {
            (conn.client.readable && !auth.is_slow()) || (auth.readable && !conn.client.is_slow())
        }
        (Role::Relay(_), _) => false,
        (Role::Authreply(_), _) => conn.client.readable && !conn.client.is_slow(),
        (Role::Notify, _) => conn.client.readable,
    }
}

fn watch_out(side: &mut Side, id: ConnId, upstream: bool, cx: &Context) {
    let wanted = !side.backlog.is_empty();
    if wanted == side.watches_out {
        return;
    }
    let interest = if wanted {
        Interest::StreamOut
    } else {
        Interest::Stream
    };
    if let Err(error) = cx.epoll.modify(side.fd(), id.token(upstream), interest) {
        tracing::error!("cannot change what is watched of a connection: {error}");
    }
    side.watches_out = wanted;
}

/// Client to auth: raw, but for the read-only tap. False: the client is gone.
fn from_client(conn: &mut Conn, socket: Socket, id: ConnId, cx: &mut Context) -> bool {
    if !matches!(conn.upstream, Upstream::Open(_)) && !dial(conn, socket, id, cx) {
        return false;
    }
    let Upstream::Open(auth) = &mut conn.upstream else {
        return true;
    };
    if auth.is_slow() {
        return true;
    }
    match conn.client.receive(&mut cx.scratch) {
        Read::End => false,
        Read::Empty => true,
        Read::Bytes(count) => {
            let bytes = &cx.scratch[..count];
            conn.tap.feed(bytes);
            // Auth being gone shows when it is read from; what it said last is passed on first.
            auth.send(bytes);
            true
        }
    }
}

/// Connects to auth, now that the client has said something. False: give the client up.
fn dial(conn: &mut Conn, socket: Socket, id: ConnId, cx: &mut Context) -> bool {
    match conn.upstream {
        // A client that leaves without a word costs auth nothing.
        Upstream::None if conn.client.hung_up && is_at_end(conn.client.fd()) => return false,
        Upstream::Dialling { next, .. } if next > cx.now => return true,
        _ => {}
    }
    let error = match cx.tunables.load().auth(socket).connect() {
        Ok(fd) => {
            let side = Side::new(fd);
            if let Err(error) = cx.epoll.add(side.fd(), id.token(true), Interest::Stream) {
                tracing::error!("cannot watch a connection to auth, closing it: {error}");
                return false;
            }
            conn.upstream = Upstream::Open(side);
            return true;
        }
        Err(error) => error,
    };
    let since = match conn.upstream {
        Upstream::Dialling { since, .. } => since,
        _ => cx.now,
    };
    let passing = matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::ConnectionRefused
    );
    if !passing || cx.now.since(since) >= DIAL_TOTAL_NANOS {
        cx.stats.dial_failures += 1;
        cx.report_dial_failure(socket, &error);
        return false;
    }
    let pause = DIAL_PAUSE_MIN_NANOS + cx.random() % (DIAL_PAUSE_MAX_NANOS - DIAL_PAUSE_MIN_NANOS);
    let next = Mono(cx.now.0 + pause);
    conn.upstream = Upstream::Dialling { since, next };
    cx.dials.insert((next, id), ());
    true
}

/// What reading from auth came to.
enum FromAuth {
    /// It may say more.
    Open,
    /// It has closed the connection.
    Ended,
    /// It sent a line that is too long.
    Broken,
}

/// Auth to client, line by line.
fn from_auth(conn: &mut Conn, id: ConnId, cx: &mut Context) -> FromAuth {
    let Upstream::Open(auth) = &mut conn.upstream else {
        return FromAuth::Open;
    };
    if !auth.readable || conn.client.is_slow() {
        return FromAuth::Open;
    }
    let count = match auth.receive(&mut cx.scratch) {
        Read::End => return FromAuth::Ended,
        Read::Empty => return FromAuth::Open,
        Read::Bytes(count) => count,
    };
    if lines_of_replies(conn, count, id, cx) {
        FromAuth::Open
    } else {
        FromAuth::Broken
    }
}

/// Handles `count` bytes of replies in the scratch buffer. False: a line was too long.
fn lines_of_replies(conn: &mut Conn, count: usize, id: ConnId, cx: &mut Context) -> bool {
    let socket = conn.socket();
    let scratch = std::mem::take(&mut cx.scratch);
    let mut replies = std::mem::take(&mut conn.replies);
    let mut answered = 0;
    let fed = replies.feed(&scratch[..count], MAX_LINE, |line| {
        match reply(line, conn, cx) {
            Line::Passed => {
                answered += settle(conn, id, cx);
                cx.out.extend_from_slice(line);
                cx.out.push(b'\n');
            }
            Line::Collected if cx.batch.is_full() => answered += settle(conn, id, cx),
            Line::Collected | Line::Kept => {}
        }
    });
    answered += settle(conn, id, cx);
    conn.replies = replies;
    cx.scratch = scratch;
    let mut out = std::mem::take(&mut cx.out);
    if !out.is_empty() {
        // A client that is gone shows when it is read from.
        conn.client.send(&out);
        out.clear();
    }
    cx.out = out;
    if answered > 0 {
        let nanos = clock::mono().since(cx.now);
        cx.stats.answered_at_once(socket, nanos, answered);
    }
    if let Err(error) = fed {
        cx.report_long_line(socket, error);
    }
    fed.is_ok()
}

/// Tells auth, between two lines of the client, to forget requests whose user logs in elsewhere.
fn send_cancels(conn: &mut Conn) {
    if conn.cancels.is_empty() || !conn.tap.at_boundary() {
        return;
    }
    let Upstream::Open(auth) = &mut conn.upstream else {
        return;
    };
    let mut lines = Vec::new();
    for id in conn.cancels.drain(..) {
        lines.extend_from_slice(b"CANCEL\t");
        push_number(u64::from(id), &mut lines);
        lines.push(b'\n');
        if conn.auth_minor < MINOR_THAT_CONFIRMS {
            continue;
        }
        if conn.cancelled.len() >= CANCELLED_MAX {
            conn.cancelled.pop_front();
        }
        conn.cancelled.push_back(id);
    }
    auth.send(&lines);
}

/// Replies that come from the client itself. False: the client is gone, or is none.
fn from_authreply_client(conn: &mut Conn, id: ConnId, cx: &mut Context) -> bool {
    if conn.client.is_slow() {
        return true;
    }
    match conn.client.receive(&mut cx.scratch) {
        Read::End => false,
        Read::Empty => true,
        Read::Bytes(count) => {
            lines_of_replies(conn, count, id, cx) && conn.role != Role::Authreply(Greeting::Refused)
        }
    }
}

/// Whether this is the first line that an authreply client must send.
pub fn is_authreply_version(line: &[u8]) -> bool {
    let mut fields = fields(line);
    fields.next() == Some(b"VERSION")
        && fields.next() == Some(b"director-authreply-client")
        && fields.next() == Some(b"1")
        && fields.next().is_some()
}

/// Keep-alive lines. False: the writer is gone.
fn from_notifier(conn: &mut Conn, cx: &mut Context) -> bool {
    let count = match read(conn.client.fd(), &mut cx.scratch) {
        Read::End => return false,
        Read::Empty => {
            conn.client.was_read(true);
            return true;
        }
        Read::Bytes(count) => count,
    };
    conn.client.was_read(count < cx.scratch.len());
    let scratch = std::mem::take(&mut cx.scratch);
    let skipped = conn
        .replies
        .feed_skipping(&scratch[..count], NOTIFY_MAX_LINE, |line| {
            cx.keep_alive(line);
        });
    cx.scratch = scratch;
    if skipped > 0 {
        cx.stats.keep_alives_skipped += skipped as u64;
        cx.report_long_notify_lines(skipped);
    }
    true
}

fn auth_ended(conn: &Conn, cx: &mut Context) -> Next {
    cx.stats.auth_lost += 1;
    cx.report_auth_ended(conn.socket());
    Next::Close
}
