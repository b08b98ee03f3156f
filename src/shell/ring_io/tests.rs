//! Sockets, notes and alarms with a machine that notes what it is told and does what a test says.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::core::ring::{Answer, Flush, FlushResult, Kick, Order, Report, Request, Ticket};
use crate::core::users::SHARDS;
use crate::core::{TagId, UserHash};
use crate::shell::cores::Message as News;
use crate::wire::admin::{DirectorRow, RingStatus};

const OWN: &str = "127.0.0.1";

/// What the machine was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Accepted(ConnId, IpAddr),
    Connected(ConnId),
    DialFailed(ConnId),
    Received(ConnId, Vec<u8>),
    Ended(ConnId),
    Written(ConnId, usize),
    Tick,
    Notes(Vec<UserKey>),
    NotesLost(usize),
    Kicked(UserKey),
    KickOver,
    Flushed(UserKey, FlushResult),
    Asked(Ticket, Request),
    Left,
    Other,
}

#[derive(Default)]
struct Script {
    told: Vec<Told>,
    outputs: Vec<Output>,
    buffers: BTreeMap<ConnId, Vec<u8>>,
    /// Said to everybody who connects.
    greeting: Vec<u8>,
    deadline: Option<Mono>,
    conns: u64,
    published: bool,
}

impl Machine for Script {
    fn drains(&self) -> Vec<crate::core::ring::Draining> {
        Vec::new()
    }

    fn whereabouts(
        &mut self,
        _: crate::core::UserHash,
        _: &[u8],
        _: Now,
    ) -> Option<crate::core::ring::Whereabouts> {
        None
    }

    fn learn(&mut self, _: &[Learnt], _: Now) -> bool {
        true
    }

    fn rank(&self) -> usize {
        0
    }

