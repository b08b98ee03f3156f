use proptest::prelude::*;

use super::*;

fn found(line: &[u8]) -> Found<'_> {
    match parse_reply(line, false) {
        Reply::Found(found) => found,
        other => panic!("{other:?}"),
    }
}

/// The fields of an `OK` line.
fn ok(fields: &str) -> Found<'static> {
    let line = format!("OK\t5\t{fields}").into_bytes();
    found(Box::leak(line.into_boxed_slice()))
}

fn text<'a>(value: &'a Option<Cow<'_, [u8]>>) -> Option<&'a str> {
    value
        .as_deref()
        .map(|value| std::str::from_utf8(value).unwrap())
}

#[test]
fn only_the_exact_word_and_a_tab_make_a_positive_reply() {
    for line in [
        "OK",
        "ok\t5\tproxy",
        "Ok\t5",
        "OK 5\tproxy",
        "OKAY\t5",
        " OK\t5",
        "\tOK\t5",
        "",
        "\t",
        "PASS\t5\tproxy",
        "USER\t5\tx",
        "LIST\t5\tx",
        "DONE\t5",
        "CONT\t5\t",
        "SPID\t5",
        "MECH\tPLAIN",
    ] {
        assert_eq!(
            parse_reply(line.as_bytes(), false),
            Reply::Other,
            "{line:?}"
        );
    }
    for line in [
        "PASS",
        "pass\t5",
        "OK\t5\tproxy",
        "CANCELLED\t5",
        "USER\t5\tx",
    ] {
        assert_eq!(parse_reply(line.as_bytes(), true), Reply::Other, "{line:?}");
    }
    assert!(matches!(parse_reply(b"PASS\t5\tproxy", true), Reply::Found(f) if f.proxy));
    assert!(matches!(parse_reply(b"OK\t5\tproxy", false), Reply::Found(f) if f.proxy));
}

#[test]
fn other_lines_that_matter() {
    for userdb in [false, true] {
        let read = |line| parse_reply(line, userdb);
        assert_eq!(read(b"FAIL\t7"), Reply::Final(b"7"));
        assert_eq!(read(b"FAIL\t7\tuser=x\tproxy"), Reply::Final(b"7"));
        assert_eq!(read(b"NOTFOUND\t7"), Reply::Final(b"7"));
        assert_eq!(read(b"FAIL\t"), Reply::Final(b""));
        assert_eq!(read(b"VERSION\t1\t2"), Reply::Version(2));
        assert_eq!(read(b"VERSION\t1\t3\tmore"), Reply::Version(3));
        for bad in [
            "VERSION\t1",
            "VERSION\t1\t",
            "VERSION\t1\tx",
            "VERSION\t1\t4294967296",
        ] {
            assert_eq!(read(bad.as_bytes()), Reply::Other);
        }
    }
    assert_eq!(parse_reply(b"CANCELLED\t9", false), Reply::Cancelled(b"9"));
}

#[test]
fn proxy_counts_with_any_value_and_nothing_like_it_does() {
    for yes in [
        "proxy", "proxy=", "proxy=n", "proxy=y", "a\tproxy", "proxy\tb",
    ] {
        assert!(ok(yes).proxy, "{yes}");
    }
    for no in [
        "",
        "proxy_maybe",
        "proxy_maybe=y",
        "proxyfoo",
        "proxy_refresh=5",
        "Proxy",
        "prox",
        "xproxy",
        "proxy ",
    ] {
        assert!(!ok(no).proxy, "{no}");
    }
}

#[test]
fn host_counts_even_when_empty_but_only_with_its_equals_sign() {
    for yes in ["host=", "host=10.0.0.1", "x\thost="] {
        assert!(ok(yes).host, "{yes}");
    }
    for no in ["host", "hostip=1.2.3.4", "hosts=1", "Host=1", "xhost="] {
        assert!(!ok(no).host, "{no}");
    }
}

#[test]
fn flags_and_keys_of_the_other_fields_match_exactly() {
    assert!(ok("director_proxy_maybe").proxy_maybe);
    assert!(ok("director_proxy_maybe=n").proxy_maybe);
    assert!(!ok("director_proxy_maybes").proxy_maybe);
    assert!(!ok("proxy_maybe").proxy_maybe);
    assert!(ok("pass=").pass && !ok("pass").pass && !ok("password=x").pass);
    let near = ok("users=a\tdestusers=b\tdirector_tags=c\tlips=d\tlports=e\tports=f\tuser\tlip");
    let none = Found {
        id: b"5",
        ..Found::default()
    };
    assert_eq!(near, none);
}

