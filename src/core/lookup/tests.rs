use crate::core::snapshot::tag_ids;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::core::hash_ring::HashRing;
use crate::core::user_hash::Template;
use crate::core::users::Expiry;
use crate::core::{BackendSlot, TagId};
use crate::wire::auth::{Reply, parse_about, parse_reply};

/// Backend `vm`, 127.0.0.1, configured by name; 127.61.0.12 with tag t2; users expire after 30 s.
fn lab() -> Snapshot {
    let vm: IpAddr = [127, 0, 0, 1].into();
    let other: IpAddr = [127, 61, 0, 12].into();
    let ring = |ip, slot| HashRing::build([(ip, 100, BackendSlot(slot))].into_iter());
    let view = |ip, name| {
        Some(BackendView {
            ip,
            name: None,
            suffix: suffix(&ip.to_string(), name, 30),
            shown: Default::default(),
        })
    };
    Snapshot {
        generation: 1,
        handshaked: true,
        synced: true,
        sync_since: None,
        alone: true,
        tell: false,
        asks: false,
        ring_min_version: 2,
        expiry: Expiry::new(30),
        username_hash: Arc::new(Template::parse("%Lu", &|_| None).unwrap()),
        master_user_separator: None,
        backends: [view(vm, Some("vm")), view(other, None)].into(),
        rings: [ring(vm, 0), ring(other, 1)].into(),
        tags: Arc::new(tag_ids(
            [&b"t2"[..]].into_iter(),
            ahash::RandomState::with_seed(1),
        )),
    }
}

fn ask(line: &[u8], socket: Socket, local: Local, snapshot: &Snapshot) -> Option<Question> {
    match parse_reply(line, socket == Socket::Userdb) {
        Reply::Found(found) => question(&found, socket, || local, snapshot, &mut Vec::new()),
        _ => None,
    }
}

/// What the client gets for one line from auth.
fn rewritten(line: &str, socket: Socket, local: Local) -> String {
    let snapshot = lab();
    let mut out = Vec::new();
    match ask(line.as_bytes(), socket, local, &snapshot) {
        None => return format!("{line}\n"),
        Some(question) => {
            let key = question.key(&snapshot).expect("a known tag");
            let backend = snapshot.backend(snapshot.choose(key).unwrap()).unwrap();
            let answer = answer(&question, backend);
            write_answer(line.as_bytes(), answer, backend, None, &mut out);
        }
    }
    String::from_utf8(out).unwrap()
}

const VM: &str = "\tproxy_refresh=15\thost=vm\thostip=127.0.0.1\n";
const T2: &str = "\tproxy_refresh=15\thost=127.61.0.12\n";

#[test]
fn lines_that_are_passed_on() {
    for line in [
        "OK\t5\tuser=u1",
        "OK\t5\tproxy",
        "OK\t5\tuser=u1\tproxy_maybe",
        "OK\t5\tproxy\tuser=u1\thost=",
        "OK\t5\tproxy\tuser=u1\thost=10.0.0.1",
        "OK\t5\tuser=dpm\tdirector_proxy_maybe\thost=10.0.0.1",
        "OK\t9\tuser=nolog\tnologin\treason=closed",
        "OK\tuser=u1\tproxy",
        "FAIL\t7",
        "CONT\t9\t",
        "PASS\t1\tuser=u1\tproxy",
    ] {
        assert_eq!(
            rewritten(line, Socket::Login, Local::default()),
            format!("{line}\n")
        );
    }
}

#[test]
fn lines_that_get_a_backend() {
    for (line, added) in [
        ("OK\t5\tuser=u1\tproxy", VM),
        ("OK\t5\tuser=u1\tproxy=n", VM),
        ("OK\t5\tproxy\tuser=u1\thostip=1.2.3.4", VM),
        ("OK\t5\tuser=u1\tproxy\tdirector_tag=t2", T2),
        ("OK\t5\tuser=u1\tproxy\tdirector_tag=t2\tdirector_tag=", VM),
        ("OK\t5\tuser=u\x01t1\tproxy\tpass=a\x01tb", VM),
        ("OK\t13\tuser=quick\tproxy\tproxy_refresh=3", VM),
        ("OK\t\tuser=u1\tproxy", VM),
        ("OK\t3\tuser=bob\tproxy\tdestuser=", VM),
        ("OK\t3\tuser=\tproxy", VM),
    ] {
        for socket in [Socket::Login, Socket::Authreply] {
            let got = rewritten(line, socket, Local::default());
            assert_eq!(got, format!("{line}{added}"));
        }
        let line = line.replacen("OK", "PASS", 1);
        let got = rewritten(&line, Socket::Userdb, Local::default());
        assert_eq!(got, format!("{line}{added}"));
    }
}

const FAIL: &str = "FAIL\t5\tcode=temp_fail\n";

