//! The conversation with the director, in the words of the admin protocol (docs/protocol/admin.md), by a
//! connection inside the process.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::http::documents::Done;
use crate::http::problem::{Fault, Problem};
use crate::shell::admin_io::serve::Message;
use crate::shell::mailbox::Mailbox;
use crate::wire::admin::read::{self, Host, Unexpected};
use crate::wire::admin::{Command, GREETING, MAX_LINE, Reply, Whose};

/// Conversations at a time; more wait.
const SESSIONS_MAX: usize = 32;
/// How long a place among them is waited for.
const PLACE_LIMIT: Duration = Duration::from_secs(5);
/// A command may wait 30 s to run and 30 s more for its OK (docs/protocol/admin.md, waiting).
const REPLY_LIMIT: Duration = Duration::from_secs(70);
/// How long a flush may take until the answer is that it is under way.
const LONG_LIMIT: Duration = Duration::from_secs(10);
/// Longest row.
const MAX_ROW: u64 = 8192;
/// Between two counts of sessions, at first; each takes Dovecot a list of all of them, so it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Counts without a session less, until those that are left are said to have survived.
const STEADY: u32 = 4;
/// Counts at most.
const COUNTS: u32 = 12;

/// How the director is reached.
pub(super) struct Line {
    admin: Arc<Mailbox<Message>>,
    places: Arc<Semaphore>,
}

/// One conversation.
pub(super) struct Session {
    stream: BufReader<UnixStream>,
    _place: OwnedSemaphorePermit,
}

fn broken(error: &io::Error) -> Problem {
    Problem::director(format!("the director cannot be asked: {error}"))
}

fn unexpected(error: &Unexpected) -> Problem {
    Problem::director(error.to_string())
}

impl Line {
    pub(super) fn new(admin: Arc<Mailbox<Message>>) -> Line {
        Line {
            admin,
            places: Arc::new(Semaphore::new(SESSIONS_MAX)),
        }
    }

    /// Begins a conversation on behalf of somebody.
    pub(super) async fn open(&self, whom: &str) -> Result<Session, Problem> {
        let place = timeout(PLACE_LIMIT, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            let what = format!("{SESSIONS_MAX} orders are under way already; try again in a while");
            return Err(Problem::new(503, Fault::State, what));
        };
        let stream = self.connect(whom).map_err(|error| broken(&error))?;
        let mut session = Session {
            stream: BufReader::new(stream),
            _place: place,
        };
        session.send(GREETING).await?;
        session.line().await?;
        Ok(session)
    }

    fn connect(&self, whom: &str) -> io::Result<UnixStream> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        self.admin
            .send(Message::Join(theirs.into(), whom.to_owned()));
        Ok(stream)
    }
}

impl Session {
    /// One command, and the first line of what comes back.
    pub(super) async fn ask(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Problem> {
        self.say(command).await?;
        self.line_within(REPLY_LIMIT).await?.ok_or_else(|| {
            let what = format!("{} was not answered in time", command.word());
            Problem::new(504, Fault::Director, what)
        })
    }

    /// One command that has a list of rows.
    pub(super) async fn rows<T>(
        &mut self,
        command: &Command<'_>,
        read: fn(&[u8]) -> Result<T, Unexpected>,
    ) -> Result<Vec<T>, Problem> {
        let mut line = self.ask(command).await?;
        let mut rows = Vec::new();
        while !line.is_empty() {
            rows.push(read(&line).map_err(|error| unexpected(&error))?);
            line = self.line().await?;
        }
        Ok(rows)
    }

    /// The backends.
    pub(super) async fn hosts(&mut self) -> Result<Vec<Host>, Problem> {
        self.rows(&Command::HostList, read::host).await
    }

    /// An order. `what`: what it is about.
    pub(super) async fn order(
        &mut self,
        command: &Command<'_>,
        what: &str,
    ) -> Result<Done, Problem> {
        let line = self.ask(command).await?;
        judge(&line, what).map(|()| Done::DONE)
    }

    /// An order that may take hours: it goes on when its end is not waited for.
    pub(super) async fn long_order(
        &mut self,
        command: &Command<'_>,
        what: &str,
    ) -> Result<Done, Problem> {
        self.say(command).await?;
        match self.line_within(LONG_LIMIT).await? {
            Some(line) => judge(&line, what).map(|()| Done::DONE),
            None => Ok(Done::UNDER_WAY),
        }
    }

    /// Has the director remember somebody's sessions before an order. `None`: nobody can list them, and the order
    /// is given all the same.
    pub(super) async fn count(&mut self, whose: Whose<'_>) -> Result<Option<u64>, Problem> {
        Ok(read::count(&self.ask(&Command::Sessions(whose)).await?))
    }

    /// After the order: how many of them have ended, and how many are still there. Waits until all have ended, or
    /// no more do.
    pub(super) async fn fate(
        &mut self,
        before: Option<u64>,
    ) -> Result<(Option<u64>, Option<u64>), Problem> {
        let Some(before) = before else {
            return Ok((None, None));
        };
        let (mut left, mut steady, mut pause) = (before, 0, FIRST_PAUSE);
        for _ in 0..COUNTS {
            if left == 0 || steady == STEADY {
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let Some(now) = read::count(&self.ask(&Command::SessionsLeft).await?) else {
                return Ok((None, None));
            };
            steady = match now < left {
                true => 0,
                false => steady + 1,
            };
            // A client that is back at once may look like one that never went.
            left = left.min(now);
        }
        Ok((Some(before - left), Some(left)))
    }

    async fn say(&mut self, command: &Command<'_>) -> Result<(), Problem> {
        let mut line = Vec::new();
        command.write(&mut line);
        if line.len() > MAX_LINE {
            let what = format!(
                "a name is too long: the order would have {} bytes",
                line.len()
            );
            return Err(Problem::new(422, Fault::Client, what));
        }
        self.send(&line).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let sent = self.stream.get_mut().write_all(bytes).await;
        sent.map_err(|error| broken(&error))
    }

    async fn line(&mut self) -> Result<Vec<u8>, Problem> {
        let line = self.line_within(REPLY_LIMIT).await?;
        line.ok_or_else(|| Problem::new(504, Fault::Director, "the director does not answer"))
    }

    /// The next line without its end; `None`: it has not come by then.
    async fn line_within(&mut self, limit: Duration) -> Result<Option<Vec<u8>>, Problem> {
        let mut line = Vec::new();
        let mut stream = (&mut self.stream).take(MAX_ROW);
        let Ok(read) = timeout(limit, stream.read_until(b'\n', &mut line)).await else {
            return Ok(None);
        };
        read.map_err(|error| broken(&error))?;
        match line.pop() {
            Some(b'\n') => Ok(Some(line)),
            _ => Err(Problem::new(
                503,
                Fault::Director,
                "the director hung up: it ends, or does not take the order; its log says why",
            )),
        }
    }
}

/// Whether the director did what it was told. `what`: what the order was about.
pub(super) fn judge(line: &[u8], what: &str) -> Result<(), Problem> {
    match read::reply(line) {
        Some(Reply::Ok) => Ok(()),
        Some(reply) => Err(Problem::of_reply(reply, what)),
        None => {
            let said = String::from_utf8_lossy(line);
            Err(Problem::new(409, Fault::State, format!("{what}: {said}")))
        }
    }
}
