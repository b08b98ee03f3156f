use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::wire::ring::Sync;

fn id(last: u8) -> DirectorId {
    DirectorId {
        ip: [127, 77, 0, last].into(),
        port: 17790,
    }
}

fn ring(me: u8, others: impl IntoIterator<Item = u8>) -> Members {
    Members::new(id(me), others.into_iter().map(id)).expect("few")
}

fn at(seconds: u64) -> Mono {
    Mono(seconds * SECOND)
}

fn lasts(ids: impl Iterator<Item = DirectorId>) -> Vec<u8> {
    ids.map(|id| match id.ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    })
    .collect()
}

#[test]
fn directors_are_sorted_by_family_address_and_port() {
    let me = id(1);
    let with = |ip: &str, port| DirectorId {
        ip: ip.parse().expect("an address"),
        port,
    };
    let sorted = [
        with("10.0.0.9", 9090),
        with("10.0.0.10", 1000),
        with("10.0.0.10", 9090),
        with("10.0.0.10", 10000),
        me,
        with("::1", 1),
    ];
    let mut members = Members::new(me, sorted.iter().rev().copied()).expect("few");
    let listed: Vec<_> = members.iter().map(|member| member.id).collect();
    assert_eq!(listed, sorted);
    assert_eq!(members.add(sorted[0]), Ok(false));
}

/// The recorded example: self .43 among .41 to .45.
#[test]
fn the_walk_of_a_recorded_ring() {
    let members = ring(43, 41..=45);
    assert_eq!(lasts(members.walk().map(|m| m.id)), [44, 45, 41, 42]);
    assert_eq!(members.preferred_right(), Some(id(44)));
    assert_eq!(members.preferred_left(), Some(id(42)));
    assert_eq!(members.order(id(45), id(42)), Ordering::Greater);
    assert_eq!(members.order(id(42), id(41)), Ordering::Less);
    assert_eq!(members.order(id(43), id(42)), Ordering::Less);
    assert_eq!(members.order(id(45), id(45)), Ordering::Equal);
    assert!(members.is_better_right(id(45), id(42)));
    assert!(members.is_better_left(id(42), id(41)));
}

#[test]
fn removed_directors_are_nobodys_neighbours_until_they_are_purged() {
    let mut members = ring(43, 41..=45);
    assert!(members.remove(id(44)) && !members.remove(id(44)));
    assert!(!members.remove(id(43)) && !members.remove(id(99)));
    assert_eq!(members.preferred_right(), Some(id(45)));
    assert!(!members.admits(id(44).ip));
    assert_eq!(members.take_seq(id(44), 7), Seen::NoOrigin);
    assert_eq!(lasts(members.candidates(at(0))), [45, 41, 42]);
    members.purge();
    assert_eq!(members.iter().count(), 4);
    assert_eq!(members.add(id(44)), Ok(true));
    assert!(members.admits(id(44).ip));
}

#[test]
fn the_rank_counts_those_before_us_that_are_not_removed() {
    let mut members = ring(43, 41..=45);
    assert_eq!(members.rank(), 2);
    members.remove(id(41));
    members.remove(id(45));
    assert_eq!(members.rank(), 1);
    assert_eq!(ring(41, 42..=45).rank(), 0);
}

/// T17.
#[test]
fn a_removed_director_does_not_shut_its_sibling_out() {
    let sibling = DirectorId {
        port: 17791,
        ..id(44)
    };
    let mut members = Members::new(id(43), [id(44), sibling]).expect("few");
    members.remove(id(44));
    assert!(members.admits(sibling.ip));
}

#[test]
fn the_list_is_limited() {
    let many = (0..2000u16).map(|port| DirectorId {
        port: port + 1,
        ..id(1)
    });
    assert_eq!(Members::new(id(2), many).err(), Some(TooManyMembers));
}

