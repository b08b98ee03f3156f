//! Bytes that no sane program sends, on every socket.

use std::io::Write;
use std::time::Duration;

use crate::rig::auth::GREETING;
use crate::rig::peer::{HELLO, host};
use crate::rig::{EchoAuth, Homing, Peer, Site, listen};

const FIRST_REPLIES: &str = "OK\t1\tuser=ann\tproxy\tpass=x\n\
    CONT\t2\tcGFzcw==\n\
    FAIL\t2\tuser=bob\ttemp\n\
    OK\t3\tuser=c\x01tarl\tproxy\tnodelay\n\
    OK\t4\tuser=local\n\
    \n\
    OK\t5\tuser=eve\tproxy\thost=1.2.3.4\n\
    BOGUS\n";

fn requests() -> String {
    let asks: String = (1..6)
        .map(|id| format!("AUTH\t{id}\tPLAIN\tservice=imap\tsession=s{id}\tresp=AGEAYg==\n"))
        .collect();
    format!("{HELLO}{asks}CONT\t2\tQUJD\nCANCEL\t9\n")
}

/// A dialogue on a connection of its own, written in pieces; what both sides got.
fn dialogue(
    homing: &Homing,
    auth: &crate::rig::auth::Listener,
    cuts: (&[usize], &[usize]),
) -> (Vec<u8>, Vec<u8>) {
    let mut client = Peer::connect(&homing.login());
    let asked = requests();
    write_cut(&mut client, asked.as_bytes(), cuts.0);
    let mut upstream = auth.accept();
    let at_auth = upstream.take(asked.len());
    write_cut(
        &mut upstream,
        format!("{GREETING}{FIRST_REPLIES}").as_bytes(),
        cuts.1,
    );
    drop(upstream);
    (client.rest(), at_auth)
}

