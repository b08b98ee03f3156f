//! What is said to a backend to find out whether it works, without sockets: bytes in, acts out.
//!
//! Every dialogue waits for the greeting. Without a login it then sends NOOP and waits for the answer, so that
//! a server that greets and then hangs is found out. With one it logs in, and over IMAP opens INBOX as well,
//! read only: POP3 opens it with the login. It says goodbye, and does not wait for the answer.

use std::sync::Arc;

use memchr::memchr;
use zeroize::Zeroizing;

/// What a check speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing: a connection is enough.
    Tcp,
    /// IMAP.
    Imap,
    /// POP3.
    Pop3,
    /// LMTP.
    Lmtp,
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// By SASL PLAIN.
    Plain,
    /// By the protocol's own command: LOGIN of IMAP, USER and PASS of POP3.
    Login,
}

/// Whom to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// Its password, without NUL, CR and LF.
    pub password: Zeroizing<Vec<u8>>,
    /// How.
    pub mechanism: Mechanism,
}

/// Nothing of the password.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({:?}, {:?})", self.user, self.mechanism)
    }
}

/// What the driver is to do.
#[derive(Clone, PartialEq, Eq)]
pub enum Act {
    /// Send this; it may hold a password.
    Send(Zeroizing<Vec<u8>>),
    /// Begin TLS; nothing plain comes any more.
    StartTls,
    /// The backend works. To be sent before closing, if it goes: a goodbye.
    Done(&'static [u8]),
}

impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Act::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Act::StartTls => f.write_str("StartTls"),
            Act::Done(_) => f.write_str("Done"),
        }
    }
}

/// Longest line of a backend. Dovecot's greeting has its capabilities in it, some 300 bytes.
const MAX_LINE: usize = 8192;
/// Most bytes of a backend in one stage.
const MAX_STAGE: usize = 64 * 1024;
/// As much of a backend's words is shown.
const SHOWN: usize = 120;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    /// The answer to LMTP's LHLO.
    Hello,
    /// The answer to STARTTLS or STLS.
    StartTls,
    /// TLS; see [`Dialogue::secured`].
    Tls,
    /// The answer to NOOP.
    Alive,
    /// That credentials may follow.
    Challenge,
    /// Of POP3's USER.
    User,
    /// The answer to the login.
    Login,
    /// The answer to EXAMINE.
    Inbox,
    Done,
}

/// One conversation.
#[derive(Debug)]
pub struct Dialogue {
    protocol: Protocol,
    login: Option<Arc<Login>>,
    wants_tls: bool,
    stage: Stage,
    input: Vec<u8>,
    /// Bytes of this stage.
    read: usize,
}

type Acts = Result<Vec<Act>, String>;

impl Dialogue {
    /// `starttls`: TLS is to be asked for. With TLS from the first byte on it begins inside.
    pub fn new(protocol: Protocol, starttls: bool, login: Option<Arc<Login>>) -> Dialogue {
        Dialogue {
            protocol,
            login,
            wants_tls: starttls,
            stage: Stage::Greeting,
            input: Vec::new(),
            read: 0,
        }
    }

    /// The connection is there, and TLS if it is to be there from the first byte on.
    pub fn connected(&mut self) -> Vec<Act> {
        match self.protocol {
            Protocol::Tcp => self.done(b""),
            _ => Vec::new(),
        }
    }

    /// TLS has begun, after [`Act::StartTls`].
    pub fn secured(&mut self) -> Vec<Act> {
        if self.stage != Stage::Tls {
            return Vec::new();
        }
        match self.protocol {
            Protocol::Lmtp => self.say(Stage::Hello, LHLO),
            _ => self.after_greeting(),
        }
    }

