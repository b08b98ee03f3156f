//! A director that is being told of all users serves already: what it does not know it asks
//! (docs/protocol/ring.md, between Homing directors).

use super::{Conn, ConnId, Ring, Table};
use crate::core::users::{Decision, shard_of};
use crate::core::{UserHash, UserKey};
use crate::wire::ring::{Command, Hash};

impl Ring {
    /// Whom we may ask: a director of ours that has told us its backends and knows more than we.
    pub(super) fn oracle(&self) -> Option<ConnId> {
        if self.standing.handshaked {
            return None;
        }
        let knows = |conn: &Conn| !conn.is_dialler() && conn.homing > 0 && conn.gave_hosts;
        let mut conns = self.conns.map.iter();
        conns.find(|(_, conn)| knows(conn)).map(|(&id, _)| id)
    }

    /// A lookup core waits for a user that nobody has told us of.
    pub(super) fn ask(&mut self, key: UserKey) {
        let (Some(oracle), Some(hash)) = (self.oracle(), Hash::new(key.hash.0)) else {
            return;
        };
        let tag = self.director.backends().tag_name(key.tag).to_vec();
        let tag = tag.into();
        self.send(oracle, &Command::Ask { hash, tag });
    }

    /// ASK: the user logs in at a director that is joining. To us it is a login like those of our own
    /// cores, and USER the answer; while we must wait ourselves there is none, and it asks again.
    pub(super) fn asked<T: Table>(&mut self, hash: Hash, tag: &[u8], table: &mut T) {
        let Some(tag) = self.director.backends().tag_id(tag) else {
            return;
        };
        let key = UserKey {
            tag,
            hash: UserHash(hash.get()),
        };
        let snapshot = self.fresh(table);
        let (now, room) = (self.now.wall, table.room());
        let (decision, entry) = table.with(shard_of(key.hash), |shard| {
            let login = shard.login(key, now, &snapshot, || room);
            // What the login would have noted is said below.
            shard.told(key);
            (login.decision, shard.peek(key, now, &snapshot).copied())
        });
        match (decision, entry) {
            // Said even if nothing is new to others: who asks does not know it.
            (Decision::Go(_), Some(entry)) => self.tell_user(&entry, None),
            _ => self.noted(key, table),
        }
    }
}
