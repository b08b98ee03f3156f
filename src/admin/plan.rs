//! What a change of backends would move. No I/O: computed from a director's lists with the very hash
//! ring that directors place users with (docs/protocol/placement.md, hash ring).
//!
//! Two different things move. *New* users, and active ones whose entry has expired, go where the hash
//! ring of the changed list sends them. *Active* users stay where they are whatever the ring says,
//! until they expire or a flush moves them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::core::backends::MAX_POINTS;
use crate::core::hash_ring::HashRing;
use crate::core::ip_text::{ip_order, ip_text};
use crate::core::{BackendSlot, UserHash};
use crate::wire::admin::UserRow;
use crate::wire::admin::read::Host;

/// Weight of a new backend when none is given.
const NEW_VHOSTS: u32 = 100;
/// User hashes are 32 bits.
const ALL_HASHES: u64 = 1 << 32;

/// What is planned for one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// HOST-SET.
    Add {
        /// Its tag; `None`: not said.
        tag: Option<Vec<u8>>,
        /// Its weight; `None`: the one that it has, or the default.
        vhosts: Option<u32>,
    },
    /// HOST-UPDATE.
    Update(u32),
    /// HOST-UP.
    Up,
    /// HOST-DOWN.
    Down,
    /// HOST-REMOVE.
    Remove,
}

/// Why a change cannot be planned: the director would refuse it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No such backend.
    Unknown,
    /// Another tag, or too many points.
    Not(String),
}

/// The list as it would be.
pub fn changed(now: &[Host], ip: IpAddr, change: &Change) -> Result<Vec<Host>, Refused> {
    let mut hosts = now.to_vec();
    let at = hosts.iter().position(|host| host.ip == ip);
    match (change, at) {
        (Change::Add { tag, vhosts }, None) => hosts.push(Host {
            ip,
            vhosts: vhosts.unwrap_or(NEW_VHOSTS),
            users: 0,
            tag: tag.clone().unwrap_or_default(),
            down: false,
            last_updown_change: 0,
        }),
        (_, None) => return Err(Refused::Unknown),
        (Change::Add { tag, vhosts }, Some(at)) => {
            let host = &mut hosts[at];
            if tag.as_ref().is_some_and(|tag| *tag != host.tag) {
                let has = String::from_utf8_lossy(&host.tag);
                let what = format!(
                    "{} has the tag '{has}', which cannot be changed",
                    ip_text(ip)
                );
                return Err(Refused::Not(what));
            }
            host.vhosts = vhosts.unwrap_or(host.vhosts);
        }
        (Change::Update(vhosts), Some(at)) => hosts[at].vhosts = *vhosts,
        (Change::Up, Some(at)) => hosts[at].down = false,
        (Change::Down, Some(at)) => hosts[at].down = true,
        (Change::Remove, Some(at)) => {
            hosts.remove(at);
        }
    }
    Ok(hosts)
}

/// The hash rings of a list, one for each tag.
pub struct Rings<'a> {
    hosts: &'a [Host],
    by_tag: BTreeMap<&'a [u8], HashRing>,
}

impl<'a> Rings<'a> {
    /// Builds them.
    ///
    /// # Errors
    /// More backends or vhosts than a director has.
    pub fn new(hosts: &'a [Host]) -> Result<Rings<'a>, String> {
        let points: u64 = hosts.iter().map(|host| u64::from(host.vhosts)).sum();
        if points > MAX_POINTS || hosts.len() > usize::from(u16::MAX) {
            let backends = hosts.len();
            return Err(format!(
                "{backends} backends with {points} vhosts are too many to compute with (65535, {MAX_POINTS})"
            ));
        }
        let mut by_tag: BTreeMap<&[u8], Vec<_>> = BTreeMap::new();
        for (at, host) in (0u16..).zip(hosts) {
            let usable = by_tag.entry(&host.tag).or_default();
            if !host.down {
                usable.push((host.ip, host.vhosts, BackendSlot(at)));
            }
        }
        let ring = |(tag, usable): (&'a [u8], Vec<_>)| (tag, HashRing::build(usable.into_iter()));
        Ok(Rings {
            hosts,
            by_tag: by_tag.into_iter().map(ring).collect(),
        })
    }

    /// Where a new user goes.
    pub fn place(&self, tag: &[u8], hash: u32) -> Option<IpAddr> {
        let slot = self.by_tag.get(tag)?.lookup(UserHash(hash))?;
        Some(self.hosts[usize::from(slot.0)].ip)
    }

    /// The ends of the stretches of hashes that one backend has, ascending.
    fn ends(&self, tag: &[u8]) -> Vec<u32> {
        let ring = self.by_tag.get(tag);
        ring.map_or_else(Vec::new, |ring| {
            ring.iter().map(|(point, _)| point).collect()
        })
    }
}

/// How many users go from one place to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// Where they are, or would go today; `None`: nowhere, the tag has no usable backend.
    pub from: Option<IpAddr>,
    /// Where they would go.
    pub to: Option<IpAddr>,
    /// The tag of both.
    pub tag: Vec<u8>,
    /// Active users.
    pub users: u64,
    /// Part of all possible users of the tag, 0 to 1; of [`Plan::placement`] only.
    pub share: f64,
}

/// One backend before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Which.
    pub ip: IpAddr,
    /// Its tag.
    pub tag: Vec<u8>,
    /// Active users on it.
    pub users: u64,
    /// Those that would be on it after the change and a flush of all backends.
    pub flushed: u64,
    /// Part of its tag's new users that it gets now, 0 to 1.
    pub share: f64,
    /// The same after the change.
    pub share_after: f64,
}

