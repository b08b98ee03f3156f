//! Import of Dovecot configurations, against golden files (tests/golden/import/README.md).

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use homing::settings::import::{ImportError, NoteKind, import_dovecot, import_text};
use homing::settings::network::Network;
use homing::settings::{ListenerKind, Place, Settings, Sockets, diff, parse};

/// The machine on which the golden configurations are at home.
struct Home;

impl Network for Home {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec!["2001:db8::99".parse().unwrap()])
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ["10.1.0.2", "2001:db8:1::2"].contains(&ip.to_string().as_str())
    }
}

fn load(toml: &str) -> Settings {
    parse(
        Path::new("imported.toml"),
        toml,
        &Home,
        &Sockets::FromSettings,
    )
    .unwrap_or_else(|problems| panic!("{toml}\n{problems:?}"))
    .settings
}

fn check_golden(input: &Path) -> Settings {
    let imported = import_dovecot(input).unwrap();
    let golden = PathBuf::from(format!("{}.toml", input.display()));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &imported.toml).unwrap();
    }
    let want = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(imported.toml, want, "{}", input.display());
    load(&imported.toml)
}

#[test]
fn imports_are_golden_and_load_alike() {
    for name in ["shipped", "full", "alone6", "ring6"] {
        let file = |suffix: &str| PathBuf::from(format!("tests/golden/import/{name}.{suffix}"));
        let (from_files, from_doveconf) =
            (check_golden(&file("conf")), check_golden(&file("doveconf")));
        let mut changes = diff(&from_files, &from_doveconf);
        changes.retain(|c| c.key != "listener");
        assert_eq!(changes, [], "{name}");
        // doveconf sorts listeners, a file has them in any order.
        let sorted = |s: &Settings| {
            let mut all: Vec<_> = s.listeners.iter().map(|l| format!("{l:?}")).collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&from_files), sorted(&from_doveconf), "{name}");
    }
}

#[test]
fn no_consistent_hashing_is_refused() {
    let error = import_dovecot(Path::new("tests/golden/import/refused.conf")).unwrap_err();
    assert!(matches!(error, ImportError::NotConsistent { .. }));
    assert!(
        error
            .to_string()
            .starts_with("tests/golden/import/refused.conf:1: ")
    );
}

#[test]
fn a_configuration_of_2_4_is_refused() {
    let text =
        "# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf\ndovecot_config_version = 2.4.0\n";
    let error = import_text("t", text).unwrap_err();
    assert!(matches!(error, ImportError::NoDirector { .. }));
    assert!(error.to_string().starts_with("t:2: "), "{error}");
}

#[test]
fn the_user_is_that_of_dovecots_director() {
    let user = |text: &str| import_text("t", &format!("director_mail_servers = ::1\n{text}"));
    let user = |text: &str| load(&user(text).unwrap().toml).user;
    let service = "service director {\n  user = ";
    assert_eq!(user("").as_deref(), Some("dovecot"));
    assert_eq!(
        user("default_internal_user = dov\n").as_deref(),
        Some("dov")
    );
    assert_eq!(
        user(&format!("{service}other\n}}\n")).as_deref(),
        Some("other")
    );
    assert_eq!(user(&format!("{service}root\n}}\n")), None);
}

#[test]
fn the_built_in_admin_socket_is_there_and_the_others_are_off() {
    let imported = import_text("t", "director_mail_servers = 10.0.0.1\n").unwrap();
    let s = load(&imported.toml);
    assert_eq!(s.listeners.len(), 1);
    assert_eq!(s.listeners[0].kind, ListenerKind::Admin);
    let place = Place::Unix("/run/dovecot/login/director/admin".into());
    assert_eq!(s.listeners[0].place, place);
    // Section names do not care for case, their type does.
    let text =
        "director_mail_servers = ::1\nservice director {\nunix_listener Director-Admin {\n}\n}\n";
    let s = load(&import_text("t", text).unwrap().toml);
    assert_eq!(s.listeners.len(), 1);
    assert_eq!(s.listeners[0].kind, ListenerKind::Login);
}

