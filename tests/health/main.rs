//! Health of backends: real Homings, real Dovecot 2.3 backends, and mock ones where a fault needs them.
//!
//! They need root and what `tests/setup.sh` installs; without it they fail. docs/testing.md says more.

#[path = "../e2e/rig/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the end-to-end tests use the rest of it"
)]
mod e2e;

#[path = "../ring_io/authority.rs"]
#[allow(dead_code, reason = "other tests want bad certificates too")]
mod authority;

mod backends;
mod checks;
mod homing;
mod hung;
mod links;
mod mixed;
mod operators;
mod own_network;
mod three;
mod tls;
