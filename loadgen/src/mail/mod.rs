//! Mail sessions through a proxy: each connection carries one login, is held for a time and
//! closed, and may then carry the next.

mod dialogue;
mod transport;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use mio::Token;
use mio::event::Event;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::clock;
use crate::engine::{Fleet, Shared};
use crate::error::Error;
use crate::plan::{MailTarget, Plan, Security, Target};
use crate::tally::Failure;
use crate::workload::{Login, Phase, nanos};
use dialogue::{Dialogue, Script, Step};
use transport::{Transport, tls_config};

/// A server gets this long to close a session that said goodbye.
const GOODBYE: u64 = 5_000_000_000;

/// One of the plan's targets, resolved.
struct Place {
    mail: MailTarget,
    address: SocketAddr,
    /// For targets with TLS.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Connecting,
    /// Up to the end of the login.
    LoggingIn,
    /// After the login, up to the end.
    Entered,
    /// Said goodbye.
    Leaving,
}

struct Client {
    state: State,
    target: usize,
    /// When to look at it next; other timers of it are stale.
    due: u64,
    transport: Option<Transport>,
    dialogue: Dialogue,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    login: Option<Login>,
}

/// All sessions.
pub(crate) struct Sessions {
    places: Vec<Place>,
    clients: Vec<Client>,
    free: Vec<usize>,
    /// When to look at which connection.
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    mark: Option<Vec<u8>>,
    hold: u64,
    login_timeout: u64,
    drained: bool,
    password: Vec<u8>,
}

fn place(plan: &Plan, target: &Target) -> Result<Place, Error> {
    let wrong = |problem| Error::Plan {
        setting: "--target",
        problem,
        right: "a host that can be found, and a name that can be in a certificate",
    };
    let Target::Mail(mail) = target else {
        return Err(wrong(format!("{} is no mail target", target.kind())));
    };
    let found = (mail.host.as_str(), mail.port).to_socket_addrs();
    let found = found.map_err(|error| wrong(format!("{}: {error}", target.address())))?;
    let address = found.into_iter().next();
    let address = address.ok_or_else(|| wrong(format!("{} has no address", mail.host)))?;
    let tls = if mail.security == Security::Plain {
        None
    } else {
        let name = plan.session.tls_name.as_ref().unwrap_or(&mail.host);
        let name = ServerName::try_from(name.clone());
        let name = name.map_err(|error| wrong(format!("{}: {error}", mail.host)))?;
        Some((tls_config(&plan.session)?, name))
    };
    Ok(Place {
        mail: mail.clone(),
        address,
        tls,
    })
}

impl Sessions {
    pub(crate) fn new(plan: &Plan) -> Result<Self, Error> {
        let places = plan.targets.iter().map(|target| place(plan, target));
        let places = places.collect::<Result<Vec<_>, _>>()?;
        let client = |index| Client {
            state: State::Idle,
            target: index % places.len(),
            due: 0,
            transport: None,
            dialogue: Dialogue::new(),
            inbox: Vec::new(),
            outbox: Vec::new(),
            login: None,
        };
        let count = plan.connections as usize;
        let mark = plan.session.backend_mark.as_ref();
        Ok(Self {
            clients: (0..count).map(client).collect(),
            free: (0..count).rev().collect(),
            places,
            timers: BinaryHeap::new(),
            mark: mark.map(|mark| mark.clone().into_bytes()),
            hold: nanos(plan.session.hold),
            login_timeout: nanos(plan.session.login_timeout),
            drained: false,
            password: Vec::new(),
        })
    }

