//! Lookups that must wait, in order of arrival: woken when what they wait for may have changed, a
//! bounded number per turn, and answered at their deadline whether or not anything woke them.

use std::collections::{BTreeMap, BTreeSet};

use super::{DelayReason, Mono, UserKey};

/// Most lookups that wait on one core. Beyond it a lookup that would have to wait fails at once:
/// 100,000 waiting logins hold some 50 MB, and none of them is served sooner by letting more in.
pub const PARKED_MAX: usize = 100_000;

/// Most bytes that their lines have together. Lines of some hundred bytes are usual, and 16384 are
/// allowed.
pub const PARKED_BYTES_MAX: usize = 64 << 20;

/// One waiting lookup with whatever the caller needs to answer it.
#[derive(Debug)]
pub struct Parked<T> {
    /// Why it waits; the latest reason when there were several.
    pub reason: DelayReason,
    /// When it began to wait.
    pub since: Mono,
    /// When it must be answered.
    pub deadline: Mono,
    /// Whom it asks for; `None`: nobody ever had the tag, so that only a new snapshot can help.
    pub key: Option<UserKey>,
    /// Length of its line.
    pub bytes: usize,
    /// The caller's.
    pub lookup: T,
}

/// The waiting lookups of one core.
#[derive(Debug)]
pub struct Parking<T> {
    waiting: BTreeMap<u64, Parked<T>>,
    bytes: usize,
    by_deadline: BTreeMap<(Mono, u64), ()>,
    by_key: BTreeSet<(UserKey, u64)>,
    next: u64,
    /// Everything before this has been tried since the last wake of all.
    woken_up_to: Option<u64>,
    /// Woken by identity, and not tried since.
    woken: BTreeSet<u64>,
}

/// Names one waiting lookup; those that came later are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

impl<T> Default for Parking<T> {
    fn default() -> Self {
        Parking {
            waiting: BTreeMap::new(),
            bytes: 0,
            by_deadline: BTreeMap::new(),
            by_key: BTreeSet::new(),
            next: 0,
            woken_up_to: None,
            woken: BTreeSet::new(),
        }
    }
}

