//! What all cores share: the snapshot and the user table.
//!
//! A lookup of a known user takes one shard lock and touches no other core. Many more shards than
//! cores make it rare that two want the same one; none is held across a system call.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use crate::core::admission::{Rate, has_room};
use crate::core::lookup::Socket;
use crate::core::snapshot::Snapshot;
use crate::core::state::SavedUser;
use crate::core::users::{Entry, Heard, Login, Note, Refreshed, SHARDS, Shard, shard_of};
use crate::core::{BackendSlot, Mono, Refusal, TagId, UserHash, UserKey, Wall};
use crate::shell::io::UnixAddress;
use crate::shell::notes::Notes;
use crate::shell::prefetch::prefetch;

/// The user table, and the snapshot that lookups read.
pub struct Directory {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Generation of the snapshot, to be compared without loading it.
    generation: CachePadded<AtomicU64>,
    /// Users held, over all shards.
    users: CachePadded<AtomicU64>,
    /// Schedule of [`Rate`] for new users.
    schedule: CachePadded<AtomicU64>,
    tunables: Arc<ArcSwap<Tunables>>,
    next_sweep: AtomicUsize,
    notes: Arc<Notes>,
}

/// Settings of the serving cores that a reload changes at once.
#[derive(Clone)]
pub struct Tunables {
    /// `user_table_limit`.
    pub users: u64,
    /// `new_user_rate`, per second; 0: no limit.
    pub new_per_second: u32,
    /// `auth_login_path`.
    pub auth_login: UnixAddress,
    /// `auth_userdb_path`.
    pub auth_userdb: UnixAddress,
    /// `lookup_timeout`, in nanoseconds.
    pub lookup_timeout: u64,
    /// `lookup_batch_delay`, in nanoseconds.
    pub batch_delay: u64,
}

impl Tunables {
    /// Auth's socket for connections of this type.
    pub fn auth(&self, socket: Socket) -> &UnixAddress {
        match socket {
            Socket::Userdb => &self.auth_userdb,
            Socket::Login | Socket::Authreply => &self.auth_login,
        }
    }
}

/// A core's own view of the tunables.
pub type TunablesCache = arc_swap::Cache<Arc<ArcSwap<Tunables>>, Arc<Tunables>>;

/// A core's own view of the snapshot; a load costs about a nanosecond while nothing has changed.
pub type SnapshotCache = arc_swap::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>;

