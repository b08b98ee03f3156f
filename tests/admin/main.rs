//! Dovecot's own doveadm, and what health checks write, at the admin socket of a director: of Dovecot
//! 2.3, which shows that a test is right, and of Homing. They need root and what `tests/setup.sh`
//! installs; without it they fail. docs/testing.md says more.

#[path = "../e2e/rig/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the end-to-end tests use the rest of it"
)]
mod e2e;

mod commands;
mod raw;
mod stage;
mod transcript;
