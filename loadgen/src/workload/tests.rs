use super::*;
use crate::plan::{Amount, Target};

fn plan(load: Load) -> Plan {
    Plan {
        load,
        ..Plan::new(Target::Login("/a".into()))
    }
}

fn all(workload: &mut Workload, now: u64) -> Vec<Login> {
    std::iter::from_fn(|| workload.next(now)).collect()
}

#[test]
fn arrivals_keep_their_intended_time() {
    let mut workload = Workload::new(&plan(Load::Open { rate: 1000.0 }));
    workload.enter(Phase::Measure, 5_000_000, 3);
    let start = |login: Option<Login>| login.map(|login| login.start);
    assert_eq!(start(workload.next(5_000_000)), Some(5_000_000));
    assert_eq!(workload.next(5_999_999), None);
    // Asked late: the start is still the intended one.
    assert_eq!(start(workload.next(9_000_000)), Some(6_000_000));
    assert_eq!(workload.next_arrival(), Some(7_000_000));
    assert_eq!(start(workload.next(9_000_000)), Some(7_000_000));
    assert_eq!(workload.next(9_000_000), None);
    assert!(workload.exhausted());
}

#[test]
fn preload_and_new_users_come_in_order_and_known_ones_at_random() {
    let plan = plan(Load::Closed);
    let mut workload = Workload::new(&plan);
    workload.enter(Phase::Preload, 0, 3);
    let users = |workload: &mut Workload| -> Vec<u32> {
        all(workload, 0).iter().map(|login| login.user).collect()
    };
    assert_eq!(users(&mut workload), [0, 1, 2]);
    workload.enter(Phase::Measure, 0, 1000);
    let known = users(&mut workload);
    assert!(known.iter().all(|user| *user < 100_000));
    assert!(known.windows(2).any(|pair| pair[0] > pair[1]));
    let new = Plan {
        users: Users::New { first: 7 },
        ..plan
    };
    let mut workload = Workload::new(&new);
    workload.enter(Phase::Measure, 0, 3);
    assert_eq!(users(&mut workload), [7, 8, 9]);
    assert_eq!(workload.users_begun(), 3);
}

#[test]
fn a_ramp_rises_evenly() {
    let load = Load::Ramp {
        from: 100.0,
        to: 1100.0,
    };
    let plan = Plan {
        amount: Amount::Time(Duration::from_secs(10)),
        ..plan(load)
    };
    let mut workload = Workload::new(&plan);
    let planned = workload.planned(Duration::from_secs(10)).unwrap();
    assert_eq!(planned, 6000);
    workload.enter(Phase::Measure, 0, planned);
    let starts: Vec<_> = all(&mut workload, u64::MAX)
        .iter()
        .map(|l| l.start)
        .collect();
    let in_second = |n: u64| {
        let second = n * 1_000_000_000..(n + 1) * 1_000_000_000;
        starts.iter().filter(|start| second.contains(start)).count() as i64
    };
    for n in 0..10 {
        let expected = 150 + 100 * n as i64;
        assert!(
            (in_second(n) - expected).abs() <= 1,
            "second {n}: {}",
            in_second(n)
        );
    }
    // Downwards as well, to the last arrival.
    let load = Load::Ramp {
        from: 1100.0,
        to: 100.0,
    };
    let mut workload = Workload::new(&Plan { load, ..plan });
    workload.enter(Phase::Measure, 0, 6000);
    let last = all(&mut workload, u64::MAX).last().unwrap().start;
    assert!((9_900_000_000..=10_000_000_000).contains(&last), "{last}");
}

#[test]
fn a_storm_brings_every_user_once_within_its_time() {
    let within = Duration::from_secs(3);
    let plan = Plan {
        users: Users::Known {
            count: 3000,
            preload: true,
        },
        ..plan(Load::Storm { within })
    };
    let mut workload = Workload::new(&plan);
    workload.enter(Phase::Preload, 0, 3000);
    assert_eq!(all(&mut workload, 0).len(), 3000);
    let planned = workload.planned(Duration::from_secs(1)).unwrap();
    workload.enter(Phase::Measure, 0, planned);
    let logins = all(&mut workload, u64::MAX);
    let users: Vec<_> = logins.iter().map(|login| login.user).collect();
    assert_eq!(users, (0..3000).collect::<Vec<_>>());
    assert!(logins.iter().all(|login| login.start < 3_000_000_000));
    let first_second = logins.iter().filter(|l| l.start < 1_000_000_000).count();
    assert!((850..1150).contains(&first_second), "{first_second}");
}

#[test]
fn failed_logins_come_again_later_and_later() {
    let plan = Plan {
        retry: Retry {
            times: 5,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(4),
        },
        ..plan(Load::Open { rate: 1.0 })
    };
    let mut workload = Workload::new(&plan);
    workload.enter(Phase::Measure, 0, 1);
    let mut login = workload.next(0).unwrap();
    for (tried, seconds) in [1, 2, 4, 4].into_iter().enumerate() {
        workload.try_again(login, 0);
        assert!(!workload.exhausted());
        let due = workload.next_arrival().unwrap();
        let wait = seconds * 1_000_000_000;
        assert!(
            (wait / 2..=wait / 2 * 3).contains(&due),
            "try {tried}: {due}"
        );
        assert_eq!(workload.next(due - 1), None);
        login = workload.next(due).unwrap();
        assert_eq!((login.start, usize::from(login.tried)), (0, tried + 1));
    }
    assert!(workload.exhausted());
}

#[test]
fn shares_of_new_users_and_of_wrong_passwords() {
    let plan = Plan {
        new_share: 0.25,
        wrong_share: 0.1,
        popularity: Popularity::Zipf { exponent: 1.0 },
        ..plan(Load::Closed)
    };
    let mut workload = Workload::new(&plan);
    workload.enter(Phase::Preload, 0, 100_000);
    assert!(all(&mut workload, 0).iter().all(|login| !login.wrong));
    workload.enter(Phase::Measure, 0, 10_000);
    let logins = all(&mut workload, 0);
    let new: Vec<_> = logins
        .iter()
        .map(|l| l.user)
        .filter(|user| *user >= 100_000)
        .collect();
    assert!((2300..2700).contains(&new.len()), "{}", new.len());
    assert!(new.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(workload.users_begun(), new.len() as u64);
    let wrong = logins.iter().filter(|login| login.wrong).count();
    assert!((850..1150).contains(&wrong), "{wrong}");
    let first = logins.iter().filter(|login| login.user == 0).count();
    assert!(first > 300, "rank 1 of Zipf came {first} times");
}
