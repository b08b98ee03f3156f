//! What operators wait for, and what they do not (docs/protocol/admin.md, waiting).

use super::scripted::*;
use super::*;
use crate::core::backends::BackendError;

const NONE: Vec<String> = Vec::new();
const TIMED_OUT: Answer = Answer::Failed(RequestError::TimedOut);
const BUSY: Answer = Answer::Failed(RequestError::Busy);

fn order(order: Order) -> Request {
    Request::Order(order)
}

fn down(n: u8) -> Request {
    order(Order::Down(backend(n)))
}

fn kick(name: &str) -> Order {
    Order::KickUser(name.into())
}

fn failed(error: OrderError) -> Answer {
    Answer::Failed(RequestError::Order(error))
}

fn not_found(n: u8) -> Answer {
    failed(BackendError::Unknown(backend(n)).into())
}

fn is_down(s: &Scripted, n: u8) -> bool {
    s.ring.backends().find(backend(n)).unwrap().down
}

fn set(ip: u8, tag: Option<&str>, vhosts: Option<u32>) -> Order {
    Order::SetBackend {
        ip: backend(ip),
        tag: tag.map(Into::into),
        vhosts,
    }
}

fn update(ip: u8, tag: Option<&str>, vhosts: Option<u32>) -> Order {
    Order::UpdateBackend {
        ip: backend(ip),
        tag: tag.map(Into::into),
        vhosts,
    }
}

/// At most two kicks and one move at a time.
fn narrow() -> (Scripted, ConnId, ConnId) {
    whole(&Setup {
        limits: Limits {
            max_parallel_kicks: 2,
            max_parallel_moves: 1,
            ..limits(0)
        },
        ..Setup::default()
    })
}

#[test]
fn a_change_is_made_at_once_and_answered_when_the_ring_is_synced() {
    let (mut s, left, right) = between();
    s.ask(1, &down(1));
    assert!(is_down(&s, 1) && s.answers.is_empty() && !s.synced());
    s.round(left, right);
    assert_eq!(s.answered_to(), [(1, Answer::Done)]);
}

#[test]
fn without_others_nobody_waits() {
    let mut s = Scripted::started(&Setup {
        directors: vec![32],
        ..Setup::default()
    });
    for (ticket, request) in [down(1), order(set(9, None, None)), Request::ForgetAll]
        .iter()
        .enumerate()
    {
        s.ask(ticket as u64, request);
        assert_eq!(s.answered_to(), [(ticket as u64, Answer::Done)]);
    }
}

#[test]
fn a_backend_of_a_host_name_is_added_with_it_and_only_once() {
    let (mut s, left, right) = between();
    let add = |vhosts| {
        order(Order::AddNamed {
            ip: backend(9),
            name: "mail.example.com".to_owned(),
            tag: Vec::new(),
            vhosts,
        })
    };
    s.ask(1, &add(70));
    s.round(left, right);
    s.ask(2, &add(50));
    assert_eq!(s.answered_to(), [(1, Answer::Done), (2, Answer::Done)]);
    assert!(s.synced(), "nothing is told again");
    let added = s.ring.backends().find(backend(9)).unwrap();
    assert_eq!(added.name.as_deref(), Some("mail.example.com"));
    assert_eq!((added.vhosts, added.down), (70, false));
}

#[test]
fn requests_that_wait_run_in_order_and_one_round_each() {
    let (mut s, left, right) = between();
    s.ask(1, &down(1));
    s.ask(2, &down(2));
    s.ask(3, &order(Order::Remove(backend(9))));
    s.ask(4, &down(3));
    assert!(!is_down(&s, 2));
    s.round_begun(left, right);
    assert_eq!(s.answered_to(), [(1, Answer::Done)]);
    assert!(is_down(&s, 2) && !is_down(&s, 3) && !s.synced());
    // What is unknown waits as well, but its answer does not.
    s.round_begun(left, right);
    assert_eq!(s.answered_to(), [(2, Answer::Done), (3, not_found(9))]);
    assert!(is_down(&s, 3));
    s.round(left, right);
    assert_eq!(s.answered_to(), [(4, Answer::Done)]);
}

