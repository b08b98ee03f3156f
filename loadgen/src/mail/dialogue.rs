//! One mail session as a pure function from lines to lines: greeting, TLS, login, where it is,
//! idling, end.

use crate::plan::{MailProtocol, Security};

/// What a line means to the session's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing yet.
    Wait,
    /// TLS is to begin now.
    StartTls,
    /// The login succeeded.
    Entered,
    /// The login failed.
    Refused { temporary: bool },
    /// The session is at rest; which backend it is on is known, if it will ever be.
    Settled,
    /// The session has ended.
    Over,
    /// The server does not speak the protocol here, or refused what it must be able to do.
    Nonsense,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Greeting,
    StartTls,
    /// POP3: `USER` was sent.
    User,
    Login,
    /// The backend is asked who it is.
    Identify,
    /// `IDLE` was sent.
    Idle,
    Rest {
        idling: bool,
    },
    Leave,
}

/// What is said in a session.
#[derive(Clone, Copy)]
pub(crate) struct Script<'a> {
    pub(crate) protocol: MailProtocol,
    pub(crate) security: Security,
    /// Text after which the backend's address stands.
    pub(crate) mark: Option<&'a [u8]>,
    /// Whether to idle; otherwise the session ends as soon as it rests.
    pub(crate) hold: bool,
    pub(crate) user: &'a [u8],
    pub(crate) password: &'a [u8],
}

/// One session's side of the conversation.
pub(crate) struct Dialogue {
    state: State,
    /// The backend, once it said who it is.
    pub(crate) backend: Option<Vec<u8>>,
}

