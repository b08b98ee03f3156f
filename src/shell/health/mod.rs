//! Health of backends: probes, what directors tell each other of them, and what is ordered then
//! (docs/health.md). [`crate::core::health`] decides.
//!
//! | module | what it does |
//! |---|---|
//! | `links` | connections between Homing directors |
//! | `probe` | one probe of a backend |
//! | [`serve`] | the thread |
//! | `stream` | one TCP connection, perhaps with TLS |
//! | [`target`] | what a check needs of the machine: authorities, the password |
//!
//! One thread has an epoll instance, from which everything comes. It shares no CPU by right: like control it
//! is mostly asleep. A probe that hangs costs a descriptor until its time is over, and nobody waits for it.

mod links;
mod probe;
pub mod serve;
mod stream;
pub mod target;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::mailbox::Mailbox;
use super::ring_io::tls::Certificates;
use crate::core::health::{Plan, Policy, Row};
use crate::settings::{HealthCheck, ListenerKind, Place, Settings};
use crate::wire::health::MarkLine;

pub use serve::{HealthThread, Setup};

/// Tickets of our requests begin here, so that they are none of an operator's, nor of [`super::names`]'.
/// Answers are not waited for: what came of a request shows in the list of backends.
pub const FIRST_TICKET: u64 = (1 << 63) | (1 << 62);

/// What the thread needs of the settings; a reload changes it at once.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is decided.
    pub policy: Policy,
    /// How checks are made; one for each of the policy.
    pub checks: Vec<HealthCheck>,
    /// Where other directors listen: the port of our own listener. `None`: nobody is told anything.
    pub port: Option<u16>,
    /// For connections between directors; `None`: they are plain.
    pub certificates: Option<Arc<Certificates>>,
}

impl Config {
    /// That of these settings.
    pub fn of(settings: &Settings, certificates: Option<Arc<Certificates>>) -> Config {
        let nanos = crate::shell::clock::nanos;
        let plan = |check: &HealthCheck| Plan {
            name: check.name.clone(),
            rhythm: crate::core::health::Rhythm {
                interval: nanos(check.interval),
                rise: check.rise,
                fall: check.fall,
            },
            tag: check.tag.clone().map(String::into_bytes),
            backends: check.backends.clone(),
        };
        let policy = Policy {
            checks: settings.health_checks.iter().map(plan).collect(),
            quorum: settings.health_quorum,
            floor: settings.health_floor,
            slow_start: nanos(settings.health_slow_start),
            act: settings.health_act,
        };
        let mut listeners = settings.listeners.iter();
        let port = listeners.find_map(|listener| match listener.place {
            Place::Tcp(address) if listener.kind == ListenerKind::Health => Some(address.port()),
            _ => None,
        });
        Config {
            policy,
            checks: settings.health_checks.clone(),
            port,
            certificates,
        }
    }
}

/// A message to the thread.
pub enum Message {
    /// Accept other directors from this listener, to be called by this number.
    Listen(usize, OwnedFd),
    /// No longer accept from a listener.
    Unlisten(usize),
    /// After a reload.
    Tune(Box<Config>),
    /// An operator has taken a backend up or down.
    Hold(IpAddr),
    /// An operator leaves a backend to health again.
    Release(IpAddr),
    /// The process ends.
    Leave,
}

/// Where others leave messages for the thread, and read what it knows.
pub struct Desk {
    mailbox: Mailbox<Message>,
    rows: ArcSwap<Vec<Row>>,
    marks: ArcSwap<Vec<MarkLine>>,
}

impl Desk {
    /// An empty one.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> std::io::Result<Desk> {
        Ok(Desk {
            mailbox: Mailbox::new()?,
            rows: ArcSwap::default(),
            marks: ArcSwap::default(),
        })
    }

    /// Leaves a message.
    pub fn send(&self, message: Message) {
        self.mailbox.send(message);
    }

    /// Each check of each backend, as of a moment ago. For commands, metrics and pages alike.
    pub fn rows(&self) -> Arc<Vec<Row>> {
        self.rows.load_full()
    }

    /// Who has set which backend's state, as of a moment ago, by address. For the state on disk.
    pub fn marks(&self) -> Arc<Vec<MarkLine>> {
        self.marks.load_full()
    }
}
