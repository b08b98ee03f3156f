//! What the stub answers: auth client protocol and `PASS` of the auth master protocol, as pure
//! functions from a line to reply bytes.

use ahash::RandomState;

use crate::names::{decimal, decode, number};
use crate::rng::Rng;

use super::StubConfig;

/// Which protocol a connection speaks: it depends on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Client,
    Master,
}

/// What all connections of one stub share.
pub(super) struct Answers {
    minor: u32,
    fields: Vec<u8>,
    tags: Vec<String>,
    tag_of: RandomState,
    fail_share: f64,
    rng: Rng,
    connections: u32,
    plain: Vec<u8>,
}

/// One connection's side of the conversation.
#[derive(Default)]
pub(super) struct Dialogue {
    greeted: bool,
}

impl Answers {
    pub(super) fn new(config: &StubConfig) -> Self {
        let mut fields = Vec::new();
        for field in &config.fields {
            fields.push(b'\t');
            fields.extend_from_slice(field.as_bytes());
        }
        Self {
            minor: config.minor,
            fields,
            tags: config.tags.clone(),
            // The same in every run.
            tag_of: RandomState::with_seeds(5, 6, 7, 8),
            fail_share: config.fail_share,
            rng: Rng::new(1),
            connections: 0,
            plain: Vec::new(),
        }
    }

    /// What is sent before anything was received.
    pub(super) fn greet(&mut self, protocol: Protocol, to: &mut Dialogue, out: &mut Vec<u8>) {
        match protocol {
            Protocol::Master => out.extend_from_slice(b"VERSION\t1\t1\nSPID\t1\n"),
            Protocol::Client => {
                out.extend_from_slice(format!("VERSION\t1\t{}\n", self.minor).as_bytes());
                // From 1.3 on auth says the rest only when it knows the client's version.
                if self.minor < 3 {
                    self.introduce(to, out);
                }
            }
        }
    }

    fn introduce(&mut self, to: &mut Dialogue, out: &mut Vec<u8>) {
        to.greeted = true;
        self.connections += 1;
        let (spid, cuid) = (std::process::id(), self.connections);
        let cookie = u128::from(self.rng.next()) << 64 | u128::from(self.rng.next());
        let text = format!(
            "MECH\tPLAIN\tplaintext\nSPID\t{spid}\nCUID\t{cuid}\nCOOKIE\t{cookie:032x}\nDONE\n"
        );
        out.extend_from_slice(text.as_bytes());
    }

    /// Answers one line. False: the client broke the protocol and is to be dropped.
    pub(super) fn answer(
        &mut self,
        protocol: Protocol,
        dialogue: &mut Dialogue,
        line: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        if let Some(request) = line.strip_prefix(b"AUTH\t") {
            return dialogue.greeted && self.auth(request, out);
        }
        if let Some(request) = line.strip_prefix(b"PASS\t") {
            return protocol == Protocol::Master && self.pass(request, out);
        }
        if let Some(request) = line.strip_prefix(b"CONT\t") {
            let Some((id, response)) = split(request) else {
                return false;
            };
            return dialogue.greeted && self.verdict(id, response, out);
        }
        if line.starts_with(b"VERSION\t") {
            if protocol == Protocol::Client && !dialogue.greeted {
                self.introduce(dialogue, out);
            }
            return line.starts_with(b"VERSION\t1\t");
        }
        line.starts_with(b"CPID\t") || line.starts_with(b"CANCEL\t")
    }

    fn auth(&mut self, request: &[u8], out: &mut Vec<u8>) -> bool {
        let Some((id, parameters)) = split(request) else {
            return false;
        };
        if !parameters.starts_with(b"PLAIN\t") {
            return false;
        }
        // resp= is always the last parameter.
        let last = memchr::memrchr(b'\t', parameters).map_or(0, |tab| tab + 1);
        if let Some(response) = parameters[last..].strip_prefix(b"resp=") {
            return self.verdict(id, response, out);
        }
        out.extend_from_slice(b"CONT\t");
        out.extend_from_slice(id);
        out.extend_from_slice(b"\t\n");
        true
    }

