//! What must hold after every event.

use homing::core::ring::Standing;
use homing::core::users::shard_of;

use crate::node::Flags;
use crate::options::{Fault, SECOND};
use crate::world::World;

/// L3: a weak flag lives for 30 s, a kill for 30 s and the delay of 2 s; the driver is a little late.
const WEAK: u64 = 32 * SECOND;
const KILL: u64 = 34 * SECOND;
/// A queue of bytes that the machine handed over; it closes what does not take its bytes.
const QUEUE_SLACK: usize = 300 << 10;

impl World {
    /// Looks at the shards that an event touched.
    pub fn inspect(&mut self, n: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        let resumed = node.paused_until;
        let Some(process) = node.process.as_mut() else {
            return;
        };
        let mut touched = std::mem::take(&mut process.table.touched);
        touched.sort_unstable();
        touched.dedup();
        let is_touched =
            |key: &homing::core::UserKey| touched.binary_search(&shard_of(key.hash)).is_ok();
        let mut before = std::mem::take(&mut process.flags);
        let mut found = None;
        for shard in &touched {
            for entry in process.table.shards[*shard].entries() {
                let key = entry.key();
                if entry.is_queued()
                    && !process.notes.contains(&key)
                    && !process.lost.contains(shard)
                {
                    found = Some((
                        "S4 notes",
                        format!("[{n}] {key:?} waits for a note that is nowhere"),
                    ));
                }
                if !entry.is_weak() && !entry.is_killing() {
                    continue;
                }
                let was = before.get(&entry.key()).copied().unwrap_or_default();
                let flags = Flags {
                    weak: entry.is_weak().then(|| was.weak.unwrap_or(now)),
                    killing: entry.is_killing().then(|| was.killing.unwrap_or(now)),
                };
                process.flags.insert(entry.key(), flags);
            }
        }
        before.retain(|key, _| !is_touched(key));
        process.flags.extend(before);
        let old = |since: Option<u64>, limit: u64| {
            since.is_some_and(|since| now > since.max(resumed) + limit)
        };
        for (key, flags) in &process.flags {
            if old(flags.weak, WEAK) {
                found = Some((
                    "L3 weak",
                    format!("[{n}] {key:?} is weak since {:?}", flags.weak),
                ));
            }
            if old(flags.killing, KILL) {
                found = Some((
                    "L3 kill",
                    format!("[{n}] {key:?} is killed since {:?}", flags.killing),
                ));
            }
        }
        let shown = Standing::of(&process.table.snapshot);
        if shown != process.ring.standing() {
            let text = format!(
                "[{n}] lookups see {shown:?}, but it is {:?}",
                process.ring.standing()
            );
            found = Some(("S6 standing", text));
        }
        if let Some((name, text)) = found
            && self.bug.is_none()
        {
            return self.fail(name, text);
        }
        self.check_queues(n);
    }

    /// S5, after a sweep of all shards: who was not refreshed is gone. A pass takes 10 s; a user that is
    /// being confirmed stays for 30 s, one that is being moved for 32 s.
    pub fn check_expiry(&mut self, n: usize) {
        // Who stands still does not sweep.
        if self.bug.is_some() || self.options.faults.contains(&Fault::Pause) {
            return;
        }
        let wall = self.nodes[n].clocks(self.now).wall.0;
        let most = u64::from(self.options.expire_secs) + 12 + 30 + 32;
        let Some(process) = self.nodes[n].process.as_ref() else {
            return;
        };
        let entries = process
            .table
            .shards
            .iter()
            .flat_map(|shard| shard.entries());
        let late = entries
            .filter(|entry| !entry.is_weak() && !entry.is_killing())
            .find(|entry| entry.stamp().0 + most < wall && self.skewed == 0);
        if let Some(entry) = late {
            let text = format!(
                "[{n}] {:?} of {} is there still at {wall}",
                entry.key(),
                entry.stamp().0
            );
            self.fail("S5 expiry", text);
        }
    }

    /// S7: what waits for a slow reader is bounded.
    fn check_queues(&mut self, n: usize) {
        let Some(process) = self.nodes[n].process.as_ref() else {
            return;
        };
        let most = self.options.output_buffer + QUEUE_SLACK;
        let queue = |(id, side): &(u64, usize)| {
            self.links
                .get(id)
                .map_or(0, |link| link.pipes[*side].queue.len())
        };
        if let Some(longest) = process.links.values().map(queue).max()
            && longest > most
        {
            self.fail(
                "S7 bounds",
                format!("[{n}] {longest} bytes wait on one connection"),
            );
        }
    }
}
