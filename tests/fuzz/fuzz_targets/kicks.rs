//! Any bytes from ipc or anvil, cut anywhere, among orders and answers of login processes: every order
//! is over exactly once, nothing is told twice, and the machine comes to rest.

#![no_main]

use std::collections::BTreeSet;

use homing::core::ring::Kick;
use homing::core::sessions::{Input, KickId, Output, Service, Sessions, TellId};
use homing::core::{Mono, TagId, UserHash, UserKey};
use homing::wire::{anvil, ipc};
use libfuzzer_sys::fuzz_target;

/// The world around the machine.
struct World {
    machine: Sessions,
    now: u64,
    last: u64,
    /// Orders that are not over.
    open: BTreeSet<KickId>,
    aborted: BTreeSet<KickId>,
    tells: BTreeSet<TellId>,
    connecting: bool,
    connected: bool,
}

impl World {
    fn new() -> World {
        World {
            // The default of kick_timeout.
            machine: Sessions::new(10 * Mono::SECOND),
            now: 0,
            last: 0,
            open: BTreeSet::new(),
            aborted: BTreeSet::new(),
            tells: BTreeSet::new(),
            connecting: false,
            connected: false,
        }
    }

    fn feed(&mut self, input: Input<'_>) {
        self.machine.handle(input, Mono(self.now));
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
                assert!(!self.connected && !self.connecting);
                self.connecting = true;
            }
            Output::Send(bytes) => {
                assert!(self.connected && bytes.ends_with(b"\n"));
            }
            Output::Close => {
                assert!(self.connected);
                self.connected = false;
            }
            Output::Find(user) => {
                let home = (user.0 % 3 != 0).then(|| [10, 0, 0, 1].into());
                self.machine.handle(Input::Found(home), Mono(self.now));
            }
            Output::Tell(id, target) => {
                assert!(self.tells.insert(id), "told twice");
                assert!(target.service.ends_with("-login") && !target.service.contains('/'));
            }
            Output::Over(id) => assert!(self.open.remove(&id), "over twice, or aborted"),
            Output::Log(_, _, text) => assert!(!text.contains('\n'), "{text:?}"),
        }
    }

    fn order(&mut self, kind: u8, number: u8) {
        self.last += 1;
        let id = KickId(self.last);
        self.open.insert(id);
        let hash = UserHash(u32::from(number) + 1);
        let kick = match kind % 4 {
            0 => Kick::Moved(UserKey {
                tag: TagId(0),
                hash,
            }),
            1 => Kick::Hash(hash, [10, 0, 0, number].into()),
            2 => Kick::User(vec![number; usize::from(number) * 5]),
            _ => Kick::Alt(b"user_x".to_vec(), vec![number]),
        };
        self.feed(Input::Order(id, kick));
    }

    fn connect(&mut self, how: u8) {
        if !std::mem::take(&mut self.connecting) {
            return;
        }
        match how % 4 {
            0 => self.feed(Input::Unreachable("nobody".to_owned())),
            1 => {
                self.connected = true;
                self.feed(Input::Connected(Service::Ipc));
            }
            _ => {
                self.connected = true;
                self.feed(Input::Connected(Service::Anvil));
                if self.connected && how & 4 == 0 {
                    self.feed(Input::Received(b"VERSION\tanvil-server\t2\t0\n"));
                }
            }
        }
    }

    fn step(&mut self, what: u8, number: u8) {
        match what % 8 {
            0 | 1 => self.order(what / 8, number),
            2 => self.connect(number),
            3 if self.connected => {
                self.connected = false;
                self.feed(Input::Ended);
            }
            4 => {
                let id = KickId(u64::from(number));
                if self.open.remove(&id) {
                    self.aborted.insert(id);
                }
                self.feed(Input::Abort(id));
            }
            5 => {
                let result = match number & 1 {
                    0 => Ok(u32::from(number)),
                    _ => Err("no".to_owned()),
                };
                if let Some(id) = self.tells.pop_first() {
                    self.feed(Input::Told(id, result));
                }
            }
            6 => {
                self.now += u64::from(number) * 100_000_000;
                self.feed(Input::Tick);
            }
            _ => {}
        }
    }

    /// With time, and nobody who answers, everything is over.
    fn rest(&mut self) {
        for _ in 0..200 {
            self.connect(0);
            match self.machine.next_deadline() {
                Some(at) => {
                    self.now = self.now.max(at.0);
                    self.feed(Input::Tick);
                }
                None if self.connecting => {}
                None => break,
            }
        }
        assert!(self.open.is_empty(), "{:?} are not over", self.open);
    }
}

/// What is read is the same however it is written.
fn codecs(line: &[u8]) {
    let _ = (ipc::Reply::parse(line), anvil::parse_admin_reply(line));
    let mut listing = ipc::Listing::default();
    listing.row(b"username\tservice\tsrc-ip\tdest-ip\tdest-port");
    if let Some(session) = listing.row(line) {
        assert!(session.user.len() <= line.len());
    }
    let mut dump = anvil::Dump::default();
    dump.line(b"user_director_hash");
    if let anvil::Line::Session(session) = dump.line(line) {
        let _ = dump.field(&session, anvil::HASH_FIELD.as_bytes());
        let mut told = Vec::new();
        anvil::write_admin_kick(&session.user, &session.guid, &mut told);
        assert_eq!(told.iter().filter(|byte| **byte == b'\n').count(), 2);
    }
}

// Input: steps of two bytes; a step of kind 7 is followed by so many bytes from the service.
fuzz_target!(|data: &[u8]| {
    data.split(|byte| *byte == b'\n').for_each(codecs);
    let mut world = World::new();
    let mut rest = data;
    while let [what, number, after @ ..] = rest {
        rest = after;
        if what % 8 == 7 {
            let (bytes, after) = rest.split_at(usize::from(*number).min(rest.len()));
            rest = after;
            if world.connected {
                world.feed(Input::Received(bytes));
            }
        } else {
            world.step(*what, *number);
        }
    }
    world.rest();
});
