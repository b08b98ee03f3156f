//! A thousand users, each with up to two sessions at a time through any of the login processes, who come back; and
//! guests besides, of whom nobody knows anything when they come.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::deeds::Dice;
use crate::e2e::{PATIENCE, now, wait_until};
use crate::login::{Door, Sessions};
use crate::network::DIRECTORS;
use crate::tier::Tier;

pub const USERS: usize = 1000;
const THREADS: usize = 10;
/// Between two things that the clients of a thread do.
const PAUSE: Duration = Duration::from_millis(15);
/// Guests of a thread, and for how long they come.
const GUESTS: usize = 20;
const STAY: Duration = Duration::from_secs(6);
/// Between two keep-alives of a session.
const REFRESH: Duration = Duration::from_secs(10);

const COMING: u8 = 0;
/// Sessions stay, and are kept alive.
const STAYING: u8 = 1;
const GONE: u8 = 2;

pub struct Clients {
    sessions: Arc<Sessions>,
    threads: Vec<JoinHandle<()>>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    phase: AtomicU8,
    logins: AtomicU64,
    failed: AtomicU64,
}

struct Thread {
    sessions: Arc<Sessions>,
    tally: Arc<Tally>,
    logins: Vec<PathBuf>,
    fifos: Vec<PathBuf>,
    doors: Vec<Option<Door>>,
    /// The guests are the last.
    users: Vec<String>,
    regulars: usize,
    number: usize,
    dice: Dice,
}

pub fn start(tier: &Tier, seed: u64) -> Clients {
    let tally = Arc::new(Tally::default());
    let thread = |number: usize| {
        let users = (0..USERS).filter(|user| user % THREADS == number);
        let thread = Thread {
            sessions: Arc::clone(&tier.sessions),
            tally: Arc::clone(&tally),
            logins: (0..DIRECTORS).map(|at| tier.login(at)).collect(),
            fifos: (0..DIRECTORS).map(|at| tier.notify(at)).collect(),
            doors: (0..DIRECTORS).map(|_| None).collect(),
            users: users.map(|user| format!("user{user}")).collect(),
            regulars: USERS / THREADS,
            number,
            dice: Dice::new(seed ^ (number as u64 + 1) << 32),
        };
        thread::spawn(move || thread.work())
    };
    Clients {
        sessions: Arc::clone(&tier.sessions),
        threads: (0..THREADS).map(thread).collect(),
        tally,
    }
}

impl Clients {
    pub fn wait_sessions(&self) {
        wait_until("most users have logged in", PATIENCE, || {
            self.sessions.count().0 > USERS / 2
        });
    }

    /// Those who are there stay.
    pub fn stop_coming(&self) {
        self.tally.phase.store(STAYING, Ordering::SeqCst);
    }

    pub fn finish(self) -> impl fmt::Display {
        self.tally.phase.store(GONE, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("clients");
        }
        let count = |it: &AtomicU64| it.load(Ordering::SeqCst);
        let (logins, failed) = (count(&self.tally.logins), count(&self.tally.failed));
        assert!(
            failed < logins / 2,
            "{failed} of {logins} logins have failed"
        );
        let (sessions, kicked, doubles) = self.sessions.count();
        format!(
            "{logins} logins, {failed} failed, {kicked} sessions ended by directors, {doubles} on a second backend \
             while directors were parted, {sessions} at the end"
        )
    }
}

impl Thread {
    fn work(mut self) {
        let (mut refresh, mut changed) = (now(), now());
        for round in 0u32.. {
            match self.tally.phase.load(Ordering::SeqCst) {
                COMING if round == 0 || changed.elapsed() >= STAY => {
                    changed = now();
                    self.change_guests(round);
                }
                COMING => self.act(),
                STAYING => {}
                _ => return,
            }
            if refresh.elapsed() >= REFRESH {
                refresh = now();
                self.keep_alive();
            }
            thread::sleep(PAUSE);
        }
    }

    fn change_guests(&mut self, round: u32) {
        for guest in self.users.drain(self.regulars..) {
            for session in self.sessions.of(&guest) {
                self.sessions.end(&guest, session.number);
            }
        }
        let thread = self.number;
        let guests = (0..GUESTS).map(|guest| format!("guest{thread}-{round}-{guest}"));
        self.users.extend(guests);
    }

    /// Somebody comes, comes once more, or goes.
    fn act(&mut self) {
        // Half of those who do something are guests.
        let guests = self.users.len() - self.regulars;
        let at = match self.dice.below(2) {
            0 => self.dice.below(self.regulars),
            _ => self.regulars + self.dice.below(guests),
        };
        let user = self.users[at].clone();
        let sessions = self.sessions.of(&user);
        match sessions.as_slice() {
            [first, _, ..] => self.sessions.end(&user, first.number),
            [only] if self.dice.below(4) == 0 => self.sessions.end(&user, only.number),
            _ => self.log_in(&user),
        }
    }

    fn log_in(&mut self, user: &str) {
        let at = self.dice.below(DIRECTORS);
        let asked = now();
        let mut ask = || {
            let door = match self.doors[at].take() {
                Some(door) => door,
                None => Door::open(&self.logins[at])?,
            };
            self.doors[at].insert(door).log_in(user)
        };
        match ask() {
            Ok(Some(backend)) => {
                self.sessions.begin(user, at, backend, asked);
                self.tally.logins.fetch_add(1, Ordering::SeqCst);
            }
            Ok(None) => {
                self.tally.failed.fetch_add(1, Ordering::SeqCst);
            }
            // The director is not there, or stands still. Its answer must not be taken for one to somebody else.
            Err(_) => {
                self.doors[at] = None;
                self.tally.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn keep_alive(&self) {
        let mut lines = vec![String::new(); DIRECTORS];
        for user in &self.users {
            for session in self.sessions.of(user) {
                lines[session.beside] += &format!("{user}\n");
            }
        }
        for (path, lines) in self.fifos.iter().zip(lines) {
            // Without a reader there is nobody to be told.
            let opened = nix::fcntl::open(
                path,
                nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_NONBLOCK,
                nix::sys::stat::Mode::empty(),
            );
            if let Ok(fifo) = opened {
                // A director that stands still has a full one.
                let _ = std::fs::File::from(fifo).write_all(lines.as_bytes());
            }
        }
    }
}