#[test]
fn after_30_seconds_the_answer_says_nothing_of_whether_it_was_done() {
    let (mut s, left, right) = between();
    s.ask(1, &down(1));
    s.ask(2, &down(2));
    s.pass(10);
    s.ask(3, &order(Order::Remove(backend(9))));
    s.pass_ms(19_999);
    assert_eq!(s.answered_to(), []);
    s.pass_ms(1);
    assert_eq!(s.answered_to(), [(2, TIMED_OUT), (1, TIMED_OUT)]);
    assert!(is_down(&s, 1) && !is_down(&s, 2));
    s.pass_ms(9_999);
    assert_eq!(s.answered_to(), []);
    s.pass_ms(1);
    assert_eq!(s.answered_to(), [(3, TIMED_OUT)]);
    s.forget();
    s.pass(6);
    s.round(left, right);
    assert!(!is_down(&s, 2), "it is not run late");
    assert_eq!(s.answered_to(), []);
}

#[test]
fn the_wait_for_an_answer_has_a_time_of_its_own() {
    let (mut s, left, right) = between();
    s.ask(1, &down(1));
    s.ask(2, &down(2));
    s.pass(20);
    s.round_begun(left, right);
    assert_eq!(s.answered_to(), [(1, Answer::Done)]);
    s.pass_ms(29_999);
    assert_eq!(s.answered_to(), []);
    s.pass_ms(1);
    assert_eq!(s.answered_to(), [(2, TIMED_OUT)]);
    assert!(is_down(&s, 2));
}

#[test]
fn what_changes_nothing_is_done_at_once() {
    let (mut s, left, right) = between();
    s.ask(1, &order(Order::Up(backend(1))));
    s.ask(2, &order(Order::Up(backend(9))));
    s.ask(3, &order(Order::AddDirector(d(33))));
    s.ask(4, &order(Order::AddDirector(d(32))));
    let expected = [
        (1, Answer::Done),
        (2, not_found(9)),
        (3, Answer::Done),
        (4, Answer::Done),
    ];
    assert_eq!(s.answered_to(), expected);
    assert_eq!((s.read(left), s.read(right)), (NONE, NONE));
    assert_eq!(s.events, []);
}

#[test]
fn an_added_director_is_not_waited_for_and_a_removed_one_is() {
    let (mut s, left, right) = between();
    s.ask(1, &order(Order::AddDirector(d(40))));
    assert_eq!(s.answered_to(), [(1, Answer::Done)]);
    assert_eq!(s.read(right), [naming("DIRECTOR", 40)]);
    s.ask(2, &order(Order::RemoveDirectorAt(d(40).ip)));
    assert_eq!(s.answered_to(), []);
    assert_eq!(s.all(right)[0], naming("DIRECTOR-REMOVE", 40));
    s.ask(3, &order(Order::AddDirector(d(41))));
    s.ask(4, &order(Order::RemoveDirectorAt(d(99).ip)));
    s.ask(5, &order(Order::RemoveDirector(d(98))));
    assert_eq!(s.answered_to(), [], "all wait for the ring");
    s.pass(6);
    s.round(left, right);
    let nobody = failed(OrderError::UnknownDirector);
    let expected = [
        (2, Answer::Done),
        (3, Answer::Done),
        (4, nobody.clone()),
        (5, nobody),
    ];
    assert_eq!(s.answered_to(), expected);
    let ordered: Vec<String> = s.events.iter().map(Event::to_string).collect();
    assert!(ordered.contains(&"an operator adds director 127.77.0.40:17790 to the ring".into()));
    assert!(
        ordered.contains(&"an operator removes director 127.77.0.40:17790 from the ring".into())
    );
}

#[test]
fn without_a_port_the_first_director_of_the_address_goes() {
    let (mut s, _, _) = between();
    let sibling = |port| DirectorId { port, ..d(40) };
    s.ask(1, &order(Order::AddDirector(sibling(9))));
    s.ask(2, &order(Order::AddDirector(sibling(8))));
    s.ask(3, &order(Order::RemoveDirectorAt(d(40).ip)));
    assert!(s.ring.members().get(sibling(8)).unwrap().removed);
    assert!(!s.ring.members().get(sibling(9)).unwrap().removed);
}

#[test]
fn moves_and_kicks_wait_for_no_ring() {
    let (mut s, _, right) = between();
    s.ask(1, &down(1));
    s.forget();
    s.ask(2, &order(Order::Move(UserHash(500), backend(2))));
    s.ask(3, &order(Order::Move(UserHash(500), backend(3))));
    s.ask(4, &order(Order::Move(UserHash(500), backend(9))));
    s.ask(5, &order(kick("joe")));
    let expected = [
        (2, Answer::Done),
        (3, failed(OrderError::Moving)),
        (4, not_found(9)),
        (5, Answer::Done),
    ];
    assert_eq!(s.answered_to(), expected);
    assert_eq!(s.events, []);
    let told = s.told(right);
    assert!(told[0].starts_with("USER-MOVE\t") && told[2].starts_with("USER-KICK\t"));
}