#[test]
fn the_first_user_and_the_last_of_everything_else_count() {
    let all = ok(
        "user=a\tuser=b\tdestuser=c\tdestuser=d\tdirector_tag=e\tdirector_tag=f\t\
         lip=1\tlip=2\tlport=3\tlport=4\tport=5\tport=6",
    );
    assert_eq!(text(&all.user), Some("a"));
    assert_eq!(text(&all.destuser), Some("d"));
    assert_eq!(&*all.tag, b"f");
    assert_eq!(text(&all.lip), Some("2"));
    assert_eq!(text(&all.lport), Some("4"));
    assert_eq!(text(&all.port), Some("6"));
    assert_eq!(&*ok("director_tag=x\tdirector_tag=").tag, b"");
}

#[test]
fn destuser_wins_over_user_in_either_order_even_empty() {
    assert_eq!(ok("user=a\tdestuser=b").name(), Some(&b"b"[..]));
    assert_eq!(ok("destuser=b\tuser=a").name(), Some(&b"b"[..]));
    assert_eq!(ok("destuser=\tuser=a").name(), Some(&b""[..]));
    assert_eq!(ok("user=").name(), Some(&b""[..]));
    assert_eq!(ok("user=\tuser=a").name(), Some(&b""[..]));
    assert_eq!(ok("proxy").name(), None);
    assert_eq!(ok("user=a=b").name(), Some(&b"a=b"[..]));
}

#[test]
fn the_first_field_is_the_id_whatever_it_looks_like() {
    assert_eq!(
        found(b"OK\t\tproxy"),
        Found {
            proxy: true,
            ..Found::default()
        }
    );
    assert_eq!(found(b"OK\tabc\tproxy").id, b"abc");
    let eaten = found(b"OK\tuser=u1\tproxy");
    assert_eq!(
        (eaten.id, eaten.name(), eaten.proxy),
        (&b"user=u1"[..], None, true)
    );
    assert_eq!(found(b"OK\t"), Found::default());
    assert_eq!(
        found(b"OK\t5"),
        Found {
            id: b"5",
            ..Found::default()
        }
    );
    assert_eq!(
        found(b"OK\t5\t"),
        Found {
            id: b"5",
            ..Found::default()
        }
    );
    // Not even unescaped: a failure gives it back as it came.
    assert_eq!(found(b"OK\ta\x01tb\tproxy").id, b"a\x01tb");
}

#[test]
fn values_are_unescaped() {
    let reply = ok("user=u\x01t1\tproxy\tpass=a\x01tb\tdirector_tag=\x011\x010\x01r\x01n\x01x\x01");
    assert_eq!(reply.name(), Some(&b"u\t1"[..]));
    assert_eq!(&*reply.tag, b"\x01\0\r\nx");
    assert!(reply.proxy && reply.pass && !reply.host);
    // An escaped TAB does not end a field.
    assert!(!ok("user=u\x01tproxy\x01thost=").proxy);
}

#[test]
fn any_byte_may_stand_in_a_value() {
    let line = b"OK\t5\tuser=\xff\xfe\0\x80\tproxy\tdirector_tag=\xc3\x28";
    let reply = found(line);
    assert_eq!(reply.name(), Some(&b"\xff\xfe\0\x80"[..]));
    assert_eq!(&*reply.tag, b"\xc3\x28");
    assert!(reply.proxy);
}

