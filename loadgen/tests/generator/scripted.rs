//! A scripted director on an authreply socket: it answers what the test says.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use loadgen::{Amount, Plan, Report, Target, Users};

/// What to do with one request.
pub enum Answer {
    /// Send this line.
    Line(String),
    /// Wait, then send this line.
    Late(Duration, String),
    /// Say nothing.
    Nothing,
    /// Close the connection.
    Close,
}

/// The right reply.
pub fn right(id: &str, user: &str) -> String {
    let number: u32 = user.trim_start_matches("user").parse().unwrap();
    let host = number % 7 + 1;
    format!("OK\t{id}\tuser={user}\tproxy\tpass=pw\tproxy_refresh=450\thost=10.0.0.{host}")
}

/// A script: number of the request (over all connections, from 1), id, user.
type Script = fn(u64, &str, &str) -> Answer;

/// Listens until the test ends. One thread, one connection at a time.
pub fn director(directory: &Path, script: Script) -> PathBuf {
    let path = directory.join("authreply");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let mut number = 0;
        for stream in listener.incoming() {
            // The generator has gone: not this side's concern.
            let _ = converse(stream.unwrap(), script, &mut number);
        }
    });
    path
}

fn converse(mut stream: UnixStream, script: Script, number: &mut u64) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"VERSION\tdirector-authreply-server\t1\t0\n")?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    assert_eq!(
        lines.next().unwrap()?,
        "VERSION\tdirector-authreply-client\t1\t0"
    );
    for line in lines {
        let line = line?;
        let mut fields = line.split('\t').skip(1);
        let (id, user) = (fields.next().unwrap(), fields.next().unwrap());
        *number += 1;
        let text = match script(*number, id, user.strip_prefix("user=").unwrap()) {
            Answer::Line(text) => text,
            Answer::Late(time, text) => {
                std::thread::sleep(time);
                text
            }
            Answer::Nothing => continue,
            Answer::Close => return Ok(()),
        };
        stream.write_all(format!("{text}\n").as_bytes())?;
    }
    Ok(())
}

/// 2,000 lookups of 50 users on one connection.
pub fn plan(path: &Path) -> Plan {
    Plan {
        connections: 1,
        in_flight: 8,
        users: Users::Known {
            count: 50,
            preload: true,
        },
        amount: Amount::Lookups(2000),
        warm_up: Duration::ZERO,
        time_limit: Duration::from_secs(60),
        // Longer than a busy machine takes.
        reply_timeout: Duration::from_secs(10),
        ..Plan::new(Target::Authreply(path.to_owned()))
    }
}

/// Runs [`plan`] against a scripted director.
pub fn run(script: Script) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let path = director(directory.path(), script);
    loadgen::run(&plan(&path), |_| {}).unwrap()
}
