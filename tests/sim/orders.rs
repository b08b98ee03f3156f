//! What operators do, one at a time and in storms.

use std::net::IpAddr;

use homing::core::UserHash;
use homing::core::ring::Order;

use crate::node::{backend_ip, tag_name};
use crate::options::{MS, SECOND};
use crate::sessions::FORCED;
use crate::trace::say;
use crate::world::{Event, World};

/// As long as a move may take.
const CROSSED: u64 = 32 * SECOND;
/// A move that was ordered while its backend's users were being forgotten ends with them where it came
/// first. Where it came last it waits in vain, as long as a move may take: until then a director keeps
/// the user where the move sent it, and the others where they have placed it since. The same happens
/// where two moves of one user met.
const HUNG: u64 = CROSSED + FORCED;

impl World {
    pub fn order(&mut self) {
        if self.is_healing() {
            return;
        }
        let storm = if self.rng.percent(10) { 10 } else { 1 };
        for _ in 0..self.rng.between(1, storm) {
            let order = self.draw_order();
            let n = self.rng.index(self.options.directors);
            self.give_order(n, order);
        }
        let next = self.rng.about(self.options.order_every) + MS;
        self.after(next, Event::Order);
    }

    /// `true`: it was carried out.
    pub fn give_order(&mut self, n: usize, order: Order) -> bool {
        let clocks = self.nodes[n].clocks(self.now);
        let is_paused = self.nodes[n].paused_until > self.now;
        let Some(process) = self.nodes[n].process.as_mut().filter(|_| !is_paused) else {
            return false;
        };
        // The admin socket makes operators wait for a whole ring.
        if !process.ring.standing().synced {
            return false;
        }
        let result = process
            .ring
            .order(order.clone(), clocks, &mut process.table);
        say!(self, "[{n}] order {order:?}: {result:?}");
        if result.is_ok() {
            self.stats.orders += 1;
            self.note_force(&order);
        }
        self.settle(n);
        result.is_ok()
    }

    /// Removing or flushing a backend forgets users whose sessions live on; so does, for one user, a
    /// move to a backend that is removed before the move has reached all.
    fn note_force(&mut self, order: &Order) {
        let lately = |when: &u64| self.now < when + FORCED;
        match order {
            Order::Remove(ip) | Order::ForgetUsers(ip) => {
                let lost = self
                    .moved
                    .iter()
                    .filter(|(_, (to, when))| to == ip && lately(when));
                let lost: Vec<u32> = lost.map(|(hash, _)| *hash).collect();
                self.forced.insert(*ip, self.now);
                for hash in lost {
                    self.excuse(hash, HUNG);
                }
            }
            Order::Move(hash, ip) => {
                // Two orders for one user that cross: there is no rule for which one wins.
                let crossed = self
                    .moved
                    .get(&hash.0)
                    .is_some_and(|(to, when)| to != ip && self.now < when + CROSSED);
                if crossed || self.forced.get(ip).is_some_and(lately) {
                    self.excuse(hash.0, HUNG);
                }
                self.moved.insert(hash.0, (*ip, self.now));
            }
            _ => {}
        }
    }

    fn excuse(&mut self, hash: u32, time: u64) {
        let until = self.forced_users.entry(hash).or_default();
        *until = (*until).max(self.now + time);
    }

    fn draw_order(&mut self) -> Order {
        let tag = self.rng.index(self.options.tags);
        // One more than there are at the beginning.
        let number = self.rng.index(self.options.backends + 1);
        let ip = backend_ip(number + 100 * tag);
        let user = self.rng.index(self.users.len());
        let hash = self.users[user].hash;
        match self
            .rng
            .below(if self.options.forced_orders { 13 } else { 11 })
        {
            0..=2 => Order::SetBackend {
                ip,
                tag: Some(tag_name(tag).as_bytes().to_vec()),
                vhosts: Some(self.rng.pick(&[0, 1, 10, 30])),
            },
            3 | 4 => Order::Up(ip),
            5 => Order::Down(ip),
            6..=8 => Order::Move(UserHash(hash), ip),
            9 => Order::KickUser(format!("user{hash}").into_bytes()),
            10 => Order::KickHash(UserHash(hash), ip),
            11 => Order::Remove(ip),
            _ => Order::ForgetUsers(ip),
        }
    }

    /// Orders in a ring that is whole again: they must be taken, and reach all.
    pub fn prepare_orders(&mut self) {
        for tag in 0..self.options.tags {
            for number in 0..=self.options.backends {
                let ip = backend_ip(number + 100 * tag);
                let set = Order::SetBackend {
                    ip,
                    tag: Some(tag_name(tag).as_bytes().to_vec()),
                    vhosts: Some(self.rng.pick(&[10, 20])),
                };
                self.to_order.extend([set, Order::Up(ip)]);
            }
        }
    }

    /// The next of them; a backend that is being updated must be asked again later.
    pub fn give_next_order(&mut self) {
        let n = self.rng.index(self.options.directors);
        if let Some(order) = self.to_order.front().cloned()
            && self.give_order(n, order)
        {
            self.to_order.pop_front();
        }
    }

    pub fn move_somebody(&mut self) {
        let user = self.users[self.rng.index(self.users.len())];
        let number = self.rng.index(self.options.backends);
        let n = self.rng.index(self.options.directors);
        let to: IpAddr = backend_ip(number + 100 * user.tag);
        self.give_order(n, Order::Move(UserHash(user.hash), to));
    }
}
