//! Bytes at the admin socket, as health checks and scripts write them.

use crate::e2e::{DirectorKind, PATIENCE, for_both, wait_until};
use crate::stage::Stage;
use std::time::Duration;

for_both!(a_health_check_that_does_not_read_is_heard, super::poolmon);
for_both!(
    a_thousand_commands_at_once_are_all_answered,
    super::thousand
);
for_both!(an_unfinished_line_is_none, super::unfinished);
for_both!(what_is_no_command_is_not_answered, super::nonsense);
for_both!(many_clients_at_a_time_are_served, super::many);

const LIMIT: Duration = PATIENCE;

fn poolmon(kind: DirectorKind) {
    let stage = Stage::start(kind);
    let moved = stage.ask("USER-MOVE\t77\t127.61.0.12");
    assert_eq!(moved, "OK\n");
    let mut check = stage.client();
    check.say(b"HOST-DOWN\t127.61.0.12\n");
    check.say(b"HOST-FLUSH\t127.61.0.12\n");
    drop(check);
    wait_until("the backend is down and empty", LIMIT, || {
        let hosts = stage.ask("HOST-LIST");
        let row = hosts.lines().find(|row| row.starts_with("127.61.0.12\t"));
        let row: Vec<_> = row.expect("a row").split('\t').collect();
        row[2] == "0" && row[4] == "D"
    });
}

fn thousand(kind: DirectorKind) {
    const COUNT: usize = 1000;
    let stage = Stage::start(kind);
    let mut client = stage.client();
    let lines: String = (0..COUNT)
        .map(|n| format!("HOST-SET\t127.61.0.{}\t{}\n", 20 + n % 100, n % 7 + 1))
        .collect();
    let mut writer = stage.client();
    // Whoever writes much and reads nothing, as well.
    writer.say(lines.as_bytes());
    drop(writer);
    client.say(lines.as_bytes());
    client.say(b"HOST-LIST\nend\n");
    let said = client.rest();
    let replies = said.lines().take_while(|line| *line == "OK").count();
    assert_eq!(replies, COUNT);
    let rows: Vec<_> = said
        .lines()
        .skip(COUNT)
        .take_while(|row| !row.is_empty())
        .collect();
    assert_eq!(rows.len(), 104);
    // Of two that write at the same time, nobody knows whose last line comes last; they are the same.
    wait_until("the last weight", LIMIT, || {
        let hosts = stage.ask("HOST-LIST");
        hosts
            .lines()
            .any(|row| row.starts_with("127.61.0.119\t6\t"))
    });
}

fn unfinished(kind: DirectorKind) {
    let stage = Stage::start(kind);
    let before = stage.ask("HOST-LIST");
    let mut client = stage.client();
    client.say(b"HOST-UP\t127.61.0.11\nHOST-DOWN\t127.61.0.12");
    drop(client);
    // A command that was heard later is one that came after.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(stage.ask("HOST-LIST"), before);
}

fn nonsense(kind: DirectorKind) {
    let stage = Stage::start(kind);
    let longest = format!("HOST-UP\t127.61.0.11\t{}", "x".repeat(1023 - 20));
    for (line, said) in [
        ("HOST-DOWN\t127.61.0.12@t", ""),
        ("host-list", ""),
        ("", ""),
        ("HOST-SET\t127.61.0.11\t4294967296", ""),
        ("HOST-RESET-USERS\t\t0", ""),
        ("HOST-UP\t127.61.0.11\tmore\tand more", "OK\n"),
        ("HOST-UP\t127.61.0.11\r", "OK\n"),
        ("HOST-UP\t127.61.0.99", "NOTFOUND\n"),
        ("HOST-SET\t127.61.0.11@t1\t1", "host tag can't be changed\n"),
        ("HOST-UPDATE\t127.61.0.99\t1001", "vhost count too large\n"),
        (longest.as_str(), "OK\n"),
        (&format!("{longest}x"), ""),
    ] {
        assert_eq!(stage.ask(line), said, "{line}");
    }
}

fn many(kind: DirectorKind) {
    let stage = Stage::start(kind);
    let mut clients: Vec<_> = (0..40).map(|_| stage.client()).collect();
    for client in &mut clients {
        client.say(b"HOST-LIST-REMOVED\nUSER-LIST\n");
    }
    for mut client in clients.into_iter().rev() {
        client.say(b"bye\n");
        assert_eq!(client.rest(), "\n\n");
    }
}
