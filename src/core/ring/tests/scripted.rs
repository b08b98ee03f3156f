//! One machine among neighbours that say what the test tells them, line by line.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::core::members::Member;
use crate::core::moves::State;

/// Port of every director here.
pub(super) const PORT: u16 = 17_790;
/// First line of a Dovecot director.
pub(super) const VERSION: &str = "VERSION\tdirector\t1\t9";
pub(super) const OPTIONS: &str = "OPTIONS\tconsistent-hashing";

/// Where and among whom the machine is.
#[derive(Clone)]
pub(super) struct Setup {
    /// Last byte of our address.
    pub(super) us: u8,
    /// Those of all directors.
    pub(super) directors: Vec<u8>,
    /// Those of the backends.
    pub(super) hosts: Vec<u8>,
    /// `director_user_expire`.
    pub(super) expire: u32,
    /// The clock at the beginning.
    pub(super) begins: u64,
    pub(super) limits: Limits,
}

impl Default for Setup {
    /// The director between two others of which most lines were recorded.
    fn default() -> Setup {
        Setup {
            us: 32,
            directors: vec![31, 32, 33],
            hosts: vec![1, 2, 3],
            expire: 60,
            begins: START,
            limits: limits(0),
        }
    }
}

/// One machine, and everything that it did.
pub(super) struct Scripted {
    pub(super) ring: Ring,
    pub(super) users: Users,
    pub(super) us: u8,
    mono: u64,
    begins: u64,
    /// What was written to each connection and was not read yet.
    written: BTreeMap<ConnId, String>,
    /// Those whose PINGs are answered.
    alive: BTreeSet<ConnId>,
    pub(super) dials: VecDeque<(ConnId, u8)>,
    pub(super) closed: Vec<ConnId>,
    pub(super) events: Vec<Event>,
    pub(super) kicks: Vec<Kick>,
    pub(super) wakes: Vec<UserKey>,
    pub(super) answers: Vec<(u64, Answer)>,
    pub(super) flushes: Vec<Flush>,
    pub(super) aborted: usize,
}

pub(super) fn d(n: u8) -> DirectorId {
    DirectorId {
        ip: IpAddr::from([127, 77, 0, n]),
        port: PORT,
    }
}

/// `command <address> <port>`.
pub(super) fn naming(command: &str, n: u8) -> String {
    format!("{command}\t127.77.0.{n}\t{PORT}")
}

/// The prefix of a command that a director issues.
pub(super) fn from(command: &str, n: u8, seq: u32, rest: &str) -> String {
    format!("{command}\t127.77.0.{n}\t{PORT}\t{seq}\t{rest}")
}

fn is_ping(line: &str) -> bool {
    line.starts_with("PING\t") || line.starts_with("PONG\t")
}

impl Scripted {
    pub(super) fn new(setup: &Setup) -> Scripted {
        let config = Config {
            expire_secs: setup.expire,
            username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
            master_user_separator: None,
            hasher: ahash::RandomState::with_seed(1),
        };
        let seed = |&n: &u8| Seed {
            ip: backend(n),
            name: None,
            tag: "",
            vhosts: 100,
        };
        let director = Director::new(config, setup.hosts.iter().map(seed)).unwrap();
        let now = Now {
            mono: Mono(1),
            wall: Wall(setup.begins),
        };
        let others = setup.directors.iter().map(|&n| d(n));
        Scripted {
            ring: Ring::new(director, d(setup.us), others, setup.limits, now).unwrap(),
            users: Users {
                shards: (0..SHARDS).map(|_| Shard::new(1)).collect(),
                published: 1,
                behind: false,
            },
            us: setup.us,
            mono: 1,
            begins: setup.begins,
            written: BTreeMap::new(),
            alive: BTreeSet::new(),
            dials: VecDeque::new(),
            closed: Vec::new(),
            events: Vec::new(),
            kicks: Vec::new(),
            wakes: Vec::new(),
            answers: Vec::new(),
            flushes: Vec::new(),
            aborted: 0,
        }
    }

    pub(super) fn started(setup: &Setup) -> Scripted {
        let mut this = Scripted::new(setup);
        this.input(Input::Start);
        this
    }

    pub(super) fn now(&self) -> Now {
        Now {
            mono: Mono(self.mono),
            wall: Wall(self.clock()),
        }
    }

    /// The wall clock.
    pub(super) fn clock(&self) -> u64 {
        self.begins + self.mono / Mono::SECOND
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        let now = self.now();
        self.ring.handle(input, now, &mut self.users);
        self.pump();
    }

    pub(super) fn order(&mut self, order: Order) -> Result<(), OrderError> {
        let now = self.now();
        let done = self.ring.order(&order, now, &mut self.users);
        self.pump();
        done
    }

    pub(super) fn ask(&mut self, ticket: u64, request: &Request) {
        self.input(Input::Request(Ticket(ticket), request));
    }

