//! A director as a service of the proxy's own Dovecot master: the block of its configuration, and
//! how to find the process.

use std::fs;
use std::path::{Path, PathBuf};

use super::director::DirectorKind;
use super::dovecot::Version;

/// The block for the end of a proxy's configuration, as docs/protocol/dovecot-service.md tells an
/// operator to write it. `homing`: path of the program, as Dovecot sees it.
pub fn block(
    kind: DirectorKind,
    version: Version,
    homing: &str,
    settings: &Path,
    built_in: &str,
    ring: &str,
) -> String {
    let executable = format!(
        "  executable = {homing} dovecot-service --config {}\n",
        settings.display()
    );
    let (before, head) = match (kind, version) {
        (DirectorKind::Dovecot23, Version::V23) => (built_in, String::new()),
        (DirectorKind::Dovecot23, Version::V24) => panic!("Dovecot 2.4 has no director"),
        (DirectorKind::Homing, Version::V23) => ("", executable + "  vsz_limit = 0\n"),
        (DirectorKind::Homing, Version::V24) => (
            "",
            executable
                + "  user = $SET:default_internal_user\n  process_limit = 1\n\
                   \x20 idle_kill_interval = infinite\n  vsz_limit = unlimited\n",
        ),
    };
    let listener = |kind: &str, path: &str, mode: &str| {
        format!("  {kind}_listener {path} {{\n    mode = {mode}\n  }}\n")
    };
    [
        before,
        "service director {\n",
        &head,
        "  process_min_avail = 1\n  client_limit = 2000\n",
        &listener("unix", "login/director", "0666"),
        &listener("unix", "director-userdb", "0600"),
        &listener("unix", "director-admin", "0600"),
        &listener("fifo", "login/proxy-notify", "0666"),
        ring,
        "\n}",
    ]
    .concat()
}

/// The Homing whose working directory is this `base_dir`, if there is one: the newest, when an old
/// one is just leaving.
pub fn find(base: &Path) -> Option<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| is_homing_in(*pid, base)).max()
}

fn is_homing_in(pid: u32, base: &Path) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    // Of a process in the 2.4 root, the path begins with that root.
    let base = base.strip_prefix("/").expect("an absolute path");
    name.trim_end() == "homing"
        && fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.ends_with(base))
}
