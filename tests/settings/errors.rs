//! Every error text, with its line.

use std::path::Path;

use homing::settings::{Sockets, load, parse};

use super::support::Lab;

fn errors(text: &str) -> Vec<String> {
    let problems = parse(Path::new("t.toml"), text, &Lab, &Sockets::FromSettings)
        .err()
        .unwrap_or_else(|| panic!("{text}\nwas accepted"));
    problems
        .iter()
        .map(|p| p.to_string().lines().next().unwrap().to_owned())
        .collect()
}

/// One error, on line 2, behind a valid first line.
fn check(line: &str, want: &str) {
    let text = format!("director_mail_servers = '10.2.0.11'\n{line}\n");
    assert_eq!(errors(&text), [format!("t.toml:2: {want}")], "{line}");
}

fn check_backends(value: &str, want: &str) {
    let want = format!("t.toml:1: director_mail_servers: {want}");
    assert_eq!(errors(&format!("director_mail_servers = {value}")), [want]);
}

fn check_directors(servers: &str, listener: &str, want: &str) {
    let text = format!(
        "director_servers = '{servers}'\ndirector_mail_servers = '10.2.0.11'\n\
         [[listener]]\ntype = 'ring'\naddress = '{listener}'\n"
    );
    assert_eq!(
        errors(&text),
        [format!("t.toml:1: director_servers: {want}")]
    );
}

fn check_listener(lines: &str, want: &str) {
    let text = format!("director_mail_servers = '10.2.0.11'\n[[listener]]\n{lines}\n");
    assert_eq!(errors(&text), [format!("t.toml:{want}")], "{lines}");
}

#[test]
fn the_whole_block_is_readable() {
    let text = "director_mail_servers = '::1'\n  director_user_expire = 15\n";
    let problems = parse(
        Path::new("/etc/homing.toml"),
        text,
        &Lab,
        &Sockets::FromSettings,
    )
    .unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "/etc/homing.toml:2: director_user_expire: Time interval '15' is missing units (add e.g. 's' for seconds)\n    \
         accepted: a time with a unit (s, min, hours, days, weeks), e.g. \"15 min\", or 0; at least 10 s"
    );
    assert_eq!((problems[0].line, problems[0].column), (2, 26));
}

#[test]
fn all_problems_at_once_in_order_of_the_file() {
    let text = "lookup_timeout = 5\nnonsense = 1\n[[listener]]\ntype = 'x'\npath = 'y'\n";
    assert_eq!(
        errors(text),
        [
            "t.toml:1: lookup_timeout: Time interval '5' is missing units (add e.g. 's' for seconds)",
            "t.toml:2: nonsense: Unknown setting: nonsense",
            "t.toml:4: listener.type: Unknown type 'x'",
            "t.toml:5: listener.path: The path 'y' is not absolute",
            "t.toml: director_mail_servers: Empty server list",
        ]
    );
}

