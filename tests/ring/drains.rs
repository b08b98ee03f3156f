//! A Homing in a mixed ring drains a backend: its users leave gradually, and every Dovecot sees each of them
//! go (docs/protocol/admin.md, drains).

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use crate::e2e::{now, wait_until};
use crate::rig::{Change, Ring, RingSpec, backend, user_hash};

for_each_ring!(
    a_drained_backends_users_leave_gradually_for_all,
    super::drained,
    [hdd "HDD", hhd "HHD"]
);
for_each_ring!(
    a_drain_is_cancelled_and_goes_on_later,
    super::cancelled,
    [hdd "HDD", hhd "HHD"]
);

const USERS: usize = 180;
/// Users that leave in a second.
const RATE: u32 = 3;
/// For all of them to have left, or a few.
const LIMIT: Duration = Duration::from_secs(60);
/// Several users would leave in it.
const QUIET: Duration = Duration::from_secs(3);
/// Between two looks at all members.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A drain that was begun.
struct Drain {
    /// The Homing that was told to.
    number: usize,
    from: Ipv4Addr,
    /// Before it was told.
    begun: Instant,
    /// Users that the backend had then, and where they go.
    leaving: Vec<(String, Ipv4Addr)>,
}

fn drained(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    ring.add_users("user", USERS);
    ring.agree();
    for (number, from) in homings(members) {
        let drain = Drain::begin(&mut ring, number, from);
        drain.watch(&ring, members);
        drain.finish(&mut ring, members);
        ring.check_logs(&[]);
    }
}

fn cancelled(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    ring.add_users("user", USERS);
    ring.agree();
    for (number, from) in homings(members) {
        let drain = Drain::begin(&mut ring, number, from);
        let last = members.len() - 1;
        wait_until("a few have left", LIMIT, || drain.left(&ring, last) > 3);
        drain.cancel(&mut ring);
        // Who has left stays away, and nobody else goes.
        let places = ring.places_at(number);
        let mut stayed = 0;
        for (name, to) in &drain.leaving {
            let at = places[name];
            assert!(at == from || at == *to, "{name} is at {at}");
            stayed += usize::from(at == from);
            ring.expect_user(name, at);
        }
        assert!(
            0 < stayed && stayed < drain.leaving.len(),
            "{stayed} stayed"
        );
        ring.agree();
        thread::sleep(QUIET);
        ring.agree();

        let rest = Drain::begin(&mut ring, number, from);
        assert!(rest.leaving.len() >= stayed, "new users may have come");
        rest.finish(&mut ring, members);
        ring.check_logs(&[]);
    }
}

/// The Homings of a ring, and a backend for each.
fn homings(members: &str) -> Vec<(usize, Ipv4Addr)> {
    let all = members.chars().zip(1..).enumerate();
    let homings = all.filter(|(_, (letter, _))| *letter == 'H');
    homings
        .map(|(number, (_, host))| (number, backend(host)))
        .collect()
}

impl Drain {
    fn begin(ring: &mut Ring, number: usize, from: Ipv4Addr) -> Self {
        let leaving = ring.users_of(from);
        let begun = now();
        let (address, rate) = (from.to_string(), RATE.to_string());
        ring.homing_at(number, &["drain", &address, "--rate", &rate]);
        ring.expect(Change::Update(from, 0));
        let leaving: Vec<_> = leaving
            .into_iter()
            .map(|name| (name.clone(), ring.home_of(&name)))
            .collect();
        assert!(leaving.len() > 10, "only {} users", leaving.len());
        Self {
            number,
            from,
            begun,
            leaving,
        }
    }

    /// How many users are gone, as a member sees it.
    fn left(&self, ring: &Ring, at: usize) -> usize {
        let places = ring.places_at(at);
        let gone = |(name, _): &&(String, Ipv4Addr)| places[name] != self.from;
        self.leaving.iter().filter(gone).count()
    }

    /// Looks at all members until all users have left: never are more gone than the rate lets go, and
    /// every member is seen when some are gone and some not.
    fn watch(&self, ring: &Ring, members: &str) {
        let mut half_done = vec![false; members.len()];
        loop {
            let mut all = true;
            for (at, half_done) in half_done.iter_mut().enumerate() {
                let left = self.left(ring, at);
                let seconds = self.begun.elapsed().as_secs_f64();
                let most = 1.0 + f64::from(RATE) * seconds;
                assert!(
                    left as f64 <= most,
                    "{left} gone in {seconds} s at member {at}"
                );
                *half_done |= 0 < left && left < self.leaving.len();
                all &= left == self.leaving.len();
            }
            if all {
                break;
            }
            assert!(self.begun.elapsed() < LIMIT, "not all have left");
            thread::sleep(LOOK_AGAIN);
        }
        assert_eq!(half_done, vec![true; members.len()]);
    }

    /// Waits for the end; all members agree, and all Dovecots were told of every move. Then the backend
    /// takes users again.
    fn finish(&self, ring: &mut Ring, members: &str) {
        let address = self.from.to_string();
        wait_until("the drain is done", LIMIT, || {
            let said = ring.homing_at(self.number, &["drain", &address, "--status", "--json"]);
            said.contains("\"done\"")
        });
        for (name, to) in &self.leaving {
            ring.expect_user(name, *to);
        }
        ring.agree();
        assert_eq!(ring.users_of(self.from), Vec::<String>::new());
        for (at, _) in members.char_indices().filter(|(_, letter)| *letter == 'D') {
            let log = ring.debug_of(at);
            let moves: Vec<_> = log
                .lines()
                .filter(|line| line.contains("input: USER-MOVE\t"))
                .collect();
            for (name, to) in &self.leaving {
                let end = format!("\t{}\t{to}", user_hash(name));
                let told = moves.iter().any(|line| line.ends_with(&end));
                assert!(told, "member {at} was not told that {name} goes to {to}");
            }
        }
        self.cancel(ring);
        ring.agree();
    }

    /// The backend has its weight again.
    fn cancel(&self, ring: &mut Ring) {
        let address = self.from.to_string();
        ring.homing_at(self.number, &["drain", &address, "--cancel"]);
        ring.expect(Change::Update(self.from, 100));
    }
}
