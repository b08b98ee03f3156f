//! Lookups without a usable backend: they wait, and fail at their deadline.

use std::time::Duration;

use crate::rig::peer::host;
use crate::rig::{EchoAuth, Heartbeat, Homing, Peer, Site, clock};

const NOWHERE: &str = "proxy|director_tag=nowhere";

fn start(timeout: &str) -> Homing {
    let homing = Site::new()
        .set("lookup_timeout", timeout)
        .arg("--cores=1")
        .start();
    EchoAuth::spawn(&homing.site.path("auth-login"), false);
    homing
}

#[test]
fn a_lookup_without_backend_fails_at_its_deadline_and_holds_no_other() {
    let homing = start("\"5 s\"");
    let heartbeat = Heartbeat::start();
    let mut client = Peer::login(&homing.login());
    let begin = clock::now();
    client.send(format!(
        "AUTH\t7\tPLAIN\tservice=imap\tsession=SeSSion/1\tsay=user=Ann*sep|{NOWHERE}\n"
    ));
    for id in 8..30 {
        // None of them waits behind the first, or its end would be among the replies.
        let reply = client.ask(id, "user=bob|proxy");
        assert!(
            reply.starts_with(&format!("OK\t{id}\t")) && host(&reply).is_some(),
            "{reply}"
        );
    }
    homing.wait_total("parked", 1);
    assert_eq!(client.line(), "FAIL\t7\tcode=temp_fail");
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
    heartbeat.in_time("the end of a lookup", waited, Duration::from_secs(7));
    client.expect_silence(Duration::from_millis(200));
    homing.wait_total("parked", 0);
    homing.wait_total("timed_out", 1);
    let log = homing.stop();
    let line = log.lines().find(|line| line.contains("Timeout")).unwrap();
    let said = "User Ann*sep host lookup failed: Timeout because no hosts - queued for ";
    let (_, rest) = line.split_once(said).unwrap_or_else(|| panic!("{line}"));
    let (seconds, _) = rest.split_once(" secs (Ring ").unwrap();
    let seconds: u64 = seconds.parse().unwrap();
    assert!((5..=waited.as_secs()).contains(&seconds), "{line}");
    // MD5 of "ann*sep" begins so.
    let hash = u32::from_be_bytes(md5_head(b"ann*sep"));
    assert!(
        line.contains(&format!(", hash={hash}, tag=nowhere)")),
        "{line}"
    );
    // A director alone is synced from its start.
    assert!(line.contains("(Ring synced for "), "{line}");
    assert!(line.contains("SeSSion/1"), "{line}");
}

/// A user that is being moved, for longer than a lookup may wait.
#[test]
fn a_timeout_says_when_the_user_was_refreshed() {
    let site = Site::new()
        .set("lookup_timeout", "\"2 s\"")
        .set("director_user_kick_delay", "\"1 hour\"")
        .set("kick_service", "\"none\"");
    let admin = site.path("admin");
    let listener = format!("[[listener]]\ntype = \"admin\"\npath = {admin:?}\n");
    let homing = site.append(&listener).start();
    EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let mut client = Peer::login(&homing.login());
    let lives = client.ask(1, "user=ann|proxy");
    let target = match host(&lives) {
        Some("10.2.0.1") => "10.2.0.2",
        _ => "10.2.0.1",
    };
    let mut operator = Peer::connect(&admin);
    operator.send("VERSION\tdirector-doveadm\t1\t0\n");
    operator.line();
    operator.send(format!("USER-MOVE\tann\t{target}\n"));
    assert_eq!(operator.line(), "OK");
    assert_eq!(client.ask(2, "user=ann|proxy"), "FAIL\t2\tcode=temp_fail");
    let log = homing.stop();
    let line = log.lines().find(|line| line.contains("Timeout")).unwrap();
    for said in [
        "Timeout because kill waiting - queued for ",
        " secs (Ring synced for ",
    ] {
        assert!(line.contains(said), "{line}");
    }
    let (_, age) = line.split_once(" secs, user refreshed ").expect("its age");
    let (age, rest) = age.split_once(" secs ago, hash=").expect("its hash");
    let age: u64 = age.parse().expect("a number");
    assert!(age >= 1 && !rest.contains("tag="), "{line}");
}