#[test]
fn values() {
    let expire = "director_user_expire";
    check(
        "director_user_expire = '9 s'",
        "director_user_expire: director_user_expire is too low",
    );
    check(
        "director_user_expire = '1 x'",
        "director_user_expire: Invalid time interval: 1 x",
    );
    check(
        "director_user_expire = '500ms'",
        &format!("{expire}: Milliseconds not supported for this setting: 500ms"),
    );
    check(
        "director_user_expire = '5000000000s'",
        &format!("{expire}: Time interval is too large: 5000000000s"),
    );
    check(
        "director_user_expire = true",
        &format!("{expire}: A boolean is not a string"),
    );
    check(
        "director_user_expire = 1.5",
        &format!("{expire}: A float is not a string"),
    );
    check(
        "director_user_kick_delay = '2 h'",
        "director_user_kick_delay: director_user_kick_delay is too high",
    );
    let moves = "director_max_parallel_moves";
    check(
        "director_max_parallel_moves = '5x'",
        &format!("{moves}: Invalid number 5x: Not a valid number"),
    );
    check(
        "director_max_parallel_moves = -1",
        &format!("{moves}: Invalid number -1: Number too small"),
    );
    check(
        "director_max_parallel_moves = 4294967296",
        &format!("{moves}: Invalid number 4294967296: Number too large"),
    );
    check(
        "director_max_parallel_moves = 0",
        &format!("{moves}: {moves} is too low"),
    );
    check(
        "director_output_buffer_size = 'x'",
        "director_output_buffer_size: Invalid size: x",
    );
    check(
        "director_output_buffer_size = 1024",
        "director_output_buffer_size: director_output_buffer_size is too low",
    );
    check("user = 5", "user: An integer is not a string");
    check(
        "user = \"a\\tb\"",
        "user: The control character '\\t' is not accepted",
    );
    check(
        "base_dir = 'run'",
        "base_dir: The path 'run' is not absolute",
    );
    check("base_dir = ''", "base_dir: It is empty");
    check(
        "director_username_hash = '%'",
        "director_username_hash: Failed to expand director_username_hash=%: '%' at the end is not complete: the variable is missing; %% is a percent sign",
    );
    check(
        "director_username_hash = '%Lz'",
        "director_username_hash: Failed to expand director_username_hash=%Lz: unknown variable '%z': \
         use %u %n %d (or %{user} %{username} %{domain}), %{env:NAME}, %{md5:user} or sha1, \
         sha256, sha384, sha512; with modifiers before it: D E H L M N R T U X, and \
         [-][offset.][width] before those; %% is a percent sign",
    );
    check(
        "director_username_hash = '%{u'",
        "director_username_hash: Failed to expand director_username_hash=%{u: '%{u' has no closing brace",
    );
    check(
        "auth_master_user_separator = 'ä'",
        "auth_master_user_separator: 'ä' is not ASCII",
    );
    check(
        "director_ping_max_timeout = '10 s'",
        "director_ping_max_timeout: director_ping_max_timeout (10 s) is below director_ping_idle_timeout (30 s)",
    );
    for value in ["x", "unix:", "tcp:host", "ftp:x"] {
        check(
            &format!("director_flush_socket = '{value}'"),
            &format!("director_flush_socket: Invalid flush address '{value}'"),
        );
    }
    check(
        "director_flush_socket = 'tcp:h:99999'",
        "director_flush_socket: Invalid port number 99999",
    );
    check(
        "director_flush_command = 'x'",
        "director_flush_command: The path 'x' is not absolute",
    );
    check(
        "director_ring_tls_cert = '/a'\ndirector_ring_tls_ca = '/b'",
        "director_ring_tls_cert: director_ring_tls_key is missing",
    );
    check(
        "director_ring_tls_required = 'perhaps'",
        "director_ring_tls_required: Invalid boolean value: perhaps (use yes or no)",
    );
    check(
        "director_ring_tls_required = 1",
        "director_ring_tls_required: An integer is not a boolean",
    );
    check(
        "log_level = 'homing=loud'",
        "log_level: Invalid filter 'homing=loud'",
    );
    let long = "x".repeat(107);
    check(
        &format!("auth_login_path = '{long}'"),
        &format!("auth_login_path: The path /run/dovecot/{long} has 120 bytes"),
    );
}

#[test]
fn two_flush_settings() {
    let text = "director_mail_servers = '::1'\ndirector_flush_socket = 'unix:x'\ndirector_flush_command = '/x'";
    assert_eq!(
        errors(text),
        ["t.toml:3: director_flush_command: director_flush_socket is set too"]
    );
}

#[test]
fn unknown_settings() {
    let hint = |line: &str| {
        let text = format!("director_mail_servers = '::1'\n{line}\n");
        let p = parse(Path::new("t.toml"), &text, &Lab, &Sockets::FromSettings).unwrap_err();
        assert_eq!(p.len(), 1);
        p[0].accepted.clone()
    };
    check(
        "director_doveadm_port = 1",
        "director_doveadm_port: Unknown setting: director_doveadm_port",
    );
    assert_eq!(
        hint("director_user_expires = '1 h'"),
        "did you mean director_user_expire?"
    );
    assert_eq!(
        hint("master_user_separator = '*'"),
        "auth_master_user_separator"
    );
    assert!(hint("director_doveadm_port = 1").contains("type \"admin\""));
    assert!(hint("zzz = 1").starts_with("director_servers, "));
    assert_eq!(
        hint("[[listener]]\ntype = 'login'\npath = '/a/b'\nmod = '1'"),
        "did you mean mode?"
    );
    check(
        "director_consistent_hashing = 'no'",
        "director_consistent_hashing: Consistent hashing is always on",
    );
}

