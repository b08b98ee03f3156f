//! Temporary.
use homing::core::{
    BackendSlot, hash_ring::HashRing, lookup::suffix, snapshot::*, user_hash::Template,
    users::Expiry,
};
use std::sync::Arc;
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let ips: Vec<std::net::IpAddr> = (1..=20)
        .map(|i| format!("10.0.0.{i}").parse().unwrap())
        .collect();
    let snapshot = Snapshot {
        generation: 1,
        handshaked: true,
        synced: true,
        sync_since: None,
        alone: true,
        ring_min_version: 9,
        expiry: Expiry::new(900),
        username_hash: Arc::new(Template::parse("%Lu").unwrap()),
        master_user_separator: None,
        backends: ips
            .iter()
            .map(|ip| {
                Some(BackendView {
                    ip: *ip,
                    suffix: suffix(&ip.to_string(), None, 900),
                })
            })
            .collect(),
        rings: vec![HashRing::build(
            ips.iter()
                .enumerate()
                .map(|(i, ip)| (*ip, 100, BackendSlot(i as u16))),
        )],
        tags: vec![Box::default()],
    };
    let s = homing::settings::Settings {
        director_servers: vec![],
        director_mail_servers: vec![],
        director_user_expire: 900,
        director_username_hash: "%Lu".into(),
        auth_master_user_separator: None,
        auth_login_path: format!("{dir}/auth-login").into(),
        auth_userdb_path: format!("{dir}/auth-userdb").into(),
        lookup_timeout: std::time::Duration::from_secs(25),
        user_table_limit: 1 << 40,
        new_user_rate: 0,
        user: None,
        group: None,
        cores: Some(1),
        client_limit: 20000,
        log_level: "info".into(),
        listeners: vec![],
    };
    let tier =
        homing::shell::tier::Tier::start(&s, snapshot, &[0], std::process::id() as u64 * 7919)
            .unwrap();
    let _ = std::fs::remove_file(format!("{dir}/homing"));
    let l = std::os::unix::net::UnixListener::bind(format!("{dir}/homing")).unwrap();
    l.set_nonblocking(true).unwrap();
    unsafe extern "C" {
        fn listen(fd: i32, n: i32) -> i32;
    }
    use std::os::fd::AsRawFd;
    unsafe {
        listen(l.as_raw_fd(), 4096);
    }
    tier.listen(l.into(), homing::settings::ListenerKind::Login, false);
    eprintln!("ready");
    loop {
        std::thread::sleep(std::time::Duration::from_secs(5));
        eprintln!(
            "{} users={} mem={}",
            tier.stats().summary(),
            tier.directory().users(),
            tier.directory().memory()
        );
    }
}