    /// OK or FAIL for a PLAIN response: authorization name, NUL, user, NUL, password.
    fn verdict(&mut self, id: &[u8], response: &[u8], out: &mut Vec<u8>) -> bool {
        let mut plain = std::mem::take(&mut self.plain);
        let decoded = decode(response, &mut plain);
        let parts = memchr::memchr(0, &plain).and_then(|first| {
            let rest = &plain[first + 1..];
            memchr::memchr(0, rest).map(|second| (&rest[..second], &rest[second + 1..]))
        });
        match parts {
            Some((user, password)) if decoded && number(id).is_some() => {
                let failed = self.fails();
                out.extend_from_slice(if failed { b"FAIL\t" } else { b"OK\t" });
                out.extend_from_slice(id);
                out.extend_from_slice(b"\tuser=");
                escape(user, out);
                if !failed {
                    out.extend_from_slice(b"\tproxy");
                    out.extend_from_slice(&self.fields);
                    self.tag(user, out);
                    out.extend_from_slice(b"\tpass=");
                    escape(password, out);
                }
                out.push(b'\n');
            }
            _ => {
                out.extend_from_slice(b"FAIL\t");
                out.extend_from_slice(id);
                out.extend_from_slice(b"\tcode=invalid_base64\n");
            }
        }
        self.plain = plain;
        true
    }

    fn pass(&mut self, request: &[u8], out: &mut Vec<u8>) -> bool {
        let Some((id, rest)) = split(request) else {
            return false;
        };
        let user = split(rest).map_or(rest, |(user, _)| user);
        if self.fails() {
            out.extend_from_slice(b"NOTFOUND\t");
            out.extend_from_slice(id);
        } else {
            out.extend_from_slice(b"PASS\t");
            out.extend_from_slice(id);
            out.extend_from_slice(b"\tuser=");
            out.extend_from_slice(user); // still escaped, as it came
            out.extend_from_slice(b"\tproxy=y");
            out.extend_from_slice(&self.fields);
            self.tag(user, out);
        }
        out.push(b'\n');
        true
    }

    /// The user's tag, if users have one.
    fn tag(&self, user: &[u8], out: &mut Vec<u8>) {
        if self.tags.is_empty() {
            return;
        }
        let at = self.tag_of.hash_one(user) % self.tags.len() as u64;
        out.extend_from_slice(b"\tdirector_tag=");
        out.extend_from_slice(self.tags[at as usize].as_bytes());
    }

    fn fails(&mut self) -> bool {
        self.fail_share > 0.0 && self.rng.share() < self.fail_share
    }
}

/// The reply that auth would give, for a target that is handed auth's replies.
pub(crate) fn ok_line(id: u32, user: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"OK\t");
    out.extend_from_slice(decimal(id, &mut [0; 10]));
    out.extend_from_slice(b"\tuser=");
    out.extend_from_slice(user);
    out.extend_from_slice(b"\tproxy\tpass=pw\n");
}

fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let tab = memchr::memchr(b'\t', text)?;
    Some((&text[..tab], &text[tab + 1..]))
}