#[test]
fn syntax() {
    let found = errors("a = \nb = 'x");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("t.toml:1: ") && found[1].starts_with("t.toml:2: "),
        "{found:?}"
    );
    assert!(errors("cores = 1\ncores = 2")[0].starts_with("t.toml:2: duplicate key"));
}

#[test]
fn backends() {
    check_backends("''", "Empty server list");
    check_backends("[]", "Empty server list");
    check_backends(
        "'10.2.0.11 nowhere'",
        "Unknown mail host: nowhere (no such name)",
    );
    check_backends(
        "'empty'",
        "Unknown mail host: empty (the name has no address)",
    );
    check_backends("'@tag'", "Unknown mail host: ");
    check_backends("'a_b!'", "Unknown mail host: a_b!");
    check_backends(
        "'127.61.0.1:143'",
        "Unknown mail host: 127.61.0.1:143 (a backend has no port here: it comes from the passdb)",
    );
    check_backends(
        "'127.61.0.250-252'",
        "IP addresses reversed: 127.61.0.250-252",
    );
    check_backends(
        "'10.0.0.1-10.0.1.1'",
        "IP address range too large: 10.0.0.1-10.0.1.1",
    );
    check_backends("'::1-::1:0:1'", "IP address range too large: ::1-::1:0:1");
    check_backends(
        "'10.0.0.1-::1'",
        "IP address family mismatch: 10.0.0.1 vs ::1",
    );
    check_backends(
        "'10.0.0.1,10.0.0.2'",
        "Items are separated by blanks only, here is a comma",
    );
    check_backends(
        "\"10.0.0.1\\t10.0.0.2\"",
        "Items are separated by blanks only, here is a tab",
    );
    check_backends(
        "'10.0.0.1;'",
        "Items are separated by blanks only, here is a semicolon",
    );
    check_backends(
        "'''10.0.0.1\n10.0.0.2'''",
        "Items are separated by blanks only, here is a line break",
    );
    check_backends(
        "\"::1\\u0085\"",
        "Items are separated by blanks only, here is a control character",
    );
    check_backends("5", "An integer is neither a string nor an array");
    let text = "director_mail_servers = [\n '10.0.0.1',\n 5 ]";
    assert_eq!(
        errors(text),
        ["t.toml:3: director_mail_servers: An integer in the list is not a string"]
    );
    let many: Vec<_> = (0..65)
        .map(|n| format!("10.0.{n}.0-10.0.{n}.255"))
        .collect();
    check_backends(&format!("'{}'", many.join(" ")), "Too many backends");
}

#[test]
fn an_item_is_found_to_the_column() {
    let text = "director_mail_servers = '10.0.0.1 bad'";
    let p = parse(Path::new("t"), text, &Lab, &Sockets::FromSettings).unwrap_err();
    assert_eq!((p[0].line, p[0].column), (1, 35));
}

#[test]
fn directors() {
    let ring = "10.1.0.2:9090";
    check_directors(
        "10.1.0.3",
        ring,
        "director_servers doesn't list ourself (10.1.0.2:9090)",
    );
    check_directors(
        "10.1.0.2:1",
        ring,
        "director_servers doesn't list ourself (10.1.0.2:9090)",
    );
    check_directors(
        "10.1.0.3",
        "*:9090",
        "director_servers doesn't list ourself",
    );
    check_directors(
        "10.1.0.2 nowhere",
        ring,
        "Unknown director host: nowhere (no such name)",
    );
    check_directors(
        "10.1.0.2 10.1.0.3-4",
        ring,
        "Unknown director host: 10.1.0.3-4 (no such name)",
    );
    check_directors(
        "10.1.0.2 10.1.0.3@t",
        ring,
        "Unknown director host: 10.1.0.3@t",
    );
    for bad in [
        "10.1.0.3:0",
        "10.1.0.3:65536",
        "[::1",
        "[::1]x",
        "10.1.0.3:",
    ] {
        let want = format!("Invalid director host:port in '{bad}'");
        check_directors(&format!("10.1.0.2 {bad}"), ring, &want);
    }
    check_directors(
        "10.1.0.2 ::1",
        ring,
        "IPv4 and IPv6 directors in one ring: 10.1.0.2:9090 and [::1]:9090",
    );
    check_directors(
        "10.1.0.2 10.1.9.2",
        "*:9090",
        "10.1.9.2:9090 is this director too, which is listed as 10.1.0.2:9090",
    );
    let none = "director_servers = '10.1.0.2'\ndirector_mail_servers = '::1'";
    assert_eq!(
        errors(none),
        [
            "t.toml:1: director_servers: No inet_listeners defined for director service (for standalone keep director_servers empty)"
        ]
    );
    let many: Vec<_> = (0..=1024)
        .map(|n| format!("10.1.0.2:{}", n + 8066))
        .collect();
    check_directors(&many.join(" "), ring, "1025 directors are too many");
}