#[test]
fn kicks_wait_for_others_in_the_order_of_their_arrival() {
    let (mut s, left, right) = narrow();
    s.say(left, &from("USER-KICK", 31, 1, "one"));
    s.ask(1, &order(kick("two")));
    s.ask(2, &order(kick("three")));
    s.ask(3, &order(Order::KickAlt(b"field".into(), b"four".into())));
    s.ask(4, &Request::KickNoWait(kick("five")));
    assert_eq!(s.answered_to(), [(1, Answer::Done), (4, BUSY)]);
    s.say(left, &from("USER-KICK", 31, 2, "six"));
    let user = |name: &str| Kick::User(name.into());
    assert_eq!(s.kicks, [user("one"), user("two"), user("six")]);
    s.pass(100);
    s.input(Input::KickOver);
    assert_eq!(s.answered_to(), [], "two are still under way");
    s.forget();
    s.input(Input::KickOver);
    assert_eq!(s.answered_to(), [(2, Answer::Done)]);
    assert_eq!(s.kicks, [user("three")]);
    assert_eq!(s.told(right).len(), 1);
    s.input(Input::KickOver);
    assert_eq!(s.answered_to(), [(3, Answer::Done)]);
    s.input(Input::KickOver);
    s.ask(5, &Request::KickNoWait(kick("seven")));
    assert_eq!(s.answered_to(), [(5, Answer::Done)]);
    // The shell may say so too often: nobody is kept waiting for that, nor let in too early.
    for _ in 0..5 {
        s.input(Input::KickOver);
    }
    for ticket in 6..9 {
        s.ask(ticket, &order(kick("eight")));
    }
    assert_eq!(s.answered_to(), [(6, Answer::Done), (7, Answer::Done)]);
}

#[test]
fn more_kicks_at_a_time_after_a_reload() {
    let (mut s, _, _) = narrow();
    for ticket in 1..=4 {
        s.ask(ticket, &order(kick("joe")));
    }
    assert_eq!(s.answered_to().len(), 2);
    s.ring.set_limits(limits(0));
    s.ask(5, &order(kick("late")));
    let done: Vec<u64> = s.answered_to().iter().map(|answer| answer.0).collect();
    assert_eq!(done, [3, 4, 5]);
}

#[test]
fn what_is_not_done_is_said_in_the_right_order() {
    let (mut s, left, right) = between();
    let too_many = failed(OrderError::TooManyVhosts(1001));
    let cases = [
        (set(1, Some("x"), Some(1001)), too_many.clone()),
        (update(9, Some("x"), Some(1001)), too_many),
        (update(9, Some("x"), Some(10)), not_found(9)),
        (
            update(1, Some("x"), Some(10)),
            failed(OrderError::OtherTag(backend(1))),
        ),
        (
            set(1, Some("x"), None),
            failed(OrderError::OtherTag(backend(1))),
        ),
        (Order::ForgetUsers(backend(9)), not_found(9)),
        (kick(&"x".repeat(2000)), failed(OrderError::TooLong)),
    ];
    for (ticket, (asked, answer)) in (1..).zip(cases) {
        s.ask(ticket, &order(asked));
        assert_eq!(s.answered_to(), [(ticket, answer)]);
    }
    assert_eq!((s.read(left), s.read(right)), (NONE, NONE));
    s.ask(20, &order(set(1, Some(""), Some(1000))));
    s.round(left, right);
    assert_eq!(s.answered_to(), [(20, Answer::Done)]);
}

#[test]
fn a_weight_that_is_not_given_stays_and_is_told_again() {
    let (mut s, left, right) = between();
    s.ask(1, &order(update(1, None, None)));
    assert!(s.all(right)[0].contains("\t10.0.0.1\t100\t"));
    assert!(!s.synced());
    assert_eq!(s.events, [Event::NotSynced]);
    s.pass(6);
    s.round(left, right);
    assert_eq!(s.answered_to(), [(1, Answer::Done)]);
}