impl<T> Parking<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets a lookup wait; gives it back when [`PARKED_MAX`] wait already, or it would be more than
    /// [`PARKED_BYTES_MAX`].
    pub fn park(&mut self, parked: Parked<T>) -> Result<Place, Parked<T>> {
        let bytes = self.bytes + parked.bytes;
        if self.waiting.len() >= PARKED_MAX || bytes > PARKED_BYTES_MAX {
            return Err(parked);
        }
        self.bytes = bytes;
        let place = self.next;
        self.next += 1;
        self.by_deadline.insert((parked.deadline, place), ());
        self.by_key.extend(parked.key.map(|key| (key, place)));
        self.waiting.insert(place, parked);
        Ok(Place(place))
    }

    /// A lookup that waits.
    pub fn get(&self, place: Place) -> Option<&Parked<T>> {
        self.waiting.get(&place.0)
    }

    /// What waits may have come: every lookup is to be tried again.
    pub fn wake_all(&mut self) {
        self.woken_up_to = Some(0);
        // They are among all.
        self.woken.clear();
    }

    /// What lookups of this user wait for may have come: they are to be tried again.
    pub fn wake(&mut self, key: UserKey) {
        let matching = self.by_key.range((key, 0)..=(key, u64::MAX));
        self.woken.extend(matching.map(|&(_, place)| place));
    }

    /// One lookup is to be tried again.
    pub fn wake_one(&mut self, place: Place) {
        if self.waiting.contains_key(&place.0) {
            self.woken.insert(place.0);
        }
    }

    /// Whether woken lookups still have to be tried.
    pub fn has_woken(&self) -> bool {
        !self.woken.is_empty() || self.next_of_all().is_some()
    }

    fn next_of_all(&self) -> Option<u64> {
        let from = self.woken_up_to?;
        self.waiting.range(from..).next().map(|(&place, _)| place)
    }

    /// The next woken lookup in order of arrival, to be tried; it keeps its place.
    pub fn next_woken(&mut self) -> Option<(Place, &mut Parked<T>)> {
        let of_all = self.next_of_all();
        let woken = self.woken.first().copied();
        let place = [of_all, woken].into_iter().flatten().min();
        if of_all.is_none() {
            self.woken_up_to = None;
        } else if of_all == place {
            self.woken_up_to = place.map(|place| place + 1);
        }
        let place = place?;
        self.woken.remove(&place);
        let parked = self.waiting.get_mut(&place)?;
        Some((Place(place), parked))
    }

    /// A lookup was tried and waits on, for `reason`; a new snapshot may have given it a `key`.
    pub fn waits_on(&mut self, place: Place, reason: DelayReason, key: Option<UserKey>) {
        let Some(parked) = self.waiting.get_mut(&place.0) else {
            return;
        };
        parked.reason = reason;
        if parked.key != key {
            let old = std::mem::replace(&mut parked.key, key);
            old.map(|old| self.by_key.remove(&(old, place.0)));
            self.by_key.extend(key.map(|key| (key, place.0)));
        }
    }

    /// Takes a lookup out, because it has been answered or its client is gone.
    pub fn remove(&mut self, place: Place) -> Option<Parked<T>> {
        let parked = self.waiting.remove(&place.0)?;
        self.bytes -= parked.bytes;
        self.by_deadline.remove(&(parked.deadline, place.0));
        parked.key.map(|key| self.by_key.remove(&(key, place.0)));
        self.woken.remove(&place.0);
        Some(parked)
    }

    /// Takes out a lookup whose deadline has come.
    pub fn pop_expired(&mut self, now: Mono) -> Option<(Place, Parked<T>)> {
        let (&(deadline, place), ()) = self.by_deadline.first_key_value()?;
        if deadline > now {
            return None;
        }
        Some((Place(place), self.remove(Place(place))?))
    }

    /// When the next lookup must be answered.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.by_deadline
            .first_key_value()
            .map(|(&(deadline, _), ())| deadline)
    }

    /// All that wait, in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &Parked<T>> {
        self.waiting.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{TagId, UserHash};

    fn parked(since: u64, deadline: u64, lookup: u32) -> Parked<u32> {
        Parked {
            reason: DelayReason::NoBackend,
            since: Mono(since),
            deadline: Mono(deadline),
            key: None,
            bytes: 1,
            lookup,
        }
    }

    fn user(tag: u16, hash: u32) -> UserKey {
        UserKey {
            tag: TagId(tag),
            hash: UserHash(hash),
        }
    }

    fn of_user(lookup: u32, key: UserKey) -> Parked<u32> {
        Parked {
            key: Some(key),
            ..parked(0, 100, lookup)
        }
    }

    fn try_all(parking: &mut Parking<u32>) -> Vec<u32> {
        std::iter::from_fn(|| parking.next_woken().map(|(_, parked)| parked.lookup)).collect()
    }

    #[test]
    fn by_identity_only_those_of_the_user_in_order_of_arrival_and_once() {
        let mut parking = Parking::default();
        for (n, hash) in [7, 8, 7, 9, 7].into_iter().enumerate() {
            parking.park(of_user(n as u32, user(0, hash))).unwrap();
        }
        parking.park(of_user(5, user(1, 7))).unwrap();
        parking.wake(user(0, 9));
        parking.wake(user(0, 7));
        parking.wake(user(0, 7));
        assert!(parking.has_woken());
        assert_eq!(try_all(&mut parking), [0, 2, 3, 4]);
        assert!(!parking.has_woken());
        parking.wake(user(0, 1));
        assert!(!parking.has_woken(), "nobody waits for that user");
    }

    #[test]
    fn a_wake_of_all_and_one_by_identity_keep_the_order() {
        let mut parking = Parking::default();
        let places: Vec<Place> = (0..4)
            .map(|n| parking.park(of_user(n, user(0, n))).unwrap())
            .collect();
        parking.wake_all();
        for expected in [0, 1] {
            assert_eq!(parking.next_woken().unwrap().1.lookup, expected);
        }
        // Tried already, and something came for it since; the fourth is to be tried only once.
        parking.wake(user(0, 0));
        parking.wake_one(places[3]);
        assert_eq!(try_all(&mut parking), [0, 2, 3]);
        parking.wake(user(0, 2));
        parking.remove(places[2]).unwrap();
        parking.wake_one(places[2]);
        assert_eq!(try_all(&mut parking), [0u32; 0]);
    }

    #[test]
    fn a_lookup_that_gets_an_identity_later_is_woken_by_it() {
        let mut parking = Parking::default();
        let place = parking.park(parked(0, 100, 1)).unwrap();
        parking.wake(user(3, 3));
        assert!(!parking.has_woken());
        parking.waits_on(place, DelayReason::Weak, Some(user(3, 3)));
        parking.wake(user(3, 3));
        assert_eq!(try_all(&mut parking), [1]);
        parking.waits_on(place, DelayReason::Killing, Some(user(3, 4)));
        parking.wake(user(3, 3));
        assert!(!parking.has_woken());
        assert_eq!(parking.remove(place).unwrap().reason, DelayReason::Killing);
        assert!(parking.by_key.is_empty() && parking.by_deadline.is_empty());
    }

    #[test]
    fn woken_in_order_of_arrival_and_once() {
        let mut parking = Parking::default();
        for n in 0..4 {
            parking.park(parked(n, 100, n as u32)).unwrap();
        }
        assert!(parking.next_woken().is_none(), "nothing woke them yet");
        parking.wake_all();
        let mut seen = Vec::new();
        while let Some((place, parked)) = parking.next_woken() {
            seen.push(parked.lookup);
            if parked.lookup % 2 == 0 {
                parking.remove(place);
            }
        }
        assert_eq!(seen, [0, 1, 2, 3]);
        assert_eq!(
            parking
                .iter()
                .map(|parked| parked.lookup)
                .collect::<Vec<_>>(),
            [1, 3]
        );
        assert!(!parking.has_woken());
    }

    #[test]
    fn deadlines_do_not_depend_on_wakes_or_order() {
        let mut parking = Parking::default();
        parking.park(parked(0, 30, 1)).unwrap();
        parking.park(parked(1, 20, 2)).unwrap();
        assert_eq!(parking.next_deadline(), Some(Mono(20)));
        assert!(parking.pop_expired(Mono(19)).is_none());
        assert_eq!(parking.pop_expired(Mono(25)).unwrap().1.lookup, 2);
        assert!(parking.pop_expired(Mono(25)).is_none());
        assert_eq!(parking.pop_expired(Mono(30)).unwrap().1.lookup, 1);
        assert!(parking.is_empty() && parking.next_deadline().is_none());
    }

    #[test]
    fn there_is_a_limit() {
        let mut parking = Parking::default();
        for n in 0..PARKED_MAX as u64 {
            parking.park(parked(n, n, 0)).unwrap();
        }
        assert!(parking.park(parked(0, 0, 7)).is_err());
    }

    #[test]
    fn long_lines_are_fewer() {
        let mut parking = Parking::default();
        let long = || Parked {
            bytes: 16_383,
            ..parked(0, 0, 0)
        };
        let mut places = Vec::new();
        while let Ok(place) = parking.park(long()) {
            places.push(place);
        }
        assert_eq!(places.len(), PARKED_BYTES_MAX / 16_383);
        parking.remove(places[1]).unwrap();
        parking.park(long()).unwrap();
        assert!(parking.park(long()).is_err());
    }
}
