//! What a seed draws: the size of the ring, how fast and how broken everything is. Each seed turns
//! most faults off and some up high, since a little of everything never goes deep anywhere.

use crate::rng::Rng;

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1000 * MS;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A connection is reset somewhere in its stream; both sides learn it.
    Cut,
    /// A connection dies and one side never learns it.
    HalfOpen,
    /// A connection dies and nobody learns it.
    Silence,
    /// A connection delivers nothing for a while.
    Stall,
    /// Directors on two sides of a cut network.
    Partition,
    /// One direction between two directors.
    OneWay,
    /// A process dies; its kernel resets its connections.
    Crash,
    /// A machine dies; nobody hears of it.
    PowerLoss,
    /// A process stands still.
    Pause,
    /// A wall clock jumps.
    ClockStep,
    /// Another process is started with the same identity and takes over the listener; the first one
    /// lives on.
    Duplicate,
    /// Somebody connects to the ring listener and talks nonsense.
    Intruder,
    /// A process is told to end, and takes its leave.
    Leave,
    /// An operator removes a director from the ring, and later adds it again.
    Remove,
}

pub const HARD: [Fault; 12] = [
    Fault::Cut,
    Fault::HalfOpen,
    Fault::Silence,
    Fault::Stall,
    Fault::Partition,
    Fault::OneWay,
    Fault::Crash,
    Fault::PowerLoss,
    Fault::Pause,
    Fault::ClockStep,
    Fault::Duplicate,
    Fault::Intruder,
];

/// In strict seeds no two parts of the ring ever form, so nothing excuses two backends.
pub const MILD: [Fault; 2] = [Fault::Stall, Fault::Intruder];

/// How a stream is split into reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// As it was written.
    Whole,
    /// Anywhere.
    Anywhere,
    /// Into single bytes and little more.
    Crumbs,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub directors: usize,
    pub cores: usize,
    pub users: usize,
    pub tags: usize,
    pub backends: usize,
    pub expire_secs: u32,
    /// How long faults go on.
    pub run: u64,
    pub login_every: u64,
    /// No fault that separates directors: S1 without exemption.
    pub strict: bool,
    pub latency: (u64, u64),
    pub split: Split,
    /// Bytes under way on one connection in one direction.
    pub window: usize,
    /// Furthest that a wall clock is off, in each direction.
    pub skew: u64,
    pub note_capacity: usize,
    pub note_delay: u64,
    pub snapshot_lag: u64,
    pub kick_time: u64,
    pub output_buffer: usize,
    pub flush_script: bool,
    pub user_limit: u64,
    /// All directors at one address, with a port each.
    pub shared_ip: bool,
    pub faults: Vec<Fault>,
    pub fault_every: u64,
    /// 0: operators do nothing.
    pub order_every: u64,
    /// Orders that forget users without ending their sessions: removing and flushing backends.
    pub forced_orders: bool,
    /// A member that speaks an older minor version.
    pub old: Option<(usize, u32)>,
    /// Flush scripts of which some never end.
    pub scripts_hang: bool,
    /// Of a hundred kicks so many are never answered.
    pub unanswered_kicks: u64,
    /// Orders that move many users: drains and bulk resets.
    pub bulk_orders: bool,
}

impl Options {
    pub fn draw(rng: &mut Rng) -> Options {
        let directors = rng.pick(&[1, 2, 2, 3, 3, 3, 4, 5, 10]);
        let strict = rng.percent(25);
        let from: &[Fault] = if strict { &MILD } else { &HARD };
        let likely = rng.pick(&[15, 40, 80]);
        let faults: Vec<Fault> = from
            .iter()
            .copied()
            .filter(|_| rng.percent(likely))
            .collect();
        let slowest = rng.pick(&[2 * MS, 20 * MS, 200 * MS]);
        let skewed = !strict && rng.percent(20);
        Options {
            directors,
            cores: rng.pick(&[1, 2, 4]),
            users: rng.pick(&[3, 10, 30]),
            tags: rng.pick(&[1, 1, 2]),
            backends: rng.pick(&[1, 2, 3, 5]),
            expire_secs: rng.pick(&[10, 30, 60, 60, 300]),
            run: rng.pick(&[120, 300, 600]) * SECOND,
            login_every: rng.pick(&[300, 1000, 5000]) * MS,
            strict,
            latency: (slowest / 20, slowest),
            split: rng.pick(&[
                Split::Whole,
                Split::Anywhere,
                Split::Anywhere,
                Split::Crumbs,
            ]),
            window: rng.pick(&[300, 4096, 65536, 65536]),
            skew: if skewed {
                rng.pick(&[2, 30, 400]) * SECOND
            } else {
                rng.pick(&[0, 250, 499]) * MS
            },
            note_capacity: rng.pick(&[1, 8, 1000, 1000]),
            note_delay: rng.pick(&[0, MS, 50 * MS]),
            snapshot_lag: rng.pick(&[0, 5 * MS, 300 * MS]),
            kick_time: rng.pick(&[MS, 100 * MS, 800 * MS]),
            output_buffer: rng.pick(&[16 << 10, 10 << 20, 10 << 20]),
            flush_script: rng.percent(30),
            user_limit: if strict {
                1 << 20
            } else {
                rng.pick(&[10, 1 << 20, 1 << 20])
            },
            shared_ip: rng.percent(10),
            faults,
            fault_every: rng.pick(&[5, 30, 120]) * SECOND,
            order_every: rng.pick(&[0, 3, 20, 90]) * SECOND,
            forced_orders: rng.percent(40),
            old: None,
            scripts_hang: false,
            unanswered_kicks: 0,
            bulk_orders: false,
        }
    }

    /// What came to be simulated later, from numbers of its own: seeds without any of it mean what they
    /// always meant.
    pub fn draw_more(&mut self, rng: &mut Rng) {
        let least = if self.tags > 1 { 7 } else { 6 };
        if rng.percent(10) && self.directors > 1 && !self.strict {
            // Below 6 HOST does not say whether a backend is down, so the backends cannot agree.
            let minor = u32::try_from(rng.between(least, 8)).unwrap();
            self.old = Some((rng.index(self.directors), minor));
        }
        self.scripts_hang = self.flush_script && rng.percent(30);
        if rng.percent(10) {
            self.unanswered_kicks = rng.pick(&[10, 50, 100]);
        }
        for fault in [Fault::Leave, Fault::Remove] {
            if !self.strict && self.directors > 1 && rng.percent(15) {
                self.faults.push(fault);
            }
        }
        if self.strict && self.directors > 1 && rng.percent(40) {
            self.faults.push(Fault::Leave);
        }
        self.bulk_orders = self.order_every > 0 && rng.percent(20);
    }

    /// Moves may take as long as they may.
    pub fn moves_may_hang(&self) -> bool {
        self.flush_script || self.unanswered_kicks > 0
    }
}
