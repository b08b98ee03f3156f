//! The thread that ends sessions.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::flush::Flushes;
use super::tell::{Progress, Tell};
use super::{Answer, Answers, Config, Homes, Message, Ticket};
use crate::core::ring::{Kick, Level};
use crate::core::sessions::{Input, KickId, Output, Service, Sessions, Target, TellId};
use crate::settings::KickService;
use crate::shell::clock;
use crate::shell::epoll::{Epoll, Events, Interest};
use crate::shell::io::{Backlog, Read, UnixAddress, receive};
use crate::shell::log_limit::{LogLimit, say};
use crate::shell::mailbox::Mailbox;

const MAIL: u64 = 0;
const SERVICE: u64 = 1;
/// Processes that are told have the numbers above this one.
const TELLS: u64 = 1;
/// Longest wait without events.
const IDLE_MS: i32 = 60_000;
const READ_SIZE: usize = 64 * 1024;
/// Pause after a failure of the kernel.
const FAILED_PAUSE: u64 = 100_000_000;

pub(super) struct Thread {
    config: Config,
    answers: Answers,
    homes: Homes,
    mailbox: Arc<Mailbox<Message>>,
    machine: Sessions,
    epoll: Epoll,
    service: Option<(OwnedFd, Backlog)>,
    tells: BTreeMap<TellId, Tell>,
    kicks: HashMap<KickId, Kick>,
    flushes: Flushes,
    limits: BTreeMap<&'static str, LogLimit>,
    /// Nobody was there to end sessions, which is said once a minute.
    absent: LogLimit,
    scratch: Vec<u8>,
    stopped: bool,
}

impl Thread {
    pub fn new(
        config: Config,
        answers: Answers,
        homes: Homes,
        mailbox: Arc<Mailbox<Message>>,
    ) -> io::Result<Thread> {
        let epoll = Epoll::new()?;
        epoll.add(mailbox.as_fd(), MAIL, Interest::Readable)?;
        Ok(Thread {
            flushes: Flushes::new(Arc::clone(&answers)),
            machine: Sessions::new(config.reply_limit),
            config,
            answers,
            homes,
            mailbox,
            epoll,
            service: None,
            tells: BTreeMap::new(),
            kicks: HashMap::new(),
            limits: BTreeMap::new(),
            absent: LogLimit::rare(),
            scratch: vec![0; READ_SIZE],
            stopped: false,
        })
    }

    pub fn run(mut self) {
        let mut events = Events::default();
        self.say_if_nobody_is_there();
        while !self.stopped {
            match self.epoll.wait(&mut events, self.wait_ms()) {
                Ok(count) => (0..count).for_each(|at| self.ready(events.get(at).token)),
                Err(error) => {
                    tracing::error!("cannot wait for kicks: {error}");
                    clock::sleep_until(clock::mono().after(FAILED_PAUSE));
                }
            }
            self.late_tells();
            self.feed(Input::Tick);
        }
    }

    /// Once, at the start. A director may be started before its Dovecot, so it is no error.
    fn say_if_nobody_is_there(&self) {
        let found = |name: &&&str| self.config.base_dir.join(name).exists();
        let names = names(self.config.service);
        if !names.is_empty() && names.iter().find(found).is_none() {
            tracing::warn!(
                "sessions of users that are moved or kicked cannot be ended: there is no {} in {} \
                 yet; if there is never to be one, set kick_service to none",
                names.join(" or "),
                self.config.base_dir.display()
            );
        }
    }

    /// Whole milliseconds, so that a time that is waited for has come afterwards.
    fn wait_ms(&self) -> i32 {
        let tells = self.tells.values().map(Tell::next).min();
        let next = [self.machine.next_deadline(), tells]
            .into_iter()
            .flatten()
            .min();
        let Some(next) = next else {
            return IDLE_MS;
        };
        let wait = next.since(clock::mono()).div_ceil(1_000_000);
        i32::try_from(wait).map_or(IDLE_MS, |wait| wait.min(IDLE_MS))
    }

    fn ready(&mut self, token: u64) {
        match token {
            MAIL => self.read_mailbox(),
            SERVICE => self.service_ready(),
            token => self.tell_ready(TellId(token - TELLS)),
        }
    }

    fn read_mailbox(&mut self) {
        for message in self.mailbox.take() {
            match message {
                Message::Kick(ticket, kick) => self.kick(ticket, kick),
                Message::AbortKick(ticket) => {
                    self.kicks.remove(&KickId(ticket.0));
                    self.feed(Input::Abort(KickId(ticket.0)));
                }
                Message::Flush(ticket, flush) => {
                    let (script, limit) = (self.config.script.as_ref(), self.config.move_limit);
                    self.flushes.begin(ticket, flush, script, limit);
                }
                Message::AbortFlush(ticket) => self.flushes.abort(ticket),
                Message::Tune(config) => {
                    self.machine.tune(config.reply_limit);
                    self.config = config;
                }
                Message::Stop => self.stopped = true,
            }
        }
    }

    fn kick(&mut self, ticket: Ticket, kick: Kick) {
        if self.config.service == KickService::None {
            return (self.answers)(Answer::Kick(ticket, kick));
        }
        let id = KickId(ticket.0);
        self.kicks.insert(id, kick.clone());
        self.feed(Input::Order(id, kick));
    }

    fn feed(&mut self, input: Input<'_>) {
        self.machine.handle(input, clock::mono());
        self.perform();
    }

