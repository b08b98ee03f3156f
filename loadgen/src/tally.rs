//! Takes replies: whose they are, whether they are right, how long they took.

use crate::check::Checker;
use crate::client::Slots;
use crate::record::Recorder;
use crate::reply::{Reply, parse};
use crate::workload::Login;

/// Everything that replies change, apart from their connection.
pub(crate) struct Tally {
    pub(crate) checker: Checker,
    pub(crate) recorder: Recorder,
    /// Logins begun and not ended.
    pub(crate) outstanding: u64,
    /// When the target last did what it should.
    pub(crate) alive: u64,
    pub(crate) connected: usize,
}

impl Tally {
    /// Takes a reply. True if it ended a request.
    pub(crate) fn reply(&mut self, slots: &mut Slots, now: u64, line: &[u8]) -> bool {
        self.alive = now;
        let reply = parse(line);
        let (Reply::Found { id, .. } | Reply::Failed { id, .. }) = reply else {
            self.checker.errors.malformed += 1;
            return false;
        };
        let Some(Login { user, start }) = slots.finish(id) else {
            self.checker.errors.unknown_id += 1;
            return false;
        };
        self.outstanding -= 1;
        self.recorder.reply(start, now);
        match reply {
            Reply::Found {
                user: name, host, ..
            } => self.checker.found(user, name, host),
            Reply::Failed { temporary, .. } => self.checker.failed(temporary),
            Reply::Malformed => {}
        }
        true
    }
}
