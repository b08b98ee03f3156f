//! Lookups at a director's sockets: connections that carry many requests at a time, or one each.

use std::io;

use mio::Token;
use mio::event::Event;

use crate::client::{Client, Received, State};
use crate::clock;
use crate::engine::{Fleet, HANDSHAKE_HINT, QUEUE_RETRY, RECONNECT, Shared};
use crate::error::Error;
use crate::lines::Reading;
use crate::plan::{Connections, Plan, Target};
use crate::tally::Failure;

/// The connections.
pub(crate) struct Lookups {
    clients: Vec<Client>,
    /// Connections to be made at a later time.
    waiting: Vec<usize>,
    /// Connections with unsent requests, and where the search for a free one goes on.
    unsent: Vec<usize>,
    next_client: usize,
    next_cpid: u32,
}

impl Lookups {
    pub(crate) fn new(plan: &Plan) -> Self {
        let client = |index| Client::new(&plan.targets, plan.in_flight, index);
        Self {
            clients: (0..plan.connections).map(client).collect(),
            waiting: Vec::new(),
            unsent: Vec::new(),
            next_client: 0,
            // Auth refuses a number that another living client has.
            next_cpid: std::process::id().wrapping_mul(1 << 12),
        }
    }
}

impl Fleet for Lookups {
    fn start(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error> {
        if shared.plan.lifetime == Connections::Kept {
            for index in 0..self.clients.len() {
                self.connect(shared, index, now)?;
            }
        }
        Ok(())
    }

    fn ready(&mut self, shared: &mut Shared<'_>, event: &Event) -> Result<(), Error> {
        let Token(index) = event.token();
        let client = &mut self.clients[index];
        let tally = &mut shared.tally;
        let per_login = shared.plan.lifetime == Connections::PerLogin;
        let mut last = 0;
        let mut handshaken = false;
        let until_end = event.is_read_closed();
        let reading = client.read(&mut shared.scratch, until_end, |slots, now, received| {
            last = now;
            match received {
                Received::Handshake => true,
                Received::Ready => {
                    tally.alive = now;
                    handshaken = true;
                    true
                }
                Received::Reply(line) => !(tally.reply(slots, now, line) && per_login),
            }
        });
        if handshaken {
            tally.connected += 1;
            if let Some(login) = client.login.take() {
                client.ask(login, &mut shared.names, &mut shared.plain);
            }
        }
        shared.put_back(last);
        match reading {
            Ok(Reading::Drained) => self.proceed(shared, index, last),
            // With one login per connection the end is ours, once the reply is there.
            Ok(Reading::Ended) if per_login && !self.in_use(index) => {
                self.clients[index].close(State::Idle);
                self.proceed(shared, index, last)
            }
            Ok(Reading::Ended) => self.broken(shared, index, None),
            Err(error) => self.broken(shared, index, Some(error)),
        }
    }

    /// Hands out what an open loop has due, one to each connection in turn.
    fn arrivals(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error> {
        if shared.workload.next_arrival().is_none_or(|due| due > now) {
            return Ok(());
        }
        let per_login = shared.plan.lifetime == Connections::PerLogin;
        while let Some(index) = self.free_client(per_login) {
            let Some(login) = shared.workload.next(now) else {
                break;
            };
            shared.tally.begin(now);
            if login.tried == 0 && shared.workload.paced() {
                shared.tally.recorder.sent(login.start, now, shared.held);
            }
            let client = &mut self.clients[index];
            if client.state == State::Idle {
                client.login = Some(login);
                self.connect(shared, index, now)?;
            } else {
                client.ask(login, &mut shared.names, &mut shared.plain);
                self.unsent.push(index);
            }
        }
        // What is due and still here waits for a reply, not for the generator.
        shared.held = shared.workload.next_arrival().is_some_and(|due| due <= now);
        while let Some(index) = self.unsent.pop() {
            if let Err(error) = self.clients[index].flush(shared.poll.registry(), Token(index)) {
                self.broken(shared, index, Some(error))?;
            }
        }
        Ok(())
    }

    fn proceed_all(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error> {
        (0..self.clients.len()).try_for_each(|index| self.proceed(shared, index, now))
    }

    /// Makes the connections whose time has come; those without a login become free for one.
    fn tick(&mut self, shared: &mut Shared<'_>, now: u64) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.waiting);
        for index in waiting {
            let client = &mut self.clients[index];
            if client.retry_at > now {
                self.waiting.push(index);
            } else if shared.plan.lifetime == Connections::PerLogin && client.login.is_none() {
                client.close(State::Idle);
                self.proceed(shared, index, now)?;
            } else {
                self.connect(shared, index, now)?;
            }
        }
        Ok(())
    }

    fn due_soon(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn handshake_error(&self, shared: &Shared<'_>, problem: String) -> Error {
        let unready = |client: &&Client| client.state != State::Ready;
        let target = self
            .clients
            .iter()
            .find(unready)
            .map_or(0, |client| client.target);
        handshake_error(&shared.plan.targets[target], problem)
    }
}

fn handshake_error(target: &Target, problem: String) -> Error {
    let hint = match target {
        Target::Authreply(_) => "is this the authreply socket?",
        _ => HANDSHAKE_HINT,
    };
    Error::Handshake {
        address: target.address(),
        problem,
        hint,
    }
}

impl Lookups {
    /// Whether a connection per login still owes a reply.
    fn in_use(&self, index: usize) -> bool {
        let client = &self.clients[index];
        client.login.is_some() || !client.slots.any_free()
    }

    /// Gives a connection its next logins and sends what is to be sent.
    fn proceed(&mut self, shared: &mut Shared<'_>, index: usize, now: u64) -> Result<(), Error> {
        if !shared.workload.paced() {
            match self.clients[index].state {
                State::Ready => {
                    while self.clients[index].slots.any_free() {
                        let Some(login) = shared.workload.next(now) else {
                            break;
                        };
                        shared.tally.begin(now);
                        self.clients[index].ask(login, &mut shared.names, &mut shared.plain);
                    }
                }
                State::Idle if shared.plan.lifetime == Connections::PerLogin => {
                    if let Some(login) = shared.workload.next(now) {
                        shared.tally.begin(now);
                        self.clients[index].login = Some(login);
                        return self.connect(shared, index, now);
                    }
                }
                _ => {}
            }
        }
        match self.clients[index].flush(shared.poll.registry(), Token(index)) {
            Ok(()) => Ok(()),
            Err(error) => self.broken(shared, index, Some(error)),
        }
    }

    /// The next connection that can take a login.
    fn free_client(&mut self, per_login: bool) -> Option<usize> {
        let count = self.clients.len();
        for step in 0..count {
            let index = (self.next_client + step) % count;
            let client = &self.clients[index];
            let free = match client.state {
                State::Ready => !per_login && client.slots.any_free(),
                State::Idle => per_login,
                _ => false,
            };
            if free {
                self.next_client = index + 1;
                return Some(index);
            }
        }
        None
    }

    fn connect(&mut self, shared: &mut Shared<'_>, index: usize, now: u64) -> Result<(), Error> {
        self.next_cpid = self.next_cpid.wrapping_add(1).max(1);
        let client = &mut self.clients[index];
        let target = client.target;
        let connected = client.connect(shared.poll.registry(), Token(index), self.next_cpid);
        let Err(error) = connected else { return Ok(()) };
        let wait = if error.kind() == io::ErrorKind::WouldBlock {
            QUEUE_RETRY // the listen queue is full: no fault, only slow
        } else {
            if shared.tally.recorder.replies == 0 {
                return Err(Error::Connect {
                    address: shared.plan.targets[target].address(),
                    source: error,
                });
            }
            self.give_up(shared, index, Failure::NotConnected, now);
            RECONNECT
        };
        self.wait(index, now + wait);
        Ok(())
    }

    fn wait(&mut self, index: usize, until: u64) {
        let client = &mut self.clients[index];
        client.close(State::Waiting);
        client.retry_at = until;
        self.waiting.push(index);
    }

    /// What a connection still owed failed with it; a connection that owed nothing counts too.
    fn give_up(&mut self, shared: &mut Shared<'_>, index: usize, failure: Failure, now: u64) {
        let client = &mut self.clients[index];
        let mut lost = 0;
        let mut each = |login| {
            lost += 1;
            shared.tally.failed(login, failure);
        };
        client.slots.abandon(&mut each);
        client.login.take().map(&mut each);
        if lost == 0 {
            shared.tally.idle_failed(failure);
        }
        shared.put_back(now);
    }

    /// The director ended a connection, or spoke nonsense without end.
    fn broken(
        &mut self,
        shared: &mut Shared<'_>,
        index: usize,
        error: Option<io::Error>,
    ) -> Result<(), Error> {
        if shared.tally.recorder.replies == 0 {
            let problem = match error {
                None => "closed the connection before it answered anything".to_owned(),
                Some(error) => format!("broke the connection before it answered anything: {error}"),
            };
            let target = &shared.plan.targets[self.clients[index].target];
            return Err(handshake_error(target, problem));
        }
        if self.clients[index].state == State::Ready {
            shared.tally.connected -= 1;
        }
        let now = clock::now();
        self.give_up(shared, index, Failure::Disconnected, now);
        self.wait(index, now + RECONNECT);
        Ok(())
    }
}
