//! What the ring did, for metrics and for the page: numbers since the start, and the last events.
//!
//! The ring's thread writes it, whoever asks reads it. What happens often is an atomic counter; the rest
//! is as rare as lines of the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::log_limit::LogLimit;
use crate::core::ring::{Deed, Event, Kick, Level};
use crate::core::{Mono, Wall};
use crate::http::events::{self, Events};

/// Numbers since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Moves that ended sessions.
    pub moves: u64,
    /// Flush scripts run.
    pub flush_scripts: u64,
    /// Kicks that were not part of a move, by whose sessions.
    pub kicks: BTreeMap<&'static str, u64>,
    /// Moves given up.
    pub move_timeouts: u64,
    /// Users that two directors had placed differently.
    pub double_placements: u64,
    /// Times that the directors began to disagree.
    pub desyncs: u64,
    /// What happened, by cause.
    pub events: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct Kept {
    counts: Counts,
    events: Events,
    limits: BTreeMap<&'static str, LogLimit>,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Chronicle {
    moves: AtomicU64,
    flush_scripts: AtomicU64,
    kept: Mutex<Kept>,
}

impl Chronicle {
    /// Sessions end.
    pub fn kicked(&self, kick: &Kick, wall: Wall, mono: Mono) {
        let of = match kick {
            Kick::Moved(key) => {
                self.moves.fetch_add(1, Ordering::Relaxed);
                let text = format!("user hash {} moves: its sessions end", key.hash.0);
                return self.add(wall, mono, "info", "move", text);
            }
            Kick::Hash(..) => "hash",
            Kick::User(_) => "user",
            Kick::Alt(..) => "passdb_field",
        };
        *self.kept.lock().counts.kicks.entry(of).or_default() += 1;
    }

    /// A flush script is run.
    pub fn flushed(&self) {
        self.flush_scripts.fetch_add(1, Ordering::Relaxed);
    }

    /// Something happened in the ring.
    pub fn happened(&self, event: &Event, wall: Wall, mono: Mono) {
        {
            let counts = &mut self.kept.lock().counts;
            *counts.events.entry(word(event.cause())).or_default() += 1;
            match event {
                Event::MoveTimedOut(..) => counts.move_timeouts += 1,
                Event::TwoBackends { .. } => counts.double_placements += 1,
                Event::NotSynced => counts.desyncs += 1,
                _ => {}
            }
        }
        let level = match event.level() {
            // The page is not for whoever looks for a mistake in the program.
            Level::Debug => return,
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        // Changes of backends are seen in the snapshot, whoever made them.
        if !matches!(
            event,
            Event::Ordered(Deed::Vhosts { .. } | Deed::UpDown { .. })
        ) {
            self.add(wall, mono, level, event.cause(), event.to_string());
        }
    }

    /// Something happened elsewhere; a flood of one cause does not hide the others.
    pub fn add(
        &self,
        wall: Wall,
        mono: Mono,
        level: &'static str,
        cause: &'static str,
        text: String,
    ) {
        let mut kept = self.kept.lock();
        if kept.limits.entry(cause).or_default().allow(mono).is_some() {
            kept.events.add(wall, level, cause, text);
        }
    }

    /// The numbers as they are now.
    pub fn counts(&self) -> Counts {
        Counts {
            moves: self.moves.load(Ordering::Relaxed),
            flush_scripts: self.flush_scripts.load(Ordering::Relaxed),
            ..self.kept.lock().counts.clone()
        }
    }

    /// The last events with a higher number, and the number of the last one.
    pub fn events(&self, after: u64) -> (Vec<events::Event>, u64) {
        let kept = self.kept.lock();
        (kept.events.after(after), kept.events.last())
    }
}

/// A label's value has no blank.
fn word(cause: &'static str) -> &'static str {
    match cause {
        "two backends" => "two_backends",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{TagId, UserHash, UserKey};

    #[test]
    fn everything_is_counted_and_a_flood_leaves_room_for_others() {
        let chronicle = Chronicle::default();
        let (wall, mono) = (Wall(5), Mono(1));
        let key = UserKey {
            tag: TagId(0),
            hash: UserHash(7),
        };
        for _ in 0..1000 {
            chronicle.kicked(&Kick::Moved(key), wall, mono);
        }
        chronicle.kicked(&Kick::User(b"ann".to_vec()), wall, mono);
        chronicle.happened(&Event::NotSynced, wall, mono);
        chronicle.happened(&Event::Synced(9), wall, mono);
        let deed = Deed::UpDown {
            ip: [10, 0, 0, 1].into(),
            down: true,
            vhosts: 1,
            since: wall,
        };
        chronicle.happened(&Event::Ordered(deed), wall, mono);
        let counts = chronicle.counts();
        assert_eq!((counts.moves, counts.desyncs), (1000, 1));
        assert_eq!(counts.kicks, BTreeMap::from([("user", 1)]));
        assert_eq!(counts.events["sync"], 2);
        assert_eq!(counts.events["updown"], 1);
        let (events, last) = chronicle.events(0);
        let causes: Vec<_> = events.iter().map(|event| event.cause).collect();
        assert_eq!(causes, [&["move"; 10][..], &["sync"; 2]].concat());
        assert_eq!(last, 12);
    }
}
