//! A login process at a member's login socket.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::backends::{TAG, TAGGED};

/// A director may hold a login for up to a minute: it looks at its queue every 30 s, and fails what
/// has waited as long.
const ANSWER_LIMIT: Duration = Duration::from_secs(65);
/// Requests under way; both directions of the socket hold that many.
const WINDOW: usize = 200;

/// The backend of a user, or what the director said instead.
pub type Outcome = Result<Ipv4Addr, String>;

/// A connection to a login socket. It lasts for any number of logins.
pub struct Door {
    stream: BufReader<UnixStream>,
    /// Number of the last request.
    last: u32,
}

impl Door {
    /// Connects as a login process would.
    pub fn open(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(b"VERSION\t1\t2\nCPID\t4711\n")?;
        let stream = BufReader::new(stream);
        Ok(Self { stream, last: 0 })
    }

    /// Logs users in, many at a time, and returns the outcomes in the same order. An error is a
    /// director that has gone or says nothing.
    pub fn log_in<N: AsRef<str>>(&mut self, names: &[N]) -> io::Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(names.len());
        for names in names.chunks(WINDOW) {
            outcomes.extend(self.log_in_some(names)?);
        }
        Ok(outcomes)
    }

    fn log_in_some<N: AsRef<str>>(&mut self, names: &[N]) -> io::Result<Vec<Outcome>> {
        let first = self.last + 1;
        let mut requests = String::new();
        for name in names {
            self.last += 1;
            let tag = match name.as_ref().starts_with(TAGGED) {
                true => format!("\tlocal_name={TAG}"),
                false => String::new(),
            };
            // The stub auth takes `session` for the name, and `local_name` for the tag.
            requests += &format!(
                "AUTH\t{}\tPLAIN\tservice=imap\tsession={}{tag}\tresp=AHgAeA==\n",
                self.last,
                name.as_ref()
            );
        }
        self.stream.get_mut().write_all(requests.as_bytes())?;
        let mut outcomes = vec![None; names.len()];
        while outcomes.iter().any(Option::is_none) {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some((number, outcome)) = outcome(line.trim_end_matches('\n')) {
                let index = number.checked_sub(first).map(|index| index as usize);
                let slot = index.and_then(|index| outcomes.get_mut(index));
                let slot = slot.unwrap_or_else(|| panic!("an answer nobody asked for: {line}"));
                assert!(slot.is_none(), "answered twice: {line}");
                *slot = Some(outcome);
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }
}

/// The request's number and its outcome; nothing for a line of the handshake.
fn outcome(line: &str) -> Option<(u32, Outcome)> {
    let mut fields = line.split('\t');
    let kind = fields
        .next()
        .filter(|kind| matches!(*kind, "OK" | "FAIL"))?;
    let number = fields.next().and_then(|number| number.parse().ok());
    let number = number.unwrap_or_else(|| panic!("no number: {line}"));
    let fields: Vec<_> = fields.collect();
    let value = |key: &str| fields.iter().find_map(|field| field.strip_prefix(key));
    // A backend with a name has its address beside it.
    let host = value("hostip=").or_else(|| value("host="));
    let outcome = match (kind, host.map(str::parse)) {
        ("OK", Some(Ok(host))) => Ok(host),
        _ => Err(line.to_owned()),
    };
    Some((number, outcome))
}
