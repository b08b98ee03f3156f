//! The machine of the ring together with what it works on: the table that lookup cores share.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::secure::Tuning;
use super::tls::Certificates;
use crate::core::ring::{
    Around, ConnId, Draining, Input, Now, Output, Recall, Report, Ring, Standing, Table,
    Whereabouts,
};
use crate::core::snapshot::Snapshot;
use crate::core::user_hash::cut_master_user;
use crate::core::users::Shard;
use crate::core::{Mono, Refusal, UserHash, UserKey};
use crate::shell::directory::Directory;
use crate::shell::sessions::{Learnt, User};
use crate::shell::state::Recollection;
use crate::wire::ring::DirectorId;

/// What [`super::RingIo`] needs of the machine, so that sockets can be tested with another one.
pub trait Machine {
    /// Something has happened.
    fn handle(&mut self, input: Input<'_>, now: Now);

    /// What is to be done since the last call.
    fn take_outputs(&mut self) -> Vec<Output>;

    /// Shows the bytes that wait to be written; they are to be taken out.
    fn unwritten(&mut self, each: &mut dyn FnMut(ConnId, &mut Vec<u8>));

    /// When [`Input::Tick`] is due.
    fn next_deadline(&self) -> Option<Mono>;

    /// A number for a connection that was accepted.
    fn next_conn(&mut self) -> ConnId;

    /// For new connections; `None`: they are plain.
    fn certificates(&self) -> Option<Arc<Certificates>>;

    /// Sessions that were there at the start; false: it is too early to place their users.
    fn learn(&mut self, learnt: &[Learnt], now: Now) -> bool;

    /// Users that were saved; false: it is too early to say whether they are needed.
    fn recall(&mut self, saved: &Recollection, now: Now) -> bool;

    /// Whether lookups have got a new snapshot since the last call.
    fn take_published(&mut self) -> bool;

    /// Every note that was there after the last snapshot was published has been told.
    fn caught_up(&mut self, now: Now);

    /// After a reload.
    fn tune(&mut self, tuning: Tuning);

    /// One line for the log.
    fn summary(&self) -> String;

    /// Our place among the directors by address, from 0.
    fn rank(&self) -> usize;

    /// Where we stand.
    fn around(&self) -> Around;

    /// The rows of DIRECTOR-LIST.
    fn report(&self, now: Now) -> Report;

    /// The rows of HOMING-DRAIN-LIST.
    fn drains(&self) -> Vec<Draining>;

    /// What is known of a user under a tag.
    fn whereabouts(&mut self, hash: UserHash, tag: &[u8], now: Now) -> Option<Whereabouts>;
}

/// The user table and the snapshot, as the machine is given them.
struct SharedTable {
    directory: Arc<Directory>,
    published: bool,
    /// Since the last snapshot was published not all notes were told that may be older.
    behind: bool,
}

impl Table for SharedTable {
    fn publish(&mut self, snapshot: &Arc<Snapshot>) {
        self.directory.publish(Arc::clone(snapshot));
        self.published = true;
        self.behind = true;
    }

    fn is_told(&self) -> bool {
        !self.behind
    }

    fn with<R>(&mut self, shard: usize, action: impl FnOnce(&mut Shard) -> R) -> R {
        self.directory.with_shard(shard, action)
    }

    fn fetch(&self, users: impl Iterator<Item = UserKey> + Clone) {
        for user in users.clone() {
            self.directory.fetch_shard(user.hash);
        }
        for user in users {
            self.directory.fetch_entry(user);
        }
    }

    fn room(&self) -> Result<(), Refusal> {
        self.directory.room()
    }
}

/// The machine and its table. Knows neither sockets nor clocks.
pub struct Driver {
    ring: Ring,
    table: SharedTable,
    certificates: Option<Arc<Certificates>>,
}

impl Driver {
    /// `directory` must have begun with the ring's first snapshot, and `certificates` be there if the
    /// ring's limits are for TLS.
    pub fn new(
        ring: Ring,
        directory: Arc<Directory>,
        certificates: Option<Arc<Certificates>>,
    ) -> Driver {
        Driver {
            ring,
            certificates,
            table: SharedTable {
                directory,
                published: false,
                behind: false,
            },
        }
    }

