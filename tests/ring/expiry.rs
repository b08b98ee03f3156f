//! Users that are about to be forgotten. One member may have forgotten a user that another still
//! has, so the ring must agree before such a user logs in (it is "weak" until then).

use std::thread;
use std::time::{Duration, SystemTime};

use crate::e2e::{PATIENCE, wait_until};
use crate::rig::{Outcome, Ring, RingSpec};

for_each_ring!(
    users_near_expiry_stay_where_they_are,
    super::near_expiry,
    [ddd "DDD", hdd "HDD", hhd "HHD", hhh "HHH"]
);
for_each_ring!(
    users_at_their_expiry_go_to_one_backend,
    super::at_expiry,
    [ddd "DDD", hdd "HDD", hhd "HHD", hhh "HHH"]
);

const USERS: usize = 90;
/// Long enough for a ring to be prepared, short enough to be waited for.
const EXPIRE: u32 = 20;
/// Users are near their expiry in their last three seconds, of which the clock of whole seconds
/// leaves two. A busy machine may miss them.
const NEAR: u32 = 18;
const TRIES: usize = 3;
/// Around the expiry; each has users of its own.
const ROUNDS: usize = 15;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);

fn near_expiry(members: &'static str) {
    let in_time = (0..TRIES).any(|_| log_in_near_expiry(members));
    assert!(in_time, "{TRIES} times too late");
}

/// Says whether it was in time.
fn log_in_near_expiry(members: &'static str) -> bool {
    let mut ring = prepare(members);
    let names = ring.users_away();
    let last_login = refresh(&ring, &names);
    sleep_until(last_login + u64::from(NEAR), Duration::from_millis(50));
    let outcomes = log_in_everywhere(&ring, &names);
    if wall().as_secs() >= last_login + u64::from(EXPIRE) {
        return false;
    }
    for (number, outcomes) in outcomes.iter().enumerate() {
        for (name, outcome) in names.iter().zip(outcomes) {
            let backend = ring.backend_of(name);
            assert_eq!(outcome, &Ok(backend), "{name} at member {number}");
        }
    }
    let last_login = wall().as_secs();
    if members.contains('D') {
        // Dovecot's log process writes it a moment later.
        wait_until("somebody asks the ring", PATIENCE, || {
            ring.count_debug("USER-WEAK") > 0
        });
    }
    // All at the very moment at which they are forgotten, which no two members share.
    sleep_until(last_login + u64::from(EXPIRE), Duration::ZERO);
    count_at_home(&ring, &names, &log_in_everywhere(&ring, &names));
    ring.check_logs(&[]);
    true
}

/// In the very second of their expiry users may stay or go home, but each to one backend.
fn at_expiry(members: &'static str) {
    let mut ring = prepare(members);
    let names = ring.users_away();
    let last_login = refresh(&ring, &names);
    let first = last_login + u64::from(EXPIRE) - 1;
    sleep_until(first, Duration::from_millis(250));
    let mut homes = 0;
    for names in names.chunks(names.len().div_ceil(ROUNDS)) {
        homes += count_at_home(&ring, names, &log_in_everywhere(&ring, names));
        thread::sleep(BETWEEN_ROUNDS);
    }
    assert!(homes > 0, "nobody was forgotten");
    ring.check_logs(&[]);
}

/// Checks that all members have sent each user to the same backend, wherever that is, and says how
/// many are now where new ones go.
fn count_at_home(ring: &Ring, names: &[String], outcomes: &[Vec<Outcome>]) -> usize {
    let mut homes = 0;
    for (index, name) in names.iter().enumerate() {
        let of_all: Vec<_> = outcomes.iter().map(|one| &one[index]).collect();
        let first = of_all[0];
        assert!(first.is_ok(), "{name}: {of_all:?}");
        assert!(of_all.iter().all(|one| *one == first), "{name}: {of_all:?}");
        homes += usize::from(first == &Ok(ring.home_of(name)));
    }
    homes
}

/// A ring with users away from home.
fn prepare(members: &'static str) -> Ring {
    let spec = RingSpec {
        expire: EXPIRE,
        ..RingSpec::of(members)
    };
    Ring::start_skewed(spec, USERS)
}

/// Logs all users in within one second of the clock, which it returns.
fn refresh(ring: &Ring, names: &[String]) -> u64 {
    loop {
        let second = wall().as_secs() + 1;
        sleep_until(second, Duration::from_millis(20));
        for outcome in ring.log_in(0, names) {
            outcome.expect("a known user logs in");
        }
        if wall().as_secs() == second {
            return second;
        }
    }
}

/// Logs the users in through all members at the same time.
fn log_in_everywhere(ring: &Ring, names: &[String]) -> Vec<Vec<Outcome>> {
    thread::scope(|scope| {
        let logins = ring
            .up()
            .into_iter()
            .map(|number| scope.spawn(move || ring.log_in(number, names)));
        let logins: Vec<_> = logins.collect();
        let done = logins
            .into_iter()
            .map(|login| login.join().expect("logins"));
        done.collect()
    })
}

fn sleep_until(second: u64, more: Duration) {
    let until = Duration::from_secs(second) + more;
    thread::sleep(until.saturating_sub(wall()));
}

/// Users' time stamps are whole seconds of this clock.
#[expect(
    clippy::disallowed_methods,
    reason = "directors of real programs expire users by it"
)]
fn wall() -> Duration {
    let now = SystemTime::now();
    now.duration_since(SystemTime::UNIX_EPOCH)
        .expect("the clock is set")
}
