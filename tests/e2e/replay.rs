//! Lines of auth, replayed through both directors: what Homing answers is what Dovecot's own
//! director answers, byte for byte, but for the differences that docs/protocol/login.md tells of.

use std::path::PathBuf;
use std::time::Duration;

use crate::rig::{
    Director, DirectorKind, DirectorPlacement, DirectorSpec, ScriptedAuth, Site, Sockets, Talk,
};

/// `director_user_expire`; half of it is what login processes are told.
const EXPIRE: u32 = 30;
/// One backend by name, one with a tag.
const BACKENDS: &str = "localhost 127.61.0.12@t2";
const NAMED: &str = "\tproxy_refresh=15\thost=localhost\thostip=127.0.0.1";
const TAGGED: &str = "\tproxy_refresh=15\thost=127.61.0.12";
const FAIL: &str = "FAIL\t5\tcode=temp_fail";
const SHORT: Duration = Duration::from_millis(300);

/// What becomes of a line.
enum Becomes {
    Same,
    /// The line with this behind it.
    With(&'static str),
    /// Other text.
    Text(&'static str),
    /// Dovecot's director appends this, or nothing; Homing says something else. Neither of
    /// Dovecot's answers is of use to a login process.
    Differs {
        dovecot: &'static str,
        homing: Maybe,
    },
}

/// How Homing answers where it differs.
enum Maybe {
    Fails,
    /// With `proxy` before the backend.
    Proxied,
}

use Becomes::{Differs, Same, Text, With};

/// Lines without their beginning, `OK\t5` or `PASS\t5`.
#[rustfmt::skip]
fn replies() -> Vec<(&'static str, Becomes)> {
    let differs = |dovecot, homing| Differs { dovecot, homing };
    vec![
        ("", Same),
        ("\t", Same),
        ("\tuser=u1", Same),
        ("\tproxy", Same),
        ("\tuser=u1\tproxy", With(NAMED)),
        ("\tuser=u1\tproxy=n", With(NAMED)),
        ("\tuser=u1\tproxy=", With(NAMED)),
        ("\tuser=u1\tproxyfoo", Same),
        ("\tuser=u1\tproxy_refresh=7", Same),
        ("\tuser=u1\tproxy\tproxy_refresh=7", With(NAMED)),
        ("\tuser=u1\tproxy_maybe", Same),
        ("\tproxy\tuser=u1\thost=", Same),
        ("\tproxy\tuser=u1\thost=10.0.0.1", Same),
        ("\tproxy\tuser=u1\thostip=1.2.3.4", With(NAMED)),
        ("\tuser=u1\tproxy\tdirector_tag=t2", With(TAGGED)),
        ("\tuser=u1\tproxy\tdirector_tag=t2\tdirector_tag=", With(NAMED)),
        ("\tuser=u1\tproxy\tdirector_tag=\tdirector_tag=t2", With(TAGGED)),
        ("\tuser=u1\tproxy\tdestuser=", With(NAMED)),
        ("\tproxy\tdestuser=a\tdestuser=b", With(NAMED)),
        ("\tuser=u\x01t1\tproxy\tpass=a\x01tb", With(NAMED)),
        ("\tuser=u1\tproxy\tlip=x\tlport=y\tport=z", With(NAMED)),
        ("\tuser=u1\tproxy\r", Text("\tuser=u1\tproxy\tproxy_refresh=15\thost=localhost\thostip=127.0.0.1")),
        ("\tuser=u1\tdirector_proxy_maybe=y\tlip=127.0.0.1\tpass=x", Same),
        ("\tuser=u1\tdirector_proxy_maybe=y\tlip=127.0.0.1\tlport=143\tport=143\tpass=x", Same),
        ("\tuser=u1\tdirector_proxy_maybe=y\tlip=127.0.0.1\tlport=143\tpass=x", Same),
        ("\tuser=u1\tproxy\tdirector_proxy_maybe\tlip=10.0.0.1", With(NAMED)),
        ("\tuser=u1\tdirector_proxy_maybe\tpass=x", differs(NAMED, Maybe::Proxied)),
        ("\tuser=u1\tdirector_proxy_maybe=y\tlip=127.0.0.1\tlport=143\tport=144\tpass=x", differs(NAMED, Maybe::Proxied)),
        ("\tuser=u1\tproxy\tdirector_proxy_maybe=y\tlip=127.0.0.1", differs("", Maybe::Fails)),
    ]
}

/// Other lines, on a login connection.
const PASSED_ON: [&str; 9] = [
    "OK",
    "ok\t5\tuser=u1\tproxy",
    "OK 5\tuser=u1\tproxy",
    "PASS\t5\tuser=u1\tproxy",
    "OK\tuser=u1\tproxy",
    "FAIL\t7\tuser=u1\tproxy",
    "CONT\t9\t",
    "NOTFOUND\t5",
    "WHATEVER\tuser=u1\tproxy\t\x01\x02",
];

/// Other lines, on a userdb connection.
const PASSED_ON_USERDB: [&str; 7] = [
    "OK\t5\tuser=u1\tproxy",
    "USER\t5\tu1\tproxy\tuid=1",
    "LIST\t5\tu1",
    "DONE\t5\t",
    "NOTFOUND\t5",
    "FAIL\t5\treason=x",
    "PASS\tuser=u1\tproxy",
];

struct Stage {
    director: Director,
    auth: ScriptedAuth,
    kind: DirectorKind,
    _site: Site,
}

fn stage(kind: DirectorKind) -> Stage {
    let site = Site::new();
    let path: PathBuf = site.path().join("auth");
    let auth = ScriptedAuth::start(&path);
    let socket = |name: &str| site.path().join(name);
    let spec = DirectorSpec {
        kind,
        placement: DirectorPlacement::Standalone,
        name: "director".to_owned(),
        address: site.address(31),
        backends: BACKENDS.to_owned(),
        expire: EXPIRE,
        sockets: Sockets {
            login: socket("director-auth"),
            userdb: socket("director-userdb"),
            notify: socket("notify"),
            authreply: Some(socket("director-authreply")),
        },
        auth_login: path.clone(),
        auth_userdb: path,
        director_settings: "lookup_timeout = \"4 s\"\n".to_owned(),
        seat: None,
    };
    let director = Director::start(&site, spec);
    Stage {
        director,
        auth,
        kind,
        _site: site,
    }
}

impl Stage {
    /// A login connection, through which both sides have said their handshake.
    fn login(&self, minor: u32) -> (Talk, Talk) {
        let hello = format!("VERSION\t1\t{minor}\nCPID\t4711\n");
        let greeting = format!(
            "VERSION\t1\t{minor}\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n"
        );
        self.connect(&self.director.sockets().login.clone(), &hello, &greeting)
    }

    fn userdb(&self) -> (Talk, Talk) {
        let socket = self.director.sockets().userdb.clone();
        self.connect(&socket, "VERSION\t1\t0\n", "VERSION\t1\t1\nSPID\t1\n")
    }

    fn connect(&self, socket: &std::path::Path, hello: &str, greeting: &str) -> (Talk, Talk) {
        let mut client = Talk::to(socket);
        client.say(hello.as_bytes());
        // Connections that only looked whether the director is there have left some of auth's.
        let mut auth = self.auth.accept();
        while !auth.says(hello.as_bytes()) {
            auth = self.auth.accept();
        }
        auth.say(greeting.as_bytes());
        assert_eq!(client.hear_until(greeting.as_bytes()), b"");
        (client, auth)
    }

    fn expected(&self, head: &str, tail: &str, becomes: &Becomes) -> String {
        let line = format!("{head}{tail}");
        match becomes {
            Same => line,
            With(end) => line + end,
            Text(text) => format!("{head}{text}"),
            Differs { dovecot, .. } if self.kind == DirectorKind::Dovecot23 => line + dovecot,
            Differs {
                homing: Maybe::Fails,
                ..
            } => FAIL.to_owned(),
            Differs { dovecot, .. } => format!("{line}\tproxy{dovecot}"),
        }
    }
}

/// A line that is passed on, and marks the end of the answers before it.
const MARK: &str = "CONT\t99\tend\n";

fn exchange(from: &mut Talk, to: &mut Talk, line: &str) -> String {
    from.say(format!("{line}\n{MARK}").as_bytes());
    String::from_utf8(to.hear_until(MARK.as_bytes())).expect("ASCII was sent")
}

fn check_login(kind: DirectorKind) {
    let stage = stage(kind);
    let (mut client, mut auth) = stage.login(2);
    for (tail, becomes) in replies() {
        let expected = stage.expected("OK\t5", tail, &becomes) + "\n";
        let got = exchange(&mut auth, &mut client, &format!("OK\t5{tail}"));
        assert_eq!(got, expected, "OK\\t5{}", tail.escape_debug());
    }
    for line in PASSED_ON {
        let got = exchange(&mut auth, &mut client, line);
        assert_eq!(got, format!("{line}\n"));
    }
    let three = "FAIL\t7\nOK\t8\tuser=u1\tproxy\nCONT\t9\t";
    let got = exchange(&mut auth, &mut client, three);
    assert_eq!(
        got,
        format!("FAIL\t7\nOK\t8\tuser=u1\tproxy{NAMED}\nCONT\t9\t\n")
    );
    // Nothing before the end of the line.
    auth.say(b"OK\t6\tuser=u1\tproxy");
    assert!(client.is_silent(SHORT));
    let got = exchange(&mut auth, &mut client, "");
    assert_eq!(got, format!("OK\t6\tuser=u1\tproxy{NAMED}\n"));
    // Towards auth everything is bytes.
    let odd = b"AUTH\t1\tPLAIN\tservice=imap\t\0\xff\r\nOK\t5\tuser=u1\tproxy\nno line end ";
    client.say(odd);
    client.say(b"\nMARK\n");
    let passed = auth.hear_until(b"\nMARK\n");
    // After `director_proxy_maybe` Homing has auth forget requests.
    let passed = String::from_utf8_lossy(&passed).replace("CANCEL\t5\n", "");
    assert_eq!(passed, String::from_utf8_lossy(odd));
}

fn check_userdb(kind: DirectorKind) {
    let stage = stage(kind);
    let (mut client, mut auth) = stage.userdb();
    for (tail, becomes) in replies() {
        let expected = stage.expected("PASS\t5", tail, &becomes) + "\n";
        let got = exchange(&mut auth, &mut client, &format!("PASS\t5{tail}"));
        assert_eq!(got, expected, "PASS\\t5{}", tail.escape_debug());
    }
    for line in PASSED_ON_USERDB {
        let got = exchange(&mut auth, &mut client, line);
        assert_eq!(got, format!("{line}\n"));
    }
    client.say(b"PASS\t1\tx\tservice=lmtp\nUSER\t2\ty\tservice=lmtp\n\0\xff\nMARK\n");
    let passed = auth.hear_until(b"MARK\n");
    assert_eq!(
        passed,
        b"PASS\t1\tx\tservice=lmtp\nUSER\t2\ty\tservice=lmtp\n\0\xff\n"
    );
}

fn check_authreply(kind: DirectorKind) {
    let stage = stage(kind);
    let socket = stage
        .director
        .sockets()
        .authreply
        .clone()
        .expect("was asked for");
    let mut client = Talk::to(&socket);
    let greeting = "VERSION\tdirector-authreply-server\t1\t0\n";
    assert_eq!(client.hear_until(greeting.as_bytes()), b"");
    client.say(b"VERSION\tdirector-authreply-client\t1\t0\n");
    let mut answer = |line: &str| {
        client.say(format!("{line}\n{MARK}").as_bytes());
        String::from_utf8(client.hear_until(MARK.as_bytes())).expect("ASCII was sent")
    };
    for (tail, becomes) in replies() {
        let expected = stage.expected("OK\t5", tail, &becomes) + "\n";
        let got = answer(&format!("OK\t5{tail}"));
        assert_eq!(got, expected, "OK\\t5{}", tail.escape_debug());
    }
    for line in PASSED_ON {
        assert_eq!(answer(line), format!("{line}\n"));
    }
    for wrong in [
        "VERSION\tdirector-authreply-server\t1\t0\n",
        "VERSION\tdirector-authreply-client\t2\t0\n",
        "OK\t5\tuser=u1\tproxy\n",
    ] {
        let mut client = Talk::to(&socket);
        client.say(wrong.as_bytes());
        assert_eq!(client.hear_until(greeting.as_bytes()), b"");
        assert!(client.is_closed(), "{wrong}");
    }
}

macro_rules! both {
    ($($name:ident: $check:ident;)*) => {
        mod dovecot23 {
            $(#[test]
            fn $name() {
                super::$check(crate::rig::DirectorKind::Dovecot23);
            })*
        }
        mod homing {
            $(#[test]
            fn $name() {
                super::$check(crate::rig::DirectorKind::Homing);
            })*
        }
    };
}

both! {
    login_lines: check_login;
    userdb_lines: check_userdb;
    authreply_lines: check_authreply;
}

/// Auth of 2.4.4 (protocol 1.4) confirms a CANCEL. The confirmation of Homing's own is not for the
/// login process, which has never asked; that of the login process's own is.
#[test]
fn homing_swallows_the_confirmation_of_its_own_cancel() {
    let stage = stage(DirectorKind::Homing);
    let (mut client, mut auth) = stage.login(4);
    client.say(b"AUTH\t5\tPLAIN\tprotocol=imap\tlip=10.9.9.9\tlport=143\tresp=AHgAeA==\n");
    auth.hear_until(b"AHgAeA==\n");
    // The client is in the middle of a line: a CANCEL must not be put into it.
    client.say(b"AUTH\t6\tPLAIN\tprot");
    auth.hear_until(b"prot");
    let got = exchange(
        &mut auth,
        &mut client,
        "OK\t5\tuser=u1\tdirector_proxy_maybe=y\tpass=x",
    );
    let (line, hash) = got
        .split_once("\tuser_director_hash=")
        .expect("protocol 1.3 and later");
    assert_eq!(
        line,
        format!("OK\t5\tuser=u1\tdirector_proxy_maybe=y\tpass=x\tproxy{NAMED}")
    );
    assert!(hash.trim_end().parse::<u32>().is_ok(), "{hash}");
    assert!(auth.is_silent(SHORT), "a CANCEL in the middle of a line");
    client.say(b"ocol=imap\n");
    assert_eq!(auth.hear_until(b"CANCEL\t5\n"), b"ocol=imap\n");
    client.say(b"CANCEL\t6\n");
    assert_eq!(auth.hear_until(b"CANCEL\t6\n"), b"");
    let got = exchange(
        &mut auth,
        &mut client,
        "CANCELLED\t5\nCANCELLED\t6\nCANCELLED\t5",
    );
    assert_eq!(got, "CANCELLED\t6\nCANCELLED\t5\n");
}
