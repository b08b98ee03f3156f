//! Everything that can be half done when one process takes over from another.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use crate::line::Line;
use crate::rig::auth::GREETING;
use crate::rig::peer::{HELLO, host};
use crate::rig::{EchoAuth, Peer, Site, clock, listen, wait_until};

const REQUEST: &str = "AUTH\t7\tPLAIN\tservice=imap\tsession=SeSSion/1\tresp=AGFubgBwYXNz\n";
const REPLY: &str = "OK\t7\tuser=ann\tproxy\tpass=secret\n";

/// A client, and its connection to an auth that is played by hand.
fn pair(line: &Line, auth: &crate::rig::auth::Listener, greeting: &str) -> (Peer, Peer) {
    let mut client = Peer::connect(&line.login());
    client.send(HELLO);
    let mut upstream = auth.accept();
    assert_eq!(upstream.take(HELLO.len()), HELLO.as_bytes());
    upstream.send(greeting);
    client.until("DONE");
    (client, upstream)
}

#[test]
fn requests_and_replies_that_are_cut_anywhere_are_whole_afterwards() {
    let mut line = Line::start(Site::new());
    let auth = listen(&line.site.path("auth-login"));
    let mut requests = Vec::new();
    for cut in 0..=REQUEST.len() {
        let (mut client, mut upstream) = pair(&line, &auth, GREETING);
        client.send(&REQUEST[..cut]);
        assert_eq!(upstream.take(cut), &REQUEST.as_bytes()[..cut]);
        requests.push((cut, client, upstream));
    }
    let mut replies = Vec::new();
    for cut in 1..REPLY.len() {
        let (mut client, mut upstream) = pair(&line, &auth, GREETING);
        client.send(REQUEST);
        upstream.take(REQUEST.len());
        upstream.send(&REPLY[..cut]);
        replies.push((cut, client, upstream));
    }
    // Twice: what was taken over can be taken over.
    line.upgrade();
    line.upgrade();
    let mut hosts = Vec::new();
    for (cut, client, upstream) in &mut requests {
        client.send(&REQUEST[*cut..]);
        let rest = &REQUEST.as_bytes()[*cut..];
        assert_eq!(upstream.take(rest.len()), rest, "cut at {cut}");
        upstream.send(REPLY);
        hosts.push(client.line());
    }
    for (cut, client, upstream) in &mut replies {
        upstream.send(&REPLY[*cut..]);
        hosts.push(client.line());
    }
    let first = host(&hosts[0]).expect("a backend").to_owned();
    for reply in &hosts {
        let (begin, _) = reply.split_once("\tproxy_refresh=").expect(reply);
        assert_eq!(begin, REPLY.trim_end());
        assert_eq!(host(reply), Some(&*first), "{reply}");
    }
    let log = line.stop();
    assert!(!log.contains("secret"), "{log}");
}

/// Neither side reads: everything that it could be told waits in sockets and in the process.
#[test]
fn what_nobody_has_read_comes_in_order() {
    let piece: String = (0..500)
        .map(|n| format!("CONT\t{n}\tsome text\n"))
        .collect();
    let mut line = Line::start(Site::new());
    let auth = listen(&line.site.path("auth-login"));
    let (mut client, mut upstream) = pair(&line, &auth, GREETING);
    let down = fill(&mut upstream, piece.as_bytes());
    let up = fill(&mut client, piece.as_bytes());
    line.upgrade();
    let expected = |count: usize| -> Vec<u8> { piece.bytes().cycle().take(count).collect() };
    let whole = |count: usize| {
        count
            - expected(count)
                .rsplit(|&byte| byte == b'\n')
                .next()
                .unwrap()
                .len()
    };
    // Lines of auth are passed on whole.
    assert!(client.take(whole(down)) == expected(whole(down)));
    assert!(upstream.take(up) == expected(up));
    drop(client);
    upstream.expect_end();
    line.stop();
}

/// Writes a text over and over until nothing more is taken, and more waits than fits into sockets; returns how many
/// bytes were.
fn fill(peer: &mut Peer, piece: &[u8]) -> usize {
    let mut sent = 0;
    wait_until("both sockets and a backlog are full", || {
        let mut from = piece.to_vec();
        from.rotate_left(sent % piece.len());
        let more = peer.flood(&from, 8 << 20);
        sent += more;
        more == 0 && sent > 300_000
    });
    sent
}

const NOWHERE: &str = "director_tag=nowhere";