    /// Gives logins to free connections as long as there are both.
    fn hand_out(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error> {
        while let Some(index) = self.free.pop() {
            let Some(login) = shared.workload.next(now) else {
                self.free.push(index);
                break;
            };
            shared.tally.begin(now);
            if login.tried == 0 && shared.workload.paced() {
                shared.tally.recorder.sent(login.start, now, shared.held);
            }
            self.connect(shared, index, login, now)?;
        }
        shared.held = shared.workload.next_arrival().is_some_and(|due| due <= now);
        Ok(())
    }

    fn connect(
        &mut self,
        shared: &mut Shared<'_>,
        index: usize,
        login: Login,
        now: u64,
    ) -> Result<(), Error> {
        let client = &mut self.clients[index];
        client.login = Some(login);
        client.dialogue = Dialogue::new();
        client.inbox.clear();
        client.outbox.clear();
        client.state = State::Connecting;
        let address = self.places[client.target].address;
        match Transport::connect(address, shared.poll.registry(), Token(index)) {
            Ok(transport) => client.transport = Some(transport),
            Err(error) => {
                // Descriptors or local ports ran out: that is no fault of the target's.
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EMFILE | libc::EADDRNOTAVAIL)
                ) {
                    let what = "the generator has no descriptor or local port left \
                                (ulimit -n, net.ipv4.ip_local_port_range)";
                    return Err(Error::kernel(what)(error));
                }
                return self.failed(shared, index, Failure::NotConnected, Some(error));
            }
        }
        self.look_at(index, now + self.login_timeout);
        Ok(())
    }

    /// What came on a connection, up to its end.
    fn serve(&mut self, shared: &mut Shared<'_>, index: usize) -> Result<(), Error> {
        let client = &mut self.clients[index];
        let Some(transport) = &mut client.transport else {
            return Ok(()); // an event of a connection closed since
        };
        if client.state == State::Connecting {
            match transport.is_connected() {
                Ok(false) => return Ok(()),
                Ok(true) => client.state = State::LoggingIn,
                Err(error) => {
                    return self.failed(shared, index, Failure::NotConnected, Some(error));
                }
            }
            let place = &self.places[client.target];
            if let (Security::Tls, Some((config, name))) = (place.mail.security, &place.tls)
                && let Err(error) = transport.secure(config, name)
            {
                return self.failed(shared, index, Failure::NotConnected, Some(error));
            }
        }
        let read = transport.read(&mut shared.scratch, &mut client.inbox);
        let ended = match read {
            Ok(ended) => ended,
            Err(error) => return self.failed(shared, index, Failure::Disconnected, Some(error)),
        };
        let over = self.lines(shared, index)?;
        let client = &mut self.clients[index];
        let Some(transport) = &mut client.transport else {
            return Ok(());
        };
        if let Err(error) = transport.write(&mut client.outbox) {
            return self.failed(shared, index, Failure::Disconnected, Some(error));
        }
        match client.state {
            State::Leaving if ended => self.close(shared, index),
            _ if ended || over => self.failed(shared, index, Failure::Disconnected, None),
            _ => Ok(()),
        }
    }

    /// Takes the lines that have come. True: the server ended the session.
    fn lines(&mut self, shared: &mut Shared<'_>, index: usize) -> Result<bool, Error> {
        let mut taken = 0;
        while let Some(length) = memchr::memchr(b'\n', &self.clients[index].inbox[taken..]) {
            let (begin, end) = (taken, taken + length);
            taken = end + 1;
            match self.line(shared, index, begin, end) {
                Step::Wait => {}
                Step::StartTls => {
                    let rest = self.clients[index].inbox.len() - taken;
                    let secured = rest == 0 && self.start_tls(shared, index).is_ok();
                    if !secured {
                        self.failed(shared, index, Failure::NotConnected, None)?;
                        return Ok(false);
                    }
                }
                Step::Entered => self.entered(shared, index),
                Step::Settled => self.settled(shared, index),
                Step::Refused { temporary } => self.refused(shared, index, temporary),
                Step::Over => {
                    if self.clients[index].state != State::Leaving {
                        return Ok(true);
                    }
                }
                Step::Nonsense => {
                    let error = io::Error::other("what came is not of this protocol");
                    self.failed(shared, index, Failure::Disconnected, Some(error))?;
                    return Ok(false);
                }
            }
        }
        self.clients[index].inbox.drain(..taken);
        Ok(false)
    }

    fn line(&mut self, shared: &mut Shared<'_>, index: usize, begin: usize, end: usize) -> Step {
        let client = &mut self.clients[index];
        let line = &client.inbox[begin..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mail = &self.places[client.target].mail;
        let script = script(
            mail,
            client.login,
            (self.mark.as_deref(), holds(self.hold, shared)),
            &mut self.password,
            shared,
        );
        client.dialogue.line(line, &script, &mut client.outbox)
    }

    fn start_tls(&mut self, shared: &mut Shared<'_>, index: usize) -> io::Result<()> {
        let client = &mut self.clients[index];
        let place = &self.places[client.target];
        let (Some(transport), Some((config, name))) = (&mut client.transport, &place.tls) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        transport.secure(config, name)?;
        let hold = (self.mark.as_deref(), holds(self.hold, shared));
        let script = script(&place.mail, client.login, hold, &mut self.password, shared);
        client.dialogue.secured(&script, &mut client.outbox);
        Ok(())
    }

    fn entered(&mut self, shared: &mut Shared<'_>, index: usize) {
        let now = clock::now();
        let client = &mut self.clients[index];
        client.state = State::Entered;
        if let Some(login) = client.login {
            shared.tally.ended(login, now);
            if login.wrong {
                shared.tally.checker.wrong_password(false);
            }
        }
        if client.dialogue.is_settled() {
            self.settled(shared, index);
        }
    }

    fn settled(&mut self, shared: &mut Shared<'_>, index: usize) {
        let client = &mut self.clients[index];
        if let Some(login) = client.login.filter(|login| !login.wrong) {
            let backend = client.dialogue.backend.as_deref();
            shared.tally.checker.entered(login.user, backend);
        }
        let now = clock::now();
        if !holds(self.hold, shared) || self.drained {
            self.leave(index, now);
        } else {
            self.look_at(index, now + self.hold);
        }
    }

    fn refused(&mut self, shared: &mut Shared<'_>, index: usize, temporary: bool) {
        let now = clock::now();
        if let Some(login) = self.clients[index].login {
            if temporary {
                shared.tally.alive = now;
                shared.tally.failed(login, Failure::Temporary);
                shared.put_back(now);
            } else {
                shared.tally.ended(login, now);
                if login.wrong {
                    shared.tally.checker.wrong_password(true);
                } else {
                    shared.tally.checker.failed(false);
                }
            }
        }
        self.leave(index, now);
    }

    /// Says goodbye; the server closes.
    fn leave(&mut self, index: usize, now: u64) {
        let client = &mut self.clients[index];
        let protocol = self.places[client.target].mail.protocol;
        client.dialogue.leave(protocol, &mut client.outbox);
        client.state = State::Leaving;
        self.look_at(index, now + GOODBYE);
    }

    fn look_at(&mut self, index: usize, due: u64) {
        self.clients[index].due = due;
        self.timers.push(Reverse((due, index)));
    }

    /// A session is at its end, the connection free.
    fn close(&mut self, shared: &mut Shared<'_>, index: usize) -> Result<(), Error> {
        let client = &mut self.clients[index];
        client.transport = None; // closing takes it out of the poll as well
        client.state = State::Idle;
        client.login = None;
        self.free.push(index);
        self.hand_out(shared, clock::now())
    }

    fn failed(
        &mut self,
        shared: &mut Shared<'_>,
        index: usize,
        failure: Failure,
        error: Option<io::Error>,
    ) -> Result<(), Error> {
        let client = &mut self.clients[index];
        let now = clock::now();
        match client.state {
            State::Connecting | State::LoggingIn => {
                let patient = shared.plan.retry.times > 0;
                if shared.tally.recorder.replies == 0 && !patient {
                    let target = &shared.plan.targets[client.target];
                    return Err(never(target, failure, error));
                }
                if let Some(login) = client.login {
                    shared.tally.failed(login, failure);
                    shared.put_back(now);
                }
            }
            State::Entered => shared.tally.idle_failed(failure),
            State::Idle | State::Leaving => {}
        }
        client.transport = None;
        client.state = State::Idle;
        client.login = None;
        self.free.push(index);
        // Not `hand_out`: a target that refuses connections would be called without end from here.
        Ok(())
    }
}

