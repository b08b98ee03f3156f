//! Generator, plain relay and stub auth server together, and the command line.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::scripted::{Answer, director, right};
use loadgen::{Amount, Connections, Load, Plan, StubAuth, StubConfig, Target, Users};

struct Relay(Child);

impl Relay {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_null_relay"));
        let relay = command
            .arg(directory.join("login"))
            .arg(directory.join("auth"))
            .arg("120");
        let relay = Self(relay.spawn().unwrap());
        let path = directory.join("login").display().to_string();
        for _ in 0..6000 {
            if listens(&path) {
                return relay;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the relay did not start");
    }
}

/// Whether a socket listens there; it is not connected to, since the relay would then connect to auth. The path is
/// there a moment earlier.
fn listens(path: &str) -> bool {
    const LISTENS: &str = "00010000";
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    sockets.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.last() == Some(&path) && fields.get(3) == Some(&LISTENS)
    })
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn stub(directory: &Path) -> StubConfig {
    StubConfig {
        login: Some(directory.join("auth")),
        ..StubConfig::default()
    }
}

fn plan(directory: &Path) -> Plan {
    Plan {
        stub_auth: Some(stub(directory)),
        users: Users::Known {
            count: 100,
            preload: false,
        },
        amount: Amount::Lookups(500),
        warm_up: Duration::ZERO,
        time_limit: Duration::from_secs(60),
        reply_timeout: Duration::from_secs(10),
        expect_host: false,
        ..Plan::new(Target::Login(directory.join("login")))
    }
}

#[test]
fn every_kind_of_load_passes_through_a_relay() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let relay = Relay::start(directory);
    let base = Plan {
        pids: vec![relay.0.id()],
        ..plan(directory)
    };
    let per_login = Plan {
        lifetime: Connections::PerLogin,
        in_flight: 1,
        ..base.clone()
    };
    let open = Load::Open { rate: 5000.0 };
    let short = Amount::Time(Duration::from_millis(100));
    let plans = [
        base.clone(),
        Plan {
            amount: short,
            ..base.clone()
        },
        Plan {
            connections: 200,
            in_flight: 1,
            ..base.clone()
        },
        Plan {
            load: open,
            ..base.clone()
        },
        Plan {
            load: open,
            amount: short,
            ..per_login.clone()
        },
        Plan {
            users: Users::Known {
                count: 50,
                preload: true,
            },
            ..per_login.clone()
        },
        Plan {
            connections: 300,
            ..per_login
        },
    ];
    for plan in plans {
        let report = loadgen::run(&plan, |_| {}).unwrap();
        assert!(report.passed(), "{plan:?}\n{report}");
        let target = report.target.unwrap();
        assert!(target.name == "null_relay" && target.cpu_us_per_lookup > 0.0);
        if plan.amount != short {
            assert_eq!(report.lookups, 500);
        }
    }
    let failing = StubConfig {
        fail_share: 0.5,
        ..stub(directory)
    };
    let report = loadgen::run(
        &Plan {
            stub_auth: Some(failing),
            ..base
        },
        |_| {},
    )
    .unwrap();
    assert!(
        report.passed() && report.refused_as_planned > 100,
        "{report}"
    );
}

#[test]
fn the_stub_in_its_own_thread_speaks_all_versions_and_the_master_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let _relay = Relay::start(directory);
    let elsewhere = Plan {
        stub_auth: None,
        ..plan(directory)
    };
    for minor in 2..=4 {
        let config = StubConfig {
            minor,
            ..stub(directory)
        };
        let _stub = StubAuth::spawn(&config).unwrap();
        assert!(StubAuth::spawn(&config).is_err_and(|error| error.to_string().contains("another")));
        assert!(loadgen::run(&elsewhere, |_| {}).unwrap().passed());
    }
    assert!(!directory.join("auth").exists());
    let userdb = directory.join("auth");
    let config = StubConfig {
        userdb: Some(userdb),
        ..StubConfig::default()
    };
    let _stub = StubAuth::spawn(&config).unwrap();
    let target = Target::Userdb(directory.join("login"));
    assert!(
        loadgen::run(
            &Plan {
                targets: vec![target],
                ..elsewhere
            },
            |_| {}
        )
        .unwrap()
        .passed()
    );
}

fn loadgen_run(target: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args([
        "run",
        "--connections",
        "1",
        "--in-flight",
        "4",
        "--users",
        "20",
    ]);
    command.args(["--lookups", "200", "--warm-up", "0", "--time-limit", "30"]);
    command
        .arg("--target")
        .arg(format!("authreply:{}", target.display()));
    command
}

#[test]
fn the_command_says_by_its_exit_code_whether_all_was_right() {
    let directory = tempfile::tempdir().unwrap();
    let path = director(directory.path(), |number, id, user| {
        let user = if number == 300 { "user20" } else { user };
        Answer::Line(right(id, user))
    });
    let json = directory.path().join("result.json");
    let good = loadgen_run(&path)
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(text.contains("same user, same backend: 20 of 20"), "{text}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(json["lookups"], 200);
    assert_eq!(json["plan"]["amount"]["lookups"], 200);
    assert!(json["latency"]["p99"].as_f64().unwrap() > 0.0);

    let wrong = loadgen_run(&path).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert!(
        String::from_utf8_lossy(&wrong.stdout).contains("ERROR wrong user: 1"),
        "{wrong:?}"
    );

    let elsewhere = tempfile::tempdir().unwrap();
    let path = director(elsewhere.path(), |number, id, user| {
        let more = if number == 150 { "9" } else { "" };
        Answer::Line(right(id, user) + more)
    });
    let wrong = loadgen_run(&path).output().unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
    assert!(
        String::from_utf8_lossy(&wrong.stdout).contains("ERROR other backend: "),
        "{wrong:?}"
    );

    let missing = loadgen_run(&directory.path().join("missing"))
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
}