/// Dovecot's director leaves out `proxy` where the backend is elsewhere, which ends in a login
/// here, and lets a login process crash where both fields are given and the backend is here.
#[test]
fn users_who_may_live_here() {
    let nowhere = Local::default();
    let here = Local {
        ip: Some([127, 0, 0, 1].into()),
        port: Some(143),
    };
    let maybe = "OK\t5\tuser=u1\tpass=p\tdirector_proxy_maybe=y";
    let proxied = |line: &str| format!("{line}\tproxy{VM}");
    let same = |line: &str| format!("{line}\n");
    let check = |fields: &str, local, expected: &dyn Fn(&str) -> String| {
        let line = format!("{maybe}{fields}");
        assert_eq!(
            rewritten(&line, Socket::Login, local),
            expected(&line),
            "{fields} {local:?}"
        );
    };
    check("", nowhere, &proxied);
    check("", here, &same);
    check("\tlip=127.0.0.1", nowhere, &same);
    check("\tlip=127.0.0.2", here, &proxied);
    check("\tlip=127.0.0.1\tlport=143\tport=143", nowhere, &same);
    check("\tlip=127.0.0.1\tlport=143", nowhere, &same);
    check("\tlip=127.0.0.1\tport=144", nowhere, &same);
    check("\tlip=127.0.0.1\tlport=143\tport=144", nowhere, &proxied);
    check("\tport=144", here, &proxied);
    check("\tport=143", here, &same);
    check("\tport=144\tlport=144", here, &same);
    check("\tlip=::1", here, &proxied);
    // What is no address or port is as if it were not there.
    check("\tlip=nonsense", here, &same);
    check("\tlip=nonsense", nowhere, &proxied);
    for no_port in ["0", "65536", "x", ""] {
        check(&format!("\tport={no_port}"), here, &same);
        check(&format!("\tlport={no_port}\tport=143"), here, &same);
        check(&format!("\tlport={no_port}\tport=144"), here, &proxied);
    }
    // With `proxy` it is said twice where the user lives.
    let both = |_: &str| FAIL.to_owned();
    check("\tproxy", here, &both);
    check("\tproxy", nowhere, &|line| format!("{line}{VM}"));
}

#[test]
fn a_login_elsewhere_needs_a_password() {
    let line = "OK\t5\tuser=u1\tdirector_proxy_maybe";
    assert_eq!(rewritten(line, Socket::Login, Local::default()), FAIL);
    assert_eq!(rewritten(line, Socket::Authreply, Local::default()), FAIL);
    // A master user's name is no password.
    let master = format!("{line}\tmaster=m");
    assert_eq!(rewritten(&master, Socket::Login, Local::default()), FAIL);
    for field in ["pass=", "pass=x", "master=m\tpass=x"] {
        let line = format!("{line}\t{field}");
        let got = rewritten(&line, Socket::Login, Local::default());
        assert_eq!(got, format!("{line}\tproxy{VM}"));
    }
    // lmtp and doveadm log in without one.
    let line = "PASS\t5\tuser=u1\tdirector_proxy_maybe";
    let got = rewritten(line, Socket::Userdb, Local::default());
    assert_eq!(got, format!("{line}\tproxy{VM}"));
    // Here it does not matter.
    let line = "OK\t5\tuser=u1\tdirector_proxy_maybe\tlip=127.0.0.1";
    assert_eq!(
        rewritten(line, Socket::Login, Local::default()),
        format!("{line}\n")
    );
}

#[test]
fn the_request_says_where_its_client_connected_to() {
    let about = parse_about(b"1\tPLAIN\tlip=10.0.0.1\tlport=143");
    let ip = Some([10, 0, 0, 1].into());
    assert_eq!(
        Local::of(&about),
        Local {
            ip,
            port: Some(143)
        }
    );
    for (lip, lport) in [
        ("", ""),
        ("x", "x"),
        ("\u{fc}", "0"),
        ("1.2.3.4.5", "70000"),
    ] {
        let text = format!("1\tPLAIN\tlip={lip}\tlport={lport}");
        assert_eq!(
            Local::of(&parse_about(text.as_bytes())),
            Local::default(),
            "{text}"
        );
    }
    let about = parse_about(b"1\tPLAIN\tlip=\xff\xfe");
    assert_eq!(Local::of(&about).ip, None);
}

fn hashed(line: &str, separator: Option<u8>) -> UserHash {
    let snapshot = Snapshot {
        master_user_separator: separator,
        ..lab()
    };
    ask(line.as_bytes(), Socket::Login, Local::default(), &snapshot)
        .expect(line)
        .hash
}

fn hash_of(name: &[u8]) -> UserHash {
    Template::parse("%Lu", &|_| None)
        .unwrap()
        .hash(name, &mut Vec::new())
}

#[test]
fn whose_hash_is_taken() {
    for (line, name) in [
        ("OK\t1\tuser=a\tproxy", &b"a"[..]),
        ("OK\t1\tuser=A\tproxy", b"a"),
        ("OK\t1\tuser=a\tuser=b\tproxy", b"a"),
        ("OK\t1\tuser=a\tproxy\tdestuser=b", b"b"),
        ("OK\t1\tdestuser=b\tproxy\tuser=a", b"b"),
        ("OK\t1\tdestuser=b\tdestuser=c\tproxy\tuser=a", b"c"),
        ("OK\t1\tdestuser=\tproxy\tuser=a", b""),
        ("OK\t1\tuser=u\x01t1\tproxy", b"u\t1"),
        ("OK\t1\tuser=a*b\tproxy", b"a*b"),
    ] {
        assert_eq!(hashed(line, None), hash_of(name), "{line:?}");
    }
}

