//! The HTTP interface of a running director: every route with and without a token, clients that are
//! slow or send too much, orders and what the log says of them, metrics in the eyes of Prometheus' own
//! promtool, and the page in a real browser. They need root and what `tests/setup.sh` installs; without
//! it they fail. docs/testing.md says more.

#[path = "../e2e/rig/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the end-to-end tests use the rest of it"
)]
mod e2e;

#[path = "../ring_io/authority.rs"]
#[allow(dead_code, reason = "not every program of tests needs all of it")]
mod authority;

mod browser;
mod client;
mod counts;
mod handed;
mod health;
mod metrics;
mod orders;
mod page;
mod routes;
mod schema;
mod slow;
mod stage;
mod tls;
