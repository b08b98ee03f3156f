//! Homing as systemd starts it: as root, beside Dovecot, with a keeper that makes the sockets; and Homing that
//! never was root.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use crate::rig::DirectorPlacement::{SystemdLike, Unprivileged};
use crate::rig::{
    Case, Client, DirectorKind, DirectorPlacement, LoginMode, PATIENCE, Supervised, Tier, TierSpec,
    User, descendants, now, status_field, wait_gone, wait_until,
};

const SOON: Duration = PATIENCE;
/// A login process that has lost auth tries again after some seconds.
const RECONNECT_LIMIT: Duration = PATIENCE;
/// `director_user_expire`: keep-alive lines fall due twice as often.
const EXPIRE: u32 = 10;

macro_rules! tests {
    ($module:ident, $placement:ident, $($name:ident: $body:ident($case:ident);)*) => {
        mod $module {
            $(#[test]
            fn $name() {
                super::$body(crate::cases::$case.homing(super::$placement));
            })*
        }
    };
}

tests! { homing, SystemdLike,
    main_process_is_unprivileged_and_ready_means_ready: privileges(ALL_23);
    dovecot_restarts_23: dovecot_restarts(ALL_23);
    dovecot_restarts_24: dovecot_restarts(ALL_24);
    login_directory_remade_23: login_directory_remade(PROXY_23);
    login_directory_remade_24: login_directory_remade(PROXY_24);
    killed_homing_hangs_nobody_23: killed(ALL_23);
    killed_homing_hangs_nobody_24: killed(ALL_24);
    killed_homing_hangs_nobody_shared_23: killed(PROXY_23);
    killed_homing_hangs_nobody_shared_24: killed(PROXY_24);
    taken_over_all_23: taken_over(ALL_23);
    taken_over_all_24: taken_over(ALL_24);
    taken_over_shared_23: taken_over(PROXY_23);
    taken_over_shared_24: taken_over(PROXY_24);
    refuses_beside_dovecots_director: refuses(ALL_23);
}

tests! { unprivileged, Unprivileged,
    homing_is_not_root_23: not_root(ALL_23);
    homing_is_not_root_24: not_root(PROXY_24);
    dovecot_restarts_23: dovecot_restarts(PROXY_23);
    dovecot_restarts_24: dovecot_restarts(ALL_24);
    killed_homing_hangs_nobody_23: killed(ALL_23);
    killed_homing_hangs_nobody_24: killed(PROXY_24);
}

fn start(case: Case) -> Tier {
    Tier::start(&TierSpec {
        expire: EXPIRE,
        ..TierSpec::new(case, ["early", "late"].map(User::proxied).to_vec())
    })
}

fn privileges(case: Case) {
    let mut tier = start(case);
    let sockets = tier.director.sockets().clone();
    let login = sockets
        .login
        .parent()
        .and_then(|path| path.parent())
        .expect("login");
    let mode = fs::metadata(login).expect("login").permissions().mode();
    assert_eq!(mode & 0o7777, 0o750, "Dovecot's own directory");
    let homing = tier.director.supervised();
    let (main, keeper) = (homing.main(), homing.keeper());
    for field in ["Uid:", "Gid:", "Groups:"] {
        let ids = status_field(main, field);
        assert!(
            !ids.is_empty() && !ids.contains(&"0".to_owned()),
            "{field} {ids:?}"
        );
    }
    for field in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        assert_eq!(status_field(main, field), ["0000000000000000"], "{field}");
    }
    assert_eq!(status_field(keeper, "Uid:"), ["0"; 4]);
    // CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_NET_BIND_SERVICE.
    assert_eq!(status_field(keeper, "CapEff:"), ["000000000000040b"]);
    assert_eq!(status_field(keeper, "NoNewPrivs:"), ["1"]);

    // From the outside, as a login process: at the moment of READY=1 the socket takes connections.
    for _ in 0..5 {
        tier.director.stop();
        assert!(!sockets.login.exists() && !sockets.notify.exists());
        tier.director.run_until_ready();
        UnixStream::connect(&sockets.login).expect("ready means that the socket answers");
        UnixStream::connect(&sockets.userdb).expect("ready means that the socket answers");
        assert!(
            fs::metadata(&sockets.notify)
                .expect("a FIFO")
                .file_type()
                .is_fifo()
        );
    }
}

