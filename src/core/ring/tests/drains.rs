//! Backends that are drained (docs/protocol/admin.md, drains).

use std::num::NonZeroU32;

use super::scripted::*;
use super::*;
use crate::core::backends::BackendError;

fn drain(n: u8, rate: u32) -> Request {
    Request::Order(Order::Drain(backend(n), NonZeroU32::new(rate).unwrap()))
}

fn cancel(n: u8) -> Request {
    Request::Order(Order::CancelDrain(backend(n)))
}

fn failed(error: OrderError) -> Answer {
    Answer::Failed(RequestError::Order(error))
}

fn vhosts(s: &Scripted, n: u8) -> u32 {
    s.ring.backends().find(backend(n)).unwrap().vhosts
}

/// A director without others, and so many users, all of them on the first backend.
fn crowded(users: u32, parallel: usize) -> Scripted {
    let mut s = Scripted::started(&Setup {
        directors: vec![32],
        expire: 3600,
        limits: Limits {
            max_parallel_moves: parallel,
            ..limits(0)
        },
        ..Setup::default()
    });
    for user in 1..=users {
        let hash = UserHash(user.wrapping_mul(0x9e37_79b9));
        s.ask(0, &Request::Order(Order::Move(hash, backend(1))));
    }
    s.pass(40);
    s.forget();
    s.answered_to();
    assert_eq!(on(&mut s, 1), users as usize);
    s
}

/// How many users are on a backend.
fn on(s: &mut Scripted, n: u8) -> usize {
    let now = s.now().wall;
    let snapshot = Arc::clone(s.ring.snapshot());
    let slot = s.ring.backends().find(backend(n)).unwrap().slot;
    let living = |shard: usize| {
        let count = |shard: &mut Shard| {
            let on = shard.living(now, &snapshot);
            on.filter(|entry| entry.backend() == slot).count()
        };
        s.users.with(shard, count)
    };
    (0..SHARDS).map(living).sum()
}

fn shown(s: &Scripted) -> Draining {
    let [drain] = s.ring.drains()[..] else {
        panic!("{:?}", s.ring.drains());
    };
    drain
}

#[test]
fn users_leave_at_the_rate_that_was_asked_for() {
    let mut s = crowded(100, 1000);
    s.ask(1, &drain(1, 10));
    assert_eq!(s.answered_to(), [(1, Answer::Done)]);
    assert_eq!(vhosts(&s, 1), 0);
    s.pass_ms(2_050);
    assert_eq!(on(&mut s, 1), 79, "one at once, then each 100 ms");
    assert_eq!(shown(&s).state, DrainState::Draining);
    // Faster: the rest of 79 users takes 0.8 s.
    s.ask(2, &drain(1, 100));
    s.pass_ms(700);
    assert!(on(&mut s, 1) > 0);
    s.pass_ms(200);
    assert_eq!(on(&mut s, 1), 0);
    // Nobody ends sessions here: each move takes its 30 s.
    s.pass(2);
    assert_eq!(shown(&s).state, DrainState::Ending);
    s.pass(40);
    assert_eq!(
        shown(&s),
        Draining {
            ip: backend(1),
            rate: NonZeroU32::new(100).unwrap(),
            state: DrainState::Done,
            moved: 100,
            vhosts: Some(100),
            begun: shown(&s).begun,
        }
    );
    let over = |event: &Event| matches!(event, Event::DrainOver(_, 100, _));
    assert!(s.events.iter().any(over), "{:?}", s.events);
    // It has its weight back when the machine is whole again.
    s.ask(3, &cancel(1));
    assert_eq!(vhosts(&s, 1), 100);
    assert_eq!(s.ring.drains(), []);
    assert_eq!(s.ring.next_deadline(), None, "nothing is left to be done");
}

