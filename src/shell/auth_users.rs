//! Which users auth has: its userdb is asked to list them (docs/protocol/admin.md, names of users).

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::wire::line::{fields, unescape};

/// Longest line of auth.
const MAX_LINE: u64 = 8192;
/// A large directory may think for a while before its first user.
const LIMIT: Duration = Duration::from_secs(60);

/// Tells the name of each user that auth's master socket lists. Waits for auth a minute at most at a time.
///
/// # Errors
/// Auth cannot be reached, takes too long, or its userdb cannot list users; or `tell` wants no more.
pub fn each(socket: &Path, tell: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    list(stream, tell)
}

fn list(
    mut stream: impl Read + Write,
    mut tell: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    stream.write_all(b"VERSION\t1\t0\nLIST\t1\tservice=director\n")?;
    let mut reader = BufReader::new(stream);
    while let Some(line) = next_line(&mut reader)? {
        let mut fields = fields(&line);
        match (fields.next(), fields.next(), fields.next()) {
            (Some(b"LIST"), Some(b"1"), Some(name)) => tell(&unescape(name))?,
            (Some(b"DONE"), Some(b"1"), None | Some(b"")) => return Ok(()),
            (Some(b"DONE"), Some(b"1"), Some(_)) => {
                return Err(io::Error::other("its userdb cannot list users"));
            }
            _ => {}
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// A line without its end; `None` at the end of all.
///
/// # Errors
/// It is longer than any name, or cannot be read.
pub fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if reader.take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if line.len() as u64 == MAX_LINE {
        let what = format!("a line of more than {MAX_LINE} bytes");
        return Err(io::Error::other(what));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What auth says, and what it was told.
    struct Auth<'a>(&'a [u8], Vec<u8>);

    impl Read for Auth<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.0.read(bytes)
        }
    }

    impl Write for Auth<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn auth_lists_its_users() {
        let listed = |said: &[u8]| {
            let mut names = Vec::new();
            let keep = |name: &[u8]| {
                names.push(name.to_vec());
                Ok(())
            };
            list(Auth(said, Vec::new()), keep).map(|()| names)
        };
        let said = b"VERSION\t1\t1\nSPID\t7\nLIST\t1\tal\x01tice\nLIST\t1\tbob\nDONE\t1\t\n";
        assert_eq!(listed(said).expect("names"), [&b"al\tice"[..], b"bob"]);
        let refused = listed(b"VERSION\t1\t1\nDONE\t1\tfail\n").unwrap_err();
        assert_eq!(refused.to_string(), "its userdb cannot list users");
        assert!(listed(b"LIST\t1\talice\n").is_err());
    }
}
