//! The admin protocol of a director, as far as the rig needs it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const ANSWER_LIMIT: Duration = Duration::from_secs(40);

/// Runs one command that answers with rows, each split into its fields.
pub fn rows(socket: &Path, command: &str) -> Vec<Vec<String>> {
    let mut stream = UnixStream::connect(socket).expect("an admin socket");
    stream
        .set_read_timeout(Some(ANSWER_LIMIT))
        .expect("a time limit");
    let request = format!("VERSION\tdirector-doveadm\t1\t0\n{command}\n");
    stream
        .write_all(request.as_bytes())
        .expect("an admin command");
    let lines = BufReader::new(stream).lines().skip(1); // the first is the director's VERSION
    lines
        .map(|line| line.expect("an admin answer"))
        .take_while(|line| !line.is_empty())
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}
