//! Mail sessions against fake servers.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::mailserver::{Verdict, backend, ca, plan, right, start};
use parking_lot::Mutex;

use loadgen::{Errors, Load, MailProtocol, Plan, Report, Security, Users};

const PROTOCOLS: [MailProtocol; 2] = [MailProtocol::Imap, MailProtocol::Pop3];
const SECURITIES: [Security; 3] = [Security::Plain, Security::Tls, Security::StartTls];

fn run(plan: &Plan) -> Report {
    loadgen::run(plan, |_| {}).unwrap()
}

#[test]
fn every_protocol_with_every_kind_of_tls() {
    let directory = tempfile::tempdir().unwrap();
    for protocol in PROTOCOLS {
        for security in SECURITIES {
            let server = start(protocol, security, right);
            let mut plan = plan(&[&server]);
            plan.session.tls_ca = Some(ca(directory.path()));
            let report = run(&plan);
            assert!(report.passed(), "{protocol:?} {security:?}\n{report}");
            assert_eq!((report.lookups, report.users), (200, 30));
            let hosts: Vec<_> = report
                .backends
                .iter()
                .map(|b| (&*b.host, b.users))
                .collect();
            assert_eq!(
                hosts,
                [("10.0.0.1", 10), ("10.0.0.2", 10), ("10.0.0.3", 10)]
            );
            // Every session was ended in order.
            assert_eq!(
                server.seen.goodbyes.load(SeqCst),
                230,
                "{protocol:?} {security:?}"
            );
        }
    }
}

#[test]
fn certificates_are_verified_unless_the_plan_says_any() {
    let server = start(MailProtocol::Imap, Security::Tls, right);
    let directory = tempfile::tempdir().unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let strange = directory.path().join("strange.pem");
    std::fs::write(&strange, other.cert.pem()).unwrap();
    let with = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan(&[&server]);
        change(&mut plan);
        loadgen::run(&plan, |_| {}).map(|report| report.passed())
    };
    let untrusted = with(&|plan| plan.session.tls_ca = Some(strange.clone()));
    let untrusted = untrusted.unwrap_err().to_string();
    assert!(untrusted.contains("certificate"), "{untrusted}");
    let misnamed = with(&|plan| {
        plan.session.tls_ca = Some(ca(directory.path()));
        plan.session.tls_name = Some("other.example".to_owned());
    });
    let misnamed = misnamed.unwrap_err().to_string();
    assert!(misnamed.contains("certificate"), "{misnamed}");
    let any = with(&|plan| plan.session.tls_any = true);
    assert!(any.unwrap());
    let neither = with(&|_| {}).unwrap_err().to_string();
    assert!(neither.contains("--tls-ca"), "{neither}");
}

