//! What loads, and as what.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use homing::settings::table::{LISTENER_KEYS, Reload, TABLE};
use homing::settings::{
    FlushUri, ListenerKind, Loaded, Place, Settings, Sockets, diff, parse, reference,
};

use super::support::Lab;

const BACKEND: &str = "director_mail_servers = \"10.2.0.11\"\n";

fn load(text: &str) -> Loaded {
    parse(Path::new("t.toml"), text, &Lab, &Sockets::FromSettings)
        .unwrap_or_else(|problems| panic!("{text}\n{problems:?}"))
}

fn settings(text: &str) -> Settings {
    load(text).settings
}

fn warnings(text: &str) -> Vec<String> {
    load(text)
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn backends(value: &str) -> Vec<String> {
    let s = settings(&format!("director_mail_servers = {value}\n"));
    let show = |m: &homing::settings::MailServer| {
        let name = m.name.as_ref().map(|n| format!("={n}")).unwrap_or_default();
        assert_eq!(m.vhosts, 100);
        format!("{}@{}{name}", m.ip, m.tag)
    };
    s.director_mail_servers.iter().map(show).collect()
}

fn ring(servers: &str, listener: &str) -> Settings {
    let listener = format!("[[listener]]\ntype = \"ring\"\naddress = \"{listener}\"\n");
    settings(&format!(
        "director_servers = {servers}\n{BACKEND}{listener}"
    ))
}

/// The example of the manual, as it stands there.
const EXAMPLE: &str = r#"director_servers = ["10.1.0.2", "10.1.0.3:9090"]        # or one string, as in Dovecot; empty: alone
director_mail_servers = "10.2.0.11-10.2.0.30 10.0.0.120@name2"
director_user_expire = "15 min"
auth_login_path = "/run/dovecot/auth-login"
auth_userdb_path = "/run/dovecot/auth-userdb"

[[listener]]
type = "login"              # login, userdb, authreply, notify, ring, admin, http
path = "/run/dovecot/login/director/auth"
mode = "0666"

[[listener]]
type = "ring"
address = "10.1.0.2:9090"
"#;

#[test]
fn the_example_loads() {
    let Loaded {
        settings: s,
        warnings,
    } = load(EXAMPLE);
    assert_eq!(warnings, []);
    let me: SocketAddr = "10.1.0.2:9090".parse().unwrap();
    assert_eq!(s.director_servers, [me, "10.1.0.3:9090".parse().unwrap()]);
    assert_eq!(s.director_self, Some(me));
    assert_eq!(s.director_mail_servers.len(), 21);
    assert_eq!(s.director_mail_servers[0].tag, "name2");
    assert_eq!(s.director_user_expire, 900);
    let login = &s.listeners[0];
    assert_eq!((login.kind, login.mode), (ListenerKind::Login, 0o666));
    assert_eq!(
        login.place,
        Place::Unix("/run/dovecot/login/director/auth".into())
    );
    assert_eq!(s.listeners[1].place, Place::Tcp(me));
}

#[test]
fn the_shipped_file_loads_and_shows_the_defaults() {
    let text = std::fs::read_to_string("dist/homing.toml").unwrap();
    let shipped = load(&text);
    assert_eq!(shipped.warnings, []);
    assert_eq!(shipped.settings.listeners.len(), 4);
    // With every commented setting turned on it still loads, one of each "one of the two".
    let on: String = text
        .lines()
        .filter(|l| !l.starts_with("#director_flush_command"))
        .map(|l| {
            l.strip_prefix('#')
                .filter(|l| l.starts_with(|c: char| !c.is_whitespace()))
                .unwrap_or(l)
        })
        .flat_map(|l| [l, "\n"])
        .collect();
    let s = settings(&on);
    assert_eq!(s.director_servers.len(), 2);
    let not_default = [
        "director_servers",
        "director_mail_servers",
        "director_flush_socket",
        "auth_master_user_separator",
        "state_path",
        "http_tokens",
        "user",
        "group",
    ];
    let default = Settings::default();
    for spec in TABLE
        .iter()
        .filter(|spec| !not_default.contains(&spec.name))
    {
        assert_eq!((spec.show)(&s), (spec.show)(&default), "{}", spec.name);
        let optional = spec.name.contains("flush") || spec.name.contains("_tls_");
        assert!(
            optional || text.contains(&format!("#{} = ", spec.name)),
            "{}",
            spec.name
        );
    }
}

#[test]
fn tls_is_required_with_certificates_unless_it_is_said() {
    let files = "director_ring_tls_cert = '/c'\ndirector_ring_tls_key = '/k'\n\
                 director_ring_tls_ca = '/a'\n";
    let s = settings(&format!("{files}{BACKEND}"));
    assert!(s.director_ring_tls.is_some() && s.director_ring_tls_required);
    for (text, required) in [
        ("true", true),
        ("'Yes'", true),
        ("false", false),
        ("'no'", false),
    ] {
        let s = settings(&format!(
            "{files}director_ring_tls_required = {text}\n{BACKEND}"
        ));
        assert_eq!(s.director_ring_tls_required, required, "{text}");
    }
}

#[test]
fn defaults_are_dovecots() {
    let s = settings(BACKEND);
    assert_eq!(s.director_user_expire, 900);
    assert_eq!(s.director_username_hash, "%Lu");
    assert_eq!(s.director_ping_idle_timeout, Duration::from_secs(30));
    assert_eq!(s.director_ping_max_timeout, Duration::from_secs(60));
    assert_eq!(s.director_user_kick_delay, Duration::from_secs(2));
    assert_eq!(
        (s.director_max_parallel_moves, s.director_max_parallel_kicks),
        (100, 100)
    );
    assert_eq!(s.director_output_buffer_size, 10_485_760);
    assert_eq!(
        (s.kick_timeout, s.move_timeout),
        (Duration::from_secs(10), Duration::from_secs(30))
    );
    assert_eq!(s.lookup_timeout, Duration::from_secs(25));
    assert_eq!(s.auth_login_path, Path::new("/run/dovecot/auth-login"));
    assert_eq!(s.auth_master_user_separator, None);
    assert_eq!((s.cores, s.new_user_rate), (None, 0));
    assert_eq!(s.resolve_interval, Duration::from_secs(60));
}

#[test]
fn backend_lists() {
    assert_eq!(
        backends("\"10.2.0.12   10.2.0.11\""),
        ["10.2.0.11@", "10.2.0.12@"]
    );
    assert_eq!(
        backends("[\"10.2.0.12\", \"10.2.0.11@a\"]"),
        ["10.2.0.11@a", "10.2.0.12@"]
    );
    assert_eq!(backends("\"127.61.0.13@a@b\""), ["127.61.0.13@a@b"]);
    assert_eq!(
        backends("\"10.0.0.254-10.0.0.255@t\""),
        ["10.0.0.254@t", "10.0.0.255@t"]
    );
    assert_eq!(
        backends("\"[2001:db8::1]-[2001:db8::2]@x ::2 10.1\""),
        ["10.0.0.1@", "::2@", "2001:db8::1@x", "2001:db8::2@x"]
    );
    assert_eq!(
        backends("\"two-more@t 1234\""),
        ["0.0.4.210@", "10.3.0.1@t=two-more", "10.3.0.2@t=two-more"]
    );
    assert_eq!(backends("\"10.2.0.1@\""), ["10.2.0.1@"]);
    assert_eq!(backends("\"0.0.0.0-0.0.0.255\"").len(), 256);
}

#[test]
fn director_lists() {
    let text = |s: &Settings| {
        s.director_servers
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let s = ring(
        "\"10.1.0.3:9091 10.1.0.2 10.1.0.2:9090 two\"",
        "10.1.0.2:9090",
    );
    assert_eq!(
        text(&s),
        [
            "10.1.0.2:9090",
            "10.1.0.3:9091",
            "10.3.0.1:9090",
            "10.3.0.2:9090"
        ]
    );
    let s = ring("\"::1 [::2] [::3]:7\"", "[::1]:9090");
    assert_eq!(text(&s), ["[::1]:9090", "[::2]:9090", "[::3]:7"]);
    assert_eq!(s.director_self, Some("[::1]:9090".parse().unwrap()));
    // A wildcard listener: the entry that is an address of this machine.
    let s = ring("\"10.1.0.1 10.1.0.2\"", "*:9090");
    assert_eq!(s.director_self, Some("10.1.0.2:9090".parse().unwrap()));
    // Several directors on one machine.
    let s = ring("\"127.0.3.1 127.0.3.2\"", "127.0.3.2:9090");
    assert_eq!(s.director_self, Some("127.0.3.2:9090".parse().unwrap()));
    let s = ring("\"10.1.0.2 10.1.9.2:9091\"", "*:9090");
    assert_eq!(s.director_servers.len(), 2);
}

#[test]
fn sockets_that_are_handed_over() {
    let text = format!("director_servers = \"10.1.0.2 10.1.0.3\"\n{BACKEND}");
    let handed = Sockets::HandedOver(vec!["10.1.0.3:9090".parse().unwrap()]);
    let loaded = parse(Path::new("t"), &text, &Lab, &handed).unwrap();
    assert_eq!(
        loaded.settings.director_self,
        Some("10.1.0.3:9090".parse().unwrap())
    );
    assert_eq!(loaded.warnings, []);
    let none = parse(Path::new("t"), &text, &Lab, &Sockets::HandedOver(vec![])).unwrap_err();
    assert!(none[0].what.starts_with("No inet_listeners defined"));
}

#[test]
fn flush_targets() {
    let flush = |line: &str| {
        settings(&format!("{line}\n{BACKEND}"))
            .director_flush_socket
            .unwrap()
    };
    let unix = |path: &str| FlushUri::Unix(path.to_owned());
    assert_eq!(
        flush("director_flush_socket = 'unix:flush-%i'"),
        unix("/run/dovecot/flush-%i")
    );
    assert_eq!(
        flush("director_flush_socket = 'unix:/x/%{host}'"),
        unix("/x/%{host}")
    );
    let tcp = |host: &str| FlushUri::Tcp(host.to_owned(), 7);
    assert_eq!(flush("director_flush_socket = 'tcp:%h:7'"), tcp("%h"));
    assert_eq!(flush("director_flush_socket = 'tcp:[::1]:7'"), tcp("::1"));
    let exec = FlushUri::Exec("/bin/flush".to_owned());
    assert_eq!(flush("director_flush_script = '/bin/flush'"), exec);
    assert_eq!(flush("director_flush_socket = 'exec:/bin/flush'"), exec);
    let s = settings(&format!("director_flush_command = '/bin/f'\n{BACKEND}"));
    assert_eq!(
        s.director_flush_command.as_deref(),
        Some(Path::new("/bin/f"))
    );
}

#[test]
fn listeners() {
    let s = settings(&format!(
        "{BACKEND}
[[listener]]\ntype = 'notify'\npath = '/a//b/./n'\nowner = 1000\ngroup = 'mail'\n
[[listener]]\ntype = 'notify'\npath = '/a/s'\nfifo = false\n
[[listener]]\ntype = 'admin'\naddress = '[::]:9091'\nallow = ['10.0.0.0/8', '::1']\n
[[listener]]\ntype = 'http'\npath = '/a/http'\n"
    ));
    assert_eq!(s.listeners[0].place, Place::Fifo("/a/b/n".into()));
    assert_eq!(s.listeners[0].owner.as_deref(), Some("1000"));
    assert_eq!(s.listeners[0].mode, 0o600);
    assert_eq!(s.listeners[1].place, Place::Unix("/a/s".into()));
    assert_eq!(s.listeners[2].allow.len(), 2);
    assert_eq!(s.listeners[3].kind, ListenerKind::Http);
}

#[test]
fn every_warning() {
    let cases = [
        (
            BACKEND,
            "t.toml: listener: There is no [[listener]]: nobody could ask",
        ),
        (
            "director_mail_servers = '10.2.0.1 10.2.0.1'",
            "t.toml:1: director_mail_servers: 10.2.0.1 is listed more than once: it counts once, with the usual share",
        ),
        (
            "director_mail_servers = ['10.2.0.1@a',\n '10.2.0.1@b']",
            "t.toml:1: director_mail_servers: 10.2.0.1 is listed with the tags 'a' and 'b'; directors of a ring know a backend by its address alone, there it would end with one of them",
        ),
        (
            "director_mail_servers = '10.1'",
            "t.toml:1: director_mail_servers: '10.1' is read as the address 10.0.0.1",
        ),
        (
            "director_mail_servers = '::1'\ndirector_consistent_hashing = true",
            "t.toml:2: director_consistent_hashing: has been removed: consistent hashing is always on",
        ),
        (
            "director_mail_servers = '::1'\ndirector_username_hash = 'x%%'",
            "t.toml:2: director_username_hash: No variable in it: all users have one hash, and one backend",
        ),
        (
            "director_mail_servers = '::1'\nauth_master_user_separator = '*!'",
            "t.toml:2: auth_master_user_separator: Only the first character counts: '*'",
        ),
        (
            "director_mail_servers = '::1'\nlookup_timeout = '30 s'",
            "t.toml:2: lookup_timeout: Login processes give up after about 30 s: they would not see the answer",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(warnings(text)[0], want);
    }
}

#[test]
fn the_reference_has_every_setting() {
    let text = reference();
    for spec in TABLE {
        assert!(text.contains(&format!("| `{}` | {} |", spec.name, spec.kind.name())));
        assert!(
            spec.about.ends_with('.') || spec.about.ends_with(":."),
            "{}",
            spec.name
        );
    }
    for key in LISTENER_KEYS {
        assert!(text.contains(&format!("| `{}` |", key.name)));
    }
    assert!(
        text.contains("| `director_user_expire` | time | `15 min` | at least 10 s | restart |")
    );
}

#[test]
fn reloading() {
    let old = settings(EXAMPLE);
    assert_eq!(diff(&old, &old), []);
    let new = settings(
        &EXAMPLE
            .replace(
                "10.2.0.30 10.0.0.120@name2",
                "10.2.0.29 10.0.0.120@name3 one.example.org",
            )
            .replace("15 min", "20 min")
            .replace("0666", "0660")
            .replace("auth_login", "lookup_timeout = '9 s'\nauth_login"),
    );
    let changes: Vec<_> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "director_mail_servers: would change 10.0.0.120@name2 to 10.0.0.120@name3: not changed in a running director",
            "director_mail_servers: would add 10.3.0.9 (one.example.org): not changed in a running director",
            "director_mail_servers: would remove 10.2.0.30: not changed in a running director",
            "director_user_expire: 15 min -> 20 min: needs a restart",
            "lookup_timeout: 25 s -> 9 s: changed",
            "listener: other type or permissions: login /run/dovecot/login/director/auth: needs a restart",
        ]
    );
    let moved = settings(&EXAMPLE.replace("director/auth", "director/other"));
    let changes = diff(&old, &moved);
    assert!(
        changes
            .iter()
            .all(|c| c.key == "listener" && c.reload == Reload::Restart)
    );
    assert_eq!(changes.len(), 2);
}

/// `HOMING_RECORD=1 cargo test --test settings reference` writes it again.
#[test]
fn the_printed_reference_is_the_one_of_the_code() {
    let reference = homing::settings::reference();
    let file = "docs/settings.md";
    if std::env::var_os("HOMING_RECORD").is_some() {
        std::fs::write(file, &reference).unwrap();
    }
    let printed = std::fs::read_to_string(file).unwrap();
    assert!(
        printed == reference,
        "{file} is not what `homing settings` prints: HOMING_RECORD=1 cargo test --test settings reference"
    );
}