#[test]
fn who_failed_is_left_alone_for_a_minute() {
    let mut members = ring(43, 41..=45);
    members.note_program(id(44), false);
    members.get_mut(id(44)).unwrap().network_failed(at(5));
    members.get_mut(id(45)).unwrap().protocol_failed(at(6));
    assert_eq!(lasts(members.candidates(at(6))), [41, 42]);
    assert_eq!(lasts(members.candidates(Mono(65 * SECOND - 1))), [41, 42]);
    assert_eq!(lasts(members.candidates(at(65))), [44, 41, 42]);
    assert_eq!(lasts(members.candidates(at(66))), [44, 45, 41, 42]);
    members.get_mut(id(44)).unwrap().network_failed(at(70));
    members.get_mut(id(44)).unwrap().reached();
    assert_eq!(lasts(members.candidates(at(70))), [44, 45, 41, 42]);
}

#[test]
fn who_was_never_met_is_taken_for_what_the_others_are() {
    let mut members = ring(43, 41..=45);
    let again = |members: &mut Members| {
        let member = members.get_mut(id(44)).unwrap();
        member.network_failed(at(5));
        (6..=65).find(|&second| members.candidates(at(second)).any(|it| it == id(44)))
    };
    assert!(again(&mut members) <= Some(7), "nobody was met");
    members.note_program(id(41), true);
    assert!(again(&mut members) <= Some(8));
    members.note_program(id(42), false);
    assert_eq!(again(&mut members), Some(65), "there are others");
    members.note_program(id(44), true);
    assert!(again(&mut members) <= Some(10), "it was met");
}

#[test]
fn a_connection_that_lived_is_no_failure() {
    for (established, counts) in [(None, true), (Some(61), true), (Some(60), false)] {
        let mut member = Member::new(id(44));
        member.connection_lost(established.map(at), at(100));
        assert_eq!(member.may_be_dialled(at(100)), !counts, "{established:?}");
    }
}

#[test]
fn a_director_that_reaches_nobody_waits_once() {
    let mut members = ring(43, [44]);
    members.get_mut(id(44)).unwrap().protocol_failed(at(100));
    for second in 100..=120 {
        assert_eq!(members.unreachable(at(second)), Unreachable::TryAgain);
        assert_eq!(lasts(members.candidates(at(second))), [44]);
        members.get_mut(id(44)).unwrap().network_failed(at(second));
    }
    assert_eq!(members.unreachable(at(121)), Unreachable::Alone);
    assert_eq!(members.unreachable(at(5000)), Unreachable::Alone);
    let mut single = ring(43, []);
    assert_eq!(single.unreachable(at(0)), Unreachable::Alone);
    // The grace begins with the first failure in company.
    single.add(id(44)).unwrap();
    assert_eq!(single.unreachable(at(500)), Unreachable::TryAgain);
}

/// T3, T4, T16.
#[test]
fn who_may_become_a_neighbour() {
    let mut members = ring(43, [44]);
    members.take_seq(id(43), 9);
    let ask = |members: &Members, who, source| members.check_me(id(who), id(source).ip, at(50));
    assert_eq!(ask(&members, 44, 44), Ok(()));
    assert_eq!(ask(&members, 43, 43), Err(MeRefused::Ourselves));
    assert_eq!(ask(&members, 44, 45), Err(MeRefused::WrongSource));
    assert_eq!(ask(&members, 45, 45), Err(MeRefused::Unlisted));
    members.get_mut(id(44)).unwrap().protocol_failed(at(0));
    assert_eq!(ask(&members, 44, 44), Err(MeRefused::BackOff));
    members.restarted(id(43));
    assert_eq!(members.next_seq(), 10, "nobody resets our own counter");
}

