//! An auth server that lets anyone in, for tests that ask a director without a login process.
//!
//! It speaks the auth client protocol 1.2. The user's name is what the request has as `session=`,
//! its tag is what it has as `local_name=`, both taken as they are; no SASL needs to be made up.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

const GREETING: &[u8] = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\n\
    COOKIE\t0123456789abcdef0123456789abcdef\nDONE\n";
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The stub; it listens until the test program ends.
pub struct StubAuth;

impl StubAuth {
    /// Listens on `path`.
    pub fn start(path: &Path) {
        let listener = UnixListener::bind(path).expect("a socket for the stub auth");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // An error is a director that has gone.
                thread::spawn(move || serve(&stream));
            }
        });
    }

    /// Asks the director at `socket` where users live: names with tags, all on one connection.
    /// Returns the `host=` of each answer, `None` for a failure.
    pub fn ask(socket: &Path, users: &[(&[u8], &str)]) -> Vec<Option<String>> {
        let mut stream = UnixStream::connect(socket).expect("the director's login socket");
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .expect("a time limit");
        stream
            .write_all(b"VERSION\t1\t2\nCPID\t4711\n")
            .expect("a handshake");
        let writer = stream.try_clone().expect("dup");
        thread::scope(|scope| {
            scope.spawn(move || write_requests(writer, users));
            read_answers(stream, users.len())
        })
    }
}

fn serve(mut stream: &UnixStream) -> std::io::Result<()> {
    stream.write_all(GREETING)?;
    for line in BufReader::new(stream).split(b'\n') {
        let line = line?;
        if let Some(request) = line.strip_prefix(b"AUTH\t") {
            stream.write_all(&reply(request))?;
        }
        if line.starts_with(b"LIST\t1\t") {
            for number in 0..20 {
                writeln!(stream, "LIST\t1\tuser{number}")?;
            }
            stream.write_all(b"DONE\t1\t\n")?;
        }
    }
    Ok(())
}

/// `OK` with the fields that a proxying passdb gives.
fn reply(request: &[u8]) -> Vec<u8> {
    let mut fields = request.split(|byte| *byte == b'\t');
    let id = fields.next().unwrap_or_default();
    let (mut name, mut tag): (&[u8], &[u8]) = (b"", b"");
    for field in fields {
        name = field.strip_prefix(b"session=").unwrap_or(name);
        tag = field.strip_prefix(b"local_name=").unwrap_or(tag);
    }
    let mut line = [b"OK\t", id, b"\tuser=", name, b"\tproxy"].concat();
    if !tag.is_empty() {
        line.extend([b"\tdirector_tag=", tag].concat());
    }
    line.push(b'\n');
    line
}

fn write_requests(mut stream: UnixStream, users: &[(&[u8], &str)]) {
    let mut requests = Vec::new();
    for (index, (name, tag)) in users.iter().enumerate() {
        let id = (index + 1).to_string();
        let head: [&[u8]; 4] = [
            b"AUTH\t",
            id.as_bytes(),
            b"\tPLAIN\tservice=imap\tsession=",
            name,
        ];
        requests.extend(head.concat());
        if !tag.is_empty() {
            requests.extend([b"\tlocal_name=", tag.as_bytes()].concat());
        }
        requests.extend(b"\tresp=AHgAeA==\n");
    }
    stream.write_all(&requests).expect("requests");
}

fn read_answers(stream: UnixStream, count: usize) -> Vec<Option<String>> {
    let mut hosts = vec![None; count];
    let mut missing = count;
    let mut lines = BufReader::new(stream).split(b'\n');
    while missing > 0 {
        let line = lines
            .next()
            .expect("the director stays")
            .expect("an answer in time");
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut fields = line.split('\t');
        let kind = fields.next();
        if !matches!(kind, Some("OK" | "FAIL")) {
            continue; // the handshake
        }
        let id: usize = fields.next().and_then(|id| id.parse().ok()).expect("an id");
        let host = fields.rev().find_map(|field| field.strip_prefix("host="));
        hosts[id - 1] = host.map(str::to_owned);
        missing -= 1;
    }
    hosts
}