impl Dialogue {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Greeting,
            backend: None,
        }
    }

    /// Takes a line, without its end; what is to be answered is appended to `out`.
    pub(crate) fn line(&mut self, line: &[u8], script: &Script<'_>, out: &mut Vec<u8>) -> Step {
        match script.protocol {
            MailProtocol::Imap => self.imap(line, script, out),
            MailProtocol::Pop3 => self.pop3(line, script, out),
        }
    }

    /// TLS stands after `STARTTLS`: there is no second greeting.
    pub(crate) fn secured(&mut self, script: &Script<'_>, out: &mut Vec<u8>) {
        self.log_in(script, out);
    }

    /// Ends a session that rests, or that was refused.
    pub(crate) fn leave(&mut self, protocol: MailProtocol, out: &mut Vec<u8>) {
        if self.state == (State::Rest { idling: true }) {
            out.extend_from_slice(b"DONE\r\n");
        }
        self.state = State::Leave;
        out.extend_from_slice(match protocol {
            MailProtocol::Imap => b"z LOGOUT\r\n",
            MailProtocol::Pop3 => b"QUIT\r\n",
        });
    }

    fn imap(&mut self, line: &[u8], script: &Script<'_>, out: &mut Vec<u8>) -> Step {
        let untagged = line.starts_with(b"* ");
        match self.state {
            State::Greeting if line.starts_with(b"* OK") => {
                if script.security == Security::StartTls {
                    self.state = State::StartTls;
                    out.extend_from_slice(b"t STARTTLS\r\n");
                } else {
                    self.log_in(script, out);
                }
                Step::Wait
            }
            State::Greeting if line.starts_with(b"* BYE") => Step::Refused { temporary: true },
            State::StartTls if line.starts_with(b"t OK") => Step::StartTls,
            State::Login if line.starts_with(b"a OK") => {
                self.look(line, script);
                self.identify(script, b"i ID NIL\r\n", out);
                Step::Entered
            }
            State::Login if line.starts_with(b"a NO") || line.starts_with(b"* BYE") => {
                Step::Refused {
                    temporary: untagged || contains(line, b"[UNAVAILABLE]"),
                }
            }
            State::Identify if untagged => {
                self.look(line, script);
                Step::Wait
            }
            State::Identify if line.starts_with(b"i ") => {
                self.look(line, script);
                self.rest(script, out)
            }
            State::Idle if line.starts_with(b"+") => {
                self.state = State::Rest { idling: true };
                Step::Settled
            }
            // A server without IDLE: the session is held in silence.
            State::Idle if line.starts_with(b"d ") => {
                self.state = State::Rest { idling: false };
                Step::Settled
            }
            State::Rest { .. } | State::Idle if line.starts_with(b"* BYE") => Step::Over,
            State::Leave if line.starts_with(b"z ") => Step::Over,
            State::Leave => Step::Wait,
            _ if untagged => Step::Wait,
            _ => Step::Nonsense,
        }
    }

    fn pop3(&mut self, line: &[u8], script: &Script<'_>, out: &mut Vec<u8>) -> Step {
        let good = line.starts_with(b"+OK");
        match self.state {
            State::Greeting if good => {
                if script.security == Security::StartTls {
                    self.state = State::StartTls;
                    out.extend_from_slice(b"STLS\r\n");
                } else {
                    self.log_in(script, out);
                }
                Step::Wait
            }
            State::StartTls if good => Step::StartTls,
            State::User if good => {
                self.state = State::Login;
                out.extend_from_slice(b"PASS ");
                out.extend_from_slice(script.password);
                out.extend_from_slice(b"\r\n");
                Step::Wait
            }
            State::Login if good => {
                self.look(line, script);
                self.identify(script, b"CAPA\r\n", out);
                Step::Entered
            }
            State::Greeting | State::User | State::Login if line.starts_with(b"-ERR") => {
                Step::Refused {
                    temporary: self.state == State::Greeting
                        || contains(line, b"[SYS/TEMP]")
                        || contains(line, b"[IN-USE]"),
                }
            }
            State::Identify if line == b"." || line.starts_with(b"-ERR") => {
                self.state = State::Rest { idling: false };
                Step::Settled
            }
            State::Identify => {
                self.look(line, script);
                Step::Wait
            }
            State::Leave => Step::Over,
            _ => Step::Nonsense,
        }
    }

    fn log_in(&mut self, script: &Script<'_>, out: &mut Vec<u8>) {
        match script.protocol {
            MailProtocol::Imap => {
                self.state = State::Login;
                out.extend_from_slice(b"a LOGIN ");
                quoted(script.user, out);
                out.push(b' ');
                quoted(script.password, out);
            }
            MailProtocol::Pop3 => {
                self.state = State::User;
                out.extend_from_slice(b"USER ");
                out.extend_from_slice(script.user);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Asks the backend who it is, unless it said so or nobody wants to know.
    fn identify(&mut self, script: &Script<'_>, question: &[u8], out: &mut Vec<u8>) {
        if script.mark.is_some() && self.backend.is_none() {
            self.state = State::Identify;
            out.extend_from_slice(question);
        } else {
            self.rest(script, out);
        }
    }

    fn rest(&mut self, script: &Script<'_>, out: &mut Vec<u8>) -> Step {
        if script.hold && script.protocol == MailProtocol::Imap {
            self.state = State::Idle;
            out.extend_from_slice(b"d IDLE\r\n");
            return Step::Wait;
        }
        self.state = State::Rest { idling: false };
        Step::Settled
    }

    /// Whether the session rests, or ends.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.state, State::Rest { .. } | State::Leave)
    }

    /// Looks for the backend's address.
    fn look(&mut self, line: &[u8], script: &Script<'_>) {
        let Some(mark) = script.mark else { return };
        let Some(at) = find(line, mark) else { return };
        let rest = &line[at + mark.len()..];
        let end = rest
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || b"\"()[],;".contains(byte));
        let address = &rest[..end.unwrap_or(rest.len())];
        if self.backend.is_none() && !address.is_empty() {
            self.backend = Some(address.to_vec());
        }
    }
}

fn find(line: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(line, part)
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    find(line, part).is_some()
}