/// Whether sessions are held: not while users only log in to be known.
fn holds(hold: u64, shared: &Shared<'_>) -> bool {
    hold > 0 && shared.workload.phase != Phase::Preload
}

/// What is said in the session of a login.
fn script<'a>(
    mail: &MailTarget,
    login: Option<Login>,
    (mark, hold): (Option<&'a [u8]>, bool),
    password: &'a mut Vec<u8>,
    shared: &'a mut Shared<'_>,
) -> Script<'a> {
    password.clear();
    let (user, wrong) = login.map_or((0, false), |login| (login.user, login.wrong));
    shared.names.password(user, wrong, password);
    Script {
        protocol: mail.protocol,
        security: mail.security,
        mark,
        hold,
        user: shared.names.of(user),
        password,
    }
}

/// The first login failed: there is no use in going on.
fn never(target: &Target, failure: Failure, error: Option<io::Error>) -> Error {
    let address = target.address();
    match (failure, error) {
        (Failure::NotConnected, Some(source)) => Error::Connect { address, source },
        (_, error) => {
            let what = "ended the session before anybody was logged in".to_owned();
            Error::Handshake {
                address,
                problem: error.map_or(what.clone(), |error| format!("{what}: {error}")),
                hint: "is this the port of that protocol, with or without TLS, and its certificate \
                       trusted? One that is its own CA is trusted by --tls-any only",
            }
        }
    }
}