/// Neither it nor its keeper ever was, and both ends of a restart work.
fn not_root(case: Case) {
    let mut tier = start(case);
    let mut client = Client::new();
    let home = tier.visit(&mut client, "imap", "late");
    for _ in 0..2 {
        let homing = tier.director.pid();
        let keeper = descendants(homing);
        assert_eq!(keeper.len(), 1, "{keeper:?}");
        for pid in [homing, keeper[0].0] {
            assert!(!status_field(pid, "Uid:").contains(&"0".to_owned()));
            assert!(!status_field(pid, "Gid:").contains(&"0".to_owned()));
            assert_eq!(status_field(pid, "CapPrm:"), ["0000000000000000"]);
        }
        tier.director.stop();
        assert!(!tier.director.sockets().login.exists());
        tier.director.run();
        logins_work_again(&tier, &mut client);
        assert_eq!(tier.visit(&mut client, "imap", "late"), home);
        wait_until("deliveries work again", RECONNECT_LIMIT, || {
            tier.deliver(&mut client, &["late"], "again")["codes"]["late"] == 250
        });
    }
}

/// Another process takes over: no login process notices, and the next login over the same connections to auth
/// works at the first try.
fn taken_over(case: Case) {
    let mut tier = start(case);
    let mut client = Client::new();
    tier.open(&mut client, "early");
    let home = tier.visit(&mut client, "imap", "late");
    let early = tier.visit(&mut client, "imap", "early");
    let logins = tier.proxy.service_pids("imap-login");
    let keeper = tier.director.supervised().keeper();
    for round in 0..3 {
        let homing = tier.director.supervised();
        let old = homing.main();
        homing.signal(libc::SIGUSR2);
        wait_gone(old);
        assert_eq!(homing.keeper(), keeper);
        assert!(!status_field(homing.main(), "Uid:").contains(&"0".to_owned()));
        assert_eq!(tier.visit(&mut client, "imap", "late"), home);
        assert_eq!(tier.visit(&mut client, "pop3", "late"), home);
        assert_eq!(tier.visit(&mut client, "imap", "early"), early);
        assert_eq!(client.session("imap.noop", "early")["ok"], true);
        let token = format!("round-{round}");
        let delivered = tier.deliver(&mut client, &["late"], &token);
        assert_eq!(delivered["codes"]["late"], 250, "{delivered}");
    }
    // Those that serve one connection each end with it.
    if case.mode == LoginMode::ManyPerProcess {
        assert_eq!(tier.proxy.service_pids("imap-login"), logins);
    }
    let log = tier.proxy.log_text();
    let lost = log
        .lines()
        .filter(|line| line.contains("auth") && line.contains("isconnected"));
    assert_eq!(lost.count(), 0, "{log}");
}

fn dovecot_restarts(case: Case) {
    let mut tier = start(case);
    let mut client = Client::new();
    let home = tier.visit(&mut client, "imap", "late");
    let pid = tier.director.pid();
    for _ in 0..3 {
        tier.proxy.restart();
        logins_work_again(&tier, &mut client);
        assert_eq!(tier.visit(&mut client, "imap", "late"), home);
    }
    tier.proxy.reload();
    logins_work_again(&tier, &mut client);
    assert_eq!(tier.visit(&mut client, "imap", "late"), home);
    assert_eq!(tier.director.pid(), pid);
}