fn write_cut(peer: &mut Peer, bytes: &[u8], cuts: &[usize]) {
    let mut from = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        peer.send(&bytes[from..cut]);
        from = cut;
        if !cuts.is_empty() {
            // Long enough that mostly it is read before the rest comes.
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

#[test]
fn a_dialogue_cut_anywhere_gives_the_same_bytes() {
    let homing = Site::new().arg("--cores=1").start();
    let auth = listen(&homing.site.path("auth-login"));
    let whole = dialogue(&homing, &auth, (&[], &[]));
    assert_eq!(whole.1, requests().into_bytes());
    let text = String::from_utf8(whole.0.clone()).unwrap();
    let hosts = text.matches("proxy_refresh=450\thost=10.2.0.").count();
    assert_eq!(hosts, 2, "{text}");
    assert!(
        text.contains("OK\t5\tuser=eve\tproxy\thost=1.2.3.4\n\n") || text.contains("\n\nOK\t5")
    );
    let replies = GREETING.len() + FIRST_REPLIES.len();
    for cut in 1..replies {
        assert_eq!(
            dialogue(&homing, &auth, (&[], &[cut])),
            whole,
            "auth, {cut}"
        );
    }
    for cut in 1..requests().len() {
        assert_eq!(
            dialogue(&homing, &auth, (&[cut], &[])),
            whole,
            "client, {cut}"
        );
    }
    let (all, every): (Vec<usize>, Vec<usize>) =
        ((1..requests().len()).collect(), (1..replies).collect());
    assert_eq!(dialogue(&homing, &auth, (&all, &every)), whole, "bytewise");
    homing.stop();
}

#[test]
fn lines_of_auth_may_have_16384_bytes() {
    let homing = Site::new().start();
    let auth = listen(&homing.site.path("auth-login"));
    let dial = || {
        let mut client = Peer::connect(&homing.login());
        client.send(HELLO);
        (client, auth.accept())
    };
    let (mut good, mut good_auth) = dial();
    let reply = |length: usize| {
        let mut line = b"OK\t1\tuser=ann\tproxy\tpad=".to_vec();
        line.resize(length - 1, b'x');
        line.push(b'\n');
        line
    };
    for length in [16_383, 16_384] {
        good_auth.send(reply(length));
        let line = good.line();
        assert!(host(&line).is_some() && line.len() > length, "{length}");
    }
    for piece in [1, 1000, 16_385] {
        let (mut bad, mut bad_auth) = dial();
        bad_auth.send("OK\t7\tuser=ann\tproxy\n");
        assert!(host(&bad.line()).is_some());
        for part in reply(16_385).chunks(piece) {
            if bad_auth.stream.write_all(part).is_err() {
                break; // Closed as soon as it was too long.
            }
        }
        bad.expect_end();
    }
    // Without an end in sight.
    let (mut bad, mut bad_auth) = dial();
    bad_auth.send(vec![b'x'; 16_384]);
    bad.expect_end();
    good_auth.send("OK\t2\tuser=ann\tproxy\n");
    assert!(host(&good.line()).is_some(), "others live on");
    assert_eq!(homing.total("auth_lost"), 0, "auth did not end anything");
    let log = homing.stop();
    assert!(log.contains("Auth sent a line longer than 16384 bytes; connection closed"));
}

#[test]
fn what_is_not_understood_passes_unchanged() {
    let homing = Site::new().start();
    let auth = listen(&homing.site.path("auth-login"));
    let mut client = Peer::connect(&homing.login());
    let mut long = vec![b'a'; 150_000];
    long.push(b'\n');
    let odd: Vec<&[u8]> = vec![
        b"VERSION\t99\t-1\n",
        b"\n",
        b"AUTH\n",
        b"AUTH\t\n",
        b"AUTH\t99999999999\tPLAIN\n",
        b"AUTH\tx\tPLAIN\tresp=\n",
        b"\0\0\0\n",
        b"\xff\xfe\xc3\x28\n",
        b"WHAT\tis\tthis\r\n",
        b"CPID\t\x01\x01\n",
        &long,
        b"half a line",
    ];
    let mut upstream = None;
    for bytes in &odd {
        client.send(bytes);
        let upstream = upstream.get_or_insert_with(|| auth.accept());
        assert_eq!(&upstream.take(bytes.len()), bytes);
    }
    let mut upstream = upstream.unwrap();
    let odd: Vec<&[u8]> = vec![
        b"VERSION\tone\ttwo",
        b"VERSION",
        b"",
        b"OK",
        b"OK\t",
        b"OK\t1",
        b"OK\t1\tproxy",
        b"OK\t1\tuser=\xff\xfe",
        b"\0NUL\0\t\0",
        b"PASS\t1\tuser=ann\tproxy",
        b"NOTFOUND\t",
        b"FAIL",
        b"CANCELLED\t4294967296",
        b"CANCELLED\t7",
        b"\x01",
        b"OK\t1\t\x01",
    ];
    for bytes in odd {
        upstream.send([bytes, b"\n"].concat());
        assert_eq!(client.raw_line(), bytes);
    }
    // Names that are no text have a place all the same.
    upstream.send(b"OK\t1\tuser=\xff\xfe\x010\tproxy\n");
    let line = String::from_utf8_lossy(&client.raw_line()).into_owned();
    assert!(host(&line).is_some(), "{line}");
    homing.stop();
}

#[test]
fn replies_come_in_any_order_to_pipelined_requests() {
    let homing = Site::new().start();
    let auth = listen(&homing.site.path("auth-login"));
    let mut client = Peer::connect(&homing.login());
    let asked: String = (1..=3000)
        .map(|id| format!("AUTH\t{id}\tPLAIN\tservice=imap\n"))
        .collect();
    client.send(&asked);
    let mut upstream = auth.accept();
    upstream.take(asked.len());
    let replies: String = (1..=3000)
        .rev()
        .map(|id| format!("OK\t{id}\tuser=u{}\tproxy\n", id % 10))
        .collect();
    upstream.send(&replies);
    for id in (1..=3000).rev() {
        let line = client.line();
        assert!(line.starts_with(&format!(
            "OK\t{id}\tuser=u{}\tproxy\tproxy_refresh=",
            id % 10
        )));
    }
    assert_eq!(homing.users(), 10);
    homing.stop();
}

#[test]
fn authreply_clients_must_say_what_they_speak() {
    let homing = Site::new().start();
    let path = homing.site.path("authreply-socket");
    let hello = "VERSION\tdirector-authreply-client\t1\t0\n";
    for wrong in [
        "\n",
        "VERSION\n",
        "VERSION\tdirector-authreply-client\t2\t0\n",
        "VERSION\tdirector-authreply-client\t1\n",
        "OK\t1\tuser=ann\tproxy\n",
        "\0\n",
        "VERSION\t1\t2\nOK\t1\tuser=behind-a-wrong-greeting\tproxy\n",
    ] {
        let mut peer = Peer::connect(&path);
        assert_eq!(peer.line(), "VERSION\tdirector-authreply-server\t1\t0");
        peer.send(wrong);
        peer.expect_end();
    }
    assert_eq!(
        homing.users(),
        0,
        "nothing behind a wrong greeting is answered"
    );
    let mut peer = Peer::connect(&path);
    peer.line();
    for byte in format!("{hello}OK\t1\tuser=ann\tproxy\nOK\t2\tuser=bob\nFAIL\t3\n").bytes() {
        peer.send([byte]);
    }
    assert!(host(&peer.line()).is_some());
    assert_eq!(peer.line(), "OK\t2\tuser=bob");
    assert_eq!(peer.line(), "FAIL\t3");
    peer.send(vec![b'x'; 20_000]);
    peer.expect_end();
    let log = homing.stop();
    assert!(log.contains("authreply: the client's first line must be"));
    assert!(log.contains("The authreply client sent a line longer than 16384 bytes"));
}

#[test]
fn userdb_lookups_are_answered_and_all_else_passes() {
    let homing = Site::new().start();
    let auth = listen(&homing.site.path("auth-userdb"));
    let mut client = Peer::connect(&homing.site.path("userdb-socket"));
    client.send("VERSION\t1\t0\nPASS\t1\tann\tservice=lmtp\n");
    let mut upstream = auth.accept();
    upstream.send("VERSION\t1\t1\nSPID\t5\nPASS\t1\tuser=ann\tproxy=y\n");
    assert_eq!(client.line(), "VERSION\t1\t1");
    assert_eq!(client.line(), "SPID\t5");
    let line = client.line();
    assert!(host(&line).is_some() && line.starts_with("PASS\t1\tuser=ann\tproxy=y\t"));
    for line in [
        "NOTFOUND\t2",
        "USER\t3\tann\tproxy",
        "LIST\t4\tann",
        "OK\t5\tuser=ann\tproxy",
        "DONE\t4",
        "CANCELLED\t3",
    ] {
        upstream.send(format!("{line}\n"));
        assert_eq!(client.line(), line);
    }
    homing.stop();
}

#[test]
fn random_bytes_on_every_socket_harm_nobody_else() {
    let homing = Site::new().start();
    let _auth = EchoAuth::spawn(&homing.site.path("auth-login"), false);
    let _userdb = EchoAuth::spawn(&homing.site.path("auth-userdb"), true);
    let mut known = Peer::login(&homing.login());
    let place = known.ask(1, "user=ann|proxy");
    // Mostly bytes that mean something.
    const ODD: &[u8] = b"\0\x01\t\n\r=AUTHOKPS19\xff\xc3 ";
    let mut state = 88_172_645_463_325_252u64;
    for round in 0..200 {
        let length = 1 + (state % 30_000) as usize;
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ODD[(state % ODD.len() as u64) as usize]
            })
            .collect();
        for socket in [
            "login-socket",
            "userdb-socket",
            "authreply-socket",
            "notify-socket",
        ] {
            let mut peer = Peer::connect(&homing.site.path(socket));
            // It may be closed before everything is written.
            let _ = peer.stream.write_all(&bytes);
        }
        let mut fifo = std::fs::OpenOptions::new()
            .write(true)
            .open(homing.site.path("notify-fifo"))
            .unwrap();
        fifo.write_all(&bytes).unwrap();
        if round % 20 == 0 {
            let again = known.ask(1, "user=ann|proxy");
            assert_eq!(again, place);
        }
    }
    drop(known);
    homing.wait_connections(1);
    homing.stop();
}
