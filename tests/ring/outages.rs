//! A member goes and comes back while users log in all the time.

use std::thread;
use std::time::Duration;

use crate::e2e::{Heartbeat, PATIENCE, now, wait_until};
use crate::rig::{Ring, RingSpec, backend};

for_each_ring!(
    a_killed_member_comes_back_under_load,
    super::killed,
    [hdd "HDD", hhd "HHD", hhh "HHH"]
);
for_each_ring!(
    a_stopped_member_comes_back_under_load,
    super::stopped,
    [hdd "HDD", hhd "HHD", hhh "HHH"]
);
for_each_ring!(
    a_silent_member_is_left_out_and_comes_back,
    super::silent,
    [hdd "HDD", hhd "HHD", hhh "HHH"]
);

// Dovecot's directors have nothing like it.
for_each_ring!(
    a_homing_is_taken_over_under_load,
    super::taken_over,
    [hd "HD", hdh "HDH", hhh "HHH"]
);

// Dovecot's 30 and 60 s are not Homing's, so it is no control.
for_each_ring!(
    a_homing_dials_a_homing_again_within_seconds,
    super::dialled_again,
    [hhd "HHD", hdh "HDH"]
);
for_each_ring!(
    a_member_that_has_had_many_rounds_starts_again,
    super::many_rounds,
    [hdd "HDD", hhd "HHD", hhh "HHH"]
);

const USERS: usize = 300;
/// Changes of backends, each a round of the ring, in a few seconds. A process that starts again then may
/// begin with a lower number of SYNC than the one before had.
const ROUNDS: u32 = 100;
/// Less than the time for which a lower number is taken for old news.
const STARTED_AGAIN: Duration = Duration::from_secs(20);
/// Attempts to reach one that is gone, which have pauses of up to five seconds.
const TRIES: usize = 5;
/// Some logins in each state.
const A_WHILE: Duration = Duration::from_secs(1);

fn killed(members: &'static str) {
    away_and_back(members, Ring::kill);
}

fn stopped(members: &'static str) {
    away_and_back(members, Ring::stop);
}

fn away_and_back(members: &'static str, end: impl Fn(&mut Ring, usize)) {
    let mut ring = Ring::start_skewed(RingSpec::of(members), USERS);
    let load = ring.load();
    for number in 0..members.len() {
        thread::sleep(A_WHILE);
        end(&mut ring, number);
        ring.agree();
        ring.start_member(number);
        ring.agree();
    }
    let tally = load.finish();
    assert!(tally.elsewhere > 0, "nobody has missed a member: {tally:?}");
    ring.check_logs(&[]);
}

/// Its logins go on, in the place that it had.
fn taken_over(members: &'static str) {
    let mut ring = Ring::start_skewed(RingSpec::of(members), USERS);
    let load = ring.load();
    for _ in 0..2 {
        for (number, _) in members.match_indices('H') {
            thread::sleep(A_WHILE);
            ring.take_over(number);
            ring.agree();
        }
    }
    let tally = load.finish();
    assert_eq!(tally.elsewhere, 0, "somebody was away: {tally:?}");
    eprintln!(
        "{members}: {} logins, the slowest took {:?}",
        tally.logins, tally.slowest
    );
    ring.check_logs(&["disconnected us with reason: Shutting down"]);
}

/// Nothing tells the others that it is away but its silence.
fn silent(members: &'static str) {
    let spec = RingSpec {
        ping_idle: 4,
        ..RingSpec::of(members)
    };
    let mut ring = Ring::start_skewed(spec, USERS);
    // Each takes its time: nobody is asked for a sign of life before 15 s have passed.
    for number in [0, members.len() - 1] {
        ring.pause(number);
        // Users may be sent on meanwhile; new ones wait until the ring is closed without it.
        ring.agree();
        ring.resume(number);
        ring.agree();
    }
    ring.check_logs(&[]);
}

/// Whoever dials the Homing that is gone is a Homing too, and a Dovecot is beside both.
fn dialled_again(members: &'static str) {
    let mut ring = Ring::start_skewed(RingSpec::of(members), USERS);
    let gone = if members == "HHD" { 1 } else { 0 };
    let tried = format!("director {}:9090: cannot connect", ring.addresses()[gone]);
    ring.kill(gone);
    // With pauses of half a minute there would be three of them in the time that is waited.
    wait_until("it is tried again and again", PATIENCE, || {
        ring.count_log(&tried) >= TRIES
    });
    ring.start_member(gone);
    ring.agree();
    ring.check_logs(&[]);
}

fn many_rounds(members: &'static str) {
    let mut ring = Ring::start(RingSpec::of(members));
    for _ in 0..2 {
        for number in 1..=4 {
            let weights: Vec<u32> = (1..=ROUNDS / 4).collect();
            ring.change_in_a_row(0, backend(number), &weights);
        }
        ring.kill(0);
        let heartbeat = Heartbeat::start();
        let began = now();
        ring.start_member(0);
        ring.settle();
        heartbeat.in_time("coming back", began.elapsed(), STARTED_AGAIN);
    }
    ring.agree();
    ring.check_logs(&[]);
}