#[test]
fn lookups_that_wait_are_answered_by_the_next_process_or_in_time() {
    let site = Site::new()
        .set("lookup_timeout", "\"8 s\"")
        .set("kick_service", "\"none\"");
    let admin = site.path("admin");
    let listener = format!("[[listener]]\ntype = \"admin\"\npath = {admin:?}\n");
    let mut line = Line::start(site.append(&listener));
    EchoAuth::spawn(&line.site.path("auth-login"), false);
    let mut never = Peer::login(&line.login());
    let began = clock::now();
    never.request(1, "user=bob|proxy|director_tag=never");
    let mut client = Peer::login(&line.login());
    client.request(1, &format!("user=ann|proxy|{NOWHERE}"));
    // The backend will be where the client has connected to: then the login is for this server.
    client.send(format!(
        "AUTH\t2\tPLAIN\tservice=imap\tlip=10.9.9.9\tlport=143\tsay=user=ann|director_proxy_maybe|\
         port=143|{NOWHERE}\n"
    ));
    wait_until("they wait", || line.total("parked") == 3);
    line.upgrade();
    line.upgrade();
    assert_eq!(line.total("parked"), 3);
    let mut operator = Peer::connect(&admin);
    operator.send("VERSION\tdirector-doveadm\t1\t0\n");
    operator.line();
    operator.send("HOST-SET\t10.9.9.9@nowhere\t100\n");
    assert_eq!(operator.line(), "OK");
    let reply = client.line();
    assert_eq!(host(&reply), Some("10.9.9.9"), "{reply}");
    let reply = client.line();
    assert!(reply.starts_with("OK\t2\t"), "{reply}");
    assert_eq!(host(&reply), None, "{reply}");
    assert_eq!(never.line(), "FAIL\t1\tcode=temp_fail");
    assert!(began.elapsed() >= Duration::from_secs(8));
    let log = line.stop();
    assert!(log.contains("User bob host lookup failed: Timeout because no hosts"));
}

/// Auth is told to forget a request, but not in the middle of a line; what it says to that is not for the client.
#[test]
fn a_cancel_that_is_due_is_sent_and_its_confirmation_swallowed() {
    let mut line = Line::start(Site::new());
    let auth = listen(&line.site.path("auth-login"));
    let greeting = GREETING.replace("VERSION\t1\t2", "VERSION\t1\t4");
    let (mut client, mut upstream) = pair(&line, &auth, &greeting);
    let next = REQUEST.replace("\t7\t", "\t8\t");
    client.send(format!("{REQUEST}{}", &next[..20]));
    upstream.take(REQUEST.len() + 20);
    upstream.send("OK\t7\tuser=ann\tdirector_proxy_maybe\tpass=x\n");
    let reply = client.line();
    assert!(reply.contains("\tproxy\t"), "{reply}");
    line.upgrade();
    client.send(&next[20..]);
    let rest = [&next[20..], "CANCEL\t7\n"].concat();
    assert_eq!(upstream.take(rest.len()), rest.as_bytes());
    line.upgrade();
    upstream.send("CANCELLED\t7\nFAIL\t8\tuser=ann\n");
    assert_eq!(client.line(), "FAIL\t8\tuser=ann");
    line.stop();
}

#[test]
fn replies_of_clients_and_keep_alives_go_on_in_the_middle_of_a_line() {
    let mut line = Line::start(Site::new());
    let version = "VERSION\tdirector-authreply-client\t1\t0\n";
    let mut clients: Vec<_> = [0, 5, version.len(), version.len() + 9]
        .into_iter()
        .map(|cut| {
            let mut client = Peer::connect(&line.site.path("authreply-socket"));
            assert_eq!(client.line(), "VERSION\tdirector-authreply-server\t1\t0");
            let all = [version, "OK\t1\tuser=ann\tproxy\n"].concat();
            client.send(&all[..cut]);
            (client, all[cut..].to_owned())
        })
        .collect();
    let mut fifo = OpenOptions::new()
        .write(true)
        .open(line.site.path("notify-fifo"))
        .unwrap();
    let mut notifier = Peer::connect(&line.site.path("notify-socket"));
    fifo.write_all(b"bob\nan").unwrap();
    notifier.send("bob\nca");
    wait_until("they are read", || line.total("keep_alives") == 2);
    line.upgrade();
    fifo.write_all(b"n\n").unwrap();
    notifier.send("rl\n");
    wait_until("they are whole", || line.total("keep_alives") == 2);
    for (client, rest) in &mut clients {
        client.send(rest.as_str());
        let reply = client.line();
        assert!(host(&reply).is_some(), "{reply}");
    }
    // The FIFO is read by one only: both halves of a line come together, as often as it is tried.
    for n in 0..200 {
        fifo.write_all(format!("user{n}").as_bytes()).unwrap();
        fifo.write_all(b"\n").unwrap();
    }
    wait_until("all are read", || line.total("keep_alives") == 202);
    line.stop();
}