#[test]
fn commands_are_counted_by_origin() {
    let mut members = ring(43, [44]);
    assert_eq!(members.take_seq(id(44), 5), Seen::New);
    assert_eq!(members.take_seq(id(44), 5), Seen::Duplicate);
    assert_eq!(members.take_seq(id(44), 4), Seen::Duplicate);
    assert_eq!(members.take_seq(id(44), 6), Seen::New);
    assert_eq!(members.take_seq(id(99), 6), Seen::NoOrigin);
    members.restarted(id(44));
    assert_eq!(members.take_seq(id(44), 1), Seen::New);
    // Ours come back; after a restart an old one of ours moves the counter.
    assert_eq!((members.next_seq(), members.next_seq()), (1, 2));
    assert_eq!(members.take_seq(id(43), 2), Seen::Duplicate);
    assert_eq!(members.take_seq(id(43), 40), Seen::New);
    assert_eq!(members.next_seq(), 41);
}

/// T5.
#[test]
fn a_weak_line_goes_round_a_few_times_only() {
    let mut member = Member::new(id(44));
    let passed = (0..10).filter(|_| member.pass_weak(7)).count();
    assert_eq!(passed, 4);
    assert!(member.pass_weak(8) && member.pass_weak(6));
    assert!(!member.pass_weak(7));
    for seq in 9..=5000 {
        assert!(member.pass_weak(seq));
    }
    assert!(!member.pass_weak(7), "long gone");
    member.restarted();
    assert!(member.pass_weak(7));
}

fn sync(seq: u32, time: u32, hosts_hash: u32) -> Sync {
    Sync {
        director: id(44),
        seq,
        minor: 9,
        time: Some(time),
        hosts_hash,
    }
}

const HASH: u32 = 5;

fn receive(member: &mut Member, seq: u32, time: u32) -> SyncVerdict {
    member.receive_sync(&sync(seq, time, HASH), HASH, 0)
}

#[test]
fn copies_one_to_four_of_a_sync_pass() {
    let mut member = Member::new(id(44));
    for _ in 0..4 {
        assert_eq!(receive(&mut member, 3, 1000), SyncVerdict::Forward);
    }
    assert_eq!(receive(&mut member, 3, 1000), SyncVerdict::TooOften);
    assert_eq!(receive(&mut member, 3, 999), SyncVerdict::TooOften);
    // Sent again, five seconds later.
    assert_eq!(receive(&mut member, 3, 1005), SyncVerdict::Forward);
    assert_eq!(receive(&mut member, 4, 1005), SyncVerdict::Forward);
}

#[test]
fn an_old_sync_is_dropped_unless_its_director_has_restarted() {
    let mut member = Member::new(id(44));
    assert_eq!(receive(&mut member, 9, 1000), SyncVerdict::Forward);
    assert_eq!(receive(&mut member, 8, 1119), SyncVerdict::Stale);
    assert_eq!(receive(&mut member, 1, 1120), SyncVerdict::Forward);
    assert_eq!((member.last_sync_seq, member.last_sync_count), (1, 1));
    // A higher number counts whatever its clock says.
    assert_eq!(receive(&mut member, 2, 5), SyncVerdict::Forward);
    assert_eq!(member.last_sync_time, 5);
    member.restarted();
    assert_eq!(receive(&mut member, 1, 4), SyncVerdict::Forward);
}

#[test]
fn a_difference_that_stays_is_repaired() {
    let mut member = Member::new(id(44));
    let mut hear = |seq, hash| member.receive_sync(&sync(seq, 1000, hash), HASH, 0);
    assert_eq!(hear(1, 6), SyncVerdict::Differs);
    assert_eq!(hear(2, 7), SyncVerdict::Differs);
    assert_eq!(hear(3, 7), SyncVerdict::Repair);
    assert_eq!(hear(4, 7), SyncVerdict::Repair);
    assert_eq!(hear(5, HASH), SyncVerdict::Forward);
    assert_eq!(hear(6, 7), SyncVerdict::Differs);
    // Three fields only: nothing is compared.
    assert_eq!(hear(7, 0), SyncVerdict::Forward);
    assert!(SyncVerdict::Forward.lets_resend() && !SyncVerdict::Repair.lets_resend());
}

