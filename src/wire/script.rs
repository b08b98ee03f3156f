//! What is said to a flush script, and what it answers (docs/protocol/kicks.md, flush scripts).

use std::net::IpAddr;

use super::ip_text::ip_text;

/// Bytes of a script's output that are kept, to be logged if it fails.
pub const KEPT: usize = 4096;
/// Bytes at the end of an answer by which it is judged: a line with a dot, and the result.
const END: usize = 6;

/// The six arguments.
pub type Arguments = [String; 6];

/// The arguments of one move. `down` and `vhosts` are those of `old` when the move began.
pub fn arguments(hash: u32, old: IpAddr, new: IpAddr, down: bool, vhosts: u32) -> Arguments {
    [
        "FLUSH".to_owned(),
        hash.to_string(),
        ip_text(old),
        ip_text(new),
        if down { "down" } else { "up" }.to_owned(),
        vhosts.to_string(),
    ]
}

/// The request to a socket. `dots`: over TCP, where the end of the (empty) payload is marked.
pub fn request(arguments: &Arguments, dots: bool) -> Vec<u8> {
    let mut out = b"VERSION\tscript\t4\t0\n-\n".to_vec();
    for argument in arguments {
        out.extend_from_slice(argument.as_bytes());
        out.push(b'\n');
    }
    out.push(b'\n');
    if dots {
        out.extend_from_slice(b"\r\n.\r\n");
    }
    out
}

/// What a script says: its beginning is kept for the log, its end is the result.
#[derive(Debug, Default)]
pub struct Answer {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Answer {
    /// The next bytes, of any length.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = KEPT - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.tail
            .extend_from_slice(&bytes[bytes.len().saturating_sub(END)..]);
        self.tail.drain(..self.tail.len().saturating_sub(END));
    }

    /// Its beginning, in one line.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.head);
        text.trim().escape_debug().to_string()
    }

    /// Whether it succeeded, once the socket is closed; `None`: it did not say.
    pub fn result(&self, dots: bool) -> Option<bool> {
        let (rest, succeeded) = match self.tail.strip_suffix(b"+\n") {
            Some(rest) => (rest, true),
            None => (self.tail.strip_suffix(b"-\n")?, false),
        };
        if dots {
            let rest = rest.strip_suffix(b"\n")?;
            let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
            let rest = rest.strip_suffix(b".")?;
            return matches!(rest.last(), None | Some(b'\n')).then_some(succeeded);
        }
        Some(succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(text: &str, dots: bool) -> Option<bool> {
        let mut whole = Answer::default();
        whole.push(text.as_bytes());
        let mut single = Answer::default();
        text.bytes().for_each(|byte| single.push(&[byte]));
        assert_eq!(whole.result(dots), single.result(dots));
        assert_eq!(whole.text(), single.text());
        whole.result(dots)
    }

    #[test]
    fn requests_as_recorded() {
        let (old, new) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let arguments = arguments(800, old, new, false, 100);
        let text = "VERSION\tscript\t4\t0\n-\nFLUSH\n800\n10.0.0.1\n10.0.0.2\nup\n100\n\n";
        assert_eq!(request(&arguments, false), text.as_bytes());
        assert_eq!(
            request(&arguments, true),
            format!("{text}\r\n.\r\n").as_bytes()
        );
    }

    #[test]
    fn the_last_two_bytes_are_the_result() {
        for (text, expected) in [
            ("+\n", Some(true)),
            ("text\n+\n", Some(true)),
            ("text\n-\n", Some(false)),
            ("+\nOK\n", None),
            ("", None),
            ("+", None),
            ("\n", None),
        ] {
            assert_eq!(result(text, false), expected, "{text:?}");
        }
    }

    #[test]
    fn over_tcp_the_output_ends_with_a_dot() {
        for (text, expected) in [
            (".\r\n+\n", Some(true)),
            (".\n-\n", Some(false)),
            ("text\r\n.\r\n+\n", Some(true)),
            ("+\n", None),
            ("text.\r\n+\n", None),
            ("\n+\n", None),
        ] {
            assert_eq!(result(text, true), expected, "{text:?}");
        }
    }

    #[test]
    fn only_the_beginning_is_kept() {
        let mut answer = Answer::default();
        for _ in 0..1000 {
            answer.push(&[b'x'; 1000]);
        }
        answer.push(b"\n-\n");
        assert_eq!(
            (answer.text().len(), answer.result(false)),
            (KEPT, Some(false))
        );
    }
}
