//! Which director is asked, and what is said when there is none.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::e2e::{DirectorKind, Site, for_both};
use crate::stand::{ADMIN_PORT, Stand, homing, text};

for_both!(
    the_socket_comes_from_the_option_or_the_settings,
    super::the_socket_comes_from_the_option_or_the_settings
);
for_both!(
    a_command_that_the_director_would_not_read_is_not_sent,
    super::a_command_that_the_director_would_not_read_is_not_sent
);

fn the_socket_comes_from_the_option_or_the_settings(kind: DirectorKind) {
    let mut stand = Stand::new(kind);
    stand.listen_on_tcp();
    let listed = |words: &[&str]| {
        let table = homing(words, "").ok();
        assert_eq!(table.lines().count(), 4, "{table}");
    };
    let tcp = format!("{}:{ADMIN_PORT}", stand.site.address(1));
    listed(&["status", "-a", &tcp]);
    listed(&["status", "--socket-path", &text(&stand.socket())]);
    // Below base_dir, as Dovecot has it; then the settings' own listeners.
    listed(&["status", "-c", &stand.settings("")]);
    let unix = format!(
        "[[listener]]\ntype = \"admin\"\npath = \"{}\"\n",
        text(&stand.socket())
    );
    listed(&["status", "-c", &stand.settings(&unix)]);
    let inet =
        format!("[[listener]]\ntype = \"admin\"\naddress = \"{tcp}\"\nallow = [\"127.0.0.0/8\"]\n");
    listed(&["status", "-c", &stand.settings(&inet)]);
    // Whose ring listener is Dovecot's master's, or another machine's.
    let ring = "director_servers = \"10.0.0.1 10.0.0.2\"\n";
    listed(&["status", "-c", &stand.settings(&format!("{ring}{unix}"))]);
    let said = homing(&["status", "-c", &stand.settings("nonsense = 1\n")], "").failed(78);
    assert!(said.contains("nonsense"), "{said}");
    homing(&["status", "-c", "/nowhere/homing.toml"], "").failed(78);
    // The settings are not needed when everything is said.
    homing(
        &[
            "map",
            "-u",
            "alice",
            "--username-hash",
            "%u",
            "-c",
            "/nowhere",
        ],
        "",
    )
    .ok();
}

#[test]
fn nobody_there_or_somebody_else() {
    let site = Site::new();
    let at = |name: &str| text(&site.path().join(name));
    let said = homing(&["status", "-a", &at("missing")], "").failed(75);
    assert!(said.contains("does the director run?"), "{said}");
    for wrong in ["localhost", "localhost:0", "::1:1"] {
        let said = homing(&["status", "-a", wrong], "").failed(64);
        assert!(said.contains("host:port"), "{said}");
    }
    let nobody = format!("{}:1", site.address(1));
    homing(&["status", "-a", &nobody], "").failed(75);

    let greeting = "VERSION\tdirector-doveadm\t1\t0\n";
    for (name, says, status, error) in [
        (
            "imap",
            "* OK IMAP ready\r\n".to_owned(),
            76,
            "not the admin socket",
        ),
        (
            "later",
            "VERSION\tdirector-doveadm\t2\t0\n".to_owned(),
            76,
            "not the admin socket",
        ),
        (
            "silent",
            String::new(),
            75,
            "disconnected before it had greeted",
        ),
        ("ends", greeting.to_owned(), 75, "hung up on HOST-LIST"),
        (
            "words",
            format!("{greeting}what?\n"),
            76,
            "invalid row of HOST-LIST",
        ),
        (
            "half",
            format!("{greeting}10.0.0.1\t1\t0\t\tU"),
            75,
            "hung up on HOST-LIST",
        ),
        (
            "long",
            format!("{greeting}{}", "a".repeat(9000)),
            76,
            "a line of more than",
        ),
    ] {
        let listener = UnixListener::bind(at(name)).expect("a socket");
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().expect("a client");
            client
                .write_all(says.as_bytes())
                .expect("the client is there");
            let _ = client.shutdown(std::net::Shutdown::Write);
            // Until the client has gone, so that what it sends is no error.
            let _ = client.read_to_end(&mut Vec::new());
        });
        let said = homing(&["status", "-a", &at(name)], "").failed(status);
        assert!(said.contains(error), "{name}: {said}");
        server.join().expect("the server");
        fs::remove_file(at(name)).expect("its socket");
    }
    // A director whose socket exists, and who does not accept: nothing must hang for ever.
    let _listener = UnixListener::bind(at("mute")).expect("a socket");
    let said = homing(&["status", "-a", &at("mute")], "").failed(75);
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn wrong_command_lines_say_what_is_right() {
    for (words, says) in [
        (&["status", "a", "b", "c"][..], "unexpected argument"),
        (&["flush"], "<HOST>"),
        (
            &["flush", "-F", "--max-parallel", "3", "all"],
            "cannot be used with",
        ),
        (&["flush", "--max-parallel", "0", "all"], "from 1 to"),
        (&["ring"], "status"),
        (&["map", "-u"], "--user-map"),
        (&["statsu"], "status"),
    ] {
        let said = homing(words, "").failed(64);
        assert!(said.contains(says), "{words:?}: {said}");
    }
}

fn a_command_that_the_director_would_not_read_is_not_sent(kind: DirectorKind) {
    let stand = Stand::new(kind);
    let said = stand.homing(&["kick", &"a".repeat(1100)]).failed(64);
    assert!(said.contains("at most 1024"), "{said}");
    // No name is too strange to be sent.
    stand.homing(&["kick", "a\nb\r\tc\u{1}"]).ok();
    assert_eq!(stand.homing(&["status"]).ok().lines().count(), 4);
    assert!(
        !stand.log_text().to_lowercase().contains("error"),
        "{}",
        stand.log_text()
    );
}
