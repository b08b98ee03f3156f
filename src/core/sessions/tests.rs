use super::*;
use crate::core::{TagId, UserHash, UserKey};

const NOW: Mono = Mono(1_000_000_000_000);

fn moved(hash: u32) -> Kick {
    Kick::Moved(UserKey {
        tag: TagId(0),
        hash: UserHash(hash),
    })
}

/// The machine with the clock of the test.
struct Rig {
    machine: Sessions,
    now: Mono,
}

/// What is to be done, in short.
#[derive(Debug, PartialEq, Eq)]
enum Did {
    Connect,
    Send(String),
    Close,
    Find(u32),
    Tell(u64, String),
    Over(u64),
    Log(String),
}

fn send(text: &str) -> Did {
    Did::Send(text.to_owned())
}

fn log(text: &str) -> Did {
    Did::Log(text.to_owned())
}

impl Rig {
    fn new() -> Rig {
        Rig {
            machine: Sessions::new(REPLY_LIMIT),
            now: NOW,
        }
    }

    /// Connected, with one order that is sent; nothing is left to be done.
    fn of(service: Service) -> Rig {
        let mut rig = Rig::new();
        assert_eq!(rig.order(1, moved(7)), [Did::Connect]);
        rig.feed(Input::Connected(service));
        if service == Service::Anvil {
            rig.said("VERSION\tanvil-server\t2\t0\n");
        }
        rig
    }

    fn feed(&mut self, input: Input<'_>) -> Vec<Did> {
        self.machine.handle(input, self.now);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let outputs = self.machine.take_outputs().into_iter();
        let each = |output| match output {
            Output::Connect => Did::Connect,
            Output::Send(bytes) => Did::Send(text(bytes)),
            Output::Close => Did::Close,
            Output::Tell(id, it) => Did::Tell(
                id.0,
                format!(
                    "{}/{} {} {}",
                    it.service,
                    it.pid,
                    text(it.user),
                    text(it.guid)
                ),
            ),
            Output::Find(user) => Did::Find(user.0),
            Output::Over(id) => Did::Over(id.0),
            Output::Log(_, _, text) => Did::Log(text),
        };
        outputs.map(each).collect()
    }

    fn order(&mut self, id: u64, kick: Kick) -> Vec<Did> {
        self.feed(Input::Order(KickId(id), kick))
    }

    fn said(&mut self, text: &str) -> Vec<Did> {
        self.feed(Input::Received(text.as_bytes()))
    }

    fn told(&mut self, id: u64, result: Result<u32, &str>) -> Vec<Did> {
        self.feed(Input::Told(TellId(id), result.map_err(str::to_owned)))
    }

    /// Lets time pass to the next deadline.
    fn wait(&mut self) -> Vec<Did> {
        let next = self.machine.next_deadline();
        self.now = next.expect("something is waited for");
        self.feed(Input::Tick)
    }
}

#[test]
fn a_login_process_that_ends_before_it_answers_has_no_sessions_left() {
    let mut rig = Rig::new();
    rig.order(1, moved(7));
    rig.feed(Input::Connected(Service::Ipc));
    rig.order(2, moved(8));
    let gone = "-IPC: 'proxy' PID 13 server connection: Connection closed\n";
    assert_eq!(rig.said(gone), [Did::Over(1)]);
    let reset = "-IPC: 'proxy' PID 14 server connection: Connection closed: read(size=8135) failed: \
                 Connection reset by peer\n";
    assert_eq!(rig.said(reset), [Did::Over(2)]);
    assert_eq!(rig.machine.counts().failed, 0);
}

#[test]
fn ipc_answers_in_the_order_in_which_it_was_asked() {
    let mut rig = Rig::new();
    assert_eq!(rig.order(1, moved(7)), [Did::Connect]);
    assert_eq!(
        rig.order(2, Kick::Hash(UserHash(8), "10.0.0.2".parse().unwrap())),
        []
    );
    let both = "proxy\t*\tKICK-DIRECTOR-HASH\t7\nproxy\t*\tKICK-DIRECTOR-HASH\t8\t10.0.0.2\n";
    assert_eq!(rig.feed(Input::Connected(Service::Ipc)), [send(both)]);
    assert_eq!(
        rig.order(3, Kick::User(b"joe".to_vec())),
        [send("proxy\t*\tKICK\tjoe\n")]
    );
    let alt = Kick::Alt(b"user_x".to_vec(), b"y".to_vec());
    assert_eq!(rig.order(4, alt), [send("proxy\t*\tKICK-ALT\tuser_x\ty\n")]);
    assert_eq!(rig.said("+2\n+(nu"), [Did::Over(1)]);
    let failed = log("sessions of user joe could not be ended: Unknown command");
    assert_eq!(
        rig.said("ll)\n-Unknown command\n"),
        [Did::Over(2), failed, Did::Over(3)]
    );
    assert_eq!(rig.said("+\n"), [Did::Over(4)]);
    let counts = Counts {
        orders: 4,
        failed: 1,
        ended: 2,
    };
    assert_eq!(rig.machine.counts(), counts);
    assert_eq!(rig.machine.link_deadline(), None);
}

