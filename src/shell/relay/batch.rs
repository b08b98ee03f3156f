//! Lookups of one read, answered together.
//!
//! A user's entry is somewhere in a table that no cache holds: looking one up after the other, the
//! core waits for memory each time, and the shards' locks keep it from going ahead. So all lookups
//! that one read has brought are collected first, and their shards and entries asked for, and then
//! answered in their order; the waits overlap.

use std::ops::Range;

use zeroize::Zeroize;

use super::conn::{Asked, Conn};
use super::lookups::answer_found;
use super::{ConnId, Context};
use crate::core::lookup::Question;

/// Lookups answered together. More than a processor can wait for at once, and few enough that what
/// was fetched first is still there.
const MOST: usize = 32;

/// A lookup that is to be answered in this turn.
struct Found {
    line: Range<usize>,
    question: Question,
    asked: Asked,
}

/// The lookups, with the lines of auth that asked for them.
#[derive(Default)]
pub struct Batch {
    lines: Vec<u8>,
    found: Vec<Found>,
}

impl Batch {
    /// Adds a lookup. Whoever is full must be settled.
    pub fn push(&mut self, line: &[u8], question: Question, asked: Asked) {
        let begin = self.lines.len();
        self.lines.extend_from_slice(line);
        self.found.push(Found {
            line: begin..self.lines.len(),
            question,
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
    if batch.found.len() > 1 {
        let keys = |found: &Found| found.question.key(&cx.snapshot);
        let keys = batch.found.iter().filter_map(keys);
        keys.for_each(|key| cx.directory.fetch_entry(key));
    }
    let mut answered = 0;
    for found in batch.found.drain(..) {
        let line = &batch.lines[found.line];
        answered += u64::from(answer_found(
            line,
            found.question,
            found.asked,
            conn,
            id,
            cx,
        ));
    }
    batch.lines.clear();
    cx.batch = batch;
    answered
}
