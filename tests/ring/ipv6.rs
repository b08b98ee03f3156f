//! Rings whose directors are at IPv6 addresses. The loopback interface has one only, so each test is run
//! once more in a network namespace of its own, where it adds some.

use std::env;
use std::process::{Command, Stdio};

use crate::e2e::seat::over_ipv6;
use crate::rig::{Change, Ring, RingSpec, backend};

for_each_ring!(
    directors_agree_over_ipv6,
    super::outside,
    [ddd "DDD", hdd "HDD", hhd "HHD", hhh "HHH"]
);

/// Set inside.
const INSIDE: &str = "HOMING_TEST_OWN_NETWORK";
const NAME: &str = "ipv6::directors_agree_over_ipv6";
const USERS: usize = 60;

fn outside(members: &'static str) {
    if env::var_os(INSIDE).is_some() {
        return inside(members);
    }
    let name = format!("{NAME}::{}", members.to_ascii_lowercase());
    // It must not outlive this thread, which waits for it.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "sh", "-c"])
        .args(["ip link set lo up && exec \"$@\"", "sh"])
        .arg(env::current_exe().expect("this program"))
        .args([&name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("setpriv of util-linux");
    let texts =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let passed = output.status.success() && texts[0].contains("ok. 1 passed");
    assert!(passed, "{}\n{}", texts[0], texts[1]);
}

fn inside(members: &'static str) {
    let spec = RingSpec {
        ipv6: true,
        ..RingSpec::of(members)
    };
    let mut ring = Ring::start(spec);
    let users = ring.add_users("user", USERS);
    ring.agree();
    for change in [
        Change::Update(backend(1), 0),
        Change::Add(backend(200), 50),
        Change::Update(backend(1), 100),
    ] {
        ring.change(change);
        ring.agree();
    }
    ring.move_user(&users[0], backend(200));
    ring.agree();
    // Dovecot alone is no control of outages.
    if members.contains('H') {
        ring.kill(1);
        ring.agree();
        ring.start_member(1);
        ring.agree();
    }
    ring.check_logs(&[]);
    for address in ring.addresses() {
        let text = over_ipv6(address).to_string();
        assert!(ring.count_log(&text) > 0, "nobody speaks of {text}");
    }
}
