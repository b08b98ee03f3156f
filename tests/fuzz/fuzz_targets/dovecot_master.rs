//! Any environment that a master might give: no panic, as many listeners as it says but never many, and
//! never less restriction than it asks for.

#![no_main]

use homing::shell::dovecot_master::{Plan, kind_of};
use homing::wire::line::{escape_into, unescape};
use libfuzzer_sys::fuzz_target;

// Input: the environment as in /proc/PID/environ: NAME=VALUE, each with a NUL behind it.
fuzz_target!(|data: &[u8]| {
    let all: Vec<(String, String)> = data
        .split(|&byte| byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let var = |name: &str| {
        let found = all.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let plan = match Plan::parse(var) {
        Ok(plan) => plan,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(plan.names.len() <= 256);
    assert_eq!(
        var("SOCKET_COUNT").map(|count| count.parse()),
        Some(Ok(plan.names.len()))
    );
    for (index, name) in plan.names.iter().enumerate() {
        let given = var(&format!("SOCKET{index}_SETTINGS")).expect("it was read");
        let first = given.split('\t').next().unwrap_or_default().as_bytes();
        if !first.ends_with(b"\x01") {
            assert_eq!(unescape(first), name.as_bytes(), "all escapes are the same");
        }
        let mut escaped = Vec::new();
        escape_into(name.as_bytes(), &mut escaped);
        assert!(!escaped.contains(&b'\t'));
        for (is_fifo, is_tcp) in [(false, false), (true, false), (false, true)] {
            let _ = kind_of(name, is_fifo, is_tcp);
        }
    }
    // Whatever is there must be obeyed: what cannot be read is not the same as nothing.
    let asked = |name: &str| var(name).is_some_and(|value| !value.is_empty());
    assert_eq!(asked("RESTRICT_SETUID"), plan.restrict.uid.is_some());
    assert_eq!(asked("RESTRICT_SETGID"), plan.restrict.gid.is_some());
    assert_eq!(asked("RESTRICT_CHROOT"), plan.restrict.chroot.is_some());
    let mut groups = plan.restrict.groups.clone();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups.len(), plan.restrict.groups.len());
});