impl Fleet for Sessions {
    fn start(&mut self, shared: &mut Shared<'_>, _now: u64) -> Result<(), Error> {
        shared.tally.connected = self.clients.len(); // none is kept: none is missing
        Ok(())
    }

    fn ready(&mut self, shared: &mut Shared<'_>, event: &Event) -> Result<(), Error> {
        let Token(index) = event.token();
        self.serve(shared, index)
    }

    fn arrivals(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error> {
        if shared.workload.next_arrival().is_some_and(|due| due <= now) {
            return self.hand_out(shared, now);
        }
        Ok(())
    }

    fn proceed_all(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error> {
        self.hand_out(shared, now)
    }

    fn tick(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error> {
        if shared.workload.phase == Phase::Drain && !self.drained {
            self.drained = true;
            let held = |client: &Client| client.state == State::Entered;
            for index in 0..self.clients.len() {
                if held(&self.clients[index]) && self.clients[index].dialogue.is_settled() {
                    self.leave(index, now);
                    self.serve(shared, index)?;
                }
            }
        }
        while let Some(Reverse((due, index))) = self.timers.peek().copied() {
            if due > now {
                break;
            }
            self.timers.pop();
            if self.clients[index].due != due {
                continue;
            }
            match self.clients[index].state {
                State::Entered if self.clients[index].dialogue.is_settled() => {
                    self.leave(index, now);
                    self.serve(shared, index)?;
                }
                State::Connecting | State::LoggingIn | State::Entered => {
                    let error = io::Error::from(io::ErrorKind::TimedOut);
                    self.failed(shared, index, Failure::TimedOut, Some(error))?;
                }
                State::Leaving => self.close(shared, index)?,
                State::Idle => {}
            }
        }
        if shared.workload.paced() {
            return Ok(());
        }
        self.hand_out(shared, now)
    }

    fn due_soon(&self) -> bool {
        false
    }

    fn busy(&self) -> bool {
        self.free.len() < self.clients.len()
    }

    fn handshake_error(&self, shared: &Shared<'_>, problem: String) -> Error {
        Error::Handshake {
            address: shared.plan.targets[0].address(),
            problem,
            hint: "is this the port of that protocol, with or without TLS?",
        }
    }
}
