//! Which user names there are: a file, or auth's list of its users
//! (docs/protocol/admin.md, names of users).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::failure::Failure;
use super::place::Source;
use crate::shell::auth_users::{self, next_line};

/// Most names: far more than a directory of users has; each costs its bytes and a vector.
const MAX_NAMES: usize = 100_000_000;

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
            let mut names = Vec::new();
            let listed = auth_users::each(&socket, |name| keep(&mut names, name.to_owned()));
            listed.map(|()| names).map_err(|error| {
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

fn keep(names: &mut Vec<Vec<u8>>, name: Vec<u8>) -> io::Result<()> {
    if names.len() == MAX_NAMES {
        return Err(io::Error::other(format!("more than {MAX_NAMES} names")));
    }
    names.push(name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_name_on_each_line() {
        let names = of_lines(&b"alice\r\n\nbob@example\nlast"[..]).expect("names");
        assert_eq!(names, [&b"alice"[..], b"bob@example", b"last"]);
        let long = vec![b'a'; 8192];
        assert!(of_lines(&long[..]).is_err());
    }
}
