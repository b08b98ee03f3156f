//! Sockets with a ring that does what a test says.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::accept::{CONNS_MAX, Gate};
use super::serve::AdminThread;
use super::*;
use crate::core::director::{Config, Director, Seed};
use crate::core::ring::{Order, Request};
use crate::core::snapshot::Standing;
use crate::core::user_hash::Template;
use crate::core::users::{Heard, shard_of};
use crate::core::{BackendSlot, TagId, UserKey};
use crate::shell::directory::Tunables;
use crate::shell::io::UnixAddress;
use crate::shell::ring_io::serve as ring;
use crate::wire::admin::GREETING;

const LIMIT: Duration = Duration::from_secs(20);

struct Stage {
    thread: AdminThread,
    directory: Arc<Directory>,
    /// What the ring is asked.
    asked: Arc<Mailbox<ring::Message>>,
    replies: Arc<Replies>,
    /// Lets the settings be read.
    settings: mpsc::Sender<Option<Vec<IpAddr>>>,
    dir: TempDir,
}

fn ip(n: u8) -> IpAddr {
    [10, 0, 0, n].into()
}

impl Stage {
    /// Backends 10.0.0.1 and 10.0.0.2.
    fn new() -> Stage {
        let config = Config {
            expire_secs: 900,
            username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
            master_user_separator: None,
            hasher: ahash::RandomState::with_seed(1),
        };
        let context = Context {
            ring_port: 9090,
            username_hash: Arc::clone(&config.username_hash),
        };
        let seeds = [1, 2].map(|n| Seed {
            ip: ip(n),
            name: None,
            tag: "",
            vhosts: 100,
        });
        let mut director = Director::new(config, seeds.into_iter()).unwrap();
        let initial = Arc::new(director.snapshot(Standing::alone()));
        let nowhere = || UnixAddress::new(Path::new("/nonexistent")).unwrap();
        let tunables = Tunables {
            users: 1_000_000,
            new_per_second: 0,
            auth_login: nowhere(),
            auth_userdb: nowhere(),
            lookup_timeout: 1,
            batch_delay: 0,
        };
        let directory = Arc::new(Directory::new(Arc::clone(&initial), tunables, 1).unwrap());
        let asked = Arc::new(Mailbox::new().unwrap());
        let replies = Arc::new(Replies::new().unwrap());
        let (settings, read) = mpsc::channel();
        let read = parking_lot::Mutex::new(read);
        let thread = AdminThread::start(Setup {
            directory: Arc::clone(&directory),
            initial,
            configured: Arc::new(move || read.lock().recv_timeout(LIMIT).unwrap()),
            count: Arc::new(|_| Err("nobody tells".to_owned())),
            cores: Arc::new(Cores::new(0, 1).unwrap()),
            context,
            ring: Arc::clone(&asked),
            replies: Arc::clone(&replies),
        })
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("admin")).unwrap();
        listener.set_nonblocking(true).unwrap();
        thread.listen(OwnedFd::from(listener), Gate::default());
        Stage {
            thread,
            directory,
            asked,
            replies,
            settings,
            dir,
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.path().join("admin")).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// A client that has said hello.
    fn client(&self) -> UnixStream {
        let mut stream = self.connect();
        stream.write_all(GREETING).unwrap();
        assert_eq!(read(&mut stream, GREETING.len()).as_bytes(), GREETING);
        stream
    }

