//! What was recorded of a Dovecot director, line for line: our answer to the same lines is the same.
//! Where it is not, the test says so.

use super::scripted::*;
use super::*;

/// The ring of the recorded lines.
struct Between {
    s: Scripted,
    l: ConnId,
    r: ConnId,
}

impl Between {
    fn new() -> Between {
        let (s, l, r) = between();
        Between { s, l, r }
    }

    /// What goes to the left and to the right when the left says this.
    fn left(&mut self, line: &str) -> (Vec<String>, Vec<String>) {
        self.s.say(self.l, line);
        (self.s.told(self.l), self.s.told(self.r))
    }

    fn right(&mut self, line: &str) -> (Vec<String>, Vec<String>) {
        self.s.say(self.r, line);
        (self.s.told(self.l), self.s.told(self.r))
    }
}

fn nothing() -> (Vec<String>, Vec<String>) {
    (vec![], vec![])
}

fn to_left(line: &str) -> (Vec<String>, Vec<String>) {
    (vec![line.to_owned()], vec![])
}

fn to_right(line: &str) -> (Vec<String>, Vec<String>) {
    (vec![], vec![line.to_owned()])
}

fn to_both(line: &str) -> (Vec<String>, Vec<String>) {
    (vec![line.to_owned()], vec![line.to_owned()])
}

#[test]
fn a_user_and_its_older_and_newer_times() {
    let mut b = Between::new();
    let first = b.s.user(111, 2, 0);
    assert_eq!(b.left(&first), to_right(&first));
    let older = b.s.user(111, 2, 1);
    assert_eq!(b.right(&older), nothing());
    b.s.pass(1);
    let newer = b.s.user(111, 2, 0);
    assert_ne!(newer, first);
    assert_eq!(b.right(&newer), to_left(&newer));
}

#[test]
fn a_new_user_of_the_future_counts_as_of_now() {
    let mut b = Between::new();
    let now = b.s.user(112, 2, 0);
    let ahead = b.s.user(112, 2, -500);
    assert_eq!(b.left(&ahead), to_right(&now));
}

#[test]
fn an_expired_user_is_not_taken_and_one_of_the_last_second_is() {
    let mut b = Between::new();
    let (expired, last) = (b.s.user(113, 2, 60), b.s.user(113, 2, 59));
    assert_eq!(b.left(&expired), nothing());
    assert_eq!(b.left(&last), to_right(&last));
}

#[test]
fn a_user_without_a_time_is_damped() {
    let mut b = Between::new();
    let bare = "USER\t114\t10.0.0.1";
    let told = b.s.user(114, 1, 0);
    assert_eq!(b.left(bare), to_right(&told));
    assert_eq!(b.right(bare), nothing());
}

#[test]
fn a_user_near_its_end_takes_another_host_without_a_kick() {
    let mut b = Between::new();
    let old = b.s.user(300, 1, 55);
    b.left(&old);
    let new = b.s.user(300, 3, 0);
    assert_eq!(b.right(&new), to_left(&new));
    assert_eq!(b.s.kicks, []);
}

#[test]
fn weak_users() {
    let mut b = Between::new();
    let weak = |seq, host: &str| from("USER-WEAK", 31, seq, &format!("500\t10.0.0.{host}"));
    let state = |b: &Between| b.s.known(500).map(|(ip, _, weak)| (ip, weak));
    assert_eq!(b.left(&weak(1, "1")), to_right(&weak(1, "1")));
    assert_eq!(b.right(&weak(1, "1")), to_left(&weak(1, "1")));
    assert_eq!(b.left(&weak(2, "2")), to_right(&weak(2, "2")));
    assert_eq!(state(&b), Some((backend(2), true)));
    let sure = b.s.user(500, 3, 0);
    assert_eq!(b.right(&sure), to_left(&sure));
    assert_eq!(state(&b), Some((backend(3), false)));
    // Dovecot tells only the right; ours tells who asked as well (docs/protocol/ring.md, users).
    assert_eq!(b.left(&weak(3, "1")), to_both(&sure));

    let old = b.s.user(501, 2, 35);
    b.left(&old);
    let line = from("USER-WEAK", 31, 4, "501\t10.0.0.1");
    assert_eq!(b.left(&line), to_right(&line));
    let known = b.s.known(501).map(|(ip, _, weak)| (ip, weak));
    assert_eq!(known, Some((backend(1), true)));

    let seq = b.s.next_seq();
    assert_eq!(
        b.left("USER-WEAK\t127.99.0.1\t17790\t5\t503\t10.0.0.1"),
        to_right(&from("USER-WEAK", 32, seq, "503\t10.0.0.1"))
    );
}

