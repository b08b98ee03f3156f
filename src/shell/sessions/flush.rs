//! Flush scripts (docs/protocol/kicks.md, flush scripts), each on a thread of its own: a script may do
//! what it likes, and looking up a name or connecting to a socket may take a while.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};

use super::program::Program;
use super::{Answer, Answers, Ticket};
use crate::core::Mono;
use crate::core::ip_text::ip_text;
use crate::core::ring::{Flush, FlushResult};
use crate::settings::FlushUri;
use crate::shell::clock;
use crate::wire::script::{Arguments, arguments, request};

/// Scripts that run at a time. Each costs a thread, and perhaps a program.
const RUNNING_MAX: usize = 32;
/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Where to, with the variables replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Unix(String),
    Tcp(String, u16),
    Exec(String),
}

struct Job {
    ticket: Ticket,
    flush: Flush,
    place: Result<Place, String>,
    /// How long it may run if nobody aborts it, since its user was forgotten: as long as a move, nanoseconds.
    limit: u64,
}

/// What ends a script early.
pub(super) enum Running {
    /// Nothing can be ended yet, or any more.
    Nothing,
    Unix(UnixStream),
    Tcp(TcpStream),
    Program(Program),
    /// It is to end at once.
    Aborted,
}

pub(super) type Handle = Arc<Mutex<Running>>;

/// What runs and what waits.
#[derive(Default)]
struct Book {
    waiting: VecDeque<Job>,
    running: BTreeMap<Ticket, Handle>,
}

pub(super) struct Flushes {
    answers: Answers,
    book: Arc<Mutex<Book>>,
}

impl Flushes {
    pub fn new(answers: Answers) -> Flushes {
        Flushes {
            answers,
            book: Arc::default(),
        }
    }

    /// Runs a script, now or when others have ended.
    pub fn begin(&self, ticket: Ticket, flush: Flush, script: Option<&FlushUri>, limit: u64) {
        let place = match script {
            Some(script) => place(script, &flush),
            None => Err("a reload has taken it away".to_owned()),
        };
        let job = Job {
            ticket,
            flush,
            place,
            limit,
        };
        self.book.lock().waiting.push_back(job);
        start(&self.book, &self.answers);
    }

    /// Ends a script, and whatever it has started.
    pub fn abort(&self, ticket: Ticket) {
        let mut book = self.book.lock();
        book.waiting.retain(|job| job.ticket != ticket);
        let Some(handle) = book.running.get(&ticket).cloned() else {
            return;
        };
        drop(book);
        handle.lock().end();
    }
}

impl Running {
    /// Ends it, and whatever it becomes later.
    pub fn end(&mut self) {
        match std::mem::replace(self, Running::Aborted) {
            Running::Nothing | Running::Aborted => {}
            // Whoever reads sees the end; an error means that it has come already.
            Running::Unix(stream) => drop(stream.shutdown(Shutdown::Both)),
            Running::Tcp(stream) => drop(stream.shutdown(Shutdown::Both)),
            Running::Program(mut program) => {
                program.kill();
                *self = Running::Program(program);
            }
        }
    }
}

fn start(book: &Arc<Mutex<Book>>, answers: &Answers) {
    let mut locked = book.lock();
    while locked.running.len() < RUNNING_MAX {
        let Some(job) = locked.waiting.pop_front() else {
            return;
        };
        let handle: Handle = Arc::new(Mutex::new(Running::Nothing));
        let (ticket, key) = (job.ticket, job.flush.key);
        locked.running.insert(ticket, Arc::clone(&handle));
        let (theirs, answer) = (Arc::clone(book), Arc::clone(answers));
        let spawned = std::thread::Builder::new()
            .name("flush".to_owned())
            .spawn(move || {
                let result = run(&job, &handle);
                theirs.lock().running.remove(&job.ticket);
                answer(Answer::Flush(job.ticket, job.flush.key, result));
                start(&theirs, &answer);
            });
        if let Err(error) = spawned {
            tracing::error!("cannot run a flush script: {error}");
            locked.running.remove(&ticket);
            answers(Answer::Flush(ticket, key, FlushResult::Failed));
        }
    }
}