/// What a change would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Active users, all tags.
    pub active: u64,
    /// Every backend of either list, in the order of addresses.
    pub loads: Vec<Load>,
    /// Placement of users without an entry that would change: who comes anew, or back after it has
    /// expired. `users` counts the active ones among them.
    pub placement: Vec<Flow>,
    /// Active users that a flush of all backends would move after the change. To nowhere: they would
    /// be kicked and forgotten.
    pub flush: Vec<Flow>,
    /// Of those, how many a flush would move today, without the change.
    pub flush_today: u64,
    /// Active users that the change itself makes the director forget: those of a removed backend.
    /// They are not among `flush`; each goes where the ring sends it at its next login.
    pub forgotten: Vec<Flow>,
}

/// Computes what changing `now` to `then` would do to `users`. Users on a backend that is in neither
/// list are not counted: the lists were not taken at the same moment.
///
/// # Errors
/// Too large a list.
pub fn plan(now: &[Host], then: &[Host], users: &[UserRow]) -> Result<Plan, String> {
    let (before, after) = (Rings::new(now)?, Rings::new(then)?);
    let tags: BTreeMap<IpAddr, &[u8]> = now.iter().map(|it| (it.ip, it.tag.as_slice())).collect();
    let stays = |ip: IpAddr| then.iter().any(|host| host.ip == ip);
    let removed: Vec<_> = now
        .iter()
        .map(|it| it.ip)
        .filter(|ip| !stays(*ip))
        .collect();
    let mut placement = Flows::default();
    let mut flush = Flows::default();
    let mut forgotten = Flows::default();
    let mut loads = loads(now, then);
    let (mut active, mut flush_today) = (0, 0);
    for user in users {
        let Some(&tag) = tags.get(&user.ip) else {
            continue;
        };
        active += 1;
        let (was, will) = (before.place(tag, user.hash), after.place(tag, user.hash));
        placement.count(tag, was, will);
        let here = Some(user.ip);
        if removed.contains(&user.ip) {
            forgotten.count_all(tag, here, will);
        } else {
            flush.count(tag, here, will);
        }
        flush_today += u64::from(was != here);
        if let Some(load) = loads.get_mut(&user.ip) {
            load.users += 1;
        }
        if let Some(load) = will.and_then(|ip| loads.get_mut(&ip)) {
            load.flushed += 1;
        }
    }
    shares(&before, &after, &mut placement, &mut loads);
    let mut loads: Vec<_> = loads.into_values().collect();
    loads.sort_by(|a, b| ip_order(a.ip, b.ip));
    Ok(Plan {
        active,
        loads,
        placement: placement.list(),
        flush: flush.list(),
        flush_today,
        forgotten: forgotten.list(),
    })
}

fn loads(now: &[Host], then: &[Host]) -> BTreeMap<IpAddr, Load> {
    let load = |host: &Host| Load {
        ip: host.ip,
        tag: host.tag.clone(),
        users: 0,
        flushed: 0,
        share: 0.0,
        share_after: 0.0,
    };
    let both = now.iter().chain(then);
    both.map(|host| (host.ip, load(host))).collect()
}

/// Walks the stretches of hashes between all points of both rings: inside one, each ring has one
/// answer. (Where several backends share a point, that very hash may have another one: one user in
/// four thousand millions.)
fn shares(
    before: &Rings<'_>,
    after: &Rings<'_>,
    placement: &mut Flows,
    loads: &mut BTreeMap<IpAddr, Load>,
) {
    let tags: std::collections::BTreeSet<&[u8]> = before
        .by_tag
        .keys()
        .chain(after.by_tag.keys())
        .copied()
        .collect();
    for tag in tags {
        let mut ends = [before.ends(tag), after.ends(tag)].concat();
        ends.sort_unstable();
        ends.dedup();
        // Hashes past the last point belong to the first one.
        let Some(&last) = ends.last() else { continue };
        let mut start = u64::from(last);
        let mut is_first = true;
        for end in ends {
            let end = u64::from(end);
            let length = match is_first {
                true => ALL_HASHES - start + end,
                false => end - start,
            };
            (is_first, start) = (false, end);
            let hash = end as u32;
            let (was, will) = (before.place(tag, hash), after.place(tag, hash));
            let share = length as f64 / ALL_HASHES as f64;
            if let Some(load) = was.and_then(|ip| loads.get_mut(&ip)) {
                load.share += share;
            }
            if let Some(load) = will.and_then(|ip| loads.get_mut(&ip)) {
                load.share_after += share;
            }
            if was != will {
                placement.flow(tag, was, will).share += share;
            }
        }
    }
}

/// Tag, from, to.
type Way = (Vec<u8>, Option<IpAddr>, Option<IpAddr>);

/// Flows while they are counted.
#[derive(Default)]
struct Flows(BTreeMap<Way, Flow>);

impl Flows {
    fn flow(&mut self, tag: &[u8], from: Option<IpAddr>, to: Option<IpAddr>) -> &mut Flow {
        let flow = || Flow {
            from,
            to,
            tag: tag.to_vec(),
            users: 0,
            share: 0.0,
        };
        let key = (tag.to_vec(), from, to);
        self.0.entry(key).or_insert_with(flow)
    }

    /// One user who would be elsewhere; who stays is not counted.
    fn count(&mut self, tag: &[u8], from: Option<IpAddr>, to: Option<IpAddr>) {
        if from != to {
            self.count_all(tag, from, to);
        }
    }

    fn count_all(&mut self, tag: &[u8], from: Option<IpAddr>, to: Option<IpAddr>) {
        self.flow(tag, from, to).users += 1;
    }

    fn list(self) -> Vec<Flow> {
        self.0.into_values().collect()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
