//! A ring of three directors, 11 to 12 to 13 and again 11, whose lines are carried by hand.

use super::*;

const D11: usize = 0;
const D12: usize = 1;
const D13: usize = 2;

struct Ring([Moves; 3]);

impl Ring {
    fn new() -> Ring {
        Ring([Moves::new(), Moves::new(), Moves::new()])
    }

    fn on(&mut self, who: usize, call: impl FnOnce(&mut Moves, &mut Vec<Effect>)) -> Vec<Effect> {
        effects(&mut self.0[who], call)
    }

    fn begin(&mut self, who: usize, time: u64) -> Vec<Effect> {
        self.on(who, |moves, out| {
            assert!(moves.begin(begin(USER, who == D11), &at(time), out));
        })
    }

    fn kicked(&mut self, who: usize, time: u64) -> Vec<Effect> {
        self.on(who, |moves, out| moves.kicked(USER, &at(time), out))
    }

    fn killed(&mut self, who: usize, time: u64) -> Vec<Effect> {
        self.on(who, |moves, out| moves.killed(HASH, &at(time), out))
    }

    fn everywhere(&mut self, who: usize, time: u64) -> Vec<Effect> {
        self.on(who, |moves, out| {
            moves.killed_everywhere(HASH, &at(time), out);
        })
    }

    fn tick(&mut self, who: usize, time: u64) -> Vec<Effect> {
        self.on(who, |moves, out| moves.tick(at(time).now, out))
    }

    fn states(&self) -> [Option<State>; 3] {
        [D11, D12, D13].map(|who| self.0[who].state(USER))
    }
}

/// A tenth of a millisecond, the unit of the record.
const TICK: u64 = SECOND / 10_000;

#[test]
fn the_recorded_move() {
    let mut ring = Ring::new();
    let kick = [Effect::Kick(USER)];
    let killed = [Effect::Killed(HASH)];
    assert_eq!(ring.begin(D11, 0), kick);
    assert_eq!(ring.begin(D13, 2 * TICK), kick);
    assert_eq!(ring.begin(D12, 13 * TICK), kick);

    assert_eq!(ring.kicked(D11, 50 * TICK), killed);
    assert_eq!(ring.0[D11].state(USER), Some(State::WaitAll));
    assert_eq!(ring.killed(D12, 55 * TICK), []);
    assert_eq!(ring.0[D12].state(USER), Some(State::Notified));
    assert_eq!(ring.kicked(D12, 55 * TICK), killed);
    assert_eq!(ring.0[D12].state(USER), Some(State::WaitAll));
    assert_eq!(ring.kicked(D13, 59 * TICK), []);
    assert_eq!(ring.0[D13].state(USER), Some(State::WaitLeft));
    assert_eq!(ring.killed(D13, 59 * TICK), killed);
    assert_eq!(ring.states(), [Some(State::WaitAll); 3]);

    assert_eq!(
        ring.killed(D11, 59 * TICK),
        [Effect::KilledEverywhere(HASH)]
    );
    // Both get it from 11; the copies that they send each other are dropped as duplicates.
    for who in [D12, D13] {
        let goes_on = [Effect::ForwardKilledEverywhere];
        assert_eq!(ring.everywhere(who, 63 * TICK), goes_on);
    }
    assert_eq!(ring.states(), [Some(State::Delay); 3]);
    assert_eq!(ring.tick(D11, 59 * TICK + KICK_DELAY), [over(USER)]);
    for who in [D12, D13] {
        assert_eq!(ring.tick(who, 63 * TICK + KICK_DELAY - 1), []);
        assert_eq!(ring.tick(who, 63 * TICK + KICK_DELAY), [over(USER)]);
    }
    assert_eq!(ring.states(), [None; 3]);
}