#[test]
fn changes_of_backends_are_logged_with_what_was_before() {
    let mut s = Scripted::started(&Setup {
        directors: vec![32],
        ..Setup::default()
    });
    s.pass(7);
    for (ticket, asked) in (1..).zip([
        set(1, None, Some(50)),
        set(1, None, Some(50)),
        set(9, None, Some(20)),
        set(8, None, None),
        Order::Down(backend(1)),
        Order::Up(backend(1)),
    ]) {
        s.ask(ticket, &order(asked));
    }
    let said: Vec<String> = s.events.iter().map(Event::to_string).collect();
    let weight = "an operator changes the vhost count of backend 10.0.0";
    let turn = "an operator takes backend 10.0.0.1";
    let expected = [
        format!("{weight}.1 from 100 to 50"),
        format!("{weight}.1 from 50 to 50"),
        format!("{weight}.9 from 100 to 20"),
        format!("{turn} down (vhost count 50, last changed at 0)"),
        format!("{turn} up (vhost count 50, last changed at {})", START + 7),
    ];
    assert_eq!(said, expected);
}

#[test]
fn all_users_are_forgotten_with_one_round_and_a_warning() {
    let (mut s, left, right) = between();
    for hash in 1..=7 {
        s.login(hash);
    }
    s.forget();
    s.ask(1, &Request::ForgetAll);
    assert_eq!(s.answered_to(), [(1, Answer::Done)]);
    assert!((1..=7).all(|hash| s.known(hash).is_none()));
    assert!(s.events.contains(&Event::Ordered(Deed::AllForgotten(7))));
    let warned = s.events.iter().map(Event::level).max();
    assert_eq!(warned, Some(Level::Warning));
    let lines = s.read(right);
    assert!(lines[..3].iter().all(|line| line.starts_with("HOST-FLUSH")));
    assert!(lines[3].starts_with("SYNC\t") && lines.len() == 4);
    assert_eq!(s.told(left).len(), 3);
    // It waits for the ring before it is done, too.
    s.ask(2, &Request::ForgetAll);
    assert_eq!(s.answered_to(), []);
    s.pass(30);
    assert_eq!(s.answered_to(), [(2, TIMED_OUT)]);
}

#[test]
fn a_reset_is_answered_when_all_users_were_looked_at() {
    let (mut s, left, right) = narrow();
    for hash in 1..=60 {
        s.login(hash * 70_000_003);
    }
    s.ask(1, &order(set(1, None, Some(0))));
    s.round(left, right);
    s.forget();
    s.answered_to();
    let reset = |host: Option<u8>| Request::ResetUsers {
        host: host.map(backend),
        max: None,
    };
    s.ask(2, &reset(Some(9)));
    assert_eq!(s.answered_to(), [(2, not_found(9))]);
    s.ask(3, &reset(Some(1)));
    s.pass(1);
    assert_eq!(s.answered_to(), []);
    assert_eq!(s.kicks.len(), 1, "one at a time");
    // Others wait for their turn, but not for this one.
    s.ask(4, &reset(Some(2)));
    s.pass(1);
    assert_eq!(s.answered_to(), [(4, Answer::Done)]);
    // With room for all of them it is over while they move.
    s.ring.set_limits(limits(0));
    s.ask(
        5,
        &Request::ResetUsers {
            host: Some(backend(1)),
            max: Some(1000),
        },
    );
    s.pass(1);
    assert_eq!(s.answered_to(), [(5, Answer::Done)]);
    assert!(s.kicks.len() > 5);
    s.pass(40);
    assert_eq!(s.answered_to(), [(3, Answer::Done)]);
}

#[test]
fn a_reset_begins_when_the_ring_is_synced_also_without_others() {
    let mut world = World::new(2, 3);
    world.nodes[0].up = true;
    world.input(0, Input::Start);
    world.settle();
    let all = Request::ResetUsers {
        host: None,
        max: None,
    };
    world.request(0, 1, &all);
    world.request(0, 2, &down(1));
    world.pass(15);
    assert_eq!(world.nodes[0].answers, []);
    world.pass(14);
    let done = [(Ticket(2), Answer::Done), (Ticket(1), Answer::Done)];
    assert_eq!(world.nodes[0].answers, done, "alone since 20 s");
}

