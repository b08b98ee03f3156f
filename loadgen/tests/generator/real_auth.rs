//! A login socket with an auth server that looks at passwords.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use loadgen::{Accounts, Amount, Plan, Target, Users};

/// Base64 as RFC 4648 has it, by its definition: six bits a letter.
fn decode(text: &str) -> Vec<u8> {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<bool> = text
        .trim_end_matches('=')
        .chars()
        .flat_map(|letter| {
            let value = letters.find(letter).unwrap();
            (0..6).rev().map(move |bit| value >> bit & 1 == 1)
        })
        .collect();
    let byte = |bits: &[bool]| bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
    bits.chunks_exact(8).map(byte).collect()
}

/// Serves the auth client protocol: knows one password for each user, and gives domain names.
fn serve(directory: &Path, password_of: fn(&str) -> String) -> PathBuf {
    let path = directory.join("login");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // The generator has gone: not this side's concern.
            std::thread::spawn(move || drop(converse(stream, password_of)));
        }
    });
    path
}

fn converse(mut stream: UnixStream, password_of: fn(&str) -> String) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nDONE\n")?;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        let Some(request) = line.strip_prefix("AUTH\t") else {
            continue;
        };
        let (id, _) = request.split_once('\t').unwrap();
        let (_, response) = request.split_once("\tresp=").unwrap();
        let plain = String::from_utf8(decode(response)).unwrap();
        let parts: Vec<_> = plain.split('\0').collect();
        let [_, user, password] = parts[..] else {
            panic!("{plain:?}");
        };
        let reply = if password == password_of(user) {
            format!("OK\t{id}\tuser={user}@full.example\tproxy\thost=10.0.0.1\n")
        } else {
            format!("FAIL\t{id}\tuser={user}\n")
        };
        stream.write_all(reply.as_bytes())?;
    }
    Ok(())
}

fn plan(path: &Path) -> Plan {
    Plan {
        connections: 2,
        in_flight: 4,
        users: Users::Known {
            count: 20,
            preload: true,
        },
        amount: Amount::Lookups(300),
        warm_up: Duration::ZERO,
        time_limit: Duration::from_secs(30),
        reply_timeout: Duration::from_secs(5),
        any_reply_user: true,
        ..Plan::new(Target::Login(path.to_owned()))
    }
}

#[test]
fn passwords_of_a_pattern_are_right_and_wrong_ones_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = serve(directory.path(), |user| {
        user.replace("user", "secret ").replace("@a.b", "!")
    });
    let right = Plan {
        suffix: "@a.b".to_owned(),
        password: "secret {n}!".to_owned(),
        ..plan(&path)
    };
    let report = loadgen::run(&right, |_| {}).unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.users, 20);
    let report = loadgen::run(
        &Plan {
            wrong_share: 0.3,
            ..right.clone()
        },
        |_| {},
    )
    .unwrap();
    assert!(report.passed(), "{report}");
    assert!((60..120).contains(&report.refused_as_planned), "{report}");
    // Auth's other names are an error unless the plan takes them.
    let strict = Plan {
        any_reply_user: false,
        ..right.clone()
    };
    let report = loadgen::run(&strict, |_| {}).unwrap();
    assert_eq!(report.errors.wrong_user, 320, "{report}");
    let report = loadgen::run(
        &Plan {
            password: "other".to_owned(),
            ..right
        },
        |_| {},
    )
    .unwrap();
    assert_eq!(report.errors.refused, 320, "{report}");
}

#[test]
fn accounts_come_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = serve(directory.path(), |user| format!("{user}:{}", user.len()));
    let file = directory.path().join("accounts");
    std::fs::write(&file, "# ours\nanna:anna:4\nbo@x.y:bo@x.y:6\nc\tc:1\n").unwrap();
    let plan = Plan {
        accounts: Some(Accounts::read(&file).unwrap()),
        users: Users::Known {
            count: 3,
            preload: true,
        },
        ..plan(&path)
    };
    let report = loadgen::run(&plan, |_| {}).unwrap();
    assert!(report.passed(), "{report}");
    assert_eq!(report.users, 3);
    assert!(!report.json().unwrap().contains("anna:4"));
    let many = Plan {
        users: Users::Known {
            count: 4,
            preload: true,
        },
        ..plan
    };
    let error = loadgen::run(&many, |_| {}).unwrap_err().to_string();
    assert!(error.starts_with("--accounts"), "{error}");
}