/// A boot, or a unit with RuntimeDirectory=, empties base_dir; Dovecot makes `login` again.
fn login_directory_remade(case: Case) {
    let mut tier = start(case);
    let mut client = Client::new();
    let home = tier.visit(&mut client, "imap", "late");
    for whole in [false, true] {
        tier.proxy.stop();
        let base = tier.proxy.base();
        let wiped = if whole { base } else { base.join("login") };
        // The keeper may make something anew in the middle of it.
        wait_until("the directory is wiped", SOON, || {
            let _ = fs::remove_dir_all(&wiped);
            !wiped.exists()
        });
        if whole {
            fs::create_dir(tier.proxy.base()).expect("base_dir");
        }
        tier.proxy.run();
        logins_work_again(&tier, &mut client);
        assert_eq!(tier.visit(&mut client, "imap", "late"), home);
        assert_eq!(tier.visit(&mut client, "submission", "late"), home);
        let token = format!("wiped-{whole}");
        wait_until("deliveries work again", RECONNECT_LIMIT, || {
            tier.deliver(&mut client, &["late"], &token)["codes"]["late"] == 250
        });
    }
}

/// kill -9 of the main process: sessions whose keep-alive falls due go on, new logins fail in time,
/// and the next start works at once.
fn killed(case: Case) {
    let mut tier = start(case);
    let mut client = Client::new();
    let home = tier.visit(&mut client, "imap", "late");
    tier.open(&mut client, "early");
    let sockets = tier.director.sockets().clone();
    if case.placement == SystemdLike {
        let homing = tier.director.supervised();
        homing.signal(libc::SIGKILL);
        assert_eq!(homing.wait_end(), Some(128 + libc::SIGKILL));
    } else {
        tier.director.kill();
        wait_until("the keeper's end", SOON, || !sockets.notify.exists());
    }
    assert!(!sockets.notify.exists(), "a FIFO that nobody reads");
    assert!(!sockets.login.exists(), "a socket that nobody answers");
    // Two keep-alive lines fall due meanwhile.
    let killed = now();
    while killed.elapsed() < Duration::from_secs(u64::from(EXPIRE) + 2) {
        let asked = now();
        assert_eq!(client.session("imap.noop", "early")["ok"], true);
        assert!(
            asked.elapsed() < SOON,
            "the session hung {:?}",
            asked.elapsed()
        );
        sleep(Duration::from_millis(500));
    }
    assert_eq!(client.session("imap.whereami", "early")["ok"], true);
    tier.director.run();
    logins_work_again(&tier, &mut client);
    assert_eq!(tier.visit(&mut client, "imap", "late"), home);
    assert_eq!(client.session("imap.noop", "early")["ok"], true);
}

/// Two directors would put users on two backends. Dovecot's own one has the very sockets that
/// Homing is told to make.
fn refuses(case: Case) {
    let tier = Tier::start(&TierSpec::new(
        Case {
            placement: DirectorPlacement::Standalone,
            ..case.with(DirectorKind::Dovecot23)
        },
        vec![User::proxied("late")],
    ));
    let mut client = Client::new();
    let home = tier.visit(&mut client, "imap", "late");
    let sockets = tier.director.sockets();
    for (kind, path) in [
        ("login", &sockets.login),
        ("userdb", &sockets.userdb),
        ("notify", &sockets.notify),
    ] {
        let settings = tier.site.path().join("second.toml");
        let log = tier.site.path().join(format!("second-{kind}.log"));
        let text = format!(
            "director_mail_servers = \"127.0.0.1\"\nuser = \"dovecot\"\nbase_dir = \"{}\"\n\
             [[listener]]\ntype = \"{kind}\"\npath = \"{}\"\nmode = \"0666\"\n",
            tier.proxy.base().display(),
            path.display()
        );
        fs::write(&settings, text).expect("settings");
        let mut second = Supervised::start(tier.site.path(), &settings, &log);
        assert_eq!(second.wait_end(), Some(69), "{kind}");
        let said = fs::read_to_string(&log).expect("a log");
        let last = said.lines().last().expect("a sentence");
        assert!(last.contains("set mode = 0 on that"), "{said}");
        assert!(last.contains("service director"), "{said}");
        assert_eq!(second.said(), None, "nothing may be told to systemd");
        assert!(path.exists(), "what is Dovecot's stays");
    }
    assert_eq!(tier.visit(&mut client, "imap", "late"), home);
}

fn logins_work_again(tier: &Tier, client: &mut Client) {
    let order = tier.order("imap.visit", "late");
    wait_until("new logins work again", RECONNECT_LIMIT, || {
        client.ask(&order)["ok"] == true
    });
}
