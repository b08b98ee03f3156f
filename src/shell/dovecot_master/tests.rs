//! The parts that need no master; tests/dovecot_service.rs has a real one.

use std::io::Read;

use super::*;

fn env(extra: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    let mut all = vec![
        ("SOCKET_COUNT", "2"),
        ("SOCKET0_SETTINGS", "director"),
        ("SOCKET1_SETTINGS", "a\x01tb\tssl"),
        ("GENERATION", "4"),
        ("CLIENT_LIMIT", "1000"),
        ("DOVECOT_VERSION", "2.3.19.1"),
        ("SERVICE_NAME", "director"),
    ];
    all.extend_from_slice(extra);
    let all: Vec<_> = all
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    move |name| {
        all.iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
    }
}

#[test]
fn the_environment_is_read() {
    let restrict = [
        ("RESTRICT_SETUID", "102"),
        ("RESTRICT_SETGID", "105"),
        ("RESTRICT_SETEXTRAGROUPS", "8,60"),
        ("RESTRICT_SETGID_PRIV", "8"),
        ("RESTRICT_CHROOT", "/run/dovecot/."),
    ];
    let plan = Plan::parse(env(&restrict)).unwrap();
    assert_eq!(plan.names, ["director", "a\tb"]);
    assert_eq!((plan.generation, plan.client_limit), (4, 1000));
    assert_eq!(plan.restrict.uid, Some(102));
    assert_eq!(plan.restrict.gid, Some(105));
    assert_eq!(plan.restrict.groups, [8, 60]);
    assert_eq!(
        plan.restrict.chroot.as_deref(),
        Some(Path::new("/run/dovecot/."))
    );
}

#[test]
fn a_broken_environment_is_refused() {
    let bad = |key, value| Plan::parse(env(&[(key, value)])).unwrap_err();
    assert_eq!(
        bad("SOCKET_COUNT", "3"),
        ServiceError::Variable("SOCKETn_SETTINGS")
    );
    assert_eq!(
        bad("SOCKET_COUNT", "4000000000"),
        ServiceError::Variable("SOCKET_COUNT")
    );
    assert_eq!(bad("GENERATION", "x"), ServiceError::Variable("GENERATION"));
    assert_eq!(
        bad("RESTRICT_SETUID", "dovecot"),
        ServiceError::Variable("RESTRICT_SETUID")
    );
    assert!(Plan::parse(env(&[])).unwrap().restrict == Restrict::default());
}

#[test]
fn names_decide_what_is_spoken() {
    use ListenerKind::*;
    let unix = [
        ("director", Login),
        ("plainname", Login),
        ("auth", Login),
        ("director-userdb", Userdb),
        ("a-b-userdb", Userdb),
        ("director-authreply", Authreply),
        ("director-admin", Admin),
        ("director-admin-old", Login),
        ("Director-Admin", Login),
        ("x-doveadm", Admin),
        ("x-http", Http),
        ("my-notify", Notify),
        ("my-ring", Ring),
    ];
    for (name, kind) in unix {
        assert_eq!(kind_of(name, false, false), kind, "{name}");
    }
    let tcp = [
        ("", Ring),
        ("a-ring", Ring),
        ("admin-foo", Ring),
        ("x-admin", Admin),
        ("doveadm", Admin),
        ("my-userdb", Userdb),
        ("notify", Notify),
    ];
    for (name, kind) in tcp {
        assert_eq!(kind_of(name, false, true), kind, "{name}");
    }
    assert_eq!(kind_of("proxy-userdb", true, false), Notify);
}

#[test]
fn status_is_told_at_once_at_zero_and_else_once_a_second() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut reporter = StatusReporter::new(writer.into(), 7, 10);
    let at = Duration::from_millis;
    let mut read = || {
        let mut bytes = [0; 12];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes[..4], std::process::id().to_ne_bytes());
        assert_eq!(&bytes[4..8], 7u32.to_ne_bytes());
        u32::from_ne_bytes(bytes[8..].try_into().unwrap())
    };
    assert_eq!(reporter.update(0, at(0)), Ok(None));
    assert_eq!(read(), 10);
    assert_eq!(reporter.update(0, at(10)), Ok(None));
    assert_eq!(reporter.update(3, at(400)), Ok(Some(at(600))));
    assert_eq!(reporter.update(4, at(1000)), Ok(None));
    assert_eq!(read(), 6);
    assert_eq!(reporter.update(10, at(1001)), Ok(None));
    assert_eq!(read(), 0);
    assert_eq!(reporter.update(12, at(1002)), Ok(None));
    assert_eq!(reporter.update(9, at(1003)), Ok(None));
    assert_eq!(read(), 1);
    drop(reader);
    assert_eq!(reporter.update(0, at(9000)), Err(Errno::EPIPE));
}