/// T2, and the rows of our own SYNC.
#[test]
fn our_own_sync_comes_back() {
    let round = OwnRound {
        seq: 3,
        since: 3,
        hosts_hash: HASH,
        has_neighbours: true,
    };
    let hear = |round: OwnRound, seq, hash| round.receive(&sync(seq, 1, hash), 9);
    assert_eq!(hear(round, 2, HASH), OwnSync::Ignore);
    assert_eq!(hear(round, 4, HASH), OwnSync::Ignore);
    assert_eq!(hear(round, 3, HASH), OwnSync::Complete(9));
    assert_eq!(hear(round, 3, 0), OwnSync::Complete(9));
    assert_eq!(hear(round, 3, 6), OwnSync::SendAgain);
    let sent_again = OwnRound { since: 2, ..round };
    assert_eq!(hear(sent_again, 1, HASH), OwnSync::Ignore);
    assert_eq!(hear(sent_again, 2, HASH), OwnSync::Complete(9));
    let lonely = OwnRound {
        has_neighbours: false,
        ..round
    };
    assert_eq!(hear(lonely, 3, HASH), OwnSync::Ignore);
    let newer = Sync {
        minor: 12,
        ..sync(3, 1, HASH)
    };
    assert_eq!(round.receive(&newer, 9), OwnSync::Complete(9));
    let older = Sync { minor: 8, ..newer };
    assert_eq!(round.receive(&older, 9), OwnSync::Complete(8));
}

#[test]
fn a_director_line_ends_at_the_one_before_the_dead() {
    let members = ring(43, 41..=45);
    assert!(members.ends_director_line(id(44), Some(id(45))));
    assert!(!members.ends_director_line(id(45), Some(id(45))));
    assert!(!members.ends_director_line(id(41), Some(id(45))));
    assert!(!members.ends_director_line(id(44), None));
}

proptest! {
    #[test]
    fn the_order_is_that_of_the_walk(me in 0u8..20, others in prop::collection::vec(0u8..20, 0..12)) {
        let members = ring(me, others);
        let mut walk: Vec<_> = members.walk().map(|member| member.id).collect();
        prop_assert_eq!(walk.len() + 1, members.iter().count());
        walk.push(members.me());
        for (i, a) in walk.iter().enumerate() {
            for (j, b) in walk.iter().enumerate() {
                prop_assert_eq!(members.order(*a, *b), j.cmp(&i));
                prop_assert_eq!(members.is_better_left(*a, *b), members.is_better_right(*b, *a));
            }
        }
        let others = &walk[..walk.len() - 1];
        prop_assert_eq!(members.preferred_right(), others.first().copied());
        prop_assert_eq!(members.preferred_left(), others.last().copied());
    }

    /// Everybody's right has them as their left.
    #[test]
    fn the_ring_closes(all in prop::collection::btree_set(0u8..30, 2..12)) {
        for &me in &all {
            let right = ring(me, all.iter().copied()).preferred_right().unwrap();
            let seen_from_there = Members::new(right, all.iter().copied().map(id)).unwrap();
            prop_assert_eq!(seen_from_there.preferred_left(), Some(id(me)));
        }
    }

    /// However SYNCs of one director come, each is passed on a bounded number of times.
    #[test]
    fn no_sync_circles_for_ever(
        lines in prop::collection::vec((0u32..4, 0u32..300), 1..60),
    ) {
        let mut member = Member::new(id(44));
        let mut last = None;
        let mut run = 0;
        for (seq, time) in lines {
            let verdict = receive(&mut member, seq, time);
            if last == Some((seq, time)) && verdict == SyncVerdict::Forward {
                run += 1;
                prop_assert!(run <= 4);
            } else {
                run = 1;
            }
            last = Some((seq, time));
        }
    }
}
