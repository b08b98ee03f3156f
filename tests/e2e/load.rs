//! The load generator at real proxies: it logs in as mail clients do, and finds out from the backends
//! where everybody is.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::time::Duration;

use loadgen::{Amount, Connections, Load, Plan, Report, Session, Target, Users};
use serde_json::Value;

use crate::rig::{
    BACKENDS, Case, DirectorKind, PATIENCE, Tier, TierSpec, User, Version, wait_until,
};

for_each_case!(
    mail_sessions_are_made_held_and_checked,
    crate::load::sessions
);
for_each_case!(
    the_sites_auth_is_asked_for_right_and_wrong_passwords,
    crate::load::lookups
);

const USERS: u32 = 24;
const SESSIONS: u32 = 8;
const HOLD: Duration = Duration::from_secs(2);

fn plan(tier: &Tier, protocol: &str) -> Plan {
    let plain = protocol.split('-').next().unwrap_or(protocol);
    let place = tier.order(&format!("{plain}.visit"), "user0");
    let text = |key: &str| match &place[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let target = format!("{protocol}:{}:{}", text("host"), text("port"));
    let target: Target = target.parse().expect("a target");
    Plan {
        connections: SESSIONS,
        in_flight: 1,
        lifetime: Connections::PerLogin,
        users: Users::Known {
            count: USERS,
            preload: false,
        },
        password: tier.site.password.clone(),
        amount: Amount::Lookups(60),
        warm_up: Duration::ZERO,
        time_limit: Duration::from_secs(180),
        session: Session {
            backend_mark: (plain == "imap").then(|| "backend=".to_owned()),
            ..Session::default()
        },
        ..Plan::new(target)
    }
}

/// The proxy takes STARTTLS from now on.
fn offer_tls(tier: &Tier) {
    let [certificate, key] = ["proxy.crt", "proxy.key"].map(|name| tier.site.path().join(name));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let made = made.expect("a certificate");
    fs::write(&certificate, made.cert.pem()).expect("a file");
    fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let (certificate, key) = (certificate.display(), key.display());
    let more = match tier.proxy.version() {
        Version::V23 => format!("ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}\n"),
        Version::V24 => format!(
            "ssl = yes\nssl_server_cert_file = {certificate}\nssl_server_key_file = {key}\n"
        ),
    };
    // The last word counts.
    let config = tier.proxy.config();
    let text = fs::read_to_string(&config).expect("a configuration");
    fs::write(&config, text + &more).expect("a configuration");
    tier.proxy.reload();
    let place = tier.order("imap.visit", "user0");
    let host = place["host"].as_str().expect("an address");
    let port = place["port"].as_u64().expect("a port");
    wait_until("the proxy offers STARTTLS", PATIENCE, || {
        greeting(&format!("{host}:{port}")).is_some_and(|it| it.contains("STARTTLS"))
    });
}

fn greeting(address: &str) -> Option<String> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line)
}

#[track_caller]
fn passes(plan: &Plan) -> Report {
    let report = loadgen::run(plan, |_| {}).expect("a run");
    assert!(report.passed(), "{report}");
    report
}

/// IMAP and POP3, with and without TLS, sessions held in IDLE while others come and go, and a storm in which everybody comes
/// back: all are let in, each user always on the backend where it was.
pub fn sessions(case: Case) {
    let names = (0..USERS).map(|number| User::proxied(format!("user{number}")));
    let tier = Tier::start(&TierSpec::new(case, names.collect()));
    let imap = plan(&tier, "imap");
    let report = passes(&imap);
    assert_eq!(report.lookups, 60);
    let users: u64 = report.backends.iter().map(|it| it.users).sum();
    assert!(report.backends.len() <= BACKENDS.len() && users == report.users);
    for backend in &report.backends {
        // What the backends say of themselves is what they are to the director.
        tier.backend_number(&backend.host);
    }

    let held = Plan {
        session: Session {
            hold: HOLD,
            ..imap.session.clone()
        },
        amount: Amount::Lookups(2 * u64::from(SESSIONS)),
        // The director's own process, where it is one that can be told.
        pids: match case.director {
            DirectorKind::Homing => vec![tier.director.pid()],
            DirectorKind::Dovecot23 => Vec::new(),
        },
        ..imap.clone()
    };
    let report = passes(&held);
    // The second half comes when the first has gone.
    assert!(report.seconds >= HOLD.as_secs_f64(), "{report}");
    assert_eq!(
        report.target.is_some(),
        case.director == DirectorKind::Homing
    );

    let storm = Plan {
        connections: USERS,
        load: Load::Storm {
            within: Duration::from_secs(1),
        },
        ..imap
    };
    let report = passes(&storm);
    assert_eq!(
        (report.lookups, report.users),
        (u64::from(USERS), u64::from(USERS))
    );
    wait_until("the director knows all", PATIENCE, || {
        tier.director.users().total == u64::from(USERS)
    });

    passes(&plan(&tier, "pop3"));
    offer_tls(&tier);
    for protocol in ["imap-starttls", "pop3-starttls"] {
        let mut secured = plan(&tier, protocol);
        secured.session.tls_any = true;
        secured.amount = Amount::Lookups(24);
        passes(&secured);
    }
    let stranger = Plan {
        password: "wrong".to_owned(),
        amount: Amount::Lookups(1),
        connections: 1,
        ..plan(&tier, "imap")
    };
    let report = loadgen::run(&stranger, |_| {}).expect("a run");
    assert!(!report.passed() && report.errors.refused == 1, "{report}");
}

/// At the login socket itself, with the site's auth behind the director.
pub fn lookups(case: Case) {
    let names = (0..USERS).map(|number| User::proxied(format!("user{number}")));
    let tier = Tier::start(&TierSpec::new(case, names.collect()));
    let socket = tier.proxy.base().join("login/director/auth");
    let plan = Plan {
        targets: vec![Target::Login(socket)],
        connections: 4,
        in_flight: 4,
        lifetime: Connections::Kept,
        users: Users::Known {
            count: USERS,
            preload: true,
        },
        wrong_share: 0.2,
        amount: Amount::Lookups(120),
        session: Session::default(),
        ..plan(&tier, "imap")
    };
    let report = passes(&plan);
    assert_eq!(
        (report.lookups, report.users),
        (120, u64::from(USERS)),
        "{report}"
    );
    assert!((5..60).contains(&report.refused_as_planned), "{report}");
    for backend in &report.backends {
        tier.backend_number(&backend.host);
    }
}