    /// What is waited for, to be said when it does not come.
    pub fn waits_for(&self) -> &'static str {
        match self.stage {
            Stage::Greeting => "no greeting",
            Stage::Hello => "no answer to LHLO",
            Stage::StartTls => "no answer to STARTTLS",
            Stage::Tls => "TLS does not begin",
            Stage::Alive => "a greeting, and no answer to NOOP",
            Stage::Challenge | Stage::User | Stage::Login => "no answer to the login",
            Stage::Inbox => "a login, and no answer to EXAMINE INBOX",
            Stage::Done => "nothing is missing",
        }
    }

    /// Bytes of the backend.
    ///
    /// # Errors
    /// Why the backend does not work, as the end of a sentence about it.
    pub fn receive(&mut self, bytes: &[u8]) -> Acts {
        if matches!(self.stage, Stage::Done) {
            return Ok(Vec::new());
        }
        self.read = self.read.saturating_add(bytes.len());
        if self.read > MAX_STAGE {
            return Err(format!(
                "{}, but more than {MAX_STAGE} bytes",
                self.waits_for()
            ));
        }
        self.input.extend_from_slice(bytes);
        let mut acts = Vec::new();
        while let Some(end) = memchr(b'\n', &self.input) {
            let rest = self.input.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.input, rest);
            while line
                .last()
                .is_some_and(|last| matches!(last, b'\n' | b'\r'))
            {
                line.pop();
            }
            acts.extend(self.line(&line)?);
            if self.stage == Stage::Tls && !self.input.is_empty() {
                // Whoever can put words between could have them taken for the server's.
                return Err("it goes on in plain after its answer to STARTTLS".to_owned());
            }
            if matches!(self.stage, Stage::Done | Stage::Tls) {
                return Ok(acts);
            }
        }
        if self.input.len() >= MAX_LINE {
            return Err(format!("a line of more than {MAX_LINE} bytes"));
        }
        Ok(acts)
    }

    fn line(&mut self, line: &[u8]) -> Acts {
        match self.protocol {
            Protocol::Tcp => Ok(Vec::new()),
            Protocol::Imap => self.imap(line),
            Protocol::Pop3 => self.pop3(line),
            Protocol::Lmtp => self.lmtp(line),
        }
    }

    fn imap(&mut self, line: &[u8]) -> Acts {
        if self.stage == Stage::Greeting {
            return match starts(line, b"* OK") || starts(line, b"* PREAUTH") {
                true => Ok(self.after_greeting()),
                false => Err(format!("it greets with {}", shown(line))),
            };
        }
        if starts(line, b"* BYE") {
            return Err(format!("it ends the session: {}", shown(line)));
        }
        if self.stage == Stage::Challenge && line.first() == Some(&b'+') {
            return Ok(self.credentials());
        }
        let Some(rest) = line.strip_prefix(TAG) else {
            // Whatever it tells meanwhile.
            return Ok(Vec::new());
        };
        self.answered(starts(rest, b"OK"), line)
    }

    fn pop3(&mut self, line: &[u8]) -> Acts {
        match self.stage {
            Stage::Greeting if starts(line, b"+OK") => Ok(self.after_greeting()),
            Stage::Greeting => Err(format!("it greets with {}", shown(line))),
            // Not a command before the login: that it answers is what counts.
            Stage::Alive if starts(line, b"+OK") || starts(line, b"-ERR") => {
                self.answered(true, line)
            }
            Stage::Challenge if line.first() == Some(&b'+') && !starts(line, b"+OK") => {
                Ok(self.credentials())
            }
            Stage::User if starts(line, b"+OK") => {
                let login = self.login.clone();
                let mut pass = wiped(b"PASS ");
                pass.extend_from_slice(login.as_ref().map_or(&[], |it| &it.password));
                pass.extend_from_slice(b"\r\n");
                Ok(self.send(Stage::Login, pass))
            }
            _ => self.answered(starts(line, b"+OK"), line),
        }
    }

    fn lmtp(&mut self, line: &[u8]) -> Acts {
        let is_last = line.get(3) != Some(&b'-');
        if !is_last {
            return Ok(Vec::new());
        }
        let good = line.first() == Some(&b'2');
        match (self.stage, good) {
            (Stage::Greeting, true) => Ok(self.say(Stage::Hello, LHLO)),
            (Stage::Greeting, false) => Err(format!("it greets with {}", shown(line))),
            (Stage::Hello, true) => Ok(self.after_greeting()),
            (_, good) => self.answered(good, line),
        }
    }

    /// The server is there, and may be asked for something.
    fn after_greeting(&mut self) -> Vec<Act> {
        if std::mem::take(&mut self.wants_tls) {
            return self.say(
                Stage::StartTls,
                match self.protocol {
                    Protocol::Imap => b"h STARTTLS\r\n",
                    Protocol::Pop3 => b"STLS\r\n",
                    Protocol::Tcp | Protocol::Lmtp => b"STARTTLS\r\n",
                },
            );
        }
        let Some(login) = self.login.clone() else {
            return self.say(
                Stage::Alive,
                match self.protocol {
                    Protocol::Imap => b"h NOOP\r\n",
                    _ => b"NOOP\r\n",
                },
            );
        };
        match (self.protocol, login.mechanism) {
            (Protocol::Imap, Mechanism::Plain) => {
                self.say(Stage::Challenge, b"h AUTHENTICATE PLAIN\r\n")
            }
            (Protocol::Pop3, Mechanism::Plain) => self.say(Stage::Challenge, b"AUTH PLAIN\r\n"),
            (Protocol::Pop3, Mechanism::Login) => {
                let mut user = wiped(b"USER ");
                user.extend_from_slice(login.user.as_bytes());
                user.extend_from_slice(b"\r\n");
                self.send(Stage::User, user)
            }
            _ => {
                let mut command = wiped(b"h LOGIN ");
                quote(login.user.as_bytes(), &mut command);
                command.push(b' ');
                quote(&login.password, &mut command);
                command.extend_from_slice(b"\r\n");
                self.send(Stage::Login, command)
            }
        }
    }

    fn credentials(&mut self) -> Vec<Act> {
        let mut plain = wiped(b"\0");
        if let Some(login) = &self.login {
            plain.extend_from_slice(login.user.as_bytes());
            plain.push(0);
            plain.extend_from_slice(&login.password);
        }
        let mut line = wiped(b"");
        base64(&plain, &mut line);
        line.extend_from_slice(b"\r\n");
        self.send(Stage::Login, line)
    }

    /// The answer to the last command.
    fn answered(&mut self, good: bool, line: &[u8]) -> Acts {
        if !good {
            let what = match self.stage {
                Stage::StartTls => "it refuses STARTTLS",
                Stage::Challenge | Stage::User | Stage::Login => "it refuses the login",
                Stage::Inbox => "it does not open INBOX",
                _ => "it answers",
            };
            return Err(format!("{what}: {}", shown(line)));
        }
        Ok(match (self.stage, self.protocol) {
            (Stage::StartTls, _) => {
                self.stage = Stage::Tls;
                self.read = 0;
                vec![Act::StartTls]
            }
            (Stage::Login, Protocol::Imap) => self.say(Stage::Inbox, b"h EXAMINE INBOX\r\n"),
            (Stage::Alive | Stage::Inbox, Protocol::Imap) => self.done(b"h LOGOUT\r\n"),
            (Stage::Alive | Stage::Login | Stage::Inbox, _) => self.done(b"QUIT\r\n"),
            _ => return Err(format!("it answers out of turn: {}", shown(line))),
        })
    }

    fn say(&mut self, next: Stage, command: &[u8]) -> Vec<Act> {
        self.send(next, wiped(command))
    }

    fn send(&mut self, next: Stage, bytes: Zeroizing<Vec<u8>>) -> Vec<Act> {
        self.stage = next;
        self.read = 0;
        vec![Act::Send(bytes)]
    }

    fn done(&mut self, goodbye: &'static [u8]) -> Vec<Act> {
        self.stage = Stage::Done;
        vec![Act::Done(goodbye)]
    }
}

const TAG: &[u8] = b"h ";
const LHLO: &[u8] = b"LHLO homing.invalid\r\n";

/// With room for every command, so that a buffer that grows leaves no password behind.
fn wiped(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut all = Zeroizing::new(Vec::with_capacity(8 * 1024));
    all.extend_from_slice(bytes);
    all
}

fn starts(line: &[u8], with: &[u8]) -> bool {
    line.get(..with.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(with))
}

fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// As rustc's own standard library has none, and the product's only use of it is this line.
fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for part in bytes.chunks(3) {
        let mut group = [0u8; 3];
        group[..part.len()].copy_from_slice(part);
        let number = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for at in 0..4 {
            let digit = (number >> (18 - 6 * at)) & 63;
            out.push(if at <= part.len() {
                DIGITS[digit as usize]
            } else {
                b'='
            });
        }
    }
}

/// A backend's words in a log and in a table.
pub(super) fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim();
    let plain = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let short: String = plain.take(SHOWN).collect();
    if short.is_empty() {
        "nothing".to_owned()
    } else {
        short
    }
}

#[cfg(test)]
mod tests;