#[test]
fn listeners() {
    check_listener("path = '/a/b'", "2: listener.type: It is missing");
    check_listener(
        "type = 'login'",
        "2: listener: It has neither a path nor an address",
    );
    check_listener(
        "type = 'login'\npath = '/a/b'\naddress = '*:1'",
        "5: listener.address: It has a path and an address",
    );
    check_listener(
        "type = 'login'\npath = '/a/../b'",
        "4: listener.path: The path \"/a/../b\" contains '..' or a NUL",
    );
    check_listener(
        "type = 'login'\npath = '/a/'",
        "4: listener.path: The path '/a/' is a directory",
    );
    check_listener(
        &format!("type = 'login'\npath = '/{}'", "x".repeat(107)),
        "4: listener.path: The path has 108 bytes, a socket's path can have 107",
    );
    check_listener(
        "type = 'ring'\npath = '/a/b'",
        "4: listener.path: A ring listener needs an address: neighbours are known by theirs",
    );
    check_listener(
        "type = 'login'\npath = '/run/dovecot/login/director'",
        "4: listener.path: Dovecot's master tries every socket directly in its login directory when it starts, and refuses to start when one answers",
    );
    check_listener(
        "type = 'login'\npath = '/run/dovecot/auth-login'",
        "4: listener.path: This is the socket of Dovecot's auth that is dialled for each client",
    );
    for bad in ["0888", "9", "+66", "01000", "rw"] {
        check_listener(
            &format!("type = 'login'\npath = '/a/b'\nmode = '{bad}'"),
            &format!("5: listener.mode: Invalid mode '{bad}'"),
        );
    }
    check_listener(
        "type = 'login'\npath = '/a/b'\nmode = 666",
        "5: listener.mode: The number 666 has no quotes: write it as an octal string",
    );
    check_listener(
        "type = 'login'\npath = '/a/b'\nmode = '0'",
        "5: listener.mode: Mode 0 means that the listener does not exist: remove the table",
    );
    check_listener(
        "type = 'login'\npath = '/a/b'\nowner = 'a b'",
        "5: listener.owner: Invalid name \"a b\"",
    );
    check_listener(
        "type = 'login'\npath = '/a/b'\nfifo = true",
        "5: listener.fifo: A listener of type login can't be a FIFO",
    );
    check_listener(
        "type = 'notify'\npath = '/a/b'\nfifo = 'x'",
        "5: listener.fifo: It is neither true nor false",
    );
    check_listener(
        "type = 'login'\npath = '/a/b'\nallow = []",
        "5: listener.allow: A path has no list of networks: mode, owner and group say who may connect",
    );
    check_listener(
        "type = 'login'\npath = 5",
        "4: listener.path: It is not a string",
    );
}

