//! Every row of the rules, and what is written nowhere else.

use super::*;

/// What may happen to a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Kicked,
    Killed,
    Everywhere,
    Flushed(bool),
    Forgotten,
    Tick,
}

struct Row {
    name: &'static str,
    state: State,
    ours: bool,
    heard: Heard,
    context: Context,
    effects: Vec<Effect>,
    next: Option<State>,
}

fn hear(moves: &mut Moves, heard: Heard, context: &Context) -> Vec<Effect> {
    effects(moves, |moves, out| match heard {
        Heard::Kicked => moves.kicked(USER, context, out),
        Heard::Killed => moves.killed(HASH, context, out),
        Heard::Everywhere => moves.killed_everywhere(HASH, context, out),
        Heard::Flushed(succeeded) => moves.flushed(USER, succeeded, context, out),
        Heard::Forgotten => moves.forget(USER, out),
        Heard::Tick => moves.tick(context.now, out),
    })
}

fn no_right() -> Context {
    Context {
        has_right: false,
        ..at(SECOND)
    }
}

fn with_script(context: Context) -> Context {
    Context {
        flush_script: true,
        ..context
    }
}

/// The rows of the states in which sessions here are being ended.
#[rustfmt::skip]
fn rows_of_kicks() -> Vec<Row> {
    let row = |name, state, ours, heard, context, effects, next| Row {
        name, state, ours, heard, context, effects, next,
    };
    let script = with_script(at(SECOND));
    let alone = with_script(no_right());
    let killed = || vec![Effect::Killed(HASH)];
    vec![
        row("killing, kicked, no right, ours: script", State::Killing, true, Heard::Kicked, alone, vec![flush()], Some(State::Flushing)),
        row("killing, kicked, no right, ours, no script: delay", State::Killing, true, Heard::Kicked, no_right(), vec![], Some(State::Delay)),
        row("killing, kicked, no right, another's: delay", State::Killing, false, Heard::Kicked, alone, vec![], Some(State::Delay)),
        row("killing, kicked, ours: tells the right", State::Killing, true, Heard::Kicked, script, killed(), Some(State::WaitAll)),
        row("killing, kicked, another's: waits for the left", State::Killing, false, Heard::Kicked, script, vec![], Some(State::WaitLeft)),
        row("notified, kicked, another's: tells the right", State::Notified, false, Heard::Kicked, script, killed(), Some(State::WaitAll)),
        row("notified, kicked, ours: tells the right", State::Notified, true, Heard::Kicked, script, killed(), Some(State::WaitAll)),
        row("notified, kicked, no right, ours: script", State::Notified, true, Heard::Kicked, alone, vec![flush()], Some(State::Flushing)),
        row("notified, kicked, no right, another's: delay", State::Notified, false, Heard::Kicked, alone, vec![], Some(State::Delay)),
        row("killing, killed: notified", State::Killing, false, Heard::Killed, script, vec![], Some(State::Notified)),
        row("killing, killed, ours: notified", State::Killing, true, Heard::Killed, script, vec![], Some(State::Notified)),
        row("notified, killed: ignored", State::Notified, false, Heard::Killed, script, vec![], Some(State::Notified)),
        row("killing, everywhere: ignored", State::Killing, false, Heard::Everywhere, script, vec![], Some(State::Killing)),
        row("notified, everywhere: ignored", State::Notified, false, Heard::Everywhere, script, vec![], Some(State::Notified)),
    ]
}

