use std::time::Duration;

use super::*;

#[test]
fn contradictions_are_named() {
    let plan = Plan::new(Target::Login("/a".into()));
    assert!(plan.check().is_ok());
    let refused = |plan: Plan| plan.check().unwrap_err().to_string();
    assert!(
        refused(Plan {
            connections: 0,
            ..plan.clone()
        })
        .contains("--connections")
    );
    assert!(
        refused(Plan {
            load: Load::Open { rate: 0.0 },
            ..plan.clone()
        })
        .contains("--rate")
    );
    assert!(
        refused(Plan {
            prefix: "a\tb".into(),
            ..plan.clone()
        })
        .contains("--prefix")
    );
    let per_login = Plan {
        lifetime: Connections::PerLogin,
        ..plan
    };
    assert!(refused(per_login).contains("--in-flight"));
}

#[test]
fn every_new_setting_is_checked() {
    let plan = Plan {
        lifetime: Connections::PerLogin,
        in_flight: 1,
        ..Plan::new("imaps:localhost:993".parse().unwrap())
    };
    let login = Target::Login("/a".into());
    let storm = Load::Storm {
        within: Duration::from_secs(5),
    };
    let ramp = Load::Ramp { from: 1.0, to: 9.0 };
    let trusting = |change: fn(&mut Plan)| {
        let mut plan = plan.clone();
        plan.session.tls_any = true;
        change(&mut plan);
        plan
    };
    assert!(trusting(|_| {}).check().is_ok());
    let of_login = Plan::new(login.clone());
    let cases = [
        (plan.clone(), "--tls-ca"),
        (
            trusting(|plan| plan.targets.push(Target::Login("/a".into()))),
            "--target",
        ),
        (trusting(|plan| plan.targets.clear()), "--target"),
        (
            trusting(|plan| plan.lifetime = Connections::Kept),
            "--connection-per-login",
        ),
        (
            trusting(|plan| plan.stub_auth = Some(Default::default())),
            "--auth-stub",
        ),
        (
            trusting(|plan| plan.session.backend_mark = Some(String::new())),
            "--backend-mark",
        ),
        (
            trusting(|plan| plan.session.login_timeout = Duration::ZERO),
            "--login-timeout",
        ),
        (trusting(|plan| plan.suffix = "@ b".into()), "--suffix"),
        (trusting(|plan| plan.password = "a\n".into()), "--password"),
        (trusting(|plan| plan.new_share = 1.1), "--new-share"),
        (
            trusting(|plan| plan.interval = Duration::ZERO),
            "--interval",
        ),
        (
            trusting(|plan| plan.popularity = Popularity::Zipf { exponent: 0.0 }),
            "--zipf",
        ),
        (
            trusting(|plan| {
                plan.retry.times = 1;
                plan.retry.longest = Duration::ZERO;
            }),
            "--backoff",
        ),
        (
            Plan {
                load: storm,
                users: Users::New { first: 1 },
                ..of_login.clone()
            },
            "--storm",
        ),
        (
            Plan {
                load: ramp,
                amount: Amount::Lookups(5),
                ..of_login.clone()
            },
            "--ramp-to",
        ),
        (
            Plan {
                wrong_share: 0.5,
                ..Plan::new(Target::Authreply("/a".into()))
            },
            "--wrong-password-share",
        ),
    ];
    for (plan, setting) in cases {
        let error = plan.check().unwrap_err().to_string();
        assert!(error.starts_with(setting), "{setting}: {error}");
    }
}
