//! The threads, with a resolver that does what a test says, and a ring that only notes what it is asked.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::core::director::{Config, Director, Seed};
use crate::core::snapshot::Standing;
use crate::core::user_hash::Template;
use crate::shell::directory::Tunables;
use crate::shell::io::UnixAddress;

const HOSTS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const OFTEN: Duration = Duration::from_millis(10);
const LIMIT: u64 = 60 * Mono::SECOND;

/// Each lookup waits for a message, or for the end of the channel.
struct Slow {
    gate: Receiver<()>,
    begun: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Network for Slow {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let _ = self.gate.recv();
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(vec![ip(1), new_address(host)])
    }

    fn is_local(&self, _: IpAddr) -> bool {
        false
    }
}

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn new_address(host: &str) -> IpAddr {
    ip(host.as_bytes()[0])
}

struct Stage {
    thread: NamesThread,
    network: Arc<Slow>,
    ring: Arc<Mailbox<Message>>,
    /// Dropped, all lookups end.
    gate: Option<Sender<()>>,
}

fn directory() -> Directory {
    let config = Config {
        expire_secs: 900,
        username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
        master_user_separator: None,
        hasher: ahash::RandomState::with_seed(1),
    };
    let seed = Seed {
        ip: ip(1),
        name: Some("a"),
        tag: "",
        vhosts: 70,
    };
    let mut director = Director::new(config, [seed].into_iter()).unwrap();
    let nowhere = || UnixAddress::new(Path::new("/nonexistent")).unwrap();
    let tunables = Tunables {
        users: 1000,
        new_per_second: 0,
        auth_login: nowhere(),
        auth_userdb: nowhere(),
        lookup_timeout: 1,
        batch_delay: 0,
    };
    Directory::new(Arc::new(director.snapshot(Standing::alone())), tunables, 1).unwrap()
}

impl Stage {
    /// All names have had 10.0.0.1 so far.
    fn new(interval: Duration) -> Stage {
        let (gate, wait) = bounded(0);
        let network = Arc::new(Slow {
            gate: wait,
            begun: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let ring = Arc::new(Mailbox::new().unwrap());
        let thread = NamesThread::start(Setup {
            names: Names::new(HOSTS.map(|host| (host, "", ip(1)))),
            interval,
            network: Arc::clone(&network) as Arc<dyn Network + Send + Sync>,
            directory: Arc::new(directory()),
            ring: Arc::clone(&ring),
        });
        Stage {
            thread,
            network,
            ring,
            gate: Some(gate),
        }
    }

    fn begun(&self) -> usize {
        self.network.begun.load(Ordering::SeqCst)
    }
}

fn sleep(milliseconds: u64) {
    clock::sleep_until(clock::mono().after(milliseconds * 1_000_000));
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = clock::mono().after(LIMIT);
    while !done() {
        assert!(clock::mono() < end, "{what}");
        sleep(5);
    }
}

#[test]
fn a_few_lookups_run_at_a_time_and_what_they_find_is_asked_for() {
    let mut stage = Stage::new(OFTEN);
    let running = || stage.network.running.load(Ordering::SeqCst);
    wait_until("lookups begin", || running() == RUNNING_MAX);
    sleep(300);
    assert_eq!(stage.begun(), RUNNING_MAX);
    stage.gate = None;
    let mut asked = Vec::new();
    wait_until("all new addresses are asked for", || {
        for message in stage.ring.take() {
            match message {
                Message::Rank(sender) => sender.send(0).unwrap(),
                Message::Request(ticket, Request::Order(order)) => {
                    assert!(ticket.0 >= FIRST_TICKET);
                    asked.push(order);
                }
                _ => panic!("another message"),
            }
        }
        asked.len() == HOSTS.len()
    });
    let wanted = |host: &str| Order::AddNamed {
        ip: new_address(host),
        name: host.to_owned(),
        tag: Vec::new(),
        vhosts: 70,
    };
    for host in HOSTS {
        assert!(asked.contains(&wanted(host)), "{host}: {asked:?}");
    }
    assert_eq!(stage.network.most.load(Ordering::SeqCst), RUNNING_MAX);
}

#[test]
fn a_reload_changes_how_often() {
    let mut stage = Stage::new(Duration::ZERO);
    stage.gate = None;
    sleep(200);
    assert_eq!(stage.begun(), 0);
    stage.thread.tune(OFTEN);
    wait_until("lookups go on", || stage.begun() > 3 * HOSTS.len());
    stage.thread.tune(Duration::ZERO);
    // It may be waiting for the ring to say where we stand.
    wait_until("lookups end", || {
        let before = stage.begun();
        sleep(1500);
        stage.begun() == before
    });
}

#[test]
fn without_names_there_is_no_thread() {
    let thread = NamesThread::start(Setup {
        names: Names::default(),
        interval: OFTEN,
        network: Arc::new(crate::settings::network::SystemNetwork),
        directory: Arc::new(directory()),
        ring: Arc::new(Mailbox::new().unwrap()),
    });
    assert!(thread.tell.is_none());
}