#[test]
fn no_more_than_a_number_of_requests_waits() {
    let (mut s, left, right) = narrow();
    let reset = Request::ResetUsers {
        host: Some(backend(1)),
        max: None,
    };
    s.ask(1, &down(1));
    for ticket in 2..=MAX_REQUESTS as u64 {
        s.ask(ticket, &down(2));
    }
    assert_eq!(s.answered_to(), []);
    s.ask(2000, &down(3));
    s.ask(2001, &reset);
    s.ask(2002, &order(Order::Move(UserHash(5), backend(2))));
    s.ask(2003, &order(kick("one")));
    s.ask(2004, &order(kick("two")));
    s.ask(2005, &order(kick("three")));
    let expected = [
        (2000, BUSY),
        (2002, Answer::Done),
        (2003, Answer::Done),
        (2004, Answer::Done),
        (2005, BUSY),
    ];
    assert_eq!(s.answered_to(), expected);
    // Bulk resets have a limit of their own.
    // The second one takes a round, and all others find that it is down already.
    s.round_begun(left, right);
    s.round(left, right);
    s.pass(10);
    let mut answered: Vec<u64> = s.answered_to().iter().map(|answer| answer.0).collect();
    answered.sort_unstable();
    assert!((1..=MAX_REQUESTS as u64).chain([2001]).eq(answered));
}

#[test]
fn no_more_than_a_number_of_resets_at_a_time() {
    let (mut s, _, _) = between();
    s.ask(1, &down(1));
    let all = Request::ResetUsers {
        host: None,
        max: None,
    };
    for ticket in 2..=17 {
        s.ask(ticket, &all);
    }
    assert_eq!(s.answered_to(), []);
    s.ask(18, &all);
    assert_eq!(s.answered_to(), [(18, BUSY)]);
}

#[test]
fn in_a_real_ring_a_storm_of_changes_is_answered_and_reaches_all() {
    let mut world = World::new(3, 3);
    for node in 0..3 {
        world.start(node);
    }
    world.pass(5);
    for ticket in 1..=9 {
        let node = (ticket % 3) as usize;
        let asked = set(10 + ticket as u8, None, Some(ticket as u32));
        world.input(node, Input::Request(Ticket(ticket), &order(asked)));
    }
    world.settle();
    for node in 0..3 {
        let answers = &world.nodes[node].answers;
        assert_eq!(answers.len(), 3);
        assert!(answers.iter().all(|it| it.1 == Answer::Done), "{answers:?}");
        let backends = world.nodes[node].ring.backends();
        let new = backends.iter().filter(|it| it.vhosts < 10);
        assert!(new.map(|it| it.vhosts).eq(1..=9), "{node}");
    }
}

#[test]
fn among_dovecots_a_second_change_waits_for_the_rounds_of_the_others() {
    let (mut s, left, right) = between();
    let weight = |s: &Scripted| s.ring.backends().find(backend(1)).unwrap().vhosts;
    s.ask(1, &order(set(1, None, Some(13))));
    s.round(left, right);
    s.ask(2, &order(set(1, None, Some(16))));
    // Two rounds of a synced ring, then the change's own.
    for _ in 0..2 {
        assert!(s.synced());
        assert_eq!(weight(&s), 13);
        s.round_begun(left, right);
    }
    assert_eq!(weight(&s), 16);
    s.round(left, right);
    assert_eq!(s.answered_to(), [(1, Answer::Done), (2, Answer::Done)]);
    // Another backend's does not wait, nor does one that has been quiet.
    s.ask(3, &order(set(2, None, Some(20))));
    s.round(left, right);
    s.pass(10);
    s.ask(4, &order(set(1, None, Some(30))));
    assert_eq!(weight(&s), 30);
    s.round(left, right);
    // A round that does not come home is not waited for.
    s.ask(5, &order(set(1, None, Some(31))));
    s.pass_ms(4_999);
    assert_eq!(weight(&s), 30);
    s.pass_ms(1);
    assert_eq!(weight(&s), 31);
}

#[test]
fn of_changes_in_a_row_the_last_one_counts() {
    for plain in [false, true] {
        let mut world = World::new(3, 3);
        world.plain = plain;
        (0..3).for_each(|node| world.start(node));
        world.settle();
        for (ticket, vhosts) in [13, 16, 19].into_iter().enumerate() {
            world.request(0, ticket as u64, &order(set(1, None, Some(vhosts))));
        }
        world.pass(20);
        assert_eq!(world.nodes[0].answers.len(), 3);
        for node in &world.nodes {
            assert_eq!(node.ring.backends().find(backend(1)).unwrap().vhosts, 19);
        }
    }
}