/// As an IMAP quoted string; the plan was checked for what cannot be in one.
fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAP: Script<'_> = Script {
        protocol: MailProtocol::Imap,
        security: Security::StartTls,
        mark: Some(b"at="),
        hold: true,
        user: b"a\"b",
        password: b"p w\\",
    };

    fn say(dialogue: &mut Dialogue, script: &Script<'_>, line: &str) -> (Step, String) {
        let mut out = Vec::new();
        let step = dialogue.line(line.as_bytes(), script, &mut out);
        (step, String::from_utf8(out).unwrap())
    }

    #[track_caller]
    fn expect(dialogue: &mut Dialogue, script: &Script<'_>, line: &str, step: Step, out: &str) {
        assert_eq!(
            say(dialogue, script, line),
            (step, out.to_owned()),
            "{line}"
        );
    }

    #[test]
    fn an_imap_session() {
        let mut dialogue = Dialogue::new();
        let mut expect = |line, step, out| expect(&mut dialogue, &IMAP, line, step, out);
        expect(
            "* OK [CAPABILITY IMAP4rev1] hi",
            Step::Wait,
            "t STARTTLS\r\n",
        );
        expect("t OK begin", Step::StartTls, "");
        let mut out = Vec::new();
        dialogue.secured(&IMAP, &mut out);
        assert_eq!(out, b"a LOGIN \"a\\\"b\" \"p w\\\\\"\r\n");
        let mut expect =
            |line, step, out| super::tests::expect(&mut dialogue, &IMAP, line, step, out);
        expect("* CAPABILITY x", Step::Wait, "");
        expect("a OK Logged in", Step::Entered, "i ID NIL\r\n");
        expect("* ID (\"host\" \"at=10.0.0.1\")", Step::Wait, "");
        expect("i OK", Step::Wait, "d IDLE\r\n");
        expect("+ idling", Step::Settled, "");
        expect("* OK Still here", Step::Wait, "");
        assert_eq!(dialogue.backend.as_deref(), Some(&b"10.0.0.1"[..]));
        let mut out = Vec::new();
        dialogue.leave(MailProtocol::Imap, &mut out);
        assert_eq!(out, b"DONE\r\nz LOGOUT\r\n");
        for (line, step) in [
            ("d OK", Step::Wait),
            ("* BYE", Step::Wait),
            ("z OK", Step::Over),
        ] {
            super::tests::expect(&mut dialogue, &IMAP, line, step, "");
        }
    }

    #[test]
    fn a_pop3_session() {
        let script = Script {
            protocol: MailProtocol::Pop3,
            security: Security::Plain,
            ..IMAP
        };
        let mut dialogue = Dialogue::new();
        let mut expect = |line, step, out| expect(&mut dialogue, &script, line, step, out);
        expect("+OK hi", Step::Wait, "USER a\"b\r\n");
        expect("+OK", Step::Wait, "PASS p w\\\r\n");
        expect("+OK Logged in.", Step::Entered, "CAPA\r\n");
        expect("+OK", Step::Wait, "");
        expect("IMPLEMENTATION at=b2", Step::Wait, "");
        expect(".", Step::Settled, "");
        assert_eq!(dialogue.backend.as_deref(), Some(&b"b2"[..]));
        let mut out = Vec::new();
        dialogue.leave(MailProtocol::Pop3, &mut out);
        assert_eq!(out, b"QUIT\r\n");
        super::tests::expect(&mut dialogue, &script, "+OK bye", Step::Over, "");
    }

    #[test]
    fn refusals_are_told_apart() {
        let script = Script {
            security: Security::Plain,
            ..IMAP
        };
        let pop3 = Script {
            protocol: MailProtocol::Pop3,
            ..script
        };
        let refused = |temporary| Step::Refused { temporary };
        for (line, step) in [
            ("a NO [AUTHENTICATIONFAILED] no", refused(false)),
            ("a NO [UNAVAILABLE] later", refused(true)),
            ("* BYE gone", refused(true)),
            ("a BAD what", Step::Nonsense),
            ("+OK", Step::Nonsense),
        ] {
            let mut dialogue = Dialogue::new();
            say(&mut dialogue, &script, "* OK hi");
            expect(&mut dialogue, &script, line, step, "");
        }
        for (line, step) in [
            ("-ERR [AUTH] no", refused(false)),
            ("-ERR [SYS/TEMP] later", refused(true)),
            ("* OK", Step::Nonsense),
        ] {
            let mut dialogue = Dialogue::new();
            say(&mut dialogue, &pop3, "+OK hi");
            say(&mut dialogue, &pop3, "+OK");
            expect(&mut dialogue, &pop3, line, step, "");
        }
        // No TLS to be had: the password is not sent.
        let starttls = Script {
            security: Security::StartTls,
            ..script
        };
        let mut dialogue = Dialogue::new();
        say(&mut dialogue, &starttls, "* OK hi");
        expect(&mut dialogue, &starttls, "t NO", Step::Nonsense, "");
    }
}
