//! Rings of real Dovecot 2.3 directors and Homings on loopback addresses, which must agree.
//!
//! Every test runs with several compositions, a letter for each member: `d` is Dovecot's director,
//! `h` is Homing. What `ddd` fails is a wrong test. They need root and what `tests/setup.sh`
//! installs; without it they fail. docs/testing.md says more.

// First, because its macro is used in the others.
#[macro_use]
mod cases;

#[path = "../e2e/rig/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the end-to-end tests use the rest of it"
)]
mod e2e;
mod rig;

#[path = "../ring_io/authority.rs"]
#[allow(dead_code, reason = "other tests want bad certificates too")]
mod authority;

mod changes;
mod displaced;
mod drains;
mod expiry;
mod flushes;
mod ipv6;
mod large;
mod members;
mod migration;
mod names;
mod orders;
mod outages;
mod start;
mod tags;
mod tls;