/// The rows of the states in which others are waited for.
#[rustfmt::skip]
fn rows_of_waits() -> Vec<Row> {
    let row = |name, state, ours, heard, context, effects, next| Row {
        name, state, ours, heard, context, effects, next,
    };
    let script = with_script(at(SECOND));
    let killed = || vec![Effect::Killed(HASH)];
    let everywhere = || vec![Effect::KilledEverywhere(HASH)];
    let on = || vec![Effect::ForwardKilledEverywhere];
    vec![
        row("left, killed: tells the right", State::WaitLeft, false, Heard::Killed, script, killed(), Some(State::WaitAll)),
        row("left, killed, no right: delay", State::WaitLeft, false, Heard::Killed, no_right(), vec![], Some(State::Delay)),
        row("left, everywhere: ignored", State::WaitLeft, false, Heard::Everywhere, script, vec![], Some(State::WaitLeft)),
        row("left, kicked again: ignored", State::WaitLeft, false, Heard::Kicked, script, vec![], Some(State::WaitLeft)),
        row("all, killed, ours: script, then everywhere", State::WaitAll, true, Heard::Killed, script, vec![flush(), Effect::KilledEverywhere(HASH)], Some(State::Flushing)),
        row("all, killed, ours, no script: delay, everywhere", State::WaitAll, true, Heard::Killed, at(SECOND), everywhere(), Some(State::Delay)),
        row("all, killed, another's: delay, everywhere", State::WaitAll, false, Heard::Killed, script, everywhere(), Some(State::Delay)),
        row("all, killed, no right: delay, everywhere", State::WaitAll, false, Heard::Killed, no_right(), everywhere(), Some(State::Delay)),
        row("all, everywhere, another's: delay, goes on", State::WaitAll, false, Heard::Everywhere, script, on(), Some(State::Delay)),
        row("all, everywhere, ours: script, goes on", State::WaitAll, true, Heard::Everywhere, script, vec![flush(), Effect::ForwardKilledEverywhere], Some(State::Flushing)),
        row("all, kicked again: ignored", State::WaitAll, false, Heard::Kicked, script, vec![], Some(State::WaitAll)),
    ]
}

/// The rows of the states after all sessions have ended.
#[rustfmt::skip]
fn rows_of_ends() -> Vec<Row> {
    let row = |name, state, ours, heard, context, effects, next| Row {
        name, state, ours, heard, context, effects, next,
    };
    let script = with_script(at(SECOND));
    let everywhere = || vec![Effect::KilledEverywhere(HASH)];
    let end = || vec![over(USER)];
    let delay_over = at(KICK_DELAY);
    let limit = at(MOVE_LIMIT);
    vec![
        row("flush, killed: frees its sender", State::Flushing, true, Heard::Killed, script, everywhere(), Some(State::Flushing)),
        row("delay, killed: frees its sender", State::Delay, true, Heard::Killed, script, everywhere(), Some(State::Delay)),
        row("delay, killed, another's: frees its sender", State::Delay, false, Heard::Killed, script, everywhere(), Some(State::Delay)),
        row("flush, everywhere: ignored", State::Flushing, true, Heard::Everywhere, script, vec![], Some(State::Flushing)),
        row("delay, everywhere: ignored", State::Delay, false, Heard::Everywhere, script, vec![], Some(State::Delay)),
        row("flush, script succeeded: end", State::Flushing, true, Heard::Flushed(true), script, end(), None),
        row("flush, script failed: delay", State::Flushing, true, Heard::Flushed(false), script, vec![], Some(State::Delay)),
        row("delay, script again: ignored", State::Delay, true, Heard::Flushed(true), script, vec![], Some(State::Delay)),
        row("all, script: ignored", State::WaitAll, true, Heard::Flushed(true), script, vec![], Some(State::WaitAll)),
        row("delay over: end", State::Delay, false, Heard::Tick, delay_over, end(), None),
        row("30 s, killing", State::Killing, true, Heard::Tick, limit, vec![Effect::AbortKick(USER), timed_out(USER, State::Killing)], None),
        row("30 s, notified", State::Notified, false, Heard::Tick, limit, vec![Effect::AbortKick(USER), timed_out(USER, State::Notified)], None),
        row("30 s, left", State::WaitLeft, false, Heard::Tick, limit, vec![timed_out(USER, State::WaitLeft)], None),
        row("30 s, all", State::WaitAll, true, Heard::Tick, limit, vec![timed_out(USER, State::WaitAll)], None),
        row("30 s, flush", State::Flushing, true, Heard::Tick, limit, vec![Effect::AbortFlush(USER), timed_out(USER, State::Flushing)], None),
        row("forgotten, killing", State::Killing, true, Heard::Forgotten, script, vec![Effect::AbortKick(USER), over(USER)], None),
        row("forgotten, notified", State::Notified, false, Heard::Forgotten, script, vec![Effect::AbortKick(USER), over(USER)], None),
        row("forgotten, left", State::WaitLeft, false, Heard::Forgotten, script, end(), None),
        row("forgotten, all", State::WaitAll, true, Heard::Forgotten, script, end(), None),
        row("forgotten, flush", State::Flushing, true, Heard::Forgotten, script, vec![Effect::AbortFlush(USER), over(USER)], None),
        row("forgotten, delay", State::Delay, true, Heard::Forgotten, script, end(), None),
    ]
}