#[test]
fn sessions_are_held_and_idle() {
    for protocol in PROTOCOLS {
        let server = start(protocol, Security::Plain, right);
        let mut plan = plan(&[&server]);
        plan.connections = 25;
        plan.users = Users::Known {
            count: 30,
            preload: false,
        };
        plan.amount = loadgen::Amount::Lookups(50);
        // Long enough for all to come meanwhile.
        plan.session.hold = Duration::from_millis(1500);
        let report = run(&plan);
        assert!(report.passed(), "{report}");
        assert_eq!(server.seen.most_held.load(SeqCst), 25);
        // The generator does not wait until the server has heard the last one.
        for _ in 0..6000 {
            if server.seen.goodbyes.load(SeqCst) >= 50 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(server.seen.goodbyes.load(SeqCst), 50);
        // The second half could begin only when the first was over.
        assert!(report.seconds >= 1.5, "{report}");
        if protocol == MailProtocol::Imap {
            assert_eq!(server.seen.idled.load(SeqCst), 50);
        }
    }
}

#[test]
fn a_user_on_another_backend_by_another_door_fails_the_run() {
    let good = start(MailProtocol::Imap, Security::Plain, right);
    let bad = start(MailProtocol::Imap, Security::Plain, |_, user, _| {
        Verdict::In(match user {
            "user7" => "10.0.0.99".to_owned(),
            _ => backend(user),
        })
    });
    assert!(run(&plan(&[&good, &good])).passed());
    let report = run(&plan(&[&good, &bad]));
    assert!(
        !report.passed() && report.errors.other_backend > 0,
        "{report}"
    );
    assert_eq!(report.users_moved, 1);
}

#[test]
fn what_is_not_told_is_not_called_checked() {
    let server = start(MailProtocol::Imap, Security::Plain, |_, _, _| {
        Verdict::Silent
    });
    let mut plan = plan(&[&server]);
    let report = run(&plan);
    assert_eq!(report.errors.no_host, 230, "{report}");
    assert!(!report.passed());
    plan.session.backend_mark = None;
    let report = run(&plan);
    assert!(report.passed(), "{report}");
    assert!(report.to_string().contains("NOT CHECKED"), "{report}");
}

#[test]
fn failures_are_told_apart_and_nonsense_is_seen() {
    for protocol in PROTOCOLS {
        let server = start(
            protocol,
            Security::Plain,
            |number, user, password| match number {
                100 => Verdict::Refused,
                110 => Verdict::Temporary,
                120 => Verdict::Close,
                130 => Verdict::Nonsense,
                _ => right(number, user, password),
            },
        );
        let report = run(&plan(&[&server]));
        let errors = Errors {
            refused: 1,
            temporary_failure: 1,
            disconnected: 2,
            ..Errors::default()
        };
        assert_eq!(report.errors, errors, "{protocol:?}\n{report}");
        assert!(!report.passed());
    }
}

#[test]
fn wrong_passwords_must_be_refused() {
    let server = start(MailProtocol::Imap, Security::Plain, right);
    let half = |server| Plan {
        wrong_share: 0.5,
        ..plan(&[server])
    };
    let report = run(&half(&server));
    assert!(report.passed(), "{report}");
    assert!((60..140).contains(&report.refused_as_planned), "{report}");
    let careless = start(MailProtocol::Imap, Security::Plain, |_, user, _| {
        Verdict::In(backend(user))
    });
    let report = run(&half(&careless));
    assert!(
        !report.passed() && report.errors.wrong_password_taken > 50,
        "{report}"
    );
}

/// Refuses everybody for a while after the login of this number.
fn out_for_a_while(number: u64, user: &str, password: &str) -> Verdict {
    static SINCE: OnceLock<Instant> = OnceLock::new();
    if number <= 300 {
        return right(number, user, password); // the preload
    }
    #[expect(clippy::disallowed_methods, reason = "a real server, in real time")]
    let since = SINCE.get_or_init(Instant::now);
    match since.elapsed().as_millis() {
        0..800 => Verdict::Temporary,
        800..1600 => Verdict::Close,
        _ => right(number, user, password),
    }
}

#[test]
fn in_a_storm_clients_come_back_until_they_are_in() {
    let server = start(MailProtocol::Imap, Security::Plain, out_for_a_while);
    let mut plan = plan(&[&server]);
    plan.connections = 100;
    plan.users = Users::Known {
        count: 300,
        preload: true,
    };
    plan.load = Load::Storm {
        within: Duration::from_millis(1200),
    };
    plan.retry.times = 30;
    plan.retry.first = Duration::from_millis(100);
    plan.retry.longest = Duration::from_millis(400);
    let report = run(&plan);
    assert!(report.passed(), "{report}");
    assert_eq!((report.lookups, report.latency.count), (300, 300));
    assert!(report.retries.temporary_failure > 50, "{report}");
    assert!(report.retries.disconnected > 50, "{report}");
    // Who came first waited until the server was back: its whole time counts, not its last try.
    assert!(report.latency.max > 1_400_000.0, "{report}");
    assert!(
        report.latency.p50 > 20_000.0 || report.latency.p90 > 300_000.0,
        "{report}"
    );
    // Everybody is in, each once.
    assert_eq!(report.users, 300);
}

#[test]
fn a_login_that_takes_too_long_is_given_up() {
    let server = start(
        MailProtocol::Pop3,
        Security::Plain,
        |number, user, password| {
            if number == 50 {
                std::thread::sleep(Duration::from_secs(8));
            }
            right(number, user, password)
        },
    );
    let mut plan = plan(&[&server]);
    // Longer than a busy machine takes for any other.
    plan.session.login_timeout = Duration::from_secs(3);
    let report = run(&plan);
    let errors = Errors {
        timed_out: 1,
        ..Errors::default()
    };
    assert_eq!(report.errors, errors, "{report}");
    assert!(report.complete && !report.passed());
}

#[test]
fn a_stall_of_a_second_shows_in_every_login_it_delayed() {
    // All wait for the one that stalls.
    static GATE: Mutex<()> = Mutex::new(());
    let server = start(
        MailProtocol::Imap,
        Security::Plain,
        |number, user, password| {
            let gate = GATE.lock();
            if number == 200 {
                std::thread::sleep(Duration::from_secs(1));
            }
            drop(gate);
            right(number, user, password)
        },
    );
    let mut plan = plan(&[&server]);
    plan.load = Load::Open { rate: 200.0 };
    plan.amount = loadgen::Amount::Time(Duration::from_secs(2));
    let report = run(&plan);
    assert!(report.passed(), "{report}");
    assert_eq!(report.latency.count, 400);
    // With five connections only five sessions can wait at the server: the other two hundred
    // arrivals of that second must count from when they should have come.
    assert!(report.latency.p90 >= 600_000.0, "{report}");
    let slow = report
        .histogram
        .iter_recorded()
        .filter(|step| step.value_iterated_to() > 500_000_000);
    let slow: u64 = slow.map(|step| step.count_at_value()).sum();
    assert!(
        slow >= 80,
        "{slow} of 200 waited longer than half a second\n{report}"
    );
}

#[test]
fn a_closed_port_is_said_at_once() {
    // Where nobody else gets the port meanwhile.
    let listener = std::net::TcpListener::bind("127.0.99.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let server = start(MailProtocol::Imap, Security::Plain, right);
    let mut plan = plan(&[&server]);
    plan.targets = vec![format!("imap:127.0.99.1:{port}").parse().unwrap()];
    let error = loadgen::run(&plan, |_| {}).unwrap_err().to_string();
    assert!(
        error.contains("cannot connect") && error.contains(&port.to_string()),
        "{error}"
    );
}
