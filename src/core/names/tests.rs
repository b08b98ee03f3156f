//! Rows: what the resolver said and the list shows, and what is then asked for.

use super::*;

const WEB: &str = "imap.example.com";

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn at(seconds: u64) -> Mono {
    Mono(seconds * Mono::SECOND)
}

/// A director that has one name, and the ring's list.
struct Rig {
    names: Names,
    view: View,
}

impl Rig {
    /// The name has these addresses, which are backends with weight 100 and three users each.
    fn new(addresses: &[u8]) -> Rig {
        let lines = addresses.iter().map(|&last| (WEB, "blue", ip(last)));
        let mut rig = Rig {
            names: Names::new(lines),
            view: View {
                synced: true,
                ..View::default()
            },
        };
        for &last in addresses {
            rig.list(last, 100, 3);
        }
        rig
    }

    fn list(&mut self, last: u8, vhosts: u32, users: u64) {
        self.view.backends.insert(ip(last), Seen { vhosts, users });
    }

    /// The name has these addresses now.
    fn found(&mut self, addresses: &[u8], seconds: u64) {
        let addresses = addresses.iter().map(|&last| ip(last)).collect();
        self.names.resolved(0, Ok(addresses), at(seconds));
    }

    fn steps(&mut self, seconds: u64) -> Vec<Step> {
        self.names.decide(&self.view, at(seconds))
    }

    fn orders(&mut self, seconds: u64) -> Vec<Order> {
        let orders = self
            .steps(seconds)
            .into_iter()
            .filter_map(|step| match step {
                Step::Ask(order) => Some(order),
                Step::Say(..) => None,
            });
        orders.collect()
    }

    fn lines(&mut self, seconds: u64) -> Vec<String> {
        let lines = self
            .steps(seconds)
            .into_iter()
            .filter_map(|step| match step {
                Step::Say(_, text) => Some(text),
                Step::Ask(_) => None,
            });
        lines.collect()
    }
}

fn add(last: u8, vhosts: u32) -> Order {
    Order::AddNamed {
        ip: ip(last),
        name: WEB.to_owned(),
        tag: b"blue".to_vec(),
        vhosts,
    }
}

fn weigh(last: u8, vhosts: u32) -> Order {
    Order::UpdateBackend {
        ip: ip(last),
        tag: None,
        vhosts: Some(vhosts),
    }
}

#[test]
fn while_a_name_keeps_its_addresses_nothing_is_done() {
    let mut rig = Rig::new(&[1, 2]);
    for round in 0..10 {
        rig.found(&[2, 1, 2], round * 60);
        assert!(!rig.names.is_busy());
        assert_eq!(rig.steps(round * 60), []);
    }
}

#[test]
fn a_new_address_gets_tag_and_greatest_weight_of_the_others_once() {
    let mut rig = Rig::new(&[1, 2]);
    rig.list(1, 70, 0);
    rig.list(2, 300, 0);
    rig.found(&[1, 2, 3], 0);
    assert!(rig.names.is_busy());
    assert_eq!(rig.orders(0), [add(3, 300)]);
    assert_eq!(rig.orders(10), []);
    rig.list(3, 300, 0);
    assert_eq!(rig.steps(11), []);
    assert!(!rig.names.is_busy());
}

#[test]
fn a_request_that_shows_no_effect_is_made_again() {
    let mut rig = Rig::new(&[1]);
    rig.found(&[1, 2], 0);
    assert_eq!(rig.orders(0), [add(2, 100)]);
    assert_eq!(rig.orders(69), []);
    assert_eq!(rig.orders(70), [add(2, 100)]);
}

#[test]
fn each_director_waits_for_those_before_it() {
    for rank in 0..4 {
        let mut rig = Rig::new(&[1]);
        rig.view.rank = rank;
        rig.found(&[1, 2], 100);
        let due = 100 + 5 * rank as u64;
        if rank > 0 {
            assert_eq!(rig.steps(due - 1), []);
        }
        assert_eq!(rig.orders(due), [add(2, 100)]);

        let mut rig = Rig::new(&[1]);
        rig.view.rank = rank + 1;
        rig.found(&[1, 2], 100);
        // One before it has done it.
        rig.list(2, 50, 0);
        assert_eq!(rig.steps(due + 60), []);
    }
}

#[test]
fn nothing_is_asked_for_before_all_agree() {
    let mut rig = Rig::new(&[1]);
    rig.view.synced = false;
    rig.found(&[1, 2], 0);
    assert_eq!(rig.steps(60), []);
    rig.view.synced = true;
    assert_eq!(rig.orders(61), [add(2, 100)]);
}

