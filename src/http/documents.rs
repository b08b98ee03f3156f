//! The documents that only the HTTP interface has; the others are [`crate::admin::documents`].

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::events::Event;
use super::history::Sample;
use crate::admin::documents::{Backend, Director, Drain, Health, Mapped, Place, Why};

/// How this director and its ring are.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Status {
    /// Of the program.
    pub version: &'static str,
    /// When the process began to serve, seconds since 1970.
    pub started: u64,
    /// What the caller may do: `read` or `admin`.
    pub role: &'static str,
    /// The ring was complete at least once since the start.
    pub handshaked: bool,
    /// All directors agree on the backends.
    pub synced: bool,
    /// When that last changed, seconds since 1970.
    pub sync_since: Option<u64>,
    /// There is no other director to ask.
    pub alone: bool,
    /// Users that are known.
    pub users: u64,
    /// Backends in the list.
    pub backends: usize,
    /// How many of them are down.
    pub backends_down: usize,
    /// Connections of login processes and the like.
    pub connections: usize,
    /// The number of the last event; 0: there was none.
    pub last_event: u64,
}

/// A part of the list of backends.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Backends {
    /// In the order of addresses.
    pub items: Vec<Backend>,
    /// Where the next part begins, as `cursor`; null: this is the last one.
    pub next: Option<String>,
}

/// What checks say of backends.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HealthRows {
    /// By backend, and in the order of the settings' checks.
    pub items: Vec<Health>,
    /// Where the next part begins, as `cursor`; null: this is the last one.
    pub next: Option<String>,
}

/// A part of the user table.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Users {
    /// In the order of tags and hashes.
    pub items: Vec<Mapped>,
    /// Where the next part begins, as `cursor`; null: this is the last one.
    pub next: Option<String>,
}

/// Where a user is, under each tag.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UserPlaces {
    /// The login name.
    pub user: String,
    /// Its hash.
    pub hash: u32,
    /// Under each tag that was asked for.
    pub places: Vec<Place>,
}

/// Why a user is where it is, under each tag.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Whys {
    /// Under the tags where it is known, or else under all.
    pub items: Vec<Why>,
}

/// The directors of the ring.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Directors {
    /// Each connection, and each director without one.
    pub items: Vec<Director>,
}

/// Backends that are being drained, or are drained.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Drains {
    /// All of them.
    pub items: Vec<Drain>,
}

/// The last things that happened.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Happened {
    /// The oldest first.
    pub items: Vec<Event>,
    /// The number of the last event that there was.
    pub last: u64,
}

/// What the page draws.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Live {
    /// Seconds from one sample to the next.
    pub step: u64,
    /// Upper ends of the bands of latency in microseconds; one band more has all that is above.
    pub bands_us: Vec<u64>,
    /// The oldest first.
    pub samples: Vec<Sample>,
}

/// What came of an order.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Done {
    /// `done`; or `under way`: it goes on, and nothing more will be said of it.
    pub state: &'static str,
    /// Sessions that were there before and no longer are; null where nobody counted them.
    pub sessions_ended: Option<u64>,
    /// Sessions that are still there.
    pub sessions_survived: Option<u64>,
}

impl Done {
    /// It was carried out.
    pub const DONE: Done = Done {
        state: "done",
        sessions_ended: None,
        sessions_survived: None,
    };
    /// It takes long.
    pub const UNDER_WAY: Done = Done {
        state: "under way",
        ..Done::DONE
    };
}

/// What came of a move.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Moved {
    /// As in [`Done`].
    pub state: &'static str,
    /// The login name.
    pub user: String,
    /// Its hash.
    pub hash: u32,
    /// The backend's tag, empty for none.
    pub tag: String,
    /// Where the user was; null: nowhere.
    pub from: Option<String>,
    /// Where it is now.
    pub to: String,
    /// Sessions that were there before, elsewhere than at `to`, and no longer are; null where nobody counted them.
    pub sessions_ended: Option<u64>,
    /// Sessions elsewhere that are still there.
    pub sessions_survived: Option<u64>,
}

/// What came of a flush.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Flushed {
    /// As in [`Done`].
    pub state: &'static str,
    /// Users of the backend, or of all, before.
    pub users_before: u64,
    /// Afterwards, those included that have logged in meanwhile.
    pub users_after: u64,
    /// Sessions that were there before and no longer are; null where nobody counted them.
    pub sessions_ended: Option<u64>,
    /// Sessions that are still there: of users who belong there.
    pub sessions_survived: Option<u64>,
}

/// The names that auth lists with a hash.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct HashNames {
    /// The hash.
    pub hash: u32,
    /// At most ten.
    pub names: Vec<String>,
}

/// A backend's weight and tag.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackend {
    /// Its weight, 0 to 1000; without: the one that it has, or 100.
    pub vhosts: Option<u32>,
    /// Its tag; without: none, or the one that it has.
    pub tag: Option<String>,
}

/// Another weight.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWeight {
    /// 0 to 1000.
    pub vhosts: u32,
}

/// How users leave a backend.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlushOrder {
    /// Forget the users at once instead of moving them. Their sessions stay, so that the same users may
    /// get sessions on two backends.
    #[serde(default)]
    pub force: bool,
    /// Most users that move at a time; without: `director_max_parallel_moves`.
    pub max_parallel: Option<NonZeroU32>,
}

/// How fast users leave.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainOrder {
    /// Users a second.
    pub rate: NonZeroU32,
}

/// Where a user goes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveOrder {
    /// The address of a backend.
    pub backend: String,
}

/// Whose sessions end.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KickOrder {
    /// The passdb field that has the given value; without: the login name.
    pub passdb_field: Option<String>,
}

/// What came of a restore.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Restored {
    /// Each difference and what was done about it, in order.
    pub steps: Vec<Step>,
    /// Backends that are not in the dump and stay.
    pub others: usize,
}

/// One difference.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Step {
    /// The backend.
    pub address: String,
    /// What is to be done, in words.
    pub step: String,
    /// The director's reply, `OK` or why not; null in a dry run, or when no order would help.
    pub reply: Option<String>,
}

/// How long lookups took.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Histograms {
    /// Lookups that did not wait, by socket.
    pub latency: Vec<Quantiles>,
    /// Lookups that waited, by the reason.
    pub delay: Vec<Quantiles>,
}

/// A distribution of times since the start.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Quantiles {
    /// Which lookups.
    pub of: String,
    /// How many there were.
    pub count: u64,
    /// In microseconds; 0 where there were none.
    pub mean_us: f64,
    /// Half of them were faster.
    pub p50_us: u64,
    /// Nine of ten.
    pub p90_us: u64,
    /// 99 of a hundred.
    pub p99_us: u64,
    /// 999 of a thousand.
    pub p999_us: u64,
    /// The slowest.
    pub max_us: u64,
    /// Where they were asked for: pairs of a time in nanoseconds and how many took at most that, and more than the
    /// time before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Vec<(u64, u64)>>,
}

/// The settings in force.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SettingsList {
    /// In the order of the reference.
    pub items: Vec<Setting>,
}

/// One setting.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Setting {
    /// Its key in the settings file.
    pub name: &'static str,
    /// Its value, as it would be written; empty for none.
    pub value: String,
    /// Its default, likewise.
    pub default: &'static str,
    /// When a change takes effect.
    pub reload: &'static str,
    /// What it governs.
    pub about: &'static str,
}