    /// What was answered since the last look.
    pub(super) fn answered_to(&mut self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.answers)
    }

    fn pump(&mut self) {
        for _ in 0..100_000 {
            let outputs = self.ring.take_outputs();
            let taken: Vec<(ConnId, Vec<u8>)> = self
                .ring
                .unwritten()
                .map(|(conn, bytes)| (conn, std::mem::take(bytes)))
                .collect();
            if outputs.is_empty() && taken.is_empty() {
                return;
            }
            outputs.into_iter().for_each(|output| self.done(output));
            for (conn, bytes) in taken {
                self.wrote(conn, bytes);
            }
        }
        panic!("the machine does not become quiet");
    }

    fn done(&mut self, output: Output) {
        match output {
            Output::Dial(conn, to) => {
                let IpAddr::V4(ip) = to.ip else {
                    panic!("all directors here have IPv4 addresses")
                };
                self.dials.push_back((conn, ip.octets()[3]));
            }
            Output::Close(conn, rest) => {
                self.closed.push(conn);
                self.alive.remove(&conn);
                let text = String::from_utf8(rest).unwrap();
                self.written.entry(conn).or_default().push_str(&text);
            }
            Output::Kick(kick) => self.kicks.push(kick),
            Output::Wake(key) => self.wakes.push(key),
            Output::Event(event) => self.events.push(event),
            Output::Answer(ticket, answer) => self.answers.push((ticket.0, answer)),
            Output::Flush(flush) => self.flushes.push(flush),
            Output::AbortKick(_) | Output::AbortFlush(_) => self.aborted += 1,
            Output::Secure(_) => panic!("TLS is off"),
        }
    }

    fn wrote(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let text = String::from_utf8(bytes).unwrap();
        let pings = text.lines().filter(|line| line.starts_with("PING\t"));
        let pings = pings.count();
        self.written.entry(conn).or_default().push_str(&text);
        let now = self.now();
        self.ring
            .handle(Input::Written(conn, 0), now, &mut self.users);
        for _ in 0..pings {
            if self.alive.contains(&conn) {
                let pong = format!("PONG\t{}\t0\n", self.clock());
                let pong = Input::Received(conn, pong.as_bytes());
                self.ring.handle(pong, now, &mut self.users);
            }
        }
    }

    /// Lets time pass, with everything that is due in it.
    pub(super) fn pass_ms(&mut self, ms: u64) {
        let end = self.mono + ms * (Mono::SECOND / 1000);
        for _ in 0..100_000 {
            match self.ring.next_deadline() {
                Some(at) if at.0 <= end => {
                    self.mono = self.mono.max(at.0);
                    self.input(Input::Tick);
                }
                _ => {
                    self.mono = end;
                    return;
                }
            }
        }
        panic!("time does not pass");
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.pass_ms(seconds * 1000);
    }

    /// Somebody connects; nothing is said yet.
    pub(super) fn accept(&mut self, n: u8) -> ConnId {
        let conn = self.ring.next_conn();
        let source = d(n).ip;
        self.input(Input::Accepted { conn, source });
        conn
    }

    /// One read with these lines.
    pub(super) fn batch(&mut self, conn: ConnId, lines: &[&str]) {
        let mut text = lines.join("\n");
        text.push('\n');
        self.input(Input::Received(conn, text.as_bytes()));
    }

    pub(super) fn say(&mut self, conn: ConnId, line: &str) {
        self.batch(conn, &[line]);
    }

    pub(super) fn me(&self, n: u8) -> String {
        format!("{}\t{}", naming("ME", n), self.clock())
    }

    /// VERSION and ME of a director; its PINGs are answered from now on.
    pub(super) fn introduce(&mut self, conn: ConnId, n: u8) {
        let me = self.me(n);
        self.batch(conn, &[VERSION, &me]);
        self.alive.insert(conn);
    }

    /// A director connects and says who it is.
    pub(super) fn met(&mut self, n: u8) -> ConnId {
        let conn = self.accept(n);
        self.introduce(conn, n);
        conn
    }

    /// A director connects and is done.
    pub(super) fn joined(&mut self, n: u8) -> ConnId {
        let conn = self.met(n);
        self.batch(
            conn,
            &["HOST-HAND-START\t0", "HOST-HAND-END\t0", OPTIONS, "DONE"],
        );
        conn
    }

    /// The oldest dial that was not answered, which must be to this director.
    pub(super) fn dialled(&mut self, n: u8) -> ConnId {
        let (conn, to) = self.dials.pop_front().expect("somebody is dialled");
        assert_eq!(to, n, "who is dialled");
        conn
    }

    pub(super) fn refused(&mut self, n: u8) {
        let conn = self.dialled(n);
        self.input(Input::DialFailed(conn));
    }

    /// The dial goes through; nothing is said yet.
    pub(super) fn reached(&mut self, n: u8) -> ConnId {
        let conn = self.dialled(n);
        self.input(Input::Connected(conn));
        conn
    }

    /// The dial goes through, and the director is done at once.
    pub(super) fn answered(&mut self, n: u8) -> ConnId {
        let conn = self.reached(n);
        self.introduce(conn, n);
        self.say(conn, "DONE");
        conn
    }

    pub(super) fn lost(&mut self, conn: ConnId) {
        self.alive.remove(&conn);
        self.input(Input::Ended(conn));
    }

    /// It answers PINGs no more.
    pub(super) fn silent(&mut self, conn: ConnId) {
        self.alive.remove(&conn);
    }

    /// What was written to a connection since the last look, with PINGs and PONGs.
    pub(super) fn all(&mut self, conn: ConnId) -> Vec<String> {
        let text = self.written.remove(&conn).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The same without PINGs and PONGs.
    pub(super) fn read(&mut self, conn: ConnId) -> Vec<String> {
        let mut lines = self.all(conn);
        lines.retain(|line| !is_ping(line));
        lines
    }

    /// The same without SYNC either.
    pub(super) fn told(&mut self, conn: ConnId) -> Vec<String> {
        let mut lines = self.read(conn);
        lines.retain(|line| !line.starts_with("SYNC\t"));
        lines
    }

    /// What was written up to now is of no interest.
    pub(super) fn forget_written(&mut self) {
        self.written.clear();
    }

    /// Nothing that has happened up to now is of interest.
    pub(super) fn forget(&mut self) {
        self.written.clear();
        self.events.clear();
        self.kicks.clear();
        self.wakes.clear();
        self.closed.clear();
    }

    /// Our newest SYNC on a connection, which is read.
    pub(super) fn own_sync(&mut self, conn: ConnId) -> Option<String> {
        let start = naming("SYNC", self.us) + "\t";
        let lines = self.all(conn);
        lines.into_iter().rfind(|line| line.starts_with(&start))
    }

    /// Our SYNC to the right comes home over the left.
    pub(super) fn round(&mut self, left: ConnId, right: ConnId) {
        self.round_begun(left, right);
        assert!(self.ring.standing().synced, "our SYNC is home");
    }

    /// The same, after which another one may begin.
    pub(super) fn round_begun(&mut self, left: ConnId, right: ConnId) {
        let sync = self.own_sync(right).expect("a SYNC went out");
        self.say(left, &sync);
    }

    pub(super) fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }

    pub(super) fn synced(&self) -> bool {
        self.ring.standing().synced
    }

    pub(super) fn left(&self) -> Option<DirectorId> {
        self.ring.left()
    }

    pub(super) fn right(&self) -> Option<DirectorId> {
        self.ring.right()
    }

    pub(super) fn member(&self, n: u8) -> &Member {
        self.ring.members().get(d(n)).expect("it is in the list")
    }

    /// It counts as not reached, or sent garbage.
    pub(super) fn avoids(&self, n: u8) -> bool {
        !self.member(n).may_be_dialled(self.now().mono)
    }

    /// It sent garbage.
    pub(super) fn garbage(&self, n: u8) -> bool {
        self.member(n).sent_garbage_lately(self.now().mono)
    }

    /// It counts as not reached.
    pub(super) fn unreached(&self, n: u8) -> bool {
        self.avoids(n) && !self.garbage(n)
    }

    /// The number that our next command will have.
    pub(super) fn next_seq(&self) -> u32 {
        self.member(self.us).last_seq + 1
    }

    /// A USER line.
    pub(super) fn user(&self, hash: u32, host: u8, ago: i64) -> String {
        let time = self.clock().checked_add_signed(-ago).unwrap();
        format!("USER\t{hash}\t10.0.0.{host}\t{time}")
    }

    /// Where a user lives, how old it is, and whether it is weak.
    pub(super) fn known(&self, hash: u32) -> Option<(IpAddr, u64, bool)> {
        let snapshot = self.ring.snapshot();
        let now = self.now().wall;
        let entry = self.users.shards[shard_of(UserHash(hash))].peek(key(hash), now, snapshot)?;
        let ip = snapshot.backend(entry.backend())?.ip;
        Some((ip, now.0 - entry.stamp().0, entry.is_weak()))
    }

    pub(super) fn move_state(&self, hash: u32) -> Option<State> {
        self.ring.moves.state(key(hash))
    }

    /// A login here; what it notes is told.
    pub(super) fn login(&mut self, hash: u32) -> Decision {
        let now = self.now();
        let key = key(hash);
        let snapshot = Arc::clone(self.ring.snapshot());
        let shard = &mut self.users.shards[shard_of(key.hash)];
        let login = shard.login(key, now.wall, &snapshot, || Ok(()));
        if login.note != Note::None {
            self.input(Input::Notes(&[key]));
        }
        login.decision
    }
}

/// A synced ring: the machine, its left, its right.
pub(super) fn whole(setup: &Setup) -> (Scripted, ConnId, ConnId) {
    let mut this = Scripted::started(setup);
    let at = setup.directors.iter().position(|&n| n == setup.us).unwrap();
    let count = setup.directors.len();
    let right = this.answered(setup.directors[(at + 1) % count]);
    let left = this.joined(setup.directors[(at + count - 1) % count]);
    this.round(left, right);
    this.forget();
    (this, left, right)
}

/// The recorded place: .31 to the left of .32, .33 to the right.
pub(super) fn between() -> (Scripted, ConnId, ConnId) {
    whole(&Setup::default())
}