    /// The snapshot and the user table.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.table.directory
    }

    /// The machine, to be asked.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }
}

fn who(id: Option<DirectorId>) -> String {
    id.map_or_else(
        || "none".to_owned(),
        |id| std::net::SocketAddr::new(id.ip, id.port).to_string(),
    )
}

impl Machine for Driver {
    fn handle(&mut self, input: Input<'_>, now: Now) {
        self.ring.handle(input, now, &mut self.table);
    }

    fn caught_up(&mut self, now: Now) {
        if std::mem::take(&mut self.table.behind) {
            // What was held back goes on.
            self.handle(Input::Notes(&[]), now);
        }
    }

    fn take_outputs(&mut self) -> Vec<Output> {
        self.ring.take_outputs()
    }

    fn unwritten(&mut self, each: &mut dyn FnMut(ConnId, &mut Vec<u8>)) {
        for (id, bytes) in self.ring.unwritten() {
            each(id, bytes);
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.ring.next_deadline()
    }

    fn next_conn(&mut self) -> ConnId {
        self.ring.next_conn()
    }

    fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.clone()
    }

    fn take_published(&mut self) -> bool {
        std::mem::take(&mut self.table.published)
    }

    fn learn(&mut self, learnt: &[Learnt], now: Now) -> bool {
        if !self.ring.standing().handshaked {
            return false;
        }
        let snapshot = Arc::clone(self.ring.snapshot());
        let (mut scratch, mut users) = (Vec::new(), 0);
        for Learnt { user, backend } in learnt {
            let hash = match user {
                User::Hash(hash) => UserHash(*hash),
                User::Name(name) => {
                    let name = cut_master_user(name, snapshot.master_user_separator);
                    snapshot.username_hash.hash(name, &mut scratch)
                }
            };
            let Some(backend) = self.ring.backends().find(*backend) else {
                continue;
            };
            let tag = backend.tag;
            let key = UserKey { tag, hash };
            let directory = &self.table.directory;
            users += usize::from(directory.learn(key, backend.slot, now.wall, &snapshot));
        }
        tracing::info!("{users} users stay where their sessions are");
        true
    }

    fn recall(&mut self, saved: &Recollection, now: Now) -> bool {
        match self.ring.recall() {
            Recall::NotYet => return false,
            Recall::Now => {
                let snapshot = Arc::clone(self.ring.snapshot());
                let mut users = 0;
                for (backend, its) in &saved.users {
                    if let Some(backend) = self.ring.backends().find(*backend) {
                        let home = (backend.tag, backend.slot);
                        let directory = &self.table.directory;
                        users += directory.recall(its, home, now.wall, &snapshot);
                    }
                }
                tracing::info!("state: {users} users stay where they were");
            }
            Recall::Never => {
                tracing::info!("state: not needed, the ring tells of its backends and users");
            }
        }
        saved.settled.store(true, Ordering::Release);
        true
    }

    fn tune(&mut self, tuning: Tuning) {
        self.ring.set_limits(tuning.limits);
        self.certificates = tuning.certificates;
    }

    fn summary(&self) -> String {
        let Standing {
            handshaked,
            synced,
            alone,
            tell,
            min_version,
            ..
        } = self.ring.standing();
        format!(
            "ring: members={} left={} right={} handshaked={handshaked} synced={synced} \
             alone={alone} tell={tell} version={min_version}",
            self.ring.members().iter().count(),
            who(self.ring.left()),
            who(self.ring.right()),
        )
    }

    fn rank(&self) -> usize {
        self.ring.members().rank()
    }

    fn around(&self) -> Around {
        self.ring.around()
    }

    fn report(&self, now: Now) -> Report {
        self.ring.report(now)
    }

    fn drains(&self) -> Vec<Draining> {
        self.ring.drains()
    }

    fn whereabouts(&mut self, hash: UserHash, tag: &[u8], now: Now) -> Option<Whereabouts> {
        let tag = self.ring.snapshot().tag(tag)?;
        let key = UserKey { tag, hash };
        Some(self.ring.whereabouts(key, now, &mut self.table))
    }
}