#[test]
fn two_changes_of_one_host_meet() {
    let mut b = Between::new();
    let first = from("HOST", 31, 3, "10.0.0.10\t7\t\tU0\t");
    assert_eq!(b.left(&first), to_right(&first));
    assert!(!b.s.synced(), "the change is on its way");
    let seq = b.s.next_seq();
    b.s.say(b.r, &from("HOST", 33, 4, "10.0.0.10\t20\t\tU0\t"));
    let ours = from("HOST", 32, seq, "10.0.0.10\t7\t\tU0\t");
    assert_eq!(b.s.told(b.l), std::slice::from_ref(&ours));
    let right = b.s.read(b.r);
    assert_eq!(right[0], ours);
    assert!(
        right[1].starts_with("SYNC\t127.77.0.32\t"),
        "SYNC comes last"
    );
    assert_eq!(right.len(), 2);
}

#[test]
fn another_time_alone_is_no_change() {
    let mut b = Between::new();
    let newer = b.s.clock();
    let same = from("HOST", 33, 2, &format!("10.0.0.1\t100\t\tU{newer}\t"));
    assert_eq!(b.right(&same), nothing());
    assert!(b.s.synced());
}

#[test]
fn a_host_of_an_unknown_issuer_goes_on_as_ours() {
    let mut b = Between::new();
    let seq = b.s.next_seq();
    b.s.say(b.r, "HOST\t127.99.0.33\t17790\t7\t10.0.0.3\t60\t\tU0\t");
    let ours = from("HOST", 32, seq, "10.0.0.3\t60\t\tU0\t");
    assert_eq!(b.s.read(b.l), [ours]);
    let right = b.s.read(b.r);
    assert_eq!(right.len(), 1);
    assert!(right[0].starts_with("SYNC\t127.77.0.32\t"));
}

#[test]
fn a_conflict_of_two_directors() {
    let mut b = Between::new();
    let stored = b.s.user(200, 2, 0);
    b.left(&stored);
    let seq = b.s.next_seq();
    b.s.pass(1);
    let higher = b.s.user(200, 3, 0);
    let kept = b.s.user(200, 2, 0);
    let kick = |seq, host| from("USER-KICK-HASH", 32, seq, &format!("200\t10.0.0.{host}"));
    // Dovecot does not tell the sender, who would not hear of it from anybody else in a ring of two.
    let both = vec![kick(seq, 2), kept];
    assert_eq!(b.right(&higher), (both.clone(), both));
    b.s.pass(1);
    let lower = b.s.user(200, 1, 0);
    let both = vec![kick(seq + 1, 1), lower.clone()];
    assert_eq!(b.right(&lower), (both.clone(), both));
    assert_eq!(
        b.s.kicks,
        [
            Kick::Hash(UserHash(200), backend(2)),
            Kick::Hash(UserHash(200), backend(1))
        ]
    );
}

/// alice, who lives at 10.0.0.3 although the hash ring says 10.0.0.2.
const ALICE: u32 = 1_669_653_170;

fn ring_of_two(us: u8) -> (Scripted, ConnId, ConnId) {
    whole(&Setup {
        us,
        directors: vec![1, 2],
        ..Setup::default()
    })
}

#[test]
fn a_confirmation_in_a_ring_of_two_where_it_begins() {
    let (mut s, l, r) = ring_of_two(1);
    let old = s.user(ALICE, 3, 56);
    s.say(l, &old);
    s.forget();
    let seq = s.next_seq();
    assert_eq!(waits(s.login(ALICE)), Some(DelayReason::Weak));
    let weak = from("USER-WEAK", 1, seq, &format!("{ALICE}\t10.0.0.3"));
    assert_eq!((s.told(l), s.told(r)), to_both(&weak));
    s.say(l, &weak);
    let sure = s.user(ALICE, 3, 0);
    assert_eq!((s.told(l), s.told(r)), to_both(&sure));
    assert_eq!(s.wakes, [key(ALICE)]);
    // The second copy says nothing new. Dovecot then tells of the login as well, with the same line;
    // ours says so once a second.
    assert!(matches!(s.login(ALICE), Decision::Go(_)));
    s.say(r, &weak);
    assert_eq!((s.told(l), s.told(r)), nothing());
}

#[test]
fn a_confirmation_in_a_ring_of_two_at_the_other_end() {
    let (mut s, l, r) = ring_of_two(2);
    let old = s.user(ALICE, 3, 56);
    s.say(l, &old);
    s.forget();
    let weak = from("USER-WEAK", 1, 3, &format!("{ALICE}\t10.0.0.3"));
    s.say(l, &weak);
    assert_eq!((s.told(l), s.told(r)), to_right(&weak));
    s.say(r, &weak);
    assert_eq!((s.told(l), s.told(r)), to_left(&weak));
    assert_eq!(s.known(ALICE).map(|it| it.2), Some(true));
    let sure = s.user(ALICE, 3, 0);
    s.say(l, &sure);
    assert_eq!(s.known(ALICE).map(|it| it.2), Some(false));
}

