//! Which user names there are: a file, or auth's list of its users
//! (docs/protocol/admin.md, names of users).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::failure::Failure;
use super::place::Source;
use crate::wire::line::{fields, unescape};

/// Most names: far more than a directory of users has; each costs its bytes and a vector.
const MAX_NAMES: usize = 100_000_000;
/// Longest name, and longest line of auth.
const MAX_LINE: u64 = 8192;
/// A large directory may think for a while before its first user.
const LIMIT: Duration = Duration::from_secs(60);

/// The names of a file (`-` is standard input), or those that auth lists.
pub(super) fn read(file: Option<&Path>, source: &Source<'_>) -> Result<Vec<Vec<u8>>, Failure> {
    match file {
        Some(path) => {
            let read = if path == Path::new("-") {
                of_lines(io::stdin().lock())
            } else {
                File::open(path).and_then(|file| of_lines(BufReader::new(file)))
            };
            read.map_err(|error| Failure::temporary(format!("{}: {error}", path.display())))
        }
        None => {
            let socket = source.auth_userdb()?;
            let stream = UnixStream::connect(&socket).and_then(|stream| {
                stream.set_read_timeout(Some(LIMIT))?;
                Ok(stream)
            });
            stream.and_then(of_auth).map_err(|error| {
                let socket = socket.display();
                Failure::temporary(format!("auth cannot list the users ({socket}): {error}"))
            })
        }
    }
}

/// One name on each line; empty lines are none.
fn of_lines(mut reader: impl BufRead) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    while let Some(line) = next_line(&mut reader)? {
        if !line.is_empty() {
            keep(&mut names, line)?;
        }
    }
    Ok(names)
}

/// Asks auth's master socket for all users.
fn of_auth(mut stream: impl Read + Write) -> io::Result<Vec<Vec<u8>>> {
    stream.write_all(b"VERSION\t1\t0\nLIST\t1\tservice=director\n")?;
    let mut reader = BufReader::new(stream);
    let mut names = Vec::new();
    while let Some(line) = next_line(&mut reader)? {
        let mut fields = fields(&line);
        match (fields.next(), fields.next(), fields.next()) {
            (Some(b"LIST"), Some(b"1"), Some(name)) => keep(&mut names, unescape(name).into())?,
            (Some(b"DONE"), Some(b"1"), None | Some(b"")) => return Ok(names),
            (Some(b"DONE"), Some(b"1"), Some(_)) => {
                return Err(io::Error::other("its userdb cannot list users"));
            }
            _ => {}
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn keep(names: &mut Vec<Vec<u8>>, name: Vec<u8>) -> io::Result<()> {
    if names.len() == MAX_NAMES {
        return Err(io::Error::other(format!("more than {MAX_NAMES} names")));
    }
    names.push(name);
    Ok(())
}

/// A line without its end; `None` at the end of all.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
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
    fn a_file_has_a_name_on_each_line() {
        let names = of_lines(&b"alice\r\n\nbob@example\nlast"[..]).expect("names");
        assert_eq!(names, [&b"alice"[..], b"bob@example", b"last"]);
        let long = vec![b'a'; MAX_LINE as usize];
        assert!(of_lines(&long[..]).is_err());
    }

    #[test]
    fn auth_lists_its_users() {
        let list = |said: &[u8]| of_auth(Auth(said, Vec::new()));
        let said = b"VERSION\t1\t1\nSPID\t7\nLIST\t1\tal\x01tice\nLIST\t1\tbob\nDONE\t1\t\n";
        assert_eq!(list(said).expect("names"), [&b"al\tice"[..], b"bob"]);
        let refused = list(b"VERSION\t1\t1\nDONE\t1\tfail\n").unwrap_err();
        assert_eq!(refused.to_string(), "its userdb cannot list users");
        assert!(list(b"LIST\t1\talice\n").is_err());
    }
}