    /// The next request that the ring is asked.
    fn request(&self) -> (Ticket, Request) {
        let end = clock::mono().after(LIMIT.as_secs() * Mono::SECOND);
        while clock::mono() < end {
            let mut messages = self.asked.take().into_iter();
            if let Some(ring::Message::Request(ticket, request)) = messages.next() {
                assert!(messages.next().is_none(), "one at a time");
                return (ticket, request);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the ring was asked nothing");
    }

    fn answer(&self, ticket: Ticket) {
        let done = ring::Reply::Answer(Answer::Done);
        self.replies.send((ticket, done));
    }

    fn add_users(&self, count: u32) {
        let snapshot = self.directory.snapshot();
        for n in 0..count {
            // Spread over all shards.
            let hash = UserHash(n.wrapping_mul(0x9e37_79b1).max(1));
            let (tag, backend) = (TagId(0), BackendSlot((n % 2) as u16));
            let heard = Heard {
                key: UserKey { tag, hash },
                backend,
                stamp: None,
                weak: false,
                late: false,
                from: 0,
            };
            let now = clock::wall();
            self.directory.with_shard(shard_of(hash), |shard| {
                shard.hear(heard, now, &snapshot, || self.directory.room())
            });
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.thread.leave();
    }
}

fn read(stream: &mut impl std::io::Read, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn rest(mut stream: impl std::io::Read) -> String {
    let mut text = String::new();
    // A peer that closes with our bytes unread resets the connection.
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn lists_lookups_and_requests_are_answered_in_their_order() {
    let stage = Stage::new();
    stage.add_users(10);
    let mut client = stage.client();
    let lines = "HOST-LIST\nHOST-UP\t10.0.0.1\nUSER-LOOKUP\t0\nUSER-LIST\t10.0.0.9\n";
    client.write_all(lines.as_bytes()).unwrap();
    let (ticket, request) = stage.request();
    assert_eq!(request, Request::Order(Order::Up(ip(1))));
    stage.answer(ticket);
    client.shutdown(Shutdown::Write).unwrap();
    let said = rest(client);
    let hosts = "10.0.0.1\t100\t5\t\tU\t0\n10.0.0.2\t100\t5\t\tU\t0\n\n";
    assert!(
        said.starts_with(&format!("{hosts}OK\n\t0\t10.0.0.")),
        "{said}"
    );
    assert!(said.ends_with("\n\n"), "{said}");
}

#[test]
fn whoever_waits_keeps_nobody_else_waiting() {
    let stage = Stage::new();
    let (mut ordered, mut removed) = (stage.client(), stage.client());
    ordered.write_all(b"HOST-DOWN\t10.0.0.1\n").unwrap();
    let (ticket, _) = stage.request();
    removed.write_all(b"HOST-LIST-REMOVED\n").unwrap();
    let mut other = stage.client();
    other.write_all(b"USER-LIST\n").unwrap();
    assert_eq!(read(&mut other, 1), "\n");
    stage.settings.send(Some(vec![ip(1), ip(9)])).unwrap();
    assert_eq!(read(&mut removed, 10), "10.0.0.9\n\n");
    stage.answer(ticket);
    assert_eq!(read(&mut ordered, 3), "OK\n");
    // The settings are wrong: nothing of the start has gone.
    removed.write_all(b"HOST-LIST-REMOVED\n").unwrap();
    stage.settings.send(None).unwrap();
    assert_eq!(read(&mut removed, 1), "\n");
}

#[test]
fn a_client_that_has_gone_is_obeyed() {
    let stage = Stage::new();
    let mut client = stage.connect();
    client.write_all(GREETING).unwrap();
    client.write_all(b"HOST-DOWN\t10.0.0.1\n").unwrap();
    let (ticket, _) = stage.request();
    // More than may wait inside, and nothing is read.
    let lines = b"HOST-FLUSH\t10.0.0.2\n".repeat(2000);
    client.write_all(&lines).unwrap();
    drop(client);
    stage.answer(ticket);
    for _ in 0..2000 {
        let (ticket, request) = stage.request();
        assert_eq!(request, Request::Order(Order::ForgetUsers(ip(2))));
        stage.answer(ticket);
    }
}

#[test]
fn a_long_list_is_written_as_it_is_read() {
    const COUNT: u32 = 200_000;
    let stage = Stage::new();
    stage.add_users(COUNT);
    let mut slow = stage.client();
    slow.write_all(b"USER-LIST\nUSER-LIST\t10.0.0.1\n").unwrap();
    assert_eq!(read(&mut slow, 1).len(), 1);
    // It reads nothing more for now; others are served.
    let mut other = stage.client();
    other.write_all(b"USER-LIST\nHOST-LIST\n").unwrap();
    other.shutdown(Shutdown::Write).unwrap();
    let said = rest(other);
    let (users, hosts) = said.split_once("\n\n").unwrap();
    assert_eq!(users.lines().count(), COUNT as usize);
    let half = COUNT / 2;
    assert!(
        hosts.starts_with(&format!("10.0.0.1\t100\t{half}\t")),
        "{hosts}"
    );
    slow.shutdown(Shutdown::Write).unwrap();
    let said = rest(slow);
    let (all, some) = said.split_once("\n\n").unwrap();
    assert_eq!(all.lines().count(), COUNT as usize);
    assert_eq!(some.trim_end().lines().count(), half as usize);
    assert!(
        some.trim_end()
            .lines()
            .all(|row| row.ends_with("\t10.0.0.1"))
    );
}

#[test]
fn only_clients_of_the_allowed_networks_are_let_in() {
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let to = listener.local_addr().unwrap();
    let gate = Gate(vec!["127.0.0.8/29".parse().unwrap()]);
    stage.thread.listen(OwnedFd::from(listener), gate);
    let from = |last: u8| {
        let domain = socket2::Domain::IPV4;
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
        socket.bind(&own.into()).unwrap();
        socket.connect(&to.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    };
    assert_eq!(rest(from(7)), "");
    let mut client = from(9);
    client.write_all(GREETING).unwrap();
    client.write_all(b"USER-LIST\nbye\n").unwrap();
    assert_eq!(rest(client).as_bytes(), [GREETING, b"\n"].concat());
}

#[test]
fn too_many_wait_until_some_have_gone() {
    let stage = Stage::new();
    let mut clients: Vec<_> = (0..CONNS_MAX).map(|_| stage.client()).collect();
    let mut late: Vec<_> = (0..10).map(|_| stage.connect()).collect();
    late[0]
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert!(late[0].read(&mut [0]).is_err(), "nobody greets it yet");
    late[0].set_read_timeout(Some(LIMIT)).unwrap();
    clients.truncate(CONNS_MAX - 10);
    for client in &mut late {
        assert_eq!(read(client, GREETING.len()).as_bytes(), GREETING);
    }
    clients[0].write_all(b"USER-LIST\n").unwrap();
    assert_eq!(read(&mut clients[0], 1), "\n");
}
