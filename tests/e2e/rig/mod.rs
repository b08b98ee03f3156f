//! The rig: real Dovecots of both versions, a director in front of them, real clients.
//!
//! A [`Site`] is what one test owns alone (directory, addresses, password). On it run [`Dovecot`]
//! instances and [`Director`]s; a [`Tier`] is the usual assembly: one proxy, three backends, one
//! director. A [`Client`] talks to the proxy as a mail reader would. docs/testing.md tells how to
//! use them.

pub mod admin;
mod client;
pub mod clock;
pub mod config;
mod director;
pub mod dovecot;
mod heartbeat;
#[path = "../../networks/mod.rs"]
mod networks;
pub mod process;
mod scripted_auth;
pub mod seat;
mod secrets;
mod service;
mod site;
mod smtp_sink;
mod stub_auth;
mod supervised;
mod tier;
mod users;

pub use client::Client;
pub use clock::{PATIENCE, now, wait_until};
#[allow(
    unused_imports,
    reason = "the end-to-end tests have matrices of their own"
)]
pub(crate) use director::for_both;
pub use director::{Director, DirectorKind, DirectorPlacement, DirectorSpec, Sockets};
pub use dovecot::{LoginMode, Version};
pub use heartbeat::Heartbeat;
pub use process::{descendants, status_field, wait_gone};
pub use scripted_auth::{ScriptedAuth, Talk};
pub use site::Site;
pub use stub_auth::StubAuth;
pub use supervised::Supervised;
pub use tier::{BACKENDS, Case, Tier, TierSpec, start_lone_proxy, start_script_service};
pub use users::{Home, User};