    /// Carries out what the machine wants, until it wants nothing more.
    fn perform(&mut self) {
        loop {
            let outputs = self.machine.take_outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                self.carry_out(output);
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect => {
                let found = self.connect();
                let input = found.map_or_else(Input::Unreachable, Input::Connected);
                self.machine.handle(input, clock::mono());
            }
            Output::Send(bytes) => {
                if let Some((fd, backlog)) = &mut self.service
                    && !backlog.send(fd.as_fd(), &bytes)
                {
                    self.ended();
                }
                self.watch();
            }
            Output::Close => self.service = None,
            Output::Find(user) => {
                let home = (self.homes)(user);
                self.machine.handle(Input::Found(home), clock::mono());
            }
            Output::Tell(id, target) => self.tell(id, &target),
            Output::Over(id) => {
                if let Some(kick) = self.kicks.remove(&id) {
                    (self.answers)(Answer::Kick(Ticket(id.0), kick));
                }
            }
            Output::Log(level, cause, text) => self.log(level, cause, &text),
        }
    }

    fn ended(&mut self) {
        self.service = None;
        self.machine.handle(Input::Ended, clock::mono());
    }

    /// The first service that somebody listens for.
    fn connect(&mut self) -> Result<Service, String> {
        let mut faults = Vec::new();
        for name in names(self.config.service) {
            let service = match *name {
                "ipc" => Service::Ipc,
                _ => Service::Anvil,
            };
            let path = self.config.base_dir.join(name);
            match dial(&path) {
                Ok(fd) => {
                    let added = self.epoll.add(fd.as_fd(), SERVICE, Interest::Duplex);
                    added.map_err(|error| error.to_string())?;
                    tracing::info!("sessions are ended by {}", path.display());
                    self.service = Some((fd, Backlog::default()));
                    return Ok(service);
                }
                Err(error) => faults.push(fault(&path, &error)),
            }
        }
        Err(faults.join("; "))
    }

    fn service_ready(&mut self) {
        let Some((fd, backlog)) = &mut self.service else {
            return;
        };
        if !backlog.flush(fd.as_fd()) {
            return self.feed(Input::Ended);
        }
        match receive(fd.as_fd(), &mut self.scratch) {
            Read::Bytes(count) => {
                let bytes = &self.scratch[..count];
                self.machine.handle(Input::Received(bytes), clock::mono());
            }
            Read::Empty => {}
            Read::End => self.ended(),
        }
        self.perform();
        self.watch();
    }

    /// Has epoll tell of room exactly while bytes wait for it.
    fn watch(&mut self) {
        let Some((fd, backlog)) = &self.service else {
            return;
        };
        let interest = match backlog.is_empty() {
            true => Interest::Readable,
            false => Interest::Duplex,
        };
        if let Err(error) = self.epoll.modify(fd.as_fd(), SERVICE, interest) {
            self.log(
                Level::Error,
                "watch",
                &format!("cannot watch a socket: {error}"),
            );
        }
    }

    fn tell(&mut self, id: TellId, target: &Target) {
        let directory = format!("srv.{}", target.service);
        let path = self
            .config
            .base_dir
            .join(directory)
            .join(target.pid.to_string());
        let begun = dial(&path).and_then(|fd| {
            self.epoll
                .add(fd.as_fd(), TELLS + id.0, Interest::Readable)?;
            Ok(Tell::begin(fd, target, clock::mono()))
        });
        match begun {
            Ok(tell) => {
                self.tells.insert(id, tell);
            }
            // It has ended meanwhile, and its sessions with it.
            Err(error) if is_gone(&path, &error) => self.told(id, Ok(0)),
            Err(error) => self.told(id, Err(fault(&path, &error))),
        }
    }

    fn told(&mut self, id: TellId, result: Result<u32, String>) {
        self.tells.remove(&id);
        self.machine.handle(Input::Told(id, result), clock::mono());
    }

    fn tell_ready(&mut self, id: TellId) {
        let Some(tell) = self.tells.get_mut(&id) else {
            return;
        };
        match tell.read(&mut self.scratch, clock::mono()) {
            Progress::More => {}
            Progress::Over(result) => self.told(id, result),
        }
        self.perform();
    }

    fn late_tells(&mut self) {
        let now = clock::mono();
        self.tells.values_mut().for_each(|tell| tell.say(now));
        let is_late = |(id, tell): (&TellId, &Tell)| (tell.until <= now).then_some(*id);
        let late: Vec<TellId> = self.tells.iter().filter_map(is_late).collect();
        for id in late {
            self.told(id, Err("its process does not answer".to_owned()));
        }
        self.perform();
    }

    fn log(&mut self, level: Level, cause: &'static str, text: &str) {
        let limit = match self.service {
            None if cause == "kick" => &mut self.absent,
            _ => self.limits.entry(cause).or_default(),
        };
        let Some(more) = limit.allow(clock::mono()) else {
            return;
        };
        say!(level, text, more);
    }
}

/// Sockets in base_dir, in the order in which they are tried.
pub(super) fn names(service: KickService) -> &'static [&'static str] {
    match service {
        KickService::Auto => &["ipc", "anvil"],
        KickService::Ipc => &["ipc"],
        KickService::Anvil => &["anvil"],
        KickService::None => &[],
    }
}

pub(super) fn dial(path: &Path) -> io::Result<OwnedFd> {
    let address = UnixAddress::new(path).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path has more than 107 bytes",
        )
    })?;
    address.connect()
}

/// A directory that may not be looked into is another matter.
fn is_gone(path: &Path, error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => true,
        io::ErrorKind::NotFound => path.parent().is_some_and(Path::exists),
        _ => false,
    }
}

/// Why a socket cannot be used, and what would help.
pub(super) fn fault(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "connect({path}) failed: {error}: the socket must belong to the user that Homing runs as"
        ),
        _ => format!("connect({path}) failed: {error}"),
    }
}