#[test]
fn no_more_users_move_at_a_time_than_may() {
    let mut s = crowded(20, 3);
    s.ask(1, &drain(1, 1000));
    for _ in 0..40 {
        s.pass(1);
        assert!(s.ring.moves.moving() <= 3);
    }
    assert_eq!(shown(&s).state, DrainState::Full);
    assert_eq!(shown(&s).moved, 6, "three, and three more after 30 s");
    s.pass(300);
    assert_eq!(shown(&s).state, DrainState::Done);
}

#[test]
fn a_drain_is_cancelled_and_resumed() {
    let mut s = crowded(50, 1000);
    s.ask(1, &cancel(1));
    assert_eq!(
        s.answered_to(),
        [(1, failed(OrderError::NotDraining(backend(1))))]
    );
    s.ask(2, &drain(1, 10));
    s.pass_ms(950);
    s.ask(3, &cancel(1));
    assert_eq!((vhosts(&s, 1), on(&mut s, 1)), (100, 40));
    s.pass(5);
    assert_eq!(on(&mut s, 1), 40, "nobody leaves any more");
    // As after a restart: the weight is gone, and nobody knows what it was.
    let update = |vhosts| Order::UpdateBackend {
        ip: backend(1),
        tag: None,
        vhosts: Some(vhosts),
    };
    s.order(update(0)).unwrap();
    s.ask(4, &drain(1, 100));
    assert_eq!(shown(&s).vhosts, None);
    s.pass_ms(200);
    s.ask(5, &cancel(1));
    assert_eq!(vhosts(&s, 1), 0);
    // Somebody else gives it a weight: that ends the drain.
    s.ask(6, &drain(1, 1));
    s.order(update(7)).unwrap();
    assert_eq!(s.ring.drains(), []);
    let ended = |event: &Event| matches!(event, Event::DrainEnded(..));
    assert_eq!(s.events.iter().filter(|event| ended(event)).count(), 1);
    s.ask(7, &drain(1, 1));
    s.order(Order::Remove(backend(1))).unwrap();
    assert_eq!(s.ring.drains(), []);
}

#[test]
fn no_session_ends_when_nobody_can_take_its_user() {
    let mut s = crowded(10, 1000);
    let all: Vec<IpAddr> = s.ring.backends().iter().map(|it| it.ip).collect();
    s.ask(1, &drain(1, 2));
    s.pass_ms(600);
    let left = on(&mut s, 1);
    for &ip in &all[1..] {
        s.order(Order::Down(ip)).unwrap();
    }
    s.kicks.clear();
    s.pass(5);
    assert_eq!(shown(&s).state, DrainState::Nowhere);
    assert_eq!((on(&mut s, 1), s.kicks.len()), (left, 0));
    s.order(Order::Up(all[1])).unwrap();
    s.pass(50);
    assert_eq!(shown(&s).state, DrainState::Done);
    // And it is not begun then.
    s.ask(2, &cancel(1));
    s.order(Order::Down(all[1])).unwrap();
    s.answered_to();
    s.ask(3, &drain(1, 1));
    s.ask(4, &drain(99, 1));
    assert_eq!(
        s.answered_to(),
        [
            (3, failed(OrderError::NobodyElse(backend(1)))),
            (4, failed(BackendError::Unknown(backend(99)).into())),
        ]
    );
    assert_eq!(vhosts(&s, 1), 100);
}

#[test]
fn in_a_ring_the_others_follow_and_nobody_leaves_while_it_is_not_synced() {
    let (mut s, left, right) = between();
    s.ask(1, &Request::Order(Order::Move(UserHash(5), backend(1))));
    s.pass(40);
    s.forget();
    s.answered_to();
    s.ask(2, &drain(1, 10));
    s.pass(1);
    assert_eq!(s.answered_to(), [], "the others have not agreed yet");
    assert_eq!(shown(&s).state, DrainState::Unsynced);
    assert_eq!(on(&mut s, 1), 1);
    s.round(left, right);
    assert_eq!(s.answered_to(), [(2, Answer::Done)]);
    s.pass(2);
    assert_eq!(on(&mut s, 1), 0);
}
