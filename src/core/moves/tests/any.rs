//! Any order of events.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(Begin),
    Kicked(UserKey),
    Killed(UserHash),
    Everywhere(UserHash),
    Flushed(UserKey, bool),
    Forget(UserKey),
    Tick,
    Wait(u64),
    Right(bool),
    Script(bool),
}

fn hash() -> impl Strategy<Value = UserHash> {
    (1..4u32).prop_map(UserHash)
}

fn key() -> impl Strategy<Value = UserKey> {
    (prop_oneof![Just(0u16), Just(1), Just(u16::MAX)], hash()).prop_map(|(tag, hash)| UserKey {
        tag: TagId(tag),
        hash,
    })
}

fn beginning() -> impl Strategy<Value = Step> {
    (key(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(key, ours, known, kick)| {
        Step::Begin(Begin {
            old: known.then(old),
            kick,
            ..begin(key, ours)
        })
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => beginning(),
        3 => key().prop_map(Step::Kicked),
        3 => hash().prop_map(Step::Killed),
        2 => hash().prop_map(Step::Everywhere),
        2 => (key(), any::<bool>()).prop_map(|(key, succeeded)| Step::Flushed(key, succeeded)),
        1 => key().prop_map(Step::Forget),
        2 => Just(Step::Tick),
        2 => (0..20 * SECOND).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Right),
        1 => any::<bool>().prop_map(Step::Script),
    ]
}

/// What the effects alone say of one user.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    kicking: bool,
    scripting: bool,
}

/// Follows the effects, and compares what they say with what is true.
#[derive(Default)]
struct Observer(BTreeMap<UserKey, Seen>);

impl Observer {
    fn follow(&mut self, effects: &[Effect], moves: &Moves) {
        for effect in effects {
            match *effect {
                Effect::Kick(key) => {
                    let seen = self.0.entry(key).or_default();
                    assert!(!seen.kicking && !seen.scripting);
                    seen.kicking = true;
                }
                Effect::Flush { key, .. } => {
                    let seen = self.0.entry(key).or_default();
                    assert!(!seen.kicking && !seen.scripting);
                    seen.scripting = true;
                }
                Effect::AbortKick(key) => {
                    let seen = self.0.get_mut(&key).expect("kicked before");
                    assert!(std::mem::take(&mut seen.kicking));
                }
                Effect::AbortFlush(key) => {
                    let seen = self.0.get_mut(&key).expect("flushed before");
                    assert!(std::mem::take(&mut seen.scripting));
                }
                Effect::Ended { key, .. } => {
                    let seen = self.0.remove(&key).unwrap_or_default();
                    assert!(!seen.kicking && !seen.scripting, "{key:?}");
                    assert_eq!(moves.state(key), None);
                }
                Effect::Killed(hash) | Effect::KilledEverywhere(hash) => {
                    let moving = moves.iter().any(|moving| moving.key.hash == hash);
                    assert!(moving, "a line about nobody");
                }
                Effect::ForwardKilledEverywhere => {}
            }
        }
        for moving in moves.iter() {
            let seen = self.0.get(&moving.key).copied().unwrap_or_default();
            assert_eq!(seen.kicking, moving.state.has_kick());
            assert_eq!(seen.scripting, moving.state == State::Flushing);
        }
    }

    /// An answer has come: nothing is under way any more.
    fn answered(&mut self, step: Step) {
        match step {
            Step::Kicked(key) => {
                if let Some(seen) = self.0.get_mut(&key) {
                    seen.kicking = false;
                }
            }
            Step::Flushed(key, _) => {
                if let Some(seen) = self.0.get_mut(&key) {
                    seen.scripting = false;
                }
            }
            _ => {}
        }
    }
}

fn take(moves: &mut Moves, step: Step, context: &mut Context) -> Vec<Effect> {
    let mut out = Vec::new();
    match step {
        Step::Begin(begin) => {
            let before = moves.state(begin.key);
            let begun = moves.begin(begin, context, &mut out);
            assert_eq!(begun, before.is_none());
            if !begun {
                assert_eq!((moves.state(begin.key), out.len()), (before, 0));
            }
        }
        Step::Kicked(key) => moves.kicked(key, context, &mut out),
        Step::Killed(hash) => moves.killed(hash, context, &mut out),
        Step::Everywhere(hash) => moves.killed_everywhere(hash, context, &mut out),
        Step::Flushed(key, succeeded) => moves.flushed(key, succeeded, context, &mut out),
        Step::Forget(key) => moves.forget(key, &mut out),
        Step::Tick => moves.tick(context.now, &mut out),
        Step::Wait(time) => context.now.0 += time,
        Step::Right(has_right) => context.has_right = has_right,
        Step::Script(flush_script) => context.flush_script = flush_script,
    }
    out
}

proptest! {
    /// L3: whatever happens or does not, a move ends in 30 s and the kick delay.
    #[test]
    fn every_move_ends_once_and_in_time(
        steps in prop::collection::vec(step(), 0..80),
        kick_delay in prop_oneof![Just(0), Just(KICK_DELAY)],
    ) {
        let mut moves = Moves::new();
        let mut context = Context { kick_delay, ..at(0) };
        let mut observer = Observer::default();
        let (mut begun, mut ended) = (0, 0);
        for step in steps {
            let before = moves.moving();
            let out = take(&mut moves, step, &mut context);
            moves.check_invariants();
            observer.answered(step);
            observer.follow(&out, &moves);
            let gone = out.iter().filter(|e| matches!(e, Effect::Ended { .. })).count();
            ended += gone;
            begun += moves.moving() + gone - before;
            let lines = [Effect::ForwardKilledEverywhere]
                .into_iter()
                .chain((1..4).flat_map(|h| [Effect::Killed(UserHash(h)), Effect::KilledEverywhere(UserHash(h))]));
            for line in lines {
                prop_assert!(out.iter().filter(|effect| **effect == line).count() <= 1);
            }
            if matches!(step, Step::Tick) {
                prop_assert!(moves.next_deadline().is_none_or(|deadline| deadline > context.now));
            }
            for moving in moves.iter() {
                prop_assert!(moving.since <= context.now);
            }
        }
        let mut out = Vec::new();
        moves.tick(after(context.now, MOVE_LIMIT + kick_delay), &mut out);
        moves.check_invariants();
        observer.follow(&out, &moves);
        ended += out.iter().filter(|e| matches!(e, Effect::Ended { .. })).count();
        prop_assert_eq!((moves.moving(), moves.next_deadline()), (0, None));
        prop_assert_eq!(ended, begun);
    }
}
