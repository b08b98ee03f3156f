//! No password reaches the log, whatever goes wrong with the line that holds it.

use std::time::Duration;

use crate::rig::peer::{HELLO, host};
use crate::rig::{Peer, Site, listen};

const SECRET: &str = "Passw0rd-of-ann!";
/// `\0ann\0Passw0rd-of-ann!` at its three alignments, without the ends that depend on neighbours.
const ENCODED: [&str; 3] = [
    "UGFzc3cwcmQtb2YtYW5u",
    "Bhc3N3MHJkLW9mLWFubi",
    "QYXNzdzByZC1vZi1hbm4",
];

#[test]
fn passwords_never_reach_the_log() {
    let homing = Site::new()
        .set("lookup_timeout", "\"1 s\"")
        .set("user_table_limit", "1")
        .start();
    let response = "AGFubgBQYXNzdzByZC1vZi1hbm4h";
    let auth_line =
        |id: u32| format!("AUTH\t{id}\tPLAIN\tservice=imap\tsession=abc\tresp={response}\n");
    let auth = listen(&homing.site.path("auth-login"));
    // Answered, refused (table full), parked until its deadline, misconfigured, not understood.
    let mut client = Peer::connect(&homing.login());
    client.send(format!("{HELLO}{}", auth_line(1)));
    let mut upstream = auth.accept();
    for fields in [
        "user=ann\tproxy",
        "user=bob\tproxy",
        "user=ann\tproxy\tdirector_tag=none",
        "user=ann\tdirector_proxy_maybe\tproxy\tlip=10.2.0.1",
        "proxy",
    ] {
        client.send(auth_line(2));
        upstream.send(format!("OK\t2\t{fields}\tpass={SECRET}\n"));
        client.line();
    }
    client.send(format!(
        "CONT\t2\t{response}\nAUTH\tx\tPLAIN\tresp={response}\n{SECRET}\n"
    ));
    upstream.send(format!("{SECRET}\t{SECRET}\nCONT\t1\t{response}\n"));
    client.line();
    client.line();
    // Too long, cut off, ended in the middle, and to an auth that is not there.
    upstream.send(format!("OK\t9\tpass={SECRET}\tpad={}", SECRET.repeat(2000)));
    client.rest();
    let mut client = Peer::connect(&homing.login());
    client.send(auth_line(3));
    let mut upstream = auth.accept();
    upstream.send(format!("OK\t3\tuser=ann\tproxy\tpass={SECRET}"));
    std::thread::sleep(Duration::from_millis(50));
    drop(upstream);
    client.expect_end();
    drop(auth);
    let mut client = Peer::connect(&homing.login());
    client.send(auth_line(4));
    client.expect_end();
    let mut replies = Peer::connect(&homing.site.path("authreply-socket"));
    replies.send(format!(
        "VERSION\tdirector-authreply-client\t1\t0\nOK\t1\tuser=ann\tproxy\tpass={SECRET}\n"
    ));
    replies.line();
    assert!(host(&replies.line()).is_some());
    let mut wrong = Peer::connect(&homing.site.path("authreply-socket"));
    wrong.send(format!("OK\t1\tuser=ann\tproxy\tpass={SECRET}\n"));
    wrong.rest();
    homing.state();
    let log = homing.stop();
    for expected in [
        "Timeout because",
        "user_table_limit",
        "connect(",
        "too long",
        "disconnected",
    ] {
        let expected = expected.replace("too long", "longer than");
        assert!(log.contains(&expected), "{expected} did not happen: {log}");
    }
    for secret in ENCODED.iter().chain([&SECRET, &response, &"Passw0rd"]) {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