#[test]
fn every_row() {
    let rows = [rows_of_kicks(), rows_of_waits(), rows_of_ends()];
    for row in rows.into_iter().flatten() {
        let mut moves = come_to(row.state, row.ours);
        let got = hear(&mut moves, row.heard, &row.context);
        assert_eq!(got, row.effects, "{}", row.name);
        assert_eq!(moves.state(USER), row.next, "{}", row.name);
        assert_eq!(moves.moving(), usize::from(row.next.is_some()));
        assert_eq!(moves.next_deadline().is_some(), row.next.is_some());
    }
}

#[test]
fn no_move_takes_no_notice_of_anything() {
    let all = [
        Heard::Kicked,
        Heard::Killed,
        Heard::Everywhere,
        Heard::Flushed(true),
        Heard::Flushed(false),
        Heard::Forgotten,
        Heard::Tick,
    ];
    let context = with_script(at(2 * MOVE_LIMIT));
    for heard in all {
        assert_eq!(hear(&mut Moves::new(), heard, &context), []);
        // Nor does the move of another hash.
        let mut moves = Moves::new();
        moves.begin(begin(STRANGER, false), &at(2 * MOVE_LIMIT), &mut Vec::new());
        assert_eq!(hear(&mut moves, heard, &context), []);
        assert_eq!(moves.state(STRANGER), Some(State::Killing));
    }
}

#[test]
fn a_move_begins_with_the_kick_or_counts_as_kicked() {
    let alone = no_right();
    for (ours, context, first, next) in [
        (true, at(0), vec![Effect::Killed(HASH)], State::WaitAll),
        (false, at(0), vec![], State::WaitLeft),
        (true, alone, vec![], State::Delay),
        (false, alone, vec![], State::Delay),
        (true, with_script(alone), vec![flush()], State::Flushing),
    ] {
        let mut moves = Moves::new();
        let got = effects(&mut moves, |moves, out| {
            assert!(moves.begin(begin(USER, ours), &context, out));
        });
        assert_eq!(got, [Effect::Kick(USER)]);
        assert_eq!(moves.state(USER), Some(State::Killing));

        let mut moves = Moves::new();
        let settled = Begin {
            kick: false,
            ..begin(USER, ours)
        };
        let got = effects(&mut moves, |moves, out| {
            assert!(moves.begin(settled, &context, out));
        });
        assert_eq!((got, moves.state(USER)), (first, Some(next)));
    }
}

#[test]
fn the_script_needs_an_old_backend_our_move_and_a_setting() {
    for (ours, old, flush_script) in [
        (false, Some(old()), true),
        (true, None, true),
        (true, Some(old()), false),
    ] {
        let context = Context {
            flush_script,
            ..no_right()
        };
        let mut moves = Moves::new();
        let mut out = Vec::new();
        moves.begin(
            Begin {
                old,
                ..begin(USER, ours)
            },
            &context,
            &mut out,
        );
        assert_eq!(hear(&mut moves, Heard::Kicked, &context), []);
        assert_eq!(moves.state(USER), Some(State::Delay));
    }
}