#[test]
fn notes_name_what_is_lost() {
    let text = "director_mail_servers = ::1\ndirector_doveadm_port = 5\nmaster_user_separator = *\n\
                director_user_expire = 5 s\ndirector_flush_script = unix:/x\n\
                protocol lmtp {\n director_username_hash = %u\n}\n";
    let imported = import_text("t", text).unwrap();
    let has = |kind: NoteKind, part: &str| {
        let found = imported
            .notes
            .iter()
            .any(|n| n.kind == kind && n.text.contains(part));
        assert!(found, "{part}: {:#?}", imported.notes);
    };
    has(NoteKind::Dropped, "t:2: director_doveadm_port = 5");
    has(
        NoteKind::Dropped,
        "t:4: director_user_expire = 5 s: director_user_expire is too low",
    );
    has(
        NoteKind::Dropped,
        "t:7: director_username_hash = %u inside protocol lmtp",
    );
    has(
        NoteKind::Notice,
        "t:3: master_user_separator is called auth_master_user_separator",
    );
    has(NoteKind::Notice, "is written as unix:/run/dovecot/x");
    has(
        NoteKind::Change,
        "unix_listener director-admin {\n    mode = 0",
    );
    assert_eq!(load(&imported.toml).auth_master_user_separator, Some(b'*'));
}

#[test]
fn the_language() {
    let value = |line: &str| {
        let text = format!("director_mail_servers = ::1\n{line}\n");
        load(&import_text("t", &text).unwrap().toml).director_username_hash
    };
    assert_eq!(value("director_username_hash = %u # comment"), "%u");
    assert_eq!(value("director_username_hash = \"%u # x\""), "%u # x");
    assert_eq!(value("director_username_hash = '%u \"q\"'"), "%u \"q\"");
    assert_eq!(
        value("director_username_hash = \"%u \\\"q\\\"\""),
        "%u \"q\""
    );
    assert_eq!(value("director_username_hash = \\\n  %d"), "%d");
    assert_eq!(
        value("director_username_hash = %u\ndirector_username_hash = %d"),
        "%d"
    );
    assert_eq!(value("x = %n\ndirector_username_hash = $x"), "%n");
}

#[test]
fn faulty_input() {
    for (text, want) in [
        ("a {", "t:1: Missing '}'"),
        ("\n}", "t:2: Unexpected '}'"),
        ("a { b = c }", "t:1: Garbage after '{'"),
        ("word", "t:1: Expecting '{'"),
        ("!what x", "t:1: Unknown directive !what"),
        (
            "!include /nonexistent/x.conf",
            "t:1: No file matches /nonexistent/x.conf",
        ),
    ] {
        assert_eq!(import_text("t", text).unwrap_err().to_string(), want);
    }
    assert!(import_text("t", "!include_try /nonexistent/x.conf").is_ok());
    assert!(
        import_text("t", &"a {\n".repeat(100))
            .unwrap_err()
            .to_string()
            .contains("deeply")
    );
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("loop.conf");
    std::fs::write(&own, "!include loop.conf\n").unwrap();
    assert!(
        import_dovecot(&own)
            .unwrap_err()
            .to_string()
            .contains("include each other")
    );
}

#[test]
fn control_characters_do_no_harm_to_the_comments() {
    let text = "verbose_proctitle = a\x06b\x07\x7f\r c\nservice director {\n  \
                unix_listener login/d\x06 {\n    mode = 0666\x06\n  }\n}\n";
    let imported = import_text("t", text).unwrap();
    let read = imported.toml.parse::<toml::Table>();
    assert!(read.is_ok(), "{read:?}");
    assert!(imported.toml.contains("a\\u{6}b"), "{}", imported.toml);
}

#[test]
fn numbers_lose_their_leading_zeros() {
    let imported = import_text("t", "default_client_limit = 05000\n").unwrap();
    assert!(imported.toml.contains("\nclient_limit = 5000\n"));
    assert!(imported.toml.parse::<toml::Table>().is_ok());
}
