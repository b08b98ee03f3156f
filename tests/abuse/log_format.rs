//! How lines of the log are written.

use crate::rig::homing::run;
use crate::rig::peer::HELLO;
use crate::rig::{Peer, Site, listen};

/// A login that fails at once, since the table is full; the log until the director's end.
fn log_of_a_refused_login(format: &str) -> String {
    let homing = Site::new()
        .set("log_format", &format!("\"{format}\""))
        .set("log_level", "\"info\"")
        .set("user_table_limit", "1")
        .start();
    let auth = listen(&homing.site.path("auth-login"));
    let mut client = Peer::connect(&homing.login());
    client.send(format!(
        "{HELLO}AUTH\t1\tPLAIN\tservice=imap\tsession=AbC+1\tresp=x\n"
    ));
    let mut upstream = auth.accept();
    for user in ["ann", "bob"] {
        upstream.send(format!("OK\t1\tuser={user}\tproxy\n"));
        client.line();
        client.send("AUTH\t1\tPLAIN\tservice=imap\tsession=AbC+1\tresp=x\n".to_owned());
    }
    homing.stop()
}

#[test]
fn json_is_one_object_a_line_with_the_session_as_a_field() {
    let log = log_of_a_refused_login("json");
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let refused = lines
        .iter()
        .find(|line| {
            line["message"]
                .as_str()
                .is_some_and(|m| m.contains("user_table_limit"))
        })
        .unwrap_or_else(|| panic!("{log}"));
    assert_eq!(refused["session"], "AbC+1");
    assert_eq!(refused["level"], "ERROR");
    assert!(refused["timestamp"].is_string(), "{refused}");
}

#[test]
fn text_has_the_session_too() {
    let log = log_of_a_refused_login("plain");
    let line = log
        .lines()
        .find(|line| line.contains("user_table_limit"))
        .unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("AbC+1"), "{line}");
}

#[test]
fn an_unknown_format_is_refused() {
    let site = Site::new().set("log_format", "\"xml\"");
    site.write();
    let (status, _, err) = run(site.command(), &site.path(""));
    assert_eq!(status, 78, "{err}");
    assert!(err.contains("log_format: Unknown value 'xml'"), "{err}");
    assert!(err.contains("auto, plain, json or journal"), "{err}");
}
