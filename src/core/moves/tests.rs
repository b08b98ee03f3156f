//! Every row of the rules of moves, the recorded move of three directors, and any order of events.

mod any;
mod rows;
mod three;

use super::*;

const SECOND: u64 = 1_000_000_000;
const KICK_DELAY: u64 = 2 * SECOND;
/// When the moves of these tests begin.
const START: Mono = Mono(77 * SECOND);

const HASH: UserHash = UserHash(800);
const USER: UserKey = UserKey {
    tag: TagId(0),
    hash: HASH,
};
/// The same hash under another tag: another user.
const NAMESAKE: UserKey = UserKey {
    tag: TagId(9),
    hash: HASH,
};
const STRANGER: UserKey = UserKey {
    tag: TagId(0),
    hash: UserHash(801),
};

fn host(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn old() -> Old {
    Old {
        ip: host(1),
        down: false,
        vhosts: 100,
    }
}

/// In a whole ring, without a flush script, `time` ns after [`START`].
fn at(time: u64) -> Context {
    Context {
        now: Mono(START.0 + time),
        has_right: true,
        kick_delay: KICK_DELAY,
        limit: MOVE_LIMIT,
        flush_script: false,
    }
}

fn begin(key: UserKey, ours: bool) -> Begin {
    Begin {
        key,
        ours,
        old: Some(old()),
        new: host(2),
        kick: true,
        alone: false,
    }
}

fn flush() -> Effect {
    Effect::Flush {
        key: USER,
        old: old(),
        new: host(2),
    }
}

fn over(key: UserKey) -> Effect {
    Effect::Ended {
        key,
        timed_out: None,
    }
}

fn timed_out(key: UserKey, state: State) -> Effect {
    Effect::Ended {
        key,
        timed_out: Some(state),
    }
}

/// What one call wants done.
fn effects(moves: &mut Moves, call: impl FnOnce(&mut Moves, &mut Vec<Effect>)) -> Vec<Effect> {
    let mut out = Vec::new();
    call(moves, &mut out);
    moves.check_invariants();
    out
}

/// One user whose move has come to `state`.
fn come_to(state: State, ours: bool) -> Moves {
    let context = Context {
        flush_script: true,
        ..at(0)
    };
    let mut moves = Moves::new();
    let mut out = Vec::new();
    moves.begin(begin(USER, ours), &context, &mut out);
    match state {
        State::Killing => {}
        State::Notified => moves.killed(HASH, &context, &mut out),
        State::WaitLeft => moves.kicked(USER, &context, &mut out),
        State::WaitAll | State::Flushing | State::Delay => {
            moves.kicked(USER, &context, &mut out);
            if !ours {
                moves.killed(HASH, &context, &mut out);
            }
        }
    }
    if matches!(state, State::Flushing | State::Delay) {
        let context = Context {
            flush_script: state == State::Flushing,
            ..context
        };
        moves.killed_everywhere(HASH, &context, &mut out);
    }
    moves.check_invariants();
    assert_eq!(moves.state(USER), Some(state));
    moves
}