#[test]
fn the_master_user_is_cut_off_before_hashing() {
    let star = Some(b'*');
    for (line, name) in [
        ("OK\t1\tuser=a*master\tproxy", "a"),
        ("OK\t1\tuser=a*b*c\tproxy", "a"),
        ("OK\t1\tuser=*master\tproxy", ""),
        ("OK\t1\tuser=a%master\tproxy", "a%master"),
        ("OK\t1\tuser=x\tdestuser=a*m\tproxy", "a"),
    ] {
        assert_eq!(hashed(line, star), hash_of(name.as_bytes()), "{line}");
    }
    // An escaped separator is one.
    assert_eq!(
        hashed("OK\t1\tuser=a\x01tm\tproxy", Some(b'\t')),
        hash_of(b"a")
    );
}

#[test]
fn a_tag_that_nobody_has_is_no_identity() {
    let snapshot = lab();
    let key = |line: &str| {
        let question = ask(line.as_bytes(), Socket::Login, Local::default(), &snapshot);
        question.expect(line).key(&snapshot)
    };
    assert_eq!(key("OK\t1\tuser=a\tproxy\tdirector_tag=nosuch"), None);
    let tag = |line| key(line).map(|key| key.tag);
    assert_eq!(tag("OK\t1\tuser=a\tproxy\tdirector_tag=t2"), Some(TagId(1)));
    assert_eq!(tag("OK\t1\tuser=a\tproxy"), Some(TagId(0)));
}

#[test]
fn the_appended_fields() {
    let text = |name, expire| String::from_utf8(suffix("10.0.0.1", name, expire).into()).unwrap();
    for (expire, refresh) in [(900, 450), (30, 15), (10, 5), (15, 7)] {
        assert_eq!(
            text(None, expire),
            format!("\tproxy_refresh={refresh}\thost=10.0.0.1")
        );
        assert_eq!(
            text(Some("mail.example.org"), expire),
            format!("\tproxy_refresh={refresh}\thost=mail.example.org\thostip=10.0.0.1")
        );
    }
    let v6 = String::from_utf8(suffix("2001:db8::1", None, 900).into()).unwrap();
    assert_eq!(v6, "\tproxy_refresh=450\thost=2001:db8::1");
}

#[test]
fn failures_give_the_id_back_and_nothing_else() {
    for (line, id) in [
        ("OK\t5\tuser=a\tpass=x", "5"),
        ("PASS\t77\tuser=a", "77"),
        ("OK\t\tproxy", ""),
        ("OK\ta\x01tb\tproxy", "a\x01tb"),
        ("OK\t5", "5"),
        ("OK", ""),
        ("", ""),
    ] {
        let mut out = b"before ".to_vec();
        write_failure(line.as_bytes(), &mut out);
        let expected = format!("before FAIL\t{id}\tcode=temp_fail\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn newer_login_processes_are_told_the_hash() {
    let snapshot = lab();
    let backend = snapshot.backend(BackendSlot(1)).unwrap();
    let write = |answer| {
        let mut out = Vec::new();
        write_answer(
            b"OK\t1\tuser=a",
            answer,
            backend,
            Some(UserHash(u32::MAX)),
            &mut out,
        );
        String::from_utf8(out).unwrap()
    };
    let tail = "\tproxy_refresh=15\thost=127.61.0.12\tuser_director_hash=4294967295\n";
    assert_eq!(write(Answer::Proxy), format!("OK\t1\tuser=a{tail}"));
    assert_eq!(
        write(Answer::ProxyAdded),
        format!("OK\t1\tuser=a\tproxy{tail}")
    );
    assert_eq!(write(Answer::Here), "OK\t1\tuser=a\n");
    assert_eq!(
        write(Answer::Misconfigured("why")),
        "FAIL\t1\tcode=temp_fail\n"
    );
}

#[test]
fn socket_types_are_numbered() {
    for (index, socket) in Socket::ALL.into_iter().enumerate() {
        assert_eq!(socket.index(), index);
    }
}

proptest! {
    /// A rewritten line begins with the original one, byte for byte, and ends with its backend.
    #[test]
    fn nothing_is_taken_out_of_a_line(
        fields in prop::collection::vec("(proxy|user=|host=|director_proxy_maybe|lip=|port=|pass=|x)?[a-z0-9.\x01=]{0,6}", 0..8),
    ) {
        let line = format!("OK\t1\t{}", fields.join("\t"));
        let got = rewritten(&line, Socket::Login, Local::default());
        prop_assert!(got.ends_with('\n'));
        if got != "FAIL\t1\tcode=temp_fail\n" {
            let added = got.strip_prefix(&line).unwrap();
            let proxied = added.strip_prefix("\tproxy").unwrap_or(added);
            prop_assert!([added, proxied].iter().any(|added| ["\n", VM].contains(added)));
        }
    }
}