#[test]
fn the_limit_counts_from_the_beginning_of_the_move_and_is_met_exactly() {
    for (state, ours) in [
        (State::Killing, true),
        (State::Notified, true),
        (State::WaitLeft, false),
        (State::WaitAll, false),
        (State::Flushing, true),
    ] {
        let mut moves = come_to(state, ours);
        assert_eq!(moves.next_deadline(), Some(at(MOVE_LIMIT).now));
        assert_eq!(hear(&mut moves, Heard::Tick, &at(MOVE_LIMIT - 1)), []);
        assert_eq!(moves.state(USER), Some(state));
        let got = hear(&mut moves, Heard::Tick, &at(MOVE_LIMIT));
        assert_eq!(got.last(), Some(&timed_out(USER, state)));
    }
}

#[test]
fn the_limit_is_that_of_the_settings_when_the_move_began() {
    let short = Context {
        limit: 5 * SECOND,
        ..at(0)
    };
    let mut moves = Moves::new();
    moves.begin(begin(USER, true), &short, &mut Vec::new());
    // A reload in between.
    assert_eq!(hear(&mut moves, Heard::Tick, &at(5 * SECOND - 1)), []);
    let got = hear(&mut moves, Heard::Tick, &at(5 * SECOND));
    assert_eq!(got.last(), Some(&timed_out(USER, State::Killing)));
}

#[test]
fn the_delay_has_its_own_time_after_the_limit_too() {
    let mut moves = come_to(State::Flushing, true);
    let late = MOVE_LIMIT - 1;
    hear(&mut moves, Heard::Flushed(false), &at(late));
    let end = late + KICK_DELAY;
    assert_eq!(moves.next_deadline(), Some(at(end).now));
    assert_eq!(hear(&mut moves, Heard::Tick, &at(end - 1)), []);
    assert_eq!(hear(&mut moves, Heard::Tick, &at(end)), [over(USER)]);
}

#[test]
fn without_a_kick_delay_a_move_ends_at_the_next_tick() {
    let none = Context {
        kick_delay: 0,
        ..at(SECOND)
    };
    let mut moves = come_to(State::WaitAll, false);
    assert_eq!(
        hear(&mut moves, Heard::Everywhere, &none),
        [Effect::ForwardKilledEverywhere]
    );
    assert_eq!(moves.state(USER), Some(State::Delay));
    assert_eq!(moves.next_deadline(), Some(none.now));
    assert_eq!(hear(&mut moves, Heard::Tick, &none), [over(USER)]);
    // Nor does a clock at its end.
    let end = Context {
        now: Mono(u64::MAX),
        ..at(0)
    };
    let mut moves = come_to(State::WaitAll, false);
    hear(&mut moves, Heard::Killed, &end);
    assert_eq!(hear(&mut moves, Heard::Tick, &end), [over(USER)]);
}

/// The kick of the first move is answered when the second has begun without one.
#[test]
fn a_kick_that_outlives_its_move_is_ignored() {
    let mut moves = come_to(State::Killing, false);
    hear(&mut moves, Heard::Tick, &at(MOVE_LIMIT));
    let later = at(MOVE_LIMIT + SECOND);
    assert_eq!(hear(&mut moves, Heard::Kicked, &later), []);
    let settled = Begin {
        kick: false,
        ..begin(USER, false)
    };
    assert!(moves.begin(settled, &later, &mut Vec::new()));
    assert_eq!(hear(&mut moves, Heard::Kicked, &later), []);
    assert_eq!(moves.state(USER), Some(State::WaitLeft));
}