#[test]
fn what_waits_is_sent_when_there_is_room() {
    let mut rig = Rig::of(Service::Ipc);
    let sent = |did: &[Did]| -> usize {
        let lines = |it: &Did| {
            if let Did::Send(text) = it {
                text.lines().count()
            } else {
                0
            }
        };
        did.iter().map(lines).sum()
    };
    let first: usize = (2..=100)
        .map(|n| sent(&rig.order(n, moved(n as u32))))
        .sum();
    assert_eq!(first, 63, "one is under way already");
    assert_eq!(sent(&rig.said(&"+0\n".repeat(10))), 10);
    let did = rig.said(&"+0\n".repeat(64));
    assert_eq!(sent(&did), 26);
    assert_eq!(rig.said(&"+0\n".repeat(26)).last(), Some(&Did::Over(100)));
}

#[test]
fn a_lost_connection_ends_what_was_sent_and_not_what_waits() {
    let mut rig = Rig::of(Service::Ipc);
    for n in 2..=65 {
        rig.order(n, moved(n as u32));
    }
    let did = rig.feed(Input::Ended);
    assert_eq!(
        did.iter().filter(|it| matches!(it, Did::Over(_))).count(),
        64
    );
    assert_eq!(did.last(), Some(&Did::Connect));
    let again = rig.feed(Input::Connected(Service::Ipc));
    assert_eq!(again, [send("proxy\t*\tKICK-DIRECTOR-HASH\t65\n")]);
    assert_eq!(rig.said("+1\n"), [Did::Over(65)]);
}

#[test]
fn with_nobody_there_orders_are_over_at_once_and_nobody_is_called_for_a_second() {
    let mut rig = Rig::new();
    rig.order(1, moved(7));
    rig.order(2, moved(8));
    let why = |hash| {
        log(&format!(
            "sessions of user hash {hash} could not be ended: no socket"
        ))
    };
    let did = rig.feed(Input::Unreachable("no socket".to_owned()));
    assert_eq!(did, [why(7), Did::Over(1), why(8), Did::Over(2)]);
    assert_eq!(rig.order(3, moved(9)), [Did::Over(3)]);
    rig.now = rig.now.after(RETRY_PAUSE);
    assert_eq!(rig.order(4, moved(9)), [Did::Connect]);
}

#[test]
fn another_time_for_answers_counts_for_what_is_sent_afterwards() {
    for service in [Service::Ipc, Service::Anvil] {
        let mut rig = Rig::of(service);
        let before = rig.machine.next_deadline();
        rig.machine.tune(2 * Mono::SECOND);
        rig.feed(Input::Tick);
        assert_eq!(rig.machine.next_deadline(), before);
        let mut rig = Rig::new();
        rig.machine.tune(2 * Mono::SECOND);
        rig.order(1, moved(7));
        rig.feed(Input::Connected(service));
        if service == Service::Anvil {
            rig.said("VERSION\tanvil-server\t2\t0\n");
        }
        let until = rig.now.after(2 * Mono::SECOND);
        assert_eq!(rig.machine.link_deadline(), Some(until), "{service:?}");
    }
}

#[test]
fn a_service_that_does_not_answer_is_given_up() {
    for service in [Service::Ipc, Service::Anvil] {
        let mut rig = Rig::of(service);
        let why = "sessions of user hash 7 could not be ended: no answer";
        assert_eq!(rig.wait(), [Did::Close, log(why), Did::Over(1)]);
        assert_eq!(rig.machine.link_deadline(), None);
    }
    // Dovecot 2.3's anvil does not even greet.
    let mut rig = Rig::new();
    rig.order(1, moved(7));
    rig.feed(Input::Connected(Service::Anvil));
    let did = rig.wait();
    assert_eq!((&did[0], did.last()), (&Did::Close, Some(&Did::Over(1))));
    assert_eq!(rig.now, NOW.after(Mono::SECOND));
}

