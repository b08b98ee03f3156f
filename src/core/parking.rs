//! Lookups that must wait, in order of arrival: woken when what they wait for may have changed, a
//! bounded number per turn, and answered at their deadline whether or not anything woke them.

use std::collections::BTreeMap;

use super::{DelayReason, Mono};

/// Most lookups that wait on one core. Beyond it a lookup that would have to wait fails at once:
/// 100,000 waiting logins hold some 50 MB, and none of them is served sooner by letting more in.
pub const PARKED_MAX: usize = 100_000;

/// One waiting lookup with whatever the caller needs to answer it.
#[derive(Debug)]
pub struct Parked<T> {
    /// Why it waits; the latest reason when there were several.
    pub reason: DelayReason,
    /// When it began to wait.
    pub since: Mono,
    /// When it must be answered.
    pub deadline: Mono,
    /// The caller's.
    pub lookup: T,
}

/// The waiting lookups of one core.
#[derive(Debug)]
pub struct Parking<T> {
    waiting: BTreeMap<u64, Parked<T>>,
    by_deadline: BTreeMap<(Mono, u64), ()>,
    next: u64,
    /// Everything before this has been tried since the last wake.
    woken_up_to: Option<u64>,
}

/// Names one waiting lookup; those that came later are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

impl<T> Default for Parking<T> {
    fn default() -> Self {
        Parking {
            waiting: BTreeMap::new(),
            by_deadline: BTreeMap::new(),
            next: 0,
            woken_up_to: None,
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

    /// Lets a lookup wait; gives it back when [`PARKED_MAX`] wait already.
    pub fn park(&mut self, parked: Parked<T>) -> Result<Place, Parked<T>> {
        if self.waiting.len() >= PARKED_MAX {
            return Err(parked);
        }
        let place = self.next;
        self.next += 1;
        self.by_deadline.insert((parked.deadline, place), ());
        self.waiting.insert(place, parked);
        Ok(Place(place))
    }

    /// What waits may have come: every lookup is to be tried again.
    pub fn wake_all(&mut self) {
        self.woken_up_to = Some(0);
    }

    /// Whether woken lookups still have to be tried.
    pub fn has_woken(&self) -> bool {
        self.woken_up_to
            .is_some_and(|from| self.waiting.range(from..).next().is_some())
    }

    /// The next woken lookup in order of arrival, to be tried; it keeps its place.
    pub fn next_woken(&mut self) -> Option<(Place, &mut Parked<T>)> {
        let from = self.woken_up_to?;
        match self.waiting.range_mut(from..).next() {
            Some((&place, parked)) => {
                self.woken_up_to = Some(place + 1);
                Some((Place(place), parked))
            }
            None => {
                self.woken_up_to = None;
                None
            }
        }
    }

    /// Takes a lookup out, because it has been answered or its client is gone.
    pub fn remove(&mut self, place: Place) -> Option<Parked<T>> {
        let parked = self.waiting.remove(&place.0)?;
        self.by_deadline.remove(&(parked.deadline, place.0));
        Some(parked)
    }

    /// The waiting lookup at `place`.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut Parked<T>> {
        self.waiting.get_mut(&place.0)
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

    fn parked(since: u64, deadline: u64, lookup: u32) -> Parked<u32> {
        Parked {
            reason: DelayReason::NoBackend,
            since: Mono(since),
            deadline: Mono(deadline),
            lookup,
        }
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
}