/// T22: 12 has missed USER-MOVE and takes no notice of USER-KILLED. The others wait 30 s, not longer.
#[test]
fn t22_a_director_that_missed_the_move_holds_it_up_for_30_seconds() {
    let mut ring = Ring::new();
    ring.begin(D11, 0);
    ring.begin(D13, SECOND);
    assert_eq!(ring.kicked(D11, 2 * SECOND), [Effect::Killed(HASH)]);
    assert_eq!(ring.killed(D12, 2 * SECOND), []);
    assert_eq!(ring.kicked(D13, 2 * SECOND), []);
    assert_eq!(
        ring.states(),
        [Some(State::WaitAll), None, Some(State::WaitLeft)]
    );
    assert_eq!(ring.tick(D11, MOVE_LIMIT - 1), []);
    assert_eq!(
        ring.tick(D11, MOVE_LIMIT),
        [timed_out(USER, State::WaitAll)]
    );
    assert_eq!(ring.tick(D13, MOVE_LIMIT), []);
    assert_eq!(
        ring.tick(D13, MOVE_LIMIT + SECOND),
        [timed_out(USER, State::WaitLeft)]
    );
    assert_eq!(ring.states(), [None; 3]);
}

/// T30: no backend can take the user, so 11 ends its sessions without a USER-MOVE, of which nobody else
/// would take notice.
#[test]
fn t30_a_kick_without_a_move_waits_for_nobody_unless_a_move_joins_it() {
    let alone = Begin {
        alone: true,
        ..begin(USER, true)
    };
    let mut ring = Ring::new();
    let began = ring.on(D11, |moves, out| assert!(moves.begin(alone, &at(0), out)));
    assert_eq!(began, [Effect::Kick(USER)]);
    assert_eq!(ring.kicked(D11, SECOND), []);
    assert_eq!(ring.states(), [Some(State::Delay), None, None]);
    assert_eq!(ring.tick(D11, SECOND + KICK_DELAY), [over(USER)]);
    assert_eq!(ring.0[D11].next_deadline(), None);

    ring.on(D11, |moves, out| assert!(moves.begin(alone, &at(0), out)));
    ring.on(D11, |moves, out| {
        assert!(!moves.begin(begin(USER, false), &at(0), out));
    });
    assert_eq!(ring.kicked(D11, SECOND), [Effect::Killed(HASH)]);
    let ended = ring.on(D11, |moves, out| moves.forget(USER, out));
    assert_eq!(ended, [over(USER)]);
}

/// The issuer has ended and moves the user again while the others still wait: what they hear lets the
/// second move end in time.
#[test]
fn a_move_begun_again_before_the_others_have_ended_does_not_hang() {
    let mut ring = Ring::new();
    for who in [D11, D12, D13] {
        ring.begin(who, 0);
        ring.kicked(who, 0);
    }
    ring.killed(D12, 0);
    ring.killed(D13, 0);
    assert_eq!(ring.killed(D11, 0), [Effect::KilledEverywhere(HASH)]);
    ring.everywhere(D12, SECOND);
    ring.everywhere(D13, SECOND);
    assert_eq!(ring.tick(D11, KICK_DELAY), [over(USER)]);
    ring.begin(D11, KICK_DELAY);
    let second = begin(USER, false);
    for who in [D12, D13] {
        ring.on(who, |moves, out| {
            assert!(!moves.begin(second, &at(KICK_DELAY), out));
        });
    }
    assert_eq!(ring.kicked(D11, KICK_DELAY), [Effect::Killed(HASH)]);
    let answer = [Effect::KilledEverywhere(HASH)];
    assert_eq!(ring.killed(D12, KICK_DELAY), answer);
    assert_eq!(
        ring.everywhere(D11, KICK_DELAY),
        [Effect::ForwardKilledEverywhere]
    );
    assert_eq!(ring.everywhere(D13, KICK_DELAY), []);
    assert_eq!(ring.states(), [Some(State::Delay); 3]);
    for who in [D12, D13] {
        assert_eq!(ring.tick(who, SECOND + KICK_DELAY), [over(USER)]);
    }
    assert_eq!(ring.tick(D11, 2 * KICK_DELAY), [over(USER)]);
}