#[test]
fn a_second_move_while_one_runs_joins_it() {
    for state in State::ALL {
        let ours = state == State::Flushing;
        let mut moves = come_to(state, ours);
        let second = Begin {
            ours: !ours,
            old: None,
            new: host(3),
            ..begin(USER, !ours)
        };
        let got = effects(&mut moves, |moves, out| {
            assert!(!moves.begin(second, &at(SECOND), out));
        });
        assert_eq!(got, []);
        let record = moves.iter().next().unwrap();
        assert_eq!(
            (record.key, record.state, record.ours, record.since),
            (USER, state, ours, START)
        );
    }
    // The script hears of the backend that the user has now, and of the one it had before.
    let mut moves = come_to(State::WaitAll, true);
    let second = Begin {
        old: None,
        new: host(3),
        ..begin(USER, false)
    };
    moves.begin(second, &at(SECOND), &mut Vec::new());
    let got = hear(&mut moves, Heard::Everywhere, &with_script(at(SECOND)));
    let told = Effect::Flush {
        key: USER,
        old: old(),
        new: host(3),
    };
    assert_eq!(got, [told, Effect::ForwardKilledEverywhere]);
}

#[test]
fn a_line_counts_for_its_hash_under_every_tag_and_says_so_once() {
    let mut moves = Moves::new();
    let mut out = Vec::new();
    for key in [USER, NAMESAKE, STRANGER] {
        moves.begin(begin(key, false), &at(0), &mut out);
        moves.kicked(key, &at(0), &mut out);
    }
    let states = |moves: &Moves| [USER, NAMESAKE, STRANGER].map(|key| moves.state(key));
    let left = Some(State::WaitLeft);
    let all = Some(State::WaitAll);
    let delay = Some(State::Delay);
    assert_eq!(states(&moves), [left, left, left]);
    assert_eq!(
        hear(&mut moves, Heard::Killed, &at(1)),
        [Effect::Killed(HASH)]
    );
    assert_eq!(states(&moves), [all, all, left]);
    assert_eq!(
        hear(&mut moves, Heard::Everywhere, &at(2)),
        [Effect::ForwardKilledEverywhere]
    );
    assert_eq!(states(&moves), [delay, delay, left]);
    assert_eq!(
        hear(&mut moves, Heard::Killed, &at(3)),
        [Effect::KilledEverywhere(HASH)]
    );
    // Each ends by itself.
    assert_eq!(
        effects(&mut moves, |moves, out| moves.forget(NAMESAKE, out)),
        [over(NAMESAKE)]
    );
    assert_eq!(states(&moves), [delay, None, left]);

    // Different states under two tags: both lines.
    let mut moves = Moves::new();
    moves.begin(begin(USER, true), &at(0), &mut out);
    moves.kicked(USER, &at(0), &mut out);
    moves.begin(begin(NAMESAKE, false), &at(0), &mut out);
    moves.kicked(NAMESAKE, &at(0), &mut out);
    assert_eq!(
        hear(&mut moves, Heard::Killed, &at(1)),
        [Effect::Killed(HASH), Effect::KilledEverywhere(HASH)]
    );
}

/// T31: the count of moves goes with the record, not with its script.
#[test]
fn t31_a_user_forgotten_during_its_script_no_longer_counts() {
    let mut moves = come_to(State::Flushing, true);
    assert_eq!(moves.moving(), 1);
    assert_eq!(
        hear(&mut moves, Heard::Forgotten, &at(SECOND)),
        [Effect::AbortFlush(USER), over(USER)]
    );
    assert_eq!((moves.moving(), moves.next_deadline()), (0, None));
    assert_eq!(hear(&mut moves, Heard::Flushed(false), &at(SECOND)), []);
    assert_eq!(moves.moving(), 0);
}

#[test]
fn states_are_called_as_in_the_logs() {
    let words = State::ALL.map(|state| state.to_string());
    assert_eq!(
        words,
        [
            "killing",
            "notify-received",
            "waiting-for-notify",
            "waiting-for-everyone",
            "flushing",
            "delay"
        ]
    );
}