fn escape(field: &[u8], out: &mut Vec<u8>) {
    // Everything to be escaped is at or below CR, and hardly any field has such a byte.
    if field.iter().all(|byte| *byte > b'\r') {
        out.extend_from_slice(field);
        return;
    }
    for byte in field {
        match byte {
            0 => out.extend_from_slice(b"\x010"),
            1 => out.extend_from_slice(b"\x011"),
            b'\t' => out.extend_from_slice(b"\x01t"),
            b'\r' => out.extend_from_slice(b"\x01r"),
            b'\n' => out.extend_from_slice(b"\x01n"),
            _ => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::encode;

    fn stub(config: &StubConfig) -> (Answers, Dialogue) {
        (Answers::new(config), Dialogue::default())
    }

    fn text(out: &mut Vec<u8>) -> String {
        String::from_utf8(std::mem::take(out)).unwrap()
    }

    fn auth_line(user: &str) -> Vec<u8> {
        let mut line = b"AUTH\t7\tPLAIN\tservice=imap\tresp=".to_vec();
        encode(format!("\0{user}\0p\tw").as_bytes(), &mut line);
        line
    }

    #[test]
    fn a_login_of_version_1_2() {
        let config = StubConfig {
            fields: vec!["director_tag=t2".into()],
            ..StubConfig::default()
        };
        let (mut stub, mut dialogue) = stub(&config);
        let mut out = Vec::new();
        stub.greet(Protocol::Client, &mut dialogue, &mut out);
        let greeting = text(&mut out);
        assert!(greeting.starts_with("VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t"));
        assert!(greeting.ends_with("\nDONE\n") && greeting.contains("\nCUID\t1\nCOOKIE\t"));
        for line in ["VERSION\t1\t2", "CPID\t1", "CANCEL\t3"] {
            assert!(stub.answer(Protocol::Client, &mut dialogue, line.as_bytes(), &mut out));
        }
        assert!(out.is_empty());
        assert!(stub.answer(
            Protocol::Client,
            &mut dialogue,
            &auth_line("a\tb"),
            &mut out
        ));
        let expected = "OK\t7\tuser=a\x01tb\tproxy\tdirector_tag=t2\tpass=p\x01tw\n";
        assert_eq!(text(&mut out), expected);
    }

    #[test]
    fn every_user_keeps_one_of_the_tags() {
        let (mut stub, mut dialogue) = stub(&StubConfig {
            tags: vec!["a".into(), "b".into(), "c".into()],
            ..StubConfig::default()
        });
        let mut out = Vec::new();
        stub.greet(Protocol::Client, &mut dialogue, &mut out);
        out.clear();
        let mut counts = [0; 3];
        for user in 0..300 {
            let mut ask = |protocol, line: &[u8]| {
                assert!(stub.answer(protocol, &mut dialogue, line, &mut out));
                let line = text(&mut out);
                let tag = line.split("\tdirector_tag=").nth(1).expect("a tag");
                "abc".find(&tag[..1]).expect("one of them")
            };
            let name = format!("user{user}");
            let tag = ask(Protocol::Client, &auth_line(&name));
            let pass = format!("PASS\t1\t{name}\tservice=lmtp");
            assert_eq!(ask(Protocol::Master, pass.as_bytes()), tag);
            counts[tag] += 1;
        }
        assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
    }

    #[test]
    fn version_1_3_waits_for_the_client() {
        let (mut stub, mut dialogue) = stub(&StubConfig {
            minor: 3,
            ..StubConfig::default()
        });
        let mut out = Vec::new();
        stub.greet(Protocol::Client, &mut dialogue, &mut out);
        assert_eq!(text(&mut out), "VERSION\t1\t3\n");
        assert!(!stub.answer(Protocol::Client, &mut dialogue, &auth_line("a"), &mut out));
        assert!(stub.answer(Protocol::Client, &mut dialogue, b"VERSION\t1\t2", &mut out));
        assert!(text(&mut out).ends_with("DONE\n"));
    }

    #[test]
    fn continuation_failure_and_master_protocol() {
        let (mut stub, mut dialogue) = stub(&StubConfig {
            fail_share: 1.0,
            ..StubConfig::default()
        });
        let mut out = Vec::new();
        stub.greet(Protocol::Client, &mut dialogue, &mut out);
        out.clear();
        let client = Protocol::Client;
        assert!(stub.answer(
            client,
            &mut dialogue,
            b"AUTH\t1\tPLAIN\tservice=imap",
            &mut out
        ));
        assert_eq!(text(&mut out), "CONT\t1\t\n");
        assert!(stub.answer(client, &mut dialogue, b"CONT\t1\tAGEAYg==", &mut out));
        assert_eq!(text(&mut out), "FAIL\t1\tuser=a\n");
        assert!(stub.answer(client, &mut dialogue, b"CONT\t1\t!", &mut out));
        assert_eq!(text(&mut out), "FAIL\t1\tcode=invalid_base64\n");
        assert!(!stub.answer(client, &mut dialogue, b"PASS\t1\ta\tservice=lmtp", &mut out));
        let master = Protocol::Master;
        assert!(stub.answer(master, &mut dialogue, b"PASS\t1\ta\tservice=lmtp", &mut out));
        assert_eq!(text(&mut out), "NOTFOUND\t1\n");
        stub.fail_share = 0.0;
        assert!(stub.answer(master, &mut dialogue, b"PASS\t1\ta\tservice=lmtp", &mut out));
        assert_eq!(text(&mut out), "PASS\t1\tuser=a\tproxy=y\n");
    }
}
