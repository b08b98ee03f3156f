//! One connection to a director. A request is sent only when the reply to the one before has come:
//! Dovecot throws away lines that wait behind a command (docs/protocol/admin.md, waiting).

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::failure::Failure;
use super::place::Place;
use crate::wire::admin::read::{self, Host, Unexpected};
use crate::wire::admin::{Command, GREETING, MAX_LINE, Reply, User};

/// A director greets at once; one that is just being started by Dovecot's master, soon.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// A command may wait 30 s to run and 30 s more for its OK (docs/protocol/admin.md, waiting).
const REPLY_LIMIT: Duration = Duration::from_secs(70);
/// Longest line of a director; its longest rows have a tag or the words of an error.
const MAX_ROW: u64 = 8192;
/// Most rows of a list: more users than fit into the memory of a director.
const MAX_ROWS: usize = 100_000_000;

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    fn limit(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_read_timeout(limit),
            Stream::Tcp(stream) => stream.set_read_timeout(limit),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tcp(stream) => stream.write_all(bytes),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(bytes),
            Stream::Tcp(stream) => stream.read(bytes),
        }
    }
}

/// A director that has greeted.
pub(super) struct Client {
    stream: BufReader<Stream>,
    place: Place,
}

/// What came instead of one of the replies that a command has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A reply of the protocol.
    Known(Reply),
    /// Other words.
    Other(String),
}

impl Answer {
    /// The director's words.
    pub(super) fn text(&self) -> &str {
        match self {
            Answer::Known(reply) => reply.text(),
            Answer::Other(text) => text,
        }
    }
}

impl Client {
    /// Connects and exchanges greetings.
    pub(super) fn connect(place: Place) -> Result<Client, Failure> {
        let stream = dial(&place).map_err(|error| cannot_connect(&place, &error))?;
        let mut client = Client {
            stream: BufReader::with_capacity(1 << 16, stream),
            place,
        };
        client.limit(Some(GREETING_LIMIT))?;
        client.send(GREETING)?;
        let Some(line) = client.line()? else {
            let what = "disconnected before it had greeted: see its log";
            return Err(Failure::temporary(format!("{} {what}", client.place)));
        };
        if !is_greeting(&line) {
            return Err(Failure::protocol(format!(
                "{} is not the admin socket of a director: it says \"{}\"",
                client.place,
                line[..line.len().min(64)].escape_ascii()
            )));
        }
        client.limit(Some(REPLY_LIMIT))?;
        Ok(client)
    }

    /// Where it is connected to.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// One command that has a reply of one line.
    pub(super) fn request(&mut self, command: &Command<'_>) -> Result<Answer, Failure> {
        let line = self.ask(command)?;
        Ok(match read::reply(&line) {
            Some(reply) => Answer::Known(reply),
            None => Answer::Other(String::from_utf8_lossy(&line).into_owned()),
        })
    }

    /// One command, and the first line of what comes back.
    pub(super) fn ask(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Failure> {
        // It ends when every user of its backends has been looked at, and at most so many move at
        // a time: hours in a large installation.
        let endless = matches!(command, Command::HostResetUsers { .. });
        if endless {
            self.limit(None)?;
        }
        self.say(command)?;
        let line = self.line()?.ok_or_else(|| self.hung_up(command.word()))?;
        if endless {
            self.limit(Some(REPLY_LIMIT))?;
        }
        Ok(line)
    }

    /// One command that has a list of rows.
    pub(super) fn rows<T>(
        &mut self,
        command: &Command<'_>,
        read: impl Fn(&[u8]) -> Result<T, Unexpected>,
    ) -> Result<Vec<T>, Failure> {
        self.say(command)?;
        let mut rows = Vec::new();
        loop {
            let line = self.line()?.ok_or_else(|| self.hung_up(command.word()))?;
            if line.is_empty() {
                return Ok(rows);
            }
            if rows.len() == MAX_ROWS {
                let what = format!("more than {MAX_ROWS} rows of {}", command.word());
                return Err(Failure::protocol(format!("{}: {what}", self.place)));
            }
            let row = read(&line).map_err(|error| self.unexpected(&error))?;
            rows.push(row);
        }
    }

    /// The backends.
    pub(super) fn hosts(&mut self) -> Result<Vec<Host>, Failure> {
        self.rows(&Command::HostList, read::host)
    }

    /// Whether it is a Homing. Any director is asked in words that it understands
    /// (docs/protocol/admin.md, questions to homing only).
    pub(super) fn is_homing(&mut self) -> Result<bool, Failure> {
        let nobody = Command::UserLookup {
            user: User::Hash(0),
            tag: Cow::Borrowed(b""),
            why: true,
        };
        Ok(!read::facts(&self.ask(&nobody)?).is_empty())
    }

    /// The director said something that no director says.
    pub(super) fn unexpected(&self, error: &Unexpected) -> Failure {
        Failure::protocol(format!("{}: {error}", self.place))
    }

    fn say(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let mut line = Vec::new();
        command.write(&mut line);
        if line.len() > MAX_LINE {
            return Err(Failure::usage(format!(
                "{}: with its arguments {} bytes, and a director reads at most {MAX_LINE}",
                command.word(),
                line.len()
            )));
        }
        self.send(&line)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = self.stream.get_mut().write_all(bytes);
        sent.map_err(|error| Failure::temporary(format!("{}: {error}", self.place)))
    }

    /// The next line without its end; `None`: the director has closed the connection.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        let read = (&mut self.stream)
            .take(MAX_ROW)
            .read_until(b'\n', &mut line);
        match read {
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                Ok(Some(line))
            }
            Ok(read) if read as u64 == MAX_ROW => Err(Failure::protocol(format!(
                "{}: a line of more than {MAX_ROW} bytes",
                self.place
            ))),
            // What was begun and not ended is no line.
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) if is_timeout(&error) => Err(Failure::temporary(format!(
                "{} does not answer: is it the admin socket of a director, and does that run?",
                self.place
            ))),
            Err(error) => Err(Failure::temporary(format!("{}: {error}", self.place))),
        }
    }

    fn limit(&self, limit: Option<Duration>) -> Result<(), Failure> {
        let set = self.stream.get_ref().limit(limit);
        set.map_err(|error| Failure::temporary(format!("{}: {error}", self.place)))
    }

    fn hung_up(&self, word: &str) -> Failure {
        Failure::temporary(format!(
            "{} hung up on {word}: the director has ended, or does not take the arguments; its log says why",
            self.place
        ))
    }
}

fn dial(place: &Place) -> io::Result<Stream> {
    match place {
        Place::Unix(path) => UnixStream::connect(path).map(Stream::Unix),
        Place::Tcp { addresses, .. } => {
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in addresses {
                match TcpStream::connect_timeout(address, GREETING_LIMIT) {
                    Ok(stream) => {
                        // A flush may wait for hours for a machine that is gone.
                        socket2::SockRef::from(&stream).set_keepalive(true)?;
                        return Ok(Stream::Tcp(stream));
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

fn cannot_connect(place: &Place, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            "; does the director run? -a names another socket, -c the director's settings file"
        }
        io::ErrorKind::PermissionDenied => "; only the socket's owner may use it, usually root",
        io::ErrorKind::ConnectionRefused => "; nobody listens there: does the director run?",
        _ => "",
    };
    Failure::temporary(format!("cannot connect to {place}: {error}{hint}"))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn is_greeting(line: &[u8]) -> bool {
    crate::wire::admin::handshake(line).is_ok()
}