fn md5_head(text: &[u8]) -> [u8; 4] {
    use md5::Digest;
    let digest = md5::Md5::digest(text);
    [digest[0], digest[1], digest[2], digest[3]]
}

#[test]
fn clients_that_leave_take_their_waiting_lookups_along() {
    let homing = start("\"3 s\"");
    for id in 0..300 {
        let mut client = Peer::login(&homing.login());
        client.request(1, &format!("user=u{id}|{NOWHERE}"));
        client.request(2, &format!("user=v{id}|{NOWHERE}"));
        assert!(host(&client.ask(3, "user=ann|proxy")).is_some());
    }
    homing.wait_connections(1);
    homing.wait_total("parked", 0);
    std::thread::sleep(Duration::from_millis(3200));
    assert_eq!(homing.total("timed_out"), 0, "nobody is told");
    homing.stop();
}

#[test]
fn waiting_lookups_are_bounded_and_their_end_holds_nobody() {
    const WAIT: u32 = 100_000; // PARKED_MAX
    let homing = start("\"15 s\"");
    let mut client = Peer::login(&homing.login());
    let mut other = Peer::login(&homing.login());
    let mut failed = 0;
    for batch in 0..=100 {
        let first = batch * 1000 + 1;
        for id in first..first + 1000 {
            client.request(id, &format!("user=u{id}|{NOWHERE}"));
        }
        // Those that need not wait are served all along, in order.
        client.request(0, "user=ann|proxy");
        loop {
            let line = client.line();
            if host(&line).is_some() {
                break;
            }
            assert!(line.ends_with("\tcode=temp_fail"), "{line}");
            failed += 1;
        }
    }
    assert_eq!(failed, 1000, "what is too much fails at once");
    homing.wait_total("parked", u64::from(WAIT));
    let heartbeat = Heartbeat::start();
    // All end in the order in which they came, and the other client is served meanwhile.
    let reader = std::thread::spawn(move || {
        for id in 1..=WAIT {
            assert_eq!(client.line(), format!("FAIL\t{id}\tcode=temp_fail"));
        }
    });
    let mut longest = Duration::ZERO;
    while !reader.is_finished() {
        let asked = clock::now();
        assert!(host(&other.ask(1, "user=bob|proxy")).is_some());
        longest = longest.max(asked.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    reader.join().unwrap();
    heartbeat.in_time("an answer", longest, Duration::from_secs(3));
    homing.wait_total("parked", 0);
    homing.wait_total("timed_out", u64::from(WAIT) + 1000);
    let log = homing.stop();
    assert!(log.contains("too many lookups are waiting"), "{log}");
    assert!(log.contains("similar lines left out before this one"));
}

#[test]
fn a_userdb_lookup_without_backend_fails_temporarily() {
    let homing = start("\"1 s\"");
    let auth = crate::rig::listen(&homing.site.path("auth-userdb"));
    let mut client = Peer::connect(&homing.site.path("userdb-socket"));
    client.send("VERSION\t1\t0\nPASS\t5\tann\tservice=lmtp\n");
    let mut upstream = auth.accept();
    upstream.send("PASS\t5\tuser=ann\tproxy=y\tdirector_tag=none\n");
    upstream.send("NOTFOUND\t6\nPASS\t7\tuser=ann\tproxy=y\n");
    assert_eq!(client.line(), "NOTFOUND\t6");
    assert!(host(&client.line()).is_some());
    assert_eq!(client.line(), "FAIL\t5\tcode=temp_fail");
    homing.stop();
}
