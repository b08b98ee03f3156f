//! A network namespace of a test's own, in which ways can be cut: the kernel refuses what one loopback address
//! sends to another.

use std::env;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// Set inside.
const INSIDE: &str = "HOMING_TEST_OWN_NETWORK";

/// Runs a test of this program once more in a network namespace; true: this is inside.
pub fn enter(name: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        // What is local is looked for first of all, unless the rule is moved behind ours.
        ip(&["rule", "add", "pref", "200", "lookup", "local"]);
        ip(&["rule", "del", "pref", "0"]);
        return true;
    }
    // It must not outlive this thread, which waits for it.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "sh", "-c"])
        .args(["ip link set lo up && exec \"$@\"", "sh"])
        .arg(env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("setpriv of util-linux");
    let texts =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let passed = output.status.success() && texts[0].contains("ok. 1 passed");
    assert!(passed, "{}\n{}", texts[0], texts[1]);
    false
}

fn ip(args: &[&str]) {
    let done = Command::new("ip")
        .args(args)
        .status()
        .expect("ip of iproute2");
    assert!(done.success(), "ip {args:?}");
}

/// Nothing goes from one address to another any more, or does again.
pub fn cut(from: Ipv4Addr, to: Ipv4Addr, is_cut: bool) {
    let what = if is_cut { "add" } else { "del" };
    let (from, to) = (from.to_string(), to.to_string());
    ip(&[
        "rule",
        what,
        "pref",
        "100",
        "from",
        &from,
        "to",
        &to,
        "blackhole",
    ]);
}