#[test]
fn nonsense_ends_the_connection_and_not_the_order_of_answers() {
    for (service, text) in [
        (Service::Ipc, "hello\n"),
        (Service::Anvil, "hello\n"),
        (Service::Anvil, "-1\n"),
        (Service::Ipc, &*"x".repeat(40_000)),
        (Service::Anvil, &*"x".repeat(40_000)),
    ] {
        let mut rig = Rig::of(service);
        let did = rig.said(text);
        assert_eq!(
            (&did[0], did.last()),
            (&Did::Close, Some(&Did::Over(1))),
            "{text}"
        );
    }
    for service in [Service::Ipc, Service::Anvil] {
        let mut rig = Rig::of(service);
        let did = rig.said("+0\n+0\n0\n0\n0\n");
        assert!(
            did.contains(&Did::Over(1)) && did.contains(&Did::Close),
            "{did:?}"
        );
    }
    let mut rig = Rig::new();
    rig.order(1, moved(7));
    rig.feed(Input::Connected(Service::Anvil));
    let did = rig.said("VERSION\tanvil-server\t3\t0\n");
    assert_eq!((&did[0], did.last()), (&Did::Close, Some(&Did::Over(1))));
}

#[test]
fn an_aborted_order_is_not_answered_and_not_sent_any_more() {
    for service in [Service::Ipc, Service::Anvil] {
        let mut rig = Rig::of(service);
        assert_eq!(rig.feed(Input::Abort(KickId(1))), []);
        let answer = if service == Service::Ipc {
            "+1\n"
        } else {
            "1\n"
        };
        assert_eq!(rig.said(answer), []);
    }
    let mut rig = Rig::new();
    rig.order(1, moved(7));
    rig.feed(Input::Abort(KickId(1)));
    assert_eq!(rig.feed(Input::Connected(Service::Ipc)), []);
}

#[test]
fn anvil_does_one_thing_at_a_time() {
    let mut rig = Rig::new();
    rig.order(1, moved(7));
    let hello = "VERSION\tanvil-client\t2\t0\n\n";
    assert_eq!(rig.feed(Input::Connected(Service::Anvil)), [send(hello)]);
    let kick = "KICK-ALT-USER\tuser_director_hash\t7\n";
    assert_eq!(rig.said("VERSION\tanvil-server\t2\t0\n"), [send(kick)]);
    assert_eq!(rig.order(2, Kick::User(b"joe".to_vec())), []);
    assert_eq!(
        rig.order(3, Kick::Hash(UserHash(8), "10.0.0.2".parse().unwrap())),
        []
    );
    assert_eq!(rig.said("0\n"), [Did::Over(1), send("KICK-USER\tjoe\n")]);
    let spared = "KICK-ALT-USER\tuser_director_hash\t8\t10.0.0.2\n";
    assert_eq!(rig.said("0\n"), [Did::Over(2), send(spared)]);
    assert_eq!(rig.said("0\n"), [Did::Over(3)]);
}

#[test]
fn what_a_kick_has_left_over_is_told_to_its_processes() {
    let mut rig = Rig::of(Service::Anvil);
    rig.order(2, moved(8));
    rig.order(3, Kick::Hash(UserHash(9), "10.0.0.2".parse().unwrap()));
    rig.said("2\n");
    rig.said("1\n");
    assert_eq!(rig.said("2\n"), [send("CONNECT-DUMP\n")]);
    let dump = "user_x\tuser_director_hash\n\
        21\tann\timap-login\t192.0.2.1\taa\t10.0.0.1\t\t7\n\
        22\tann\tpop3-login\t192.0.2.1\tbb\t10.0.0.1\t\t7\n\
        23\tbob\timap-login\t192.0.2.1\tcc\t10.0.0.1\t\t6\n\
        24\tcid\timap-login\t192.0.2.1\tdd\t10.0.0.2\t\t9\n\
        25\tcid\timap-login\t192.0.2.1\tee\t10.0.0.1\t\t9\n\
        26\tann\t../../login\t192.0.2.1\tff\t10.0.0.1\t\t7\n\
        27\tann\timap\t192.0.2.1\tff\t\t\t7\n\n";
    assert_eq!(
        rig.said(dump),
        [
            Did::Over(2),
            Did::Tell(1, "imap-login/21 ann aa".to_owned()),
            Did::Tell(2, "pop3-login/22 ann bb".to_owned()),
            Did::Tell(3, "imap-login/25 cid ee".to_owned()),
        ]
    );
    assert_eq!(rig.told(1, Ok(1)), []);
    assert_eq!(rig.told(3, Ok(0)), [Did::Over(3)]);
    let why = log("a session of user hash 7 could not be ended: Permission denied");
    assert_eq!(rig.told(2, Err("Permission denied")), [why, Did::Over(1)]);
    assert_eq!(
        rig.machine.counts(),
        Counts {
            orders: 3,
            failed: 1,
            ended: 5
        }
    );
    assert_eq!(rig.machine.link_deadline(), None);
}

