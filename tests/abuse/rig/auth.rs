//! Auth servers: one that answers what the request tells it to, and bare listeners for tests that
//! play auth by hand.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Peer, wait_for};

/// What it says first.
pub const GREETING: &str =
    "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t7\nCUID\t1\nCOOKIE\t00\nDONE\n";

/// A listener at `path`; whatever was there is removed.
pub fn listen(path: &Path) -> Listener {
    let listener = replace(path);
    listener.set_nonblocking(true).unwrap();
    Listener(listener)
}

/// A listener in the place of what was at `path`: there is always one or the other.
fn replace(path: &Path) -> UnixListener {
    let new = path.with_extension("new");
    let listener = UnixListener::bind(&new).unwrap();
    std::fs::rename(&new, path).unwrap();
    listener
}

pub struct Listener(pub UnixListener);

impl Listener {
    /// The next connection.
    pub fn accept(&self) -> Peer {
        wait_for("a connection to auth", || self.poll())
    }

    /// A connection, if one is waiting.
    pub fn poll(&self) -> Option<Peer> {
        self.0.accept().ok().map(|(stream, _)| Peer::new(stream))
    }
}

/// Answers `AUTH <id> … say=<fields>` with `OK <id> <fields>`, with TAB for `|`; a `say=` that
/// begins with `FAIL` or `CONT` is sent as that. `PASS <id> <user>` gets `PASS <id> user=<user>
/// proxy=y`. Its threads end with their connections, and with the test program.
pub struct EchoAuth;

impl EchoAuth {
    /// Serves the auth client protocol at `path`, and the master protocol if `userdb`.
    pub fn spawn(path: &Path, userdb: bool) -> EchoAuth {
        EchoAuth::limited(path, userdb, usize::MAX)
    }

    /// As [`EchoAuth::spawn`], but more than `most` connections at a time are turned away.
    pub fn limited(path: &Path, userdb: bool, most: usize) -> EchoAuth {
        let listener = replace(path);
        let open = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if open.fetch_add(1, Ordering::SeqCst) >= most {
                    open.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                let open = Arc::clone(&open);
                thread::spawn(move || {
                    // An error means that the other side has gone.
                    let _ = serve(stream, userdb);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        EchoAuth
    }
}

fn serve(mut stream: UnixStream, userdb: bool) -> std::io::Result<()> {
    let greeting = if userdb {
        "VERSION\t1\t1\nSPID\t7\n"
    } else {
        GREETING
    };
    stream.write_all(greeting.as_bytes())?;
    let mut unread = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        unread.extend_from_slice(&buffer[..count]);
        let Some(last) = unread.iter().rposition(|&byte| byte == b'\n') else {
            continue;
        };
        let complete: Vec<u8> = unread.drain(..=last).collect();
        let mut out = Vec::new();
        for line in complete[..last].split(|&byte| byte == b'\n') {
            answer(&String::from_utf8_lossy(line), &mut out);
        }
        stream.write_all(&out)?;
    }
}

fn answer(line: &str, out: &mut Vec<u8>) {
    let mut fields = line.split('\t');
    let (word, id) = (fields.next(), fields.next().unwrap_or_default());
    let text = match word {
        Some("AUTH") => {
            let say = fields.find_map(|field| field.strip_prefix("say="));
            let say = say.unwrap_or_default().replace('|', "\t");
            match say.split_once('\t') {
                Some((word @ ("FAIL" | "CONT"), rest)) => format!("{word}\t{id}\t{rest}\n"),
                _ => format!("OK\t{id}\t{say}\n"),
            }
        }
        Some("PASS") => {
            let user = fields.next().unwrap_or_default();
            format!("PASS\t{id}\tuser={user}\tproxy=y\n")
        }
        _ => return,
    };
    out.extend_from_slice(text.as_bytes());
}