#[test]
fn an_address_missing_three_times_is_drained_and_removed_when_it_is_empty() {
    let mut rig = Rig::new(&[1, 2]);
    rig.view.rank = 1;
    for round in 0..2 {
        rig.found(&[2], round);
        assert_eq!(rig.steps(50), []);
    }
    rig.found(&[2], 100);
    assert_eq!(rig.steps(104), []);
    assert_eq!(rig.orders(105), [weigh(1, 0)]);
    rig.list(1, 0, 3);
    assert_eq!(rig.steps(106), []);
    assert_eq!(rig.steps(900), []);
    rig.list(1, 0, 0);
    assert_eq!(rig.steps(901), []);
    // A user that has come back meanwhile.
    rig.list(1, 0, 1);
    assert_eq!(rig.steps(905), []);
    rig.list(1, 0, 0);
    assert_eq!(rig.steps(906), []);
    assert_eq!(rig.steps(910), []);
    assert_eq!(rig.orders(911), [Order::Remove(ip(1))]);
    rig.view.backends.remove(&ip(1));
    assert_eq!(rig.steps(912), []);
    assert!(!rig.names.is_busy());
    // It comes back as any new one.
    rig.found(&[1, 2], 1000);
    assert_eq!(rig.orders(1005), [add(1, 100)]);
}

#[test]
fn an_answer_in_between_begins_the_count_again() {
    let mut rig = Rig::new(&[1, 2]);
    for (round, found) in [&[2u8][..], &[2], &[1, 2], &[2], &[2]]
        .into_iter()
        .enumerate()
    {
        rig.found(found, round as u64);
        assert_eq!(rig.steps(round as u64), []);
    }
}

#[test]
fn a_failure_changes_nothing_and_is_told_once() {
    let mut rig = Rig::new(&[1]);
    let fail = |rig: &mut Rig, result| rig.names.resolved(0, result, at(0));
    fail(&mut rig, Err("SERVFAIL".to_owned()));
    let said =
        "host name imap.example.com cannot be looked up, its backends stay as they are: SERVFAIL";
    assert_eq!(rig.lines(0), [said]);
    for result in [
        Err("SERVFAIL".to_owned()),
        Ok(vec![]),
        Err("again".to_owned()),
    ] {
        fail(&mut rig, result);
        assert_eq!(rig.steps(1), []);
    }
    rig.found(&[1], 2);
    assert_eq!(
        rig.lines(2),
        ["host name imap.example.com: can be looked up again"]
    );
    fail(&mut rig, Ok(vec![]));
    assert_eq!(rig.lines(3).len(), 1);
}

#[test]
fn what_an_operator_has_done_stays() {
    // Removed, though the name has it.
    let mut rig = Rig::new(&[1, 2]);
    rig.view.backends.remove(&ip(1));
    rig.found(&[1, 2], 0);
    assert_eq!(rig.steps(0), []);
    // Given a weight, though the name has lost it.
    for round in 0..3 {
        rig.list(1, 100, 3);
        rig.found(&[2], round);
    }
    assert_eq!(rig.orders(3), [weigh(1, 0)]);
    rig.list(1, 0, 3);
    rig.steps(4);
    rig.list(1, 40, 3);
    let said = "host name imap.example.com: 10.0.0.1 has weight 40 again: it stays, although the name has lost it";
    assert_eq!(rig.lines(5), [said]);
    rig.list(1, 0, 0);
    rig.found(&[2], 600);
    assert_eq!(rig.steps(600), []);
}

#[test]
fn an_address_that_comes_back_while_it_is_drained_gets_its_weight_again() {
    let mut rig = Rig::new(&[1, 2]);
    for round in 0..3 {
        rig.found(&[2], round);
    }
    assert_eq!(rig.orders(2), [weigh(1, 0)]);
    rig.list(1, 0, 3);
    assert_eq!(rig.steps(3), []);
    rig.found(&[1, 2], 60);
    assert_eq!(rig.orders(60), [weigh(1, 100)]);
    rig.list(1, 100, 3);
    assert_eq!(rig.steps(61), []);
    assert!(!rig.names.is_busy());
}

#[test]
fn an_address_that_another_name_has_is_not_drained() {
    let lines = [(WEB, "", ip(1)), (WEB, "", ip(2)), ("other", "", ip(3))];
    let mut rig = Rig::new(&[]);
    rig.names = Names::new(lines);
    for last in 1..=3 {
        rig.list(last, 100, 1);
    }
    rig.names.resolved(1, Ok(vec![ip(1), ip(3)]), at(0));
    assert_eq!(rig.steps(0), []);
    for round in 0..3 {
        rig.found(&[2], round);
        assert_eq!(rig.steps(round), []);
    }
    assert_eq!(rig.names.iter().collect::<Vec<_>>(), [WEB, "other"]);
}

#[test]
fn a_name_with_very_many_addresses_fills_nothing() {
    let mut rig = Rig::new(&[1]);
    rig.view.synced = false;
    for round in 0..20u16 {
        let many = (0..1000).map(|n: u16| {
            let [high, low] = (round * 1000 + n).to_be_bytes();
            IpAddr::from([11, 0, high, low])
        });
        rig.names.resolved(0, Ok(many.collect()), at(round.into()));
    }
    assert_eq!(rig.names.list[0].addresses.len(), MAX_KNOWN);
    let said = "host name imap.example.com: has 1000 addresses, of which only 256 are looked at";
    assert_eq!(rig.lines(30), [said]);
}
