//! What operators do, one at a time and in storms.

use std::net::IpAddr;
use std::num::NonZeroU32;

use homing::core::UserHash;
use homing::core::ring::{Answer, Input, Order, Request, Ticket};

use crate::faults::Cure;
use crate::node::{backend_ip, tag_name};
use crate::options::{MS, SECOND};
use crate::sessions::FORCED;
use crate::trace::say;
use crate::world::{At, Event, World};

/// As long as a move may take.
const CROSSED: u64 = 32 * SECOND;
/// As long as a request may take: it waits for a synced ring twice, and the driver is a little late.
const ANSWERED: u64 = 61 * SECOND;

/// A request that was not answered yet.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub at: At,
    pub since: u64,
    /// Whom it adds to the ring.
    adds: Option<usize>,
    /// The weight that it gives to a backend.
    weighs: Option<(IpAddr, u32)>,
    /// It moves all users, perhaps one after the other.
    many: bool,
}

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
        if self.options.bulk_orders && self.more.percent(20) {
            self.give_bulk_order();
        }
        self.check_requests();
        let next = self.rng.about(self.options.order_every) + MS;
        self.after(next, Event::Order);
    }

    /// `true`: it was carried out.
    pub fn give_order(&mut self, n: usize, order: Order) -> bool {
        let is_paused = self.nodes[n].paused_until > self.now;
        let Some(process) = self.nodes[n].process.as_mut().filter(|_| !is_paused) else {
            return false;
        };
        let synced = process.ring.standing().synced;
        // What an operator answers for is not given to a ring that is not whole, nor may it come as a
        // surprise by having waited for that: S1 is excused from then on.
        let forces = matches!(
            order,
            Order::Remove(_) | Order::ForgetUsers(_) | Order::Move(..) | Order::RemoveDirector(_)
        );
        let at = self.nodes[n].at(n);
        let waits = !synced || self.asked.values().any(|asked| asked.at == at);
        if forces && waits {
            return false;
        }
        let ticket = self.next_ticket();
        let asked = Asked {
            at: self.nodes[n].at(n),
            since: self.now,
            adds: match order {
                Order::AddDirector(id) => self.nodes.iter().position(|node| node.id == id),
                _ => None,
            },
            weighs: match order {
                Order::SetBackend {
                    ip,
                    vhosts: Some(vhosts),
                    ..
                } => Some((ip, vhosts)),
                _ => None,
            },
            many: false,
        };
        self.asked.insert(ticket, asked);
        say!(self, "[{n}] {ticket:?} order {order:?}");
        let request = match order.is_kick() && ticket.0.is_multiple_of(2) {
            true => Request::KickNoWait(order.clone()),
            false => Request::Order(order.clone()),
        };
        self.feed(n, Input::Request(ticket, &request));
        let done = synced && self.refused != Some(ticket);
        if done {
            self.note_force(&order);
        }
        done
    }

    fn next_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket - 1)
    }

    /// A drain, the end of one, or a bulk reset of one backend or of all.
    fn give_bulk_order(&mut self) {
        let n = self.more.index(self.options.directors);
        let tag = self.more.index(self.options.tags);
        let ip = backend_ip(self.more.index(self.options.backends) + 100 * tag);
        let rate = NonZeroU32::new(self.more.pick(&[1, 5, 100])).unwrap_or(NonZeroU32::MIN);
        let request = match self.more.below(4) {
            0 | 1 => Request::Order(Order::Drain(ip, rate)),
            2 => Request::Order(Order::CancelDrain(ip)),
            _ => Request::ResetUsers {
                host: self.more.percent(50).then_some(ip),
                max: self.more.percent(50).then_some(1),
            },
        };
        if let Request::Order(order) = request {
            self.give_order(n, order);
            return;
        }
        if self.nodes[n].paused_until > self.now || self.nodes[n].process.is_none() {
            return;
        }
        let ticket = self.next_ticket();
        let asked = Asked {
            at: self.nodes[n].at(n),
            since: self.now,
            adds: None,
            weighs: None,
            many: true,
        };
        self.asked.insert(ticket, asked);
        say!(self, "[{n}] {ticket:?} {request:?}");
        self.feed(n, Input::Request(ticket, &request));
    }

    /// Each request is answered once.
    pub fn replied(&mut self, n: usize, ticket: Ticket, answer: &Answer) {
        say!(self, "[{n}] {ticket:?}: {answer:?}");
        let at = self.nodes[n].at(n);
        let asked = self.asked.remove(&ticket);
        match asked {
            Some(asked) if asked.at == at => {}
            other => {
                let text = format!("[{n}] {ticket:?} of {other:?} is answered {answer:?}");
                self.fail("S4 requests", text);
            }
        }
        let weighs = asked.and_then(|asked| asked.weighs);
        match answer {
            Answer::Done => {
                self.stats.orders += 1;
                self.weights.extend(weighs);
            }
            Answer::Failed(_) => {
                if let Some((ip, _)) = weighs {
                    self.weights.remove(&ip);
                }
                self.refused = Some(ticket);
                if let Some(added) = asked.and_then(|asked| asked.adds) {
                    self.after(SECOND, Event::Cure(Cure::AddAt(n, added)));
                }
            }
        }
    }

    /// Nobody waits for ever.
    pub fn check_requests(&mut self) {
        let nodes = &self.nodes;
        self.asked.retain(|_, asked| {
            let node = &nodes[asked.at.node];
            node.boot == asked.at.boot && node.process.is_some()
        });
        let late = self.asked.iter().find(|(_, asked)| {
            let resumed = nodes[asked.at.node].paused_until;
            let most = if asked.many {
                // Behind others that wait for a synced ring.
                self.users.len() as u64 * CROSSED + 10 * ANSWERED
            } else {
                ANSWERED
            };
            self.now > asked.since.max(resumed) + most
        });
        if let Some((ticket, asked)) = late {
            let text = format!("{ticket:?} is not answered: {asked:?}");
            self.fail("L2 requests", text);
        }
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
        self.weights.clear();
        for tag in 0..self.options.tags {
            for number in 0..=self.options.backends {
                let ip = backend_ip(number + 100 * tag);
                let set = |vhosts| Order::SetBackend {
                    ip,
                    tag: Some(tag_name(tag).as_bytes().to_vec()),
                    vhosts: Some(vhosts),
                };
                let vhosts = self.rng.pick(&[10, 20]);
                // Of changes that cross the lower weight wins; these do not.
                self.to_order.push_back(set(vhosts));
                if number == 0 {
                    self.to_order.extend([set(vhosts + 3), set(vhosts + 6)]);
                }
                self.to_order.push_back(Order::Up(ip));
            }
        }
    }

    /// The next of them, if the ring is synced by now and nobody waits for an answer; and at once all
    /// further weights of its backend.
    pub fn give_next_order(&mut self) {
        let weighed = |order: Option<&Order>| match order {
            Some(Order::SetBackend { ip, .. }) => Some(*ip),
            _ => None,
        };
        let n = self.rng.index(self.options.directors);
        let process = self.nodes[n].process.as_ref();
        let synced = process.is_some_and(|process| process.ring.standing().synced);
        if let Some(order) = self.to_order.front().filter(|_| synced).cloned()
            && self.asked.is_empty()
            && self.give_order(n, order)
        {
            let given = weighed(self.to_order.pop_front().as_ref());
            while given.is_some() && weighed(self.to_order.front()) == given {
                let next = self.to_order.pop_front();
                next.map(|next| self.give_order(n, next));
            }
        }
    }

    pub fn move_somebody(&mut self) {
        let user = self.users[self.rng.index(self.users.len())];
        let number = self.rng.index(self.options.backends);
        let n = self.rng.index(self.options.directors);
        let to: IpAddr = backend_ip(number + 100 * user.tag);
        self.give_order(n, Order::Move(UserHash(user.hash), to));
    }

    /// The first backend of a tag is emptied where others can take its users.
    pub fn drain_something(&mut self) {
        if !self.options.bulk_orders || self.options.backends < 2 {
            return;
        }
        let n = self.more.index(self.options.directors);
        let tag = self.more.index(self.options.tags);
        let ip = backend_ip(100 * tag);
        let rate = NonZeroU32::new(self.more.pick(&[5, 100])).unwrap_or(NonZeroU32::MIN);
        self.drained = Some(ip);
        // It takes the weight away.
        self.weights.remove(&ip);
        self.give_order(n, Order::Drain(ip, rate));
    }
}
