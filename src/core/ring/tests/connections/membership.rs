//! Directors that are added and removed.

use super::*;

#[test]
fn a_removal_of_nobody_or_of_us_goes_no_further() {
    let (mut s, left, right) = between();
    for n in [99, 32] {
        s.say(left, &naming("DIRECTOR-REMOVE", n));
    }
    assert_eq!(s.told(right), Vec::<String>::new());
    assert!(s.synced());
    assert!(!s.member(32).removed);
}

#[test]
fn a_removal_is_told_to_all_but_its_sender() {
    let (mut s, left, right) = whole(&five(33));
    let its = s.met(35);
    s.forget();
    let line = naming("DIRECTOR-REMOVE", 35);
    s.say(left, &line);
    assert!(s.member(35).removed);
    assert_eq!(s.told(left), Vec::<String>::new());
    assert_eq!(
        s.all(its),
        [line.clone(), "QUIT\tRemoving from ring".to_owned()]
    );
    assert!(s.is_closed(its));
    let lines = s.read(right);
    assert_eq!(lines[0], line);
    assert!(lines[1].starts_with("SYNC\t127.77.0.33\t"));
    // Once more says nothing new.
    s.say(left, &line);
    assert_eq!(s.read(right), Vec::<String>::new());
}

#[test]
fn a_removed_right_is_replaced() {
    let (mut s, left, right) = whole(&five(33));
    s.pass(2);
    s.say(left, &naming("DIRECTOR-REMOVE", 34));
    assert!(s.is_closed(right));
    let right = s.answered(35);
    s.round(left, right);
    assert!(
        s.ring.members().get(d(34)).is_none(),
        "forgotten at the sync"
    );
    s.pass(120);
    assert!(s.dials.is_empty(), "nobody better is left");
}

#[test]
fn who_is_removed_is_neither_listed_nor_told_of() {
    let (mut s, left, right) = whole(&five(33));
    s.say(left, &naming("DIRECTOR-REMOVE", 35));
    s.forget();
    s.say(left, &naming("DIRECTOR", 35));
    assert_eq!(s.told(right), Vec::<String>::new());
    assert!(s.member(35).removed);
    s.lost(right);
    let again = s.dials.pop_front();
    let (again, to) = match again {
        Some(dial) => dial,
        None => {
            s.pass(1);
            s.dials.pop_front().unwrap()
        }
    };
    assert_ne!(to, 35);
    s.input(Input::Connected(again));
    assert!(!s.all(again).contains(&naming("DIRECTOR", 35)));
}

#[test]
fn an_me_takes_the_mark_away() {
    let (mut s, left, _) = whole(&five(33));
    let its = s.accept(35);
    s.say(left, &naming("DIRECTOR-REMOVE", 35));
    s.introduce(its, 35);
    assert!(!s.is_closed(its) && !s.member(35).removed);
}

#[test]
fn a_removed_director_is_forgotten_after_30_seconds_at_the_latest() {
    let (mut s, left, _) = whole(&five(33));
    s.say(left, &naming("DIRECTOR-REMOVE", 35));
    s.pass_ms(29_999);
    assert!(s.ring.members().get(d(35)).is_some() && !s.synced());
    s.pass_ms(1);
    assert!(s.ring.members().get(d(35)).is_none());
}

#[test]
fn an_operator_who_removes_us_changes_nothing_here() {
    let (mut s, left, right) = between();
    s.order(Order::RemoveDirector(d(32))).unwrap();
    let line = naming("DIRECTOR-REMOVE", 32);
    assert_eq!(
        (s.told(left), s.told(right)),
        (vec![line.clone()], vec![line])
    );
    assert!(s.left().is_some() && s.right().is_some() && !s.synced());
}

#[test]
fn an_operator_who_adds_a_director_begins_no_round() {
    let (mut s, left, right) = between();
    s.order(Order::AddDirector(d(40))).unwrap();
    let line = naming("DIRECTOR", 40);
    assert_eq!(
        (s.read(left), s.read(right)),
        (vec![line.clone()], vec![line])
    );
    assert!(s.synced());
}

#[test]
fn a_director_line_goes_on_unless_it_should_be_our_right() {
    let (mut s, left, right) = whole(&five(33));
    s.say(left, &naming("DIRECTOR", 33));
    assert_eq!(s.told(right), Vec::<String>::new(), "ourselves");
    for n in [31, 34, 99] {
        s.say(left, &naming("DIRECTOR", n));
        assert_eq!(s.told(right), [naming("DIRECTOR", n)], "{n}");
    }
    let nearer = "DIRECTOR\t127.77.0.33\t17791";
    s.say(left, nearer);
    assert_eq!(s.told(right), Vec::<String>::new(), "presumed dead");
    assert_eq!(s.ring.members().iter().len(), 7);
}

#[test]
fn a_director_line_begins_the_count_of_its_director_anew() {
    let (mut s, left, _) = between();
    s.say(left, &from("USER-KICK", 33, 50, "a"));
    s.say(left, &from("USER-KICK", 33, 3, "b"));
    assert_eq!(s.kicks.len(), 1);
    s.say(left, &naming("DIRECTOR", 33));
    s.say(left, &from("USER-KICK", 33, 3, "b"));
    assert_eq!(s.kicks.len(), 2);
}
