//! What another director was told already, so that only what is new is said.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Health, Verdict};
use crate::core::Wall;
use crate::wire::health::{Line, MINOR};

/// One connection to another director.
#[derive(Debug, Default)]
pub struct Told {
    greeted: bool,
    votes: BTreeMap<IpAddr, (Verdict, Wall)>,
    marks: BTreeMap<IpAddr, (u64, crate::wire::ring::DirectorId)>,
    ring: Option<Line>,
    beat: u64,
}

impl Told {
    /// Appends everything that is to be said now, with a beat at its end. Nothing before the first
    /// [`Health::look`].
    pub fn say(&mut self, health: &Health, out: &mut Vec<u8>) {
        let Some(view) = health.view() else {
            return;
        };
        if !self.greeted {
            self.greeted = true;
            Line::Hello {
                minor: MINOR,
                me: view.me,
            }
            .write(out);
        }
        // Marks come first: what is decided by a vote is decided by whoever knows them.
        for line in health.marks().iter() {
            let stamp = (line.version, line.by);
            if self.marks.insert(line.ip, stamp) != Some(stamp) {
                Line::Mark(line).write(out);
            }
        }
        for &ip in view.backends.keys() {
            let (verdict, since, why) = health.verdict(ip);
            if self.votes.insert(ip, (verdict, since)) != Some((verdict, since)) {
                Line::Vote {
                    ip,
                    verdict,
                    since: since.0,
                    why: why.to_owned(),
                }
                .write(out);
            }
        }
        let gone = self
            .votes
            .extract_if(.., |ip, _| !view.backends.contains_key(ip));
        for (ip, _) in gone {
            Line::Gone(ip).write(out);
        }
        let ring = Line::Ring {
            joined: view.joined,
            neighbours: view.neighbours.clone(),
        };
        if self.ring.as_ref() != Some(&ring) {
            ring.write(out);
            self.ring = Some(ring);
        }
        self.beat += 1;
        Line::Beat(self.beat).write(out);
    }

    /// The number of the last beat.
    pub fn beat(&self) -> u64 {
        self.beat
    }
}