#[test]
fn tcp_listeners() {
    check_listener(
        "type = 'ring'\naddress = '10.1.0.2'",
        "4: listener.address: The address '10.1.0.2' has no port",
    );
    check_listener(
        "type = 'ring'\naddress = '10.1.0.2:0'",
        "4: listener.address: Invalid port number 0",
    );
    check_listener(
        "type = 'ring'\naddress = 'name:1'",
        "4: listener.address: Invalid address 'name:1'",
    );
    check_listener(
        "type = 'ring'\naddress = '*:1'\nmode = '0666'",
        "5: listener.mode: A listener with an address has none",
    );
    check_listener(
        "type = 'ring'\naddress = '*:1'\nallow = ['::/0']",
        "5: listener.allow: A ring listener accepts the directors of director_servers",
    );
    check_listener(
        "type = 'admin'\naddress = '*:1'",
        "4: listener.allow: A listener of type admin on TCP needs a list of networks",
    );
    check_listener(
        "type = 'http'\naddress = '*:1'\nallow = []",
        "5: listener.allow: A listener of type http on TCP needs a list of networks",
    );
    check_listener(
        "type = 'http'\naddress = '*:1'\nallow = ['x']",
        "5: listener.allow: Invalid network 'x'",
    );
    check_listener(
        "type = 'http'\naddress = '*:1'\nallow = ['10.0.0.1/8']",
        "5: listener.allow: The network '10.0.0.1/8' has bits behind its prefix: 10.0.0.0/8?",
    );
    check_listener(
        "type = 'http'\naddress = '*:1'\nallow = '::1'",
        "5: listener.allow: It is not an array",
    );
}

#[test]
fn two_listeners_at_one_place() {
    let two = |a: &str, b: &str| {
        format!(
            "director_mail_servers = '::1'\n[[listener]]\ntype = 'login'\n{a}\n[[listener]]\ntype = 'login'\n{b}\n"
        )
    };
    let want = |a: &str, b: &str| {
        vec![format!(
            "t.toml:7: listener: Two listeners at one place: {a} and {b}"
        )]
    };
    assert_eq!(
        errors(&two("path = '/a/b'", "path = '/a//b'")),
        want("/a/b", "/a/b")
    );
    assert_eq!(
        errors(&two("address = '*:1'", "address = '10.0.0.1:1'")),
        want("0.0.0.0:1", "10.0.0.1:1")
    );
    let text = two("address = '*:1'", "address = '[::]:1'");
    assert!(parse(Path::new("t"), &text, &Lab, &Sockets::FromSettings).is_ok());
    let text = "director_mail_servers = '::1'\n[listener]\ntype = 'login'";
    assert_eq!(
        errors(text),
        ["t.toml:2: listener: It is not an array of tables"]
    );
    let text = "director_mail_servers = '::1'\nlistener = [1]";
    assert_eq!(errors(text), ["t.toml:2: listener: It is not a table"]);
    let listener = |n| format!("[[listener]]\ntype = 'login'\npath = '/{n}'\n");
    let many: String = (0..65).map(listener).collect();
    let text = format!("director_mail_servers = '::1'\n{many}");
    assert_eq!(errors(&text), ["t.toml:2: listener: Too many listeners"]);
}

#[test]
fn users_and_groups_that_are_not_there() {
    let text = "director_mail_servers = '::1'\nuser = 'nobody-here'\ngroup = 'none-such'\n\
        [[listener]]\ntype = 'login'\npath = '/a'\nowner = 'nobody-here'\ngroup = 'none-such'\n\
        [[listener]]\ntype = 'login'\npath = '/b'\nowner = 4711\ngroup = 'somebody'\n";
    let wanted = [
        "t.toml:2: user: There is no user 'nobody-here'",
        "t.toml:3: group: There is no group 'none-such'",
        "t.toml:7: listener.owner: There is no user 'nobody-here'",
        "t.toml:8: listener.group: There is no group 'none-such'",
    ];
    assert_eq!(errors(text), wanted);
}

#[test]
fn the_file_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("homing.toml");
    let first = |path: &Path| load(path).unwrap_err()[0].to_string();
    let shown = path.display();
    assert_eq!(
        first(&path),
        format!(
            "{shown}: The settings file cannot be read: No such file or directory (os error 2)"
        )
    );
    std::fs::write(&path, b"# \xff").unwrap();
    assert_eq!(
        first(&path),
        format!("{shown}: The settings file is not UTF-8 (byte 3)")
    );
    std::fs::write(&path, "#".repeat(5 << 20)).unwrap();
    assert_eq!(
        first(&path),
        format!("{shown}: The settings file is longer than 4194304 bytes")
    );
}