/// The clock of the recorded handshake.
const RECORDED: u64 = 1_795_459_389;

/// The director .21 of the recorded handshake, before it has met .22.
fn recorded() -> Scripted {
    let mut s = Scripted::started(&Setup {
        us: 21,
        directors: vec![21, 22],
        hosts: vec![1],
        begins: RECORDED,
        ..Setup::default()
    });
    for (ip, tag) in [("10.0.0.2", "east"), ("2001:db8::5", "")] {
        let order = Order::SetBackend {
            ip: ip.parse().unwrap(),
            tag: Some(tag.into()),
            vhosts: None,
        };
        s.order(order).unwrap();
    }
    s
}

/// A Homing director says one field more.
const OWN_VERSION: &str = "VERSION\tdirector\t1\t9\thoming=2\tjoining";

/// The block of hosts, as both directors write it.
const BLOCK: [&str; 5] = [
    "HOST-HAND-START\t0",
    "HOST\t10.0.0.1\t100\t\tU0\t",
    "HOST\t10.0.0.2\t100\teast\tU0\t",
    "HOST\t2001:db8::5\t100\t\tU0\t",
    "HOST-HAND-END\t0",
];

#[test]
fn the_recorded_handshake() {
    let mut s = recorded();
    let right = s.reached(22);
    let me = "ME\t127.77.0.21\t17790\t1795459389";
    let directors = [
        "DIRECTOR\t127.77.0.21\t17790",
        "DIRECTOR\t127.77.0.22\t17790",
    ];
    assert_eq!(s.all(right), [&[OWN_VERSION, me], &directors[..]].concat());
    // The recorded director counts its rounds from 0, of which two hosts made two.
    s.ring.round.seq = 2;
    let peer = "ME\t127.77.0.22\t17790\t1795459389";
    s.say(right, VERSION);
    let told = [&BLOCK[..], &[OPTIONS, "DONE"]].concat();
    assert_eq!(s.all(right), told, "it does not wait for ME");
    s.say(right, peer);
    s.say(right, "DONE");
    assert_eq!(s.all(right), Vec::<String>::new());

    let left = s.accept(22);
    assert_eq!(s.all(left), [OWN_VERSION, me], "before a byte was read");
    s.batch(left, &[VERSION, peer]);
    s.batch(left, &directors);
    s.batch(left, &BLOCK);
    assert_eq!(s.all(left), Vec::<String>::new());
    assert_eq!(s.all(right), Vec::<String>::new());
    s.batch(left, &[OPTIONS, "DONE"]);
    let sync = "SYNC\t127.77.0.21\t17790\t3\t9\t1795459389\t2623023173";
    assert_eq!(s.all(right), [sync, "PING\t1795459389\t49"]);
    assert_eq!(s.all(left), ["DONE", "PING\t1795459389\t5"]);
    assert!(!s.synced());
    s.say(left, sync);
    assert!(s.synced());
}

#[test]
fn the_recorded_bytes() {
    let mut s = recorded();
    let right = s.reached(22);
    s.say(right, VERSION);
    let text = s.all(right).join("\n") + "\n";
    let host = b"\x48\x4f\x53\x54\x09\x31\x30\x2e\x30\x2e\x30\x2e\x32\x09\x31\x30\x30\x09\x65\x61\
        \x73\x74\x09\x55\x30\x09\x0a";
    assert!(text.as_bytes().windows(27).any(|part| part == host));
    s.say(right, "ME\t127.77.0.22\t17790\t1795459389");
    s.say(right, "DONE");
    let left = s.joined(22);
    s.forget();
    // A SYNC of another director's goes on as it came.
    let sync = b"\x53\x59\x4e\x43\x09\x31\x32\x37\x2e\x37\x37\x2e\x30\x2e\x32\x32\x09\x31\x37\x37\
        \x39\x30\x09\x33\x09\x39\x09\x31\x37\x39\x35\x34\x35\x39\x33\x38\x39\x09\x32\x36\x32\x33\
        \x30\x32\x33\x31\x37\x33\x0a";
    assert_eq!(sync.len(), 49);
    s.input(Input::Received(left, sync));
    let written = s.read(right).join("\n") + "\n";
    assert_eq!(written.as_bytes(), sync);
    // A name with a TAB.
    let kick =
        b"\x55\x53\x45\x52\x2d\x4b\x49\x43\x4b\x09127.77.0.31\x0917790\x09108\x09foo\x01tbar\x0a";
    s.say(left, "DIRECTOR\t127.77.0.31\t17790");
    s.forget();
    let third = s.met(31);
    s.forget();
    s.input(Input::Received(third, kick));
    assert_eq!(s.kicks, [Kick::User(b"foo\tbar".to_vec())]);
    assert_eq!((s.told(right).join("\n") + "\n").as_bytes(), kick);
}