fn begin(line: &[u8]) -> (u32, &[u8]) {
    match parse_request(line) {
        Request::Begin { id, about } => (id, about),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_are_known_by_their_word_and_number() {
    assert_eq!(begin(b"AUTH\t1\tPLAIN\tservice=imap").0, 1);
    assert_eq!(begin(b"PASS\t4294967295\tjoe\tservice=lmtp").0, u32::MAX);
    assert_eq!(begin(b"AUTH\t7"), (7, &b"7"[..]));
    assert_eq!(parse_request(b"CANCEL\t17"), Request::Cancel(17));
    for other in [
        &b""[..],
        b"AUTH",
        b"AUTH\t",
        b"AUTH\tx\tPLAIN",
        b"auth\t1\tPLAIN",
        b"CONT\t1\tAGE=",
        b"USER\t1\tjoe",
        b"CANCEL\t",
        b"AUTH\t4294967296\tPLAIN",
        b"AUTH\t-1\tPLAIN",
        b"VERSION\t1\t2",
        b"AUTH 1\tPLAIN",
        b"AUTH\tresp=c2VjcmV0",
    ] {
        assert_eq!(parse_request(other), Request::Other, "{other:?}");
    }
}

#[test]
fn a_password_is_never_part_of_what_is_remembered() {
    for (line, about) in [
        (
            "AUTH\t1\tPLAIN\tservice=imap\tresp=c2Vj",
            "1\tPLAIN\tservice=imap",
        ),
        ("AUTH\t1\tPLAIN\tresp=", "1\tPLAIN"),
        ("AUTH\t1\tresp=c2Vj\tlip=1", "1"),
        ("AUTH\t1\tPLAIN\tresp=c2Vj\tresp=c2Vj", "1\tPLAIN"),
        (
            "AUTH\t1\tPLAIN\tfinal-resp-ok\tx_resp=1\tresp=c2Vj",
            "1\tPLAIN\tfinal-resp-ok\tx_resp=1",
        ),
    ] {
        assert_eq!(begin(line.as_bytes()), (1, about.as_bytes()));
    }
}

#[test]
fn what_a_request_says_about_its_connection() {
    let line = b"AUTH\t1\tPLAIN\tservice=imap\tsecured\tsession=jv8h\tlip=10.0.0.1\trip=10.9.9.9\
                 \tlport=143\trport=5\treal_lip=1\tresp=AGE=";
    let about = parse_about(begin(line).1);
    assert_eq!(
        about,
        About {
            session: b"jv8h",
            lip: b"10.0.0.1",
            lport: Some(143)
        }
    );
    assert_eq!(parse_about(b""), About::default());
    assert_eq!(parse_about(b"1\tPLAIN\tlport=x\tsessions=y").lport, None);
}

#[test]
fn a_user_name_or_mechanism_is_not_taken_for_a_field() {
    for name in ["lip=10.0.0.1", "lport=143", "session=abc"] {
        for line in [
            format!("PASS\t3\t{name}\tservice=doveadm"),
            format!("AUTH\t3\t{name}"),
        ] {
            assert_eq!(
                parse_about(begin(line.as_bytes()).1),
                About::default(),
                "{line}"
            );
        }
    }
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            &b"OK"[..],
            b"PASS",
            b"AUTH",
            b"FAIL",
            b"CANCEL",
            b"VERSION",
            b"\t",
            b"\t",
            b"\t",
            b"1",
            b"user=",
            b"destuser=",
            b"proxy",
            b"host=",
            b"lip=",
            b"lport=",
            b"port=",
            b"pass=",
            b"resp=",
            b"session=",
            b"director_tag=",
            b"director_proxy_maybe",
            b"\x01",
            b"\0",
            b"=",
        ])
        .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        any::<u8>().prop_filter("a field", |b| *b != b'\t' && *b != b'\n'),
        0..12,
    )
}

proptest! {
    #[test]
    fn any_bytes_are_read(line in any_line(), userdb: bool) {
        if let Reply::Found(found) = parse_reply(&line, userdb) {
            prop_assert!(found.id.len() < line.len());
            let _ = found.name();
        }
        if let Request::Begin { about, .. } = parse_request(&line) {
            prop_assert!(memmem::find(about, b"\tresp=").is_none());
            let _ = parse_about(about);
        }
    }

    #[test]
    fn what_was_said_about_a_request_comes_back(
        id in 1u32.., session in word(), lip in word(), lport: u16, secret in word(),
    ) {
        let mut line = format!("AUTH\t{id}\tPLAIN\tservice=imap\tsession=").into_bytes();
        line.extend_from_slice(&session);
        line.extend_from_slice(b"\tlip=");
        line.extend_from_slice(&lip);
        line.extend_from_slice(format!("\tlport={lport}\tresp=").as_bytes());
        line.extend_from_slice(&secret);
        let (read, about) = begin(&line);
        let lport = Some(u32::from(lport));
        prop_assert_eq!(read, id);
        prop_assert_eq!(parse_about(about), About { session: &session, lip: &lip, lport });
    }
}
