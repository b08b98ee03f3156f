//! The admin protocol of a director, as far as the rig needs it.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::clock::PATIENCE;

const ANSWER_LIMIT: Duration = PATIENCE;

/// Runs one command that answers with rows, each split into its fields.
pub fn rows(socket: &Path, command: &str) -> Vec<Vec<String>> {
    try_rows(socket, command).expect("an admin answer")
}

/// [`rows`] of a director that may just be starting.
pub fn try_rows(socket: &Path, command: &str) -> io::Result<Vec<Vec<String>>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let request = format!("VERSION\tdirector-doveadm\t1\t0\n{command}\n");
    stream.write_all(request.as_bytes())?;
    let mut rows = Vec::new();
    for line in BufReader::new(stream).lines().skip(1) {
        // The first was the director's VERSION.
        let line = line?;
        if line.is_empty() {
            return Ok(rows);
        }
        rows.push(line.split('\t').map(str::to_owned).collect());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