#[test]
fn kicks_go_on_while_processes_are_told_and_a_later_dump_tells_nobody_twice() {
    let mut rig = Rig::of(Service::Anvil);
    rig.said("1\n");
    let row = "21\tann\timap-login\t192.0.2.1\taa\t10.0.0.1\t7\n";
    let dump = format!("user_director_hash\n{row}\n");
    let tell = Did::Tell(1, "imap-login/21 ann aa".to_owned());
    assert_eq!(rig.said(&dump), [tell]);
    let kick = "KICK-ALT-USER\tuser_director_hash\t8\n";
    assert_eq!(rig.order(2, moved(8)), [send(kick)]);
    assert_eq!(rig.said("1\n"), [send("CONNECT-DUMP\n")]);
    assert_eq!(rig.said(&dump), [Did::Over(2)]);
    assert_eq!(rig.told(1, Ok(1)), [Did::Over(1)]);
}

#[test]
fn a_name_that_anvil_could_not_read_is_refused_here() {
    let mut rig = Rig::of(Service::Anvil);
    rig.said("0\n");
    let did = rig.order(2, Kick::User(vec![b'x'; 1100]));
    assert!(matches!(&did[..], [Did::Log(_), Did::Over(2)]), "{did:?}");
    assert_eq!(
        rig.order(3, Kick::User(b"y".to_vec())),
        [send("KICK-USER\ty\n")]
    );
}

#[test]
fn users_are_looked_after_until_no_login_can_be_under_way() {
    let mut rig = Rig::of(Service::Ipc);
    let (home, begun) = ("10.0.0.2".parse().unwrap(), rig.now);
    // Nobody is while something is under way.
    rig.now = begun.after(3 * Mono::SECOND);
    assert_eq!(rig.feed(Input::Tick), []);
    assert_eq!(rig.said("+1\n"), [Did::Over(1), Did::Find(7)]);
    let again = "proxy\t*\tKICK-DIRECTOR-HASH\t7\t10.0.0.2\n";
    assert_eq!(rig.feed(Input::Found(Some(home))), [send(again)]);
    // Nobody has ordered that.
    assert_eq!(rig.said("+1\n"), []);
    for seconds in [8, 18] {
        assert_eq!(rig.wait(), [Did::Find(7)]);
        assert_eq!(rig.now, begun.after(seconds * Mono::SECOND));
        // It may be elsewhere, or be gone.
        assert_eq!(rig.feed(Input::Found(None)), []);
    }
    // Meanwhile the service has gone; it is called.
    rig.feed(Input::Ended);
    assert_eq!(rig.wait(), [Did::Find(7)]);
    assert_eq!(rig.now, begun.after(35 * Mono::SECOND));
    assert_eq!(rig.feed(Input::Found(Some(home))), [Did::Connect]);
    let why = "sessions of user hash 7 on other backends than 10.0.0.2 could not be ended: no";
    assert_eq!(rig.feed(Input::Unreachable("no".to_owned())), [log(why)]);
    assert_eq!(rig.machine.next_deadline(), None);
    assert_eq!(rig.machine.counts().failed, 1);
}

#[test]
fn several_users_are_looked_after_one_by_one_and_after_a_pause() {
    let mut rig = Rig::new();
    rig.order(1, moved(7));
    rig.order(2, Kick::Hash(UserHash(8), "10.0.0.2".parse().unwrap()));
    // Whoever is kicked by name may be anywhere.
    rig.order(3, Kick::User(b"joe".to_vec()));
    let why = "sessions of user hash";
    let gone = rig.feed(Input::Unreachable("no".to_owned()));
    assert!(matches!(&gone[0], Did::Log(text) if text.starts_with(why)));
    assert_eq!(rig.wait(), [Did::Find(7)]);
    assert_eq!(rig.feed(Input::Found(None)), [Did::Find(8)]);
    assert_eq!(
        rig.feed(Input::Found(Some("10.0.0.3".parse().unwrap()))),
        [Did::Connect]
    );
    rig.feed(Input::Unreachable("no".to_owned()));
    // The same moment five seconds later, and not before the pause is over.
    assert_eq!(
        rig.machine.next_deadline(),
        Some(NOW.after(8 * Mono::SECOND))
    );
}
