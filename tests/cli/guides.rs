//! Completions and manual pages.

use std::fs;
use std::process::Command;

use crate::stand::{homing, text};

#[test]
fn shells_get_completions() {
    for (shell, has) in [
        ("bash", "complete -F _homing"),
        ("zsh", "#compdef homing"),
        ("fish", "complete -c homing"),
    ] {
        let script = homing(&["completions", shell], "").ok();
        assert!(script.contains(has), "{shell}");
        assert!(script.contains("remove-others"), "{shell}");
        assert!(!script.contains("keeper;"), "{shell}: an internal command");
    }
    let script = homing(&["completions", "bash"], "").ok();
    let checked = Command::new("bash").args(["-n", "-c", &script]).output();
    assert!(checked.expect("bash").status.success());
    homing(&["completions", "dos"], "").failed(64);
}

#[test]
fn every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let pages = dir.path().join("man1");
    homing(&["man", &text(&pages)], "").ok();
    for name in [
        "homing",
        "homing-status",
        "homing-ring-status",
        "homing-plan-add",
        "homing-why",
    ] {
        let page = fs::read_to_string(pages.join(format!("{name}.1")));
        assert!(page.expect(name).contains(".SH SYNOPSIS"), "{name}");
    }
    assert!(!pages.join("homing-keeper.1").exists());
    homing(&["man", "/proc/nowhere"], "").failed(69);
}
