//! Homing's commands for operators against both directors, Homing and a real one of Dovecot 2.3: what they print, what
//! they do, their exit codes; and, where doveadm has the same command, that it sees the same.
//!
//! They need root and what `tests/setup.sh` installs; without it they fail.

#[path = "../e2e/rig/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the end-to-end tests use the rest of it"
)]
mod e2e;
mod stand;

mod dumps;
mod errors;
mod guides;
mod hosts;
mod plans;
mod rings;
mod users;
mod whys;