/// Runs it and says in the log why it failed.
fn run(job: &Job, handle: &Handle) -> FlushResult {
    let flush = &job.flush;
    let hash = flush.key.hash.0;
    let done = job.place.clone().and_then(|place| {
        let arguments = arguments(hash, flush.old, flush.new, flush.old_down, flush.old_vhosts);
        let until = clock::mono().after(job.limit);
        carry_out(&place, &arguments, handle, until)
    });
    if matches!(*handle.lock(), Running::Aborted) {
        tracing::error!("flush script for user hash {hash}: ended, the move has taken too long");
        return FlushResult::Failed;
    }
    match done {
        Ok(()) => FlushResult::Succeeded,
        Err(why) => {
            tracing::error!("flush script for user hash {hash}: {why}");
            FlushResult::Failed
        }
    }
}

/// Errors: in words.
fn carry_out(
    place: &Place,
    arguments: &Arguments,
    handle: &Handle,
    until: Mono,
) -> Result<(), String> {
    let (answer, dots) = match place {
        Place::Exec(path) => return super::program::run(path, arguments, handle, until),
        Place::Unix(path) => {
            let stream = connect_unix(path).map_err(|error| format!("connect({path}): {error}"))?;
            let fault = |error: io::Error| format!("{path}: {error}");
            register(handle, Running::Unix(stream.try_clone().map_err(fault)?))?;
            (ask(stream, arguments, false, until).map_err(fault)?, false)
        }
        Place::Tcp(host, port) => {
            let name = format!("{host}:{port}");
            let stream =
                connect_tcp(host, *port).map_err(|error| format!("connect({name}): {error}"))?;
            let fault = |error: io::Error| format!("{name}: {error}");
            register(handle, Running::Tcp(stream.try_clone().map_err(fault)?))?;
            (ask(stream, arguments, true, until).map_err(fault)?, true)
        }
    };
    match answer.result(dots) {
        Some(true) => Ok(()),
        Some(false) => Err(format!("failed: {}", answer.text())),
        None => Err(format!(
            "it did not say whether it succeeded: {}",
            answer.text()
        )),
    }
}

/// Lets the script be ended from now on, unless it has been already.
pub(super) fn register(handle: &Handle, running: Running) -> Result<(), String> {
    let mut state = handle.lock();
    if matches!(*state, Running::Aborted) {
        return Err("aborted".to_owned());
    }
    *state = running;
    Ok(())
}

fn connect_unix(path: &str) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Connecting waits while the backlog is full, as long as writing would.
    socket.set_write_timeout(Some(CONNECT_LIMIT))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A stream of either sort.
trait Stream: Read + Write {
    fn close_sending(&self) -> io::Result<()>;
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn close_sending(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}

impl Stream for TcpStream {
    fn close_sending(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}

fn ask(
    mut stream: impl Stream,
    arguments: &Arguments,
    dots: bool,
    until: Mono,
) -> io::Result<crate::wire::script::Answer> {
    stream.write_all(&request(arguments, dots))?;
    stream.close_sending()?;
    let mut answer = crate::wire::script::Answer::default();
    let mut buffer = [0; 4096];
    loop {
        let left = until.since(clock::mono());
        if left == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.wait_at_most(Duration::from_nanos(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Replaces the variables. Errors: in words.
pub(super) fn place(uri: &FlushUri, flush: &Flush) -> Result<Place, String> {
    let fill = |text: &str| expand(text, &ip_text(flush.new), flush.new_name.as_deref());
    Ok(match uri {
        FlushUri::Unix(path) => Place::Unix(fill(path)?),
        FlushUri::Tcp(host, port) => Place::Tcp(fill(host)?, *port),
        FlushUri::Exec(path) => Place::Exec(fill(path)?),
    })
}

/// Unknown variables stay as they are.
fn expand(text: &str, ip: &str, name: Option<&str>) -> Result<String, String> {
    let name = name.unwrap_or_default();
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let known = [
            ("%", "%"),
            ("i", ip),
            ("{ip}", ip),
            ("h", name),
            ("{host}", name),
        ];
        let found = known
            .iter()
            .find_map(|(word, value)| Some((*value, after.strip_prefix(word)?)));
        let (value, left) = found.unwrap_or(("%", after));
        if value.contains('/') {
            return Err(format!(
                "the backend's name {value} cannot be part of a path"
            ));
        }
        out.push_str(value);
        rest = left;
    }
    out.push_str(rest);
    Ok(out)
}