    fn handle(&mut self, input: Input<'_>, _: Now) {
        let told = match input {
            Input::Accepted { conn, source } => {
                self.buffers.insert(conn, self.greeting.clone());
                Told::Accepted(conn, source)
            }
            Input::Connected(conn) => Told::Connected(conn),
            Input::DialFailed(conn) => Told::DialFailed(conn),
            Input::Received(conn, bytes) => Told::Received(conn, bytes.to_vec()),
            Input::Ended(conn) => Told::Ended(conn),
            Input::Written(conn, unsent) => Told::Written(conn, unsent),
            Input::Tick => {
                self.deadline = None;
                Told::Tick
            }
            Input::Notes(keys) => Told::Notes(keys.to_vec()),
            Input::NotesLost(shard) => Told::NotesLost(shard),
            Input::Kicked(key) => Told::Kicked(key),
            Input::KickOver => Told::KickOver,
            Input::Flushed(key, result) => Told::Flushed(key, result),
            Input::Request(ticket, request) => Told::Asked(ticket, request.clone()),
            Input::Leave => Told::Left,
            Input::Secured(_) | Input::Start | Input::Swept => Told::Other,
        };
        self.told.push(told);
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    fn unwritten(&mut self, each: &mut dyn FnMut(ConnId, &mut Vec<u8>)) {
        for (&id, bytes) in &mut self.buffers {
            each(id, bytes);
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.deadline
    }

    fn next_conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    fn certificates(&self) -> Option<Arc<tls::Certificates>> {
        None
    }

    fn take_published(&mut self) -> bool {
        std::mem::take(&mut self.published)
    }

    fn tune(&mut self, _: Tuning) {
        self.told.push(Told::Other);
    }

    fn summary(&self) -> String {
        format!("told: {}", self.told.len())
    }

    fn report(&self, _: Now) -> Report {
        vec![row()]
    }
}

fn row() -> DirectorRow {
    DirectorRow::Ourselves {
        director: DirectorId {
            ip: OWN.parse().unwrap(),
            port: 9090,
        },
        last_failed: 0,
        ring: RingStatus::Synced,
        sync_ms: 3,
    }
}

struct Rig {
    io: RingIo<Script>,
    notes: Arc<Notes>,
    cores: Arc<Cores>,
    mailbox: Arc<Mailbox<Message>>,
    replies: Arc<Replies>,
    events: Events,
}

impl Rig {
    fn new() -> Rig {
        let notes = Arc::new(Notes::new().unwrap());
        let cores = Arc::new(Cores::new(2, 100).unwrap());
        let mailbox = Arc::new(Mailbox::new().unwrap());
        let replies = Arc::new(Replies::new().unwrap());
        let own = OWN.parse().unwrap();
        let io = RingIo::new(
            Script::default(),
            own,
            Arc::clone(&notes),
            Arc::clone(&cores),
            Arc::clone(&mailbox),
            Arc::clone(&replies),
        );
        let mut rig = Rig {
            io: io.unwrap(),
            notes,
            cores,
            mailbox,
            replies,
            events: Events::default(),
        };
        rig.poke();
        rig.quiet();
        rig.io.machine.told.clear();
        rig
    }

    fn listening() -> (Rig, std::net::SocketAddr) {
        let mut rig = Rig::new();
        let listener = TcpListener::bind((OWN, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        rig.mailbox.send(Message::Listen(0, listener.into()));
        rig.quiet();
        (rig, address)
    }

    /// Turns without pauses until there was something to do, for so many milliseconds.
    fn turn(&mut self, millis: i32) -> bool {
        // In one turn it falls asleep, and in the next it sleeps.
        (0..2).any(|_| self.io.turn(&mut self.events, millis).unwrap())
    }

    /// A turn in which nothing happens but that the machine is told something.
    fn poke(&mut self) {
        self.mailbox.send(Message::Input(Input::Swept));
        assert!(self.turn(5000));
    }

    fn quiet(&mut self) {
        while self.turn(30) {}
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&[Told]) -> bool) {
        while !done(&self.io.machine.told) {
            assert!(self.turn(5000), "{what}: {:?}", self.io.machine.told);
        }
    }

    fn until_told(&mut self, told: &Told) {
        self.until(&format!("{told:?}"), |all| all.contains(told));
    }

    fn output(&mut self, output: Output) {
        self.io.machine.outputs.push(output);
        self.poke();
    }

    fn told(&self, told: &Told) -> bool {
        self.io.machine.told.contains(told)
    }
}

fn user(hash: u32) -> UserKey {
    UserKey {
        tag: TagId(0),
        hash: UserHash(hash),
    }
}

const FIRST: ConnId = ConnId(1);

#[test]
fn a_connection_from_its_beginning_to_its_end() {
    let (mut rig, address) = Rig::listening();
    rig.io.machine.greeting = b"VERSION\n".to_vec();
    let mut peer = TcpStream::connect(address).unwrap();
    rig.until_told(&Told::Accepted(FIRST, OWN.parse().unwrap()));
    rig.until_told(&Told::Written(FIRST, 0));
    let mut bytes = [0; 8];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"VERSION\n");
    peer.write_all(b"ME\n").unwrap();
    rig.until_told(&Told::Received(FIRST, b"ME\n".to_vec()));
    drop(peer);
    rig.until_told(&Told::Ended(FIRST));
    assert!(rig.io.conns.is_empty());
    rig.io.machine.buffers.insert(FIRST, b"late".to_vec());
    rig.poke();
    assert!(rig.io.machine.buffers[&FIRST].is_empty());
}

#[test]
fn dialling_succeeds_fails_and_cannot_begin() {
    let mut rig = Rig::new();
    let listener = TcpListener::bind((OWN, 0)).unwrap();
    let free = TcpListener::bind((OWN, 0)).unwrap();
    let director = |listener: &TcpListener| DirectorId {
        ip: OWN.parse().unwrap(),
        port: listener.local_addr().unwrap().port(),
    };
    let (there, nowhere) = (director(&listener), director(&free));
    drop(free);
    rig.output(Output::Dial(ConnId(1), there));
    rig.until_told(&Told::Connected(ConnId(1)));
    assert!(!rig.turn(30), "it is not watched for room any more");
    rig.output(Output::Dial(ConnId(2), nowhere));
    rig.until_told(&Told::DialFailed(ConnId(2)));
    rig.io.own = "192.0.2.1".parse().unwrap();
    rig.output(Output::Dial(ConnId(3), there));
    assert!(rig.told(&Told::DialFailed(ConnId(3))));
    assert_eq!(rig.io.conns.len(), 1);
    rig.output(Output::Close(ConnId(1), b"QUIT\n".to_vec()));
    let mut said = String::new();
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.read_to_string(&mut said).unwrap();
    assert_eq!(said, "QUIT\n");
    rig.quiet();
    assert!(!rig.told(&Told::Ended(ConnId(1))) && rig.io.conns.is_empty());
}

#[test]
fn a_slow_peer_is_waited_for_and_the_machine_knows_how_much_waits() {
    const MUCH: usize = 20 << 20;
    let (mut rig, address) = Rig::listening();
    rig.io.machine.greeting = vec![b'x'; MUCH];
    let mut peer = TcpStream::connect(address).unwrap();
    rig.until("written", |told| {
        told.iter().any(|it| matches!(it, Told::Written(..)))
    });
    let waits = |told: &[Told]| match told.last() {
        Some(Told::Written(FIRST, unsent)) => *unsent,
        other => panic!("{other:?}"),
    };
    assert!(waits(&rig.io.machine.told) > 0);
    assert!(!rig.turn(50), "nothing to do while it does not read");
    let reader = std::thread::spawn(move || {
        let mut count = 0;
        let mut buffer = vec![0; 1 << 20];
        while count < MUCH {
            count += peer.read(&mut buffer).unwrap();
        }
        peer
    });
    rig.until_told(&Told::Written(FIRST, 0));
    let _peer = reader.join().unwrap();
    assert!(!rig.turn(30), "it is not watched for room any more");
}

#[test]
fn no_more_than_a_number_of_connections_at_once() {
    let (mut rig, address) = Rig::listening();
    let peers: Vec<TcpStream> = (0..accept::ACCEPTED_MAX + 10)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    rig.quiet();
    assert_eq!(rig.io.conns.len(), accept::ACCEPTED_MAX);
    drop(peers);
    rig.quiet();
    assert!(rig.io.conns.is_empty());
    rig.mailbox.send(Message::StopListening);
    rig.quiet();
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_pause_after_a_refusal_of_the_kernel_ends() {
    let (mut rig, address) = Rig::listening();
    rig.io
        .pause_accepting(&io::Error::from_raw_os_error(libc::EMFILE));
    rig.poke();
    let _peer = TcpStream::connect(address).unwrap();
    rig.until_told(&Told::Accepted(FIRST, OWN.parse().unwrap()));
}

#[test]
fn the_first_note_at_once_and_the_next_ones_together() {
    let mut rig = Rig::new();
    let leave = |rig: &Rig, hash| {
        rig.notes.put(user(hash));
        rig.notes.rouse();
    };
    leave(&rig, 1);
    assert!(rig.turn(5000));
    assert!(rig.told(&Told::Notes(vec![user(1)])), "in the first turn");
    let first = rig.io.now.mono;
    assert_eq!(rig.io.next_turn, Some(first.after(TURN_PAUSE)));
    leave(&rig, 2);
    leave(&rig, 3);
    rig.io.pause();
    assert!(rig.io.turn(&mut rig.events, 5000).unwrap());
    assert!(rig.told(&Told::Notes(vec![user(2), user(3)])));
    assert!(rig.io.now.mono.since(first) >= TURN_PAUSE);
    rig.quiet();
    assert!(!rig.io.awake && rig.io.next_turn.is_none());
    leave(&rig, 4);
    assert!(rig.turn(5000) && rig.told(&Told::Notes(vec![user(4)])));
}

#[test]
fn lines_come_together_while_a_neighbour_talks_and_who_sends_much_waits_less() {
    let (mut rig, address) = Rig::listening();
    let mut peer = TcpStream::connect(address).unwrap();
    rig.until_told(&Told::Accepted(FIRST, OWN.parse().unwrap()));
    rig.quiet();
    peer.write_all(b"one\n").unwrap();
    rig.until_told(&Told::Received(FIRST, b"one\n".to_vec()));
    assert!(rig.io.next_turn.is_some());
    rig.notes.put(user(1));
    rig.notes.rouse();
    let mut fds = [PollFd::new(rig.notes.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::ZERO).unwrap(), 0, "it is awake");
    rig.io.pause();
    assert!(rig.turn(0) && rig.told(&Told::Notes(vec![user(1)])));
    rig.quiet();
    peer.write_all(&[b'x'; 3 * READ_SIZE]).unwrap();
    let before = clock::mono();
    assert!(rig.turn(5000));
    // As long as the turn has taken at most, and so is the CPU for others then.
    let now = clock::mono();
    let pause = rig.io.next_turn.unwrap().since(now);
    assert!(pause <= TURN_PAUSE.min(now.since(before)), "{pause} ns");
}

#[test]
fn messages_are_carried_out_and_the_last_ends_it() {
    let (mut rig, address) = Rig::listening();
    let mut peer = TcpStream::connect(address).unwrap();
    rig.until_told(&Told::Accepted(FIRST, OWN.parse().unwrap()));
    let (sender, receiver) = crossbeam::channel::bounded(1);
    rig.mailbox.send(Message::Summary(sender));
    rig.quiet();
    assert!(receiver.try_recv().unwrap().starts_with("told: "));
    rig.notes.put(user(1));
    rig.notes.rouse();
    rig.io
        .machine
        .buffers
        .insert(FIRST, b"last words\n".to_vec());
    rig.mailbox.send(Message::Leave);
    assert!(rig.turn(5000) && rig.io.left);
    assert!(rig.told(&Told::Notes(vec![user(1)])));
    assert_eq!(rig.io.machine.told.last(), Some(&Told::Left));
    assert!(rig.io.conns.is_empty());
    let mut said = String::new();
    peer.read_to_string(&mut said).unwrap();
    assert_eq!(said, "last words\n");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn at_the_end_all_notes_are_told_of_and_all_that_was_said_is_written() {
    let (mut rig, address) = Rig::listening();
    let mut peer = TcpStream::connect(address).unwrap();
    rig.until_told(&Told::Accepted(FIRST, OWN.parse().unwrap()));
    for shard in 0..70_000u32 {
        rig.notes.put(user((shard % SHARDS as u32) << 22 | 1));
    }
    let said = vec![b'x'; 8 << 20];
    rig.io.machine.buffers.insert(FIRST, said.clone());
    let reader = std::thread::spawn(move || {
        let mut read = Vec::new();
        peer.read_to_end(&mut read).map(|_| read)
    });
    rig.mailbox.send(Message::Leave);
    assert!(rig.turn(5000) && rig.io.left);
    let lost = |it: &&Told| matches!(it, Told::NotesLost(_));
    assert_eq!(rig.io.machine.told.iter().filter(lost).count(), SHARDS);
    assert_eq!(rig.io.machine.told.last(), Some(&Told::Left));
    assert_eq!(reader.join().unwrap().unwrap().len(), said.len());
}

#[test]
fn lost_notes_are_looked_for_and_those_who_wait_ask_again() {
    let mut rig = Rig::new();
    rig.cores.waits_of(1).set(true);
    let sleepy = Duration::from_millis(5);
    for shard in 0..70_000u32 {
        rig.notes.put(user((shard % SHARDS as u32) << 22 | 1));
    }
    rig.notes.rouse();
    std::thread::sleep(sleepy);
    rig.quiet();
    let lost = |it: &&Told| matches!(it, Told::NotesLost(_));
    let notes = |it: &Told| match it {
        Told::Notes(keys) => keys.len(),
        _ => 0,
    };
    assert_eq!(rig.io.machine.told.iter().filter(lost).count(), SHARDS);
    assert_eq!(rig.io.machine.told.iter().map(notes).sum::<usize>(), 65_536);
    let messages = rig.cores.mailbox_of(1).take();
    assert!(messages.iter().all(|it| matches!(it, News::TryAll)));
    assert!(!messages.is_empty() && rig.cores.mailbox_of(0).take().is_empty());
}

#[test]
fn a_deadline_comes_at_its_time() {
    let mut rig = Rig::new();
    let at = clock::mono().after(40_000_000);
    rig.io.machine.deadline = Some(at);
    rig.poke();
    assert!(!rig.told(&Told::Tick));
    rig.until_told(&Told::Tick);
    assert!(rig.io.now.mono >= at);
    assert!(!rig.turn(30));
}

#[test]
fn kicks_and_flush_scripts_are_answered_while_nothing_can_carry_them_out() {
    let mut rig = Rig::new();
    rig.output(Output::Kick(Kick::Moved(user(7))));
    assert!(rig.told(&Told::Kicked(user(7))));
    assert!(!rig.told(&Told::KickOver));
    rig.output(Output::Kick(Kick::User(b"joe".to_vec())));
    assert!(rig.told(&Told::KickOver));
    rig.output(Output::AbortKick(user(7)));
    rig.output(Output::Flush(Flush {
        key: user(8),
        old: OWN.parse().unwrap(),
        old_down: false,
        old_vhosts: 100,
        new: OWN.parse().unwrap(),
        new_name: None,
    }));
    assert!(rig.told(&Told::Flushed(user(8), FlushResult::Failed)));
}

#[test]
fn operators_are_replied_to_by_their_tickets() {
    let mut rig = Rig::new();
    let request = Request::Order(Order::KickUser(b"joe".to_vec()));
    let (first, second) = (Ticket(1), Ticket(2));
    rig.mailbox.send(Message::Request(first, request.clone()));
    rig.until_told(&Told::Asked(first, request));
    rig.mailbox.send(Message::Report(second));
    rig.quiet();
    let readable = |rig: &Rig| {
        let mut fds = [PollFd::new(rig.replies.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap()
    };
    assert_eq!(readable(&rig), 1);
    // Who waits is not passed by, but lists wait for nobody.
    let listed = (second, Reply::Report(vec![row()]));
    assert_eq!(rig.replies.take(), [listed]);
    assert_eq!(readable(&rig), 0);
    rig.output(Output::Answer(first, Answer::Done));
    let done = (first, Reply::Answer(Answer::Done));
    assert_eq!(rig.replies.take(), [done]);
}

#[test]
fn news_go_to_the_cores_where_somebody_waits_and_snapshots_to_all() {
    let mut rig = Rig::new();
    rig.io
        .machine
        .outputs
        .extend([Output::Wake(user(1)), Output::Wake(user(2))]);
    rig.cores.waits_of(1).set(true);
    rig.poke();
    assert!(rig.cores.mailbox_of(0).take().is_empty());
    match &rig.cores.mailbox_of(1).take()[..] {
        [News::Woken(users)] => assert_eq!(**users, [user(1), user(2)]),
        _ => panic!("one message for both"),
    }
    rig.io.machine.published = true;
    rig.poke();
    for core in 0..2 {
        let mut fds = [PollFd::new(
            rig.cores.mailbox_of(core).as_fd(),
            PollFlags::POLLIN,
        )];
        assert_eq!(poll(&mut fds, PollTimeout::ZERO).unwrap(), 1);
    }
}
