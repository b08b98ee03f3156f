//! Lookups of one read, answered together.
//!
//! A user's entry is somewhere in a table that no cache holds: looking one up after the other, the
//! core waits for memory each time, and the shards' locks keep it from going ahead. So all lookups
//! that one read has brought are collected first, their users' hashes made together, and their shards
//! and entries asked for; then they are answered in their order, and the waits overlap.

use std::ops::Range;

use zeroize::Zeroize;

use super::conn::Conn;
use super::lookups::answer_found;
use super::tap::Asked;
use super::{ConnId, Context};
use crate::core::lookup::Demand;
use crate::core::snapshot::Snapshot;
use crate::core::user_hash::Together;

/// Lookups answered together. More than a processor can wait for at once, and few enough that what
/// was fetched first is still there.
const MOST: usize = 32;

/// A lookup that is to be answered in this turn.
struct Found {
    line: Range<usize>,
    demand: Demand,
    asked: Asked,
}

/// The lookups, with the lines of auth that asked for them.
#[derive(Default)]
pub struct Batch {
    lines: Vec<u8>,
    found: Vec<Found>,
    /// Their users.
    names: Together,
}

impl Batch {
    /// Adds a lookup of a user. Whoever is full must be settled.
    pub fn push(
        &mut self,
        line: &[u8],
        (name, demand): (&[u8], Demand),
        asked: Asked,
        snapshot: &Snapshot,
    ) {
        let begin = self.lines.len();
        self.lines.extend_from_slice(line);
        self.names.push(name, &snapshot.username_hash);
        self.found.push(Found {
            line: begin..self.lines.len(),
            demand,
            asked,
        });
    }

    /// Whether no more should be added.
    pub fn is_full(&self) -> bool {
        self.found.len() >= MOST
    }
}

impl Drop for Batch {
    /// The lines of auth may hold passwords.
    fn drop(&mut self) {
        self.lines.zeroize();
    }
}

/// Answers what was collected; how many answers are in the output now.
pub fn settle(conn: &mut Conn, id: ConnId, cx: &mut Context) -> u64 {
    if cx.batch.found.is_empty() {
        return 0;
    }
    let mut batch = std::mem::take(&mut cx.batch);
    let hashes = batch.names.hashes();
    if hashes.len() > 1 {
        hashes
            .iter()
            .for_each(|&hash| cx.directory.fetch_shard(hash));
        let key = |(found, &hash): (&Found, _)| found.demand.key(hash, &cx.snapshot);
        let keys = batch.found.iter().zip(hashes).filter_map(key);
        keys.for_each(|key| cx.directory.fetch_entry(key));
    }
    let mut answered = 0;
    for (found, &hash) in batch.found.drain(..).zip(hashes) {
        let line = &batch.lines[found.line];
        let question = found.demand.about(hash);
        answered += u64::from(answer_found(line, question, found.asked, conn, id, cx));
    }
    batch.names.clear();
    batch.lines.clear();
    cx.batch = batch;
    answered
}
