//! Continuous logins through all members, as a proxy tier with several directors does them: a proxy
//! whose own director is down asks another one. Nothing else is tried twice.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::door::{Door, Outcome};
use crate::e2e::now;

/// Between two logins of one proxy.
const PAUSE: Duration = Duration::from_millis(8);
/// Proxies that have this member as their own.
const PROXIES: usize = 2;
/// Further ones are as bad as these.
const MAX_FAULTS: usize = 5;
/// With no director at all for this long, a login has failed.
const NO_DIRECTOR: Duration = Duration::from_secs(10);

/// Where a member can be asked, and whether it is there. Odd: the test has taken it down. A
/// connection from before that may end; any other that ends is a fault.
#[derive(Clone)]
pub struct Plate {
    pub socket: PathBuf,
    pub generation: Arc<AtomicU32>,
}

/// Logins under way.
pub struct Load {
    stop: Arc<AtomicBool>,
    proxies: Vec<JoinHandle<Tally>>,
}

/// What has happened.
#[derive(Debug, Default)]
pub struct Tally {
    pub logins: u64,
    /// Logins that another member than the proxy's own one has answered.
    pub elsewhere: u64,
    pub slowest: Duration,
    pub faults: Vec<String>,
}

struct Proxy {
    plates: Vec<Plate>,
    doors: Vec<Option<(Door, u32)>>,
    own: usize,
    tally: Tally,
}

enum Attempt {
    Answer(Outcome),
    Down,
    Fault(io::Error),
}

impl Load {
    /// Logs these users in, over and over, and compares their backends with the given ones.
    pub fn start(plates: &[Plate], users: Vec<(String, Ipv4Addr)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let users: Arc<[_]> = users.into();
        let proxies = (0..plates.len() * PROXIES).map(|number| {
            let (stop, users) = (stop.clone(), users.clone());
            let mut proxy = Proxy::new(plates.to_vec(), number);
            // Each begins elsewhere, so that a user is seen through all members at about one time.
            let from = number * users.len() / (plates.len() * PROXIES);
            thread::spawn(move || {
                let mut users = users.iter().cycle().skip(from);
                while !stop.load(Ordering::Relaxed) {
                    let (name, backend) = users.next().expect("users");
                    proxy.log_in(name, *backend);
                    thread::sleep(PAUSE);
                }
                proxy.tally
            })
        });
        let proxies = proxies.collect();
        Self { stop, proxies }
    }

    /// Ends it and checks that every login went where it should.
    pub fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for proxy in self.proxies {
            let tally = proxy.join().expect("a proxy");
            all.logins += tally.logins;
            all.elsewhere += tally.elsewhere;
            all.slowest = all.slowest.max(tally.slowest);
            all.faults.extend(tally.faults);
        }
        assert!(all.faults.is_empty(), "{all:#?}");
        assert!(all.logins > 0, "{all:?}");
        all
    }
}

impl Proxy {
    fn new(plates: Vec<Plate>, number: usize) -> Self {
        Self {
            doors: plates.iter().map(|_| None).collect(),
            own: number % plates.len(),
            plates,
            tally: Tally::default(),
        }
    }

    fn log_in(&mut self, name: &str, backend: Ipv4Addr) {
        let begun = now();
        let mut tries = 0;
        let fault = loop {
            let at = (self.own + tries) % self.plates.len();
            match self.attempt(at, name) {
                Attempt::Answer(Ok(host)) if host == backend => {
                    self.tally.elsewhere += u64::from(at != self.own);
                    break None;
                }
                Attempt::Answer(outcome) => {
                    break Some(format!("{name} at member {at}: {outcome:?}, not {backend}"));
                }
                Attempt::Fault(error) => break Some(format!("{name} at member {at}: {error}")),
                Attempt::Down if begun.elapsed() > NO_DIRECTOR => {
                    break Some(format!("{name}: no director"));
                }
                Attempt::Down => {
                    tries += 1;
                    thread::sleep(PAUSE);
                }
            }
        };
        self.tally.logins += 1;
        self.tally.slowest = self.tally.slowest.max(begun.elapsed());
        if self.tally.faults.len() < MAX_FAULTS {
            self.tally.faults.extend(fault);
        }
    }

    fn attempt(&mut self, at: usize, name: &str) -> Attempt {
        let before = self.plates[at].generation.load(Ordering::SeqCst);
        if self.doors[at].is_none() {
            match Door::open(&self.plates[at].socket) {
                Ok(door) => self.doors[at] = Some((door, before)),
                Err(error) => return self.lost(at, before, error),
            }
        }
        let (door, since) = self.doors[at].as_mut().expect("opened");
        let since = *since;
        match door.log_in(&[name]) {
            Ok(mut outcomes) => Attempt::Answer(outcomes.remove(0)),
            Err(error) => self.lost(at, since, error),
        }
    }

    /// A connection that does not work; it was made at generation `since`.
    fn lost(&mut self, at: usize, since: u32, error: io::Error) -> Attempt {
        self.doors[at] = None;
        let is_down = since % 2 == 1;
        if is_down || since != self.plates[at].generation.load(Ordering::SeqCst) {
            return Attempt::Down;
        }
        Attempt::Fault(error)
    }
}
