//! End-to-end tests: real Dovecots 2.3 and 2.4, real mail clients, and a director between them.
//!
//! Every test runs twice: with Homing, and with the director of Dovecot 2.3 in its place, which
//! shows that the test itself is right. They need root and what `tests/setup.sh` installs; without
//! it they fail. docs/testing.md says more.

// First, because its macro is used in the others.
#[macro_use]
mod cases;

mod counts;
mod doveadm;
mod everyday;
mod failures;
mod flush_scripts;
mod handshake;
mod idle;
mod kick_storm;
mod kicks;
mod load;
mod maintenance;
mod placement;
mod proxy_maybe;
mod replay;
mod restarts;
mod rig;
mod service;
mod supervised;