impl Directory {
    /// An empty table. `seed` scatters users inside shards and should be random.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new(snapshot: Arc<Snapshot>, tunables: Tunables, seed: u32) -> io::Result<Directory> {
        let shard = || CachePadded::new(Mutex::new(Shard::new(seed)));
        Ok(Directory {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            generation: CachePadded::new(AtomicU64::new(snapshot.generation)),
            snapshot: Arc::new(ArcSwap::new(snapshot)),
            users: CachePadded::new(AtomicU64::new(0)),
            schedule: CachePadded::new(AtomicU64::new(0)),
            tunables: Arc::new(ArcSwap::from_pointee(tunables)),
            next_sweep: AtomicUsize::new(0),
            notes: Arc::new(Notes::new()?),
        })
    }

    /// A core's view of the snapshot.
    pub fn cache(&self) -> SnapshotCache {
        arc_swap::Cache::new(Arc::clone(&self.snapshot))
    }

    /// The snapshot as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Replaces the snapshot; only the thread of the ring does. Lookups that began with the old one and
    /// would create a user start again, since they check the generation under the shard lock. Those that
    /// have checked it are through, and their notes in the queue, when this returns.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        assert!(
            generation > self.generation.load(Ordering::Relaxed),
            "S6: generations go up"
        );
        self.snapshot.store(snapshot);
        self.generation.store(generation, Ordering::Release);
        for shard in &self.shards {
            drop(shard.lock());
        }
    }

    /// A core's view of the tunables.
    pub fn tunables(&self) -> TunablesCache {
        arc_swap::Cache::new(Arc::clone(&self.tunables))
    }

    /// Replaces the tunables, after a reload.
    pub fn tune(&self, tunables: Tunables) {
        self.tunables.store(Arc::new(tunables));
    }

    /// Users held; expired ones that were not swept yet included.
    pub fn users(&self) -> u64 {
        self.users.load(Ordering::Relaxed)
    }

    /// Asks for the memory that [`Directory::fetch_entry`] needs, without waiting for it.
    #[inline]
    pub fn fetch_shard(&self, hash: UserHash) {
        prefetch(&raw const self.shards[shard_of(hash)]);
    }

    /// Asks for the memory that [`Directory::login`] needs, without waiting for it.
    #[inline]
    pub fn fetch_entry(&self, key: UserKey) {
        let shard = self.shards[shard_of(key.hash)].lock();
        if let Some(entry) = shard.home(key) {
            prefetch(std::ptr::from_ref(entry));
        }
    }

    /// A login asks where its user lives. `None`: the snapshot is old, ask again with the new one.
    pub fn login(
        &self,
        key: UserKey,
        wall: Wall,
        mono: Mono,
        snapshot: &Snapshot,
    ) -> Option<Login> {
        let mut stale = false;
        let mut shard = self.shards[shard_of(key.hash)].lock();
        let login = shard.login(key, wall, snapshot, || {
            stale = self.generation.load(Ordering::Acquire) != snapshot.generation;
            if stale {
                Err(Refusal::TableFull)
            } else {
                self.admit(mono)
            }
        });
        let noted = login.note != Note::None;
        if noted {
            // Under the lock: whoever gets it after the user is there finds the note too.
            self.notes.put(key);
        }
        drop(shard);
        if noted {
            self.notes.rouse();
        }
        self.count(i64::from(login.created) - i64::from(login.removed));
        (!stale).then_some(login)
    }

    fn count(&self, change: i64) {
        if change != 0 {
            self.users
                .fetch_add(change.cast_unsigned(), Ordering::Relaxed);
        }
    }

    fn admit(&self, now: Mono) -> Result<(), Refusal> {
        let (users, new_per_second) = {
            let tunables = self.tunables.load();
            (tunables.users, tunables.new_per_second)
        };
        has_room(self.users(), users)?;
        let rate = Rate::new(new_per_second);
        let arrive = |schedule| rate.arrive(Mono(schedule), now).map(|next| next.0);
        self.schedule
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, arrive)
            .map(|_| ())
            .map_err(|_| Refusal::TooManyNewUsers)
    }

    /// A session of a user with this hash is alive; the line names no tag, so the hash is
    /// refreshed under every tag where it exists. Returns how many identities that were.
    pub fn keep_alive(&self, hash: UserHash, now: Wall, snapshot: &Snapshot) -> usize {
        let mut shard = self.shards[shard_of(hash)].lock();
        let tags = u16::try_from(snapshot.tag_count()).unwrap_or(u16::MAX);
        let (mut known, mut noted) = (0, false);
        for tag in (0..tags).map(TagId) {
            let key = UserKey { tag, hash };
            let Refreshed::Known(note) = shard.keep_alive(key, now, snapshot) else {
                continue;
            };
            known += 1;
            if note != Note::None {
                self.notes.put(key);
                noted = true;
            }
        }
        drop(shard);
        if noted {
            self.notes.rouse();
        }
        known
    }

    /// Notes for the ring that [`Directory::login`] and [`Directory::keep_alive`] left.
    pub fn notes(&self) -> &Arc<Notes> {
        &self.notes
    }

    /// Lets the ring do something to one shard, whose lock is held meanwhile.
    pub fn with_shard<R>(&self, shard: usize, action: impl FnOnce(&mut Shard) -> R) -> R {
        let mut shard = self.shards[shard].lock();
        let before = shard.len() as i64;
        let result = action(&mut shard);
        let after = shard.len() as i64;
        drop(shard);
        self.count(after - before);
        result
    }

    /// What is known of a user, which is not refreshed.
    pub fn peek(&self, key: UserKey, now: Wall, snapshot: &Snapshot) -> Option<Entry> {
        let shard = self.shards[shard_of(key.hash)].lock();
        shard.peek(key, now, snapshot).copied()
    }

    /// Shows the users of one shard after another that have not expired. Each is copied first, so that
    /// no lookup waits for what is done with them.
    pub fn each_shard(&self, now: Wall, snapshot: &Snapshot, mut each: impl FnMut(&[Entry])) {
        let mut users = Vec::new();
        for shard in &self.shards {
            users.clear();
            users.extend(shard.lock().live_entries(now, snapshot));
            each(&users);
        }
    }

    /// A session of a user was there when the director started. The user is taken in where the session
    /// is, unless something is known of it already: what others say counts more. True: it was.
    pub fn learn(
        &self,
        key: UserKey,
        backend: BackendSlot,
        now: Wall,
        snapshot: &Snapshot,
    ) -> bool {
        let heard = Heard {
            key,
            backend,
            stamp: None,
            weak: false,
            late: false,
            from: 0,
        };
        let created = self.with_shard(shard_of(key.hash), |shard| {
            shard.peek(key, now, snapshot).is_none()
                && shard.hear(heard, now, snapshot, || self.room()).created
        });
        if created {
            // The others are told as they are of any live session.
            self.keep_alive(key.hash, now, snapshot);
        }
        created
    }

    /// The backend of a user. `None`: it is unknown, or known under several tags.
    pub fn home_of(&self, hash: UserHash, now: Wall) -> Option<IpAddr> {
        let snapshot = self.snapshot();
        let tags = u16::try_from(snapshot.tag_count()).unwrap_or(u16::MAX);
        let shard = self.shards[shard_of(hash)].lock();
        let keys = (0..tags).map(|tag| UserKey {
            tag: TagId(tag),
            hash,
        });
        let mut known = keys.filter_map(|key| shard.peek(key, now, &snapshot));
        let slot = known.next()?.backend();
        let backend = snapshot.backend(slot).map(|backend| backend.ip);
        backend.filter(|_| known.next().is_none())
    }

    /// Users of one backend, as they were saved. Those that are known already stay as they are. Returns how
    /// many were taken in; whoever is connected is told of them by and by.
    pub fn recall(
        &self,
        users: &[SavedUser],
        (tag, backend): (TagId, BackendSlot),
        now: Wall,
        snapshot: &Snapshot,
    ) -> u64 {
        let mut recalled = 0;
        for user in users {
            let hash = user.hash();
            let key = UserKey { tag, hash };
            let created = self.with_shard(shard_of(hash), |shard| {
                shard.recall(key, backend, user.stamp(), now, snapshot, || self.room())
            });
            if created && snapshot.tell {
                self.notes.look_through(shard_of(hash));
            }
            recalled += u64::from(created);
        }
        self.notes.rouse();
        recalled
    }

    /// Whether the table may take in a user that other directors tell of. `new_user_rate` is not
    /// asked: they admitted it.
    ///
    /// # Errors
    /// `user_table_limit` users are known already.
    pub fn room(&self) -> Result<(), Refusal> {
        has_room(self.users(), self.tunables.load().users)
    }

    /// Forgets expired users in the next `shards` shards of a rolling sweep; returns how many.
    pub fn sweep(&self, shards: usize, now: Wall, snapshot: &Snapshot) -> usize {
        let mut removed = 0;
        for _ in 0..shards.min(SHARDS) {
            let at = self.next_sweep.fetch_add(1, Ordering::Relaxed) % SHARDS;
            removed += self.shards[at].lock().sweep(now, snapshot);
        }
        self.users.fetch_sub(removed as u64, Ordering::Relaxed);
        removed
    }

    /// Users on each backend slot, expired ones not counted. Changes nothing: by the time that the last
    /// shard is looked at, the snapshot may be an old one.
    pub fn users_per_backend(&self, now: Wall, snapshot: &Snapshot) -> Vec<u64> {
        let mut sums = vec![0u64; snapshot.backends.len()];
        for shard in &self.shards {
            for entry in shard.lock().live_entries(now, snapshot) {
                sums[usize::from(entry.backend().0)] += 1;
            }
        }
        sums
    }

    /// Users on each of so many backend slots, as shards have counted them: some may just have expired.
    pub fn counted_per_backend(&self, slots: usize) -> Vec<u64> {
        let mut sums = vec![0u64; slots];
        for shard in &self.shards {
            let shard = shard.lock();
            for (sum, count) in sums.iter_mut().zip(shard.users_per_backend()) {
                *sum += u64::from(*count);
            }
        }
        sums
    }

    /// Bytes of memory of the user table.
    pub fn memory(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().memory()).sum()
    }

    /// S4 over all shards; for tests.
    pub fn check_invariants(&self) {
        let mut users = 0;
        for (at, shard) in self.shards.iter().enumerate() {
            let shard = shard.lock();
            shard.check_invariants(at);
            users += shard.len() as u64;
        }
        assert_eq!(users, self.users(), "S4: users in total");
    }
}

#[cfg(test)]
pub(super) mod tests;
