//! What goes wrong, and what operators order meanwhile.

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::net::Ipv4Addr;
use std::thread::{self, sleep};
use std::time::Duration;

use crate::clients::USERS;
use homing::wire::admin::Reply;

use crate::e2e::{PATIENCE, wait_until};
use crate::login::hash;
use crate::network::DIRECTORS;
use crate::tier::{BACKENDS, Backends, Tier, ask, backend, backends};

/// Numbers as if drawn by chance, the same for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        let millis = (to - from) * 1000;
        Duration::from_millis(from * 1000 + self.below(millis as usize) as u64)
    }
}

/// Has only one of these go wrong.
const ONLY: &str = "HOMING_CHAOS_ONLY";

const KINDS: [&str; 11] = [
    "orders",
    "killed",
    "slow",
    "moves",
    "other clock",
    "narrow",
    "kicks",
    "stopped",
    "half cut",
    "cut off",
    "unplugged",
];

pub struct Deeds {
    dice: Dice,
    /// Nothing but this goes wrong.
    only: Option<usize>,
    done: [u32; KINDS.len()],
    backends: Backends,
    /// Backends that were taken down or up at some time.
    touched: BTreeSet<Ipv4Addr>,
    /// Those of this round that are still to come.
    round: Vec<usize>,
}

/// How a director is cut off.
#[derive(Clone, Copy)]
enum Cut {
    /// Packets are lost, and nobody says so.
    Silent,
    /// The same, only of what it sends.
    OneWay,
    /// The kernel says at once that there is no way.
    Cable,
}

impl fmt::Display for Deeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in KINDS.iter().zip(self.done) {
            write!(f, "{kind} {count}, ")?;
        }
        f.write_str("all kept")
    }
}

impl Deeds {
    pub fn new(seed: u64) -> Deeds {
        Deeds {
            dice: Dice::new(seed),
            only: env::var(ONLY).ok().map(|only| {
                let kind = KINDS.iter().position(|kind| *kind == only);
                kind.unwrap_or_else(|| panic!("{ONLY} is one of {KINDS:?}"))
            }),
            done: Default::default(),
            backends: backends(),
            touched: BTreeSet::new(),
            round: Vec::new(),
        }
    }

    pub fn has_done_all(&self) -> bool {
        self.only.is_some() || self.done.iter().all(|count| *count > 0)
    }

    /// What the directors must have in the end.
    pub fn backends(&self) -> &Backends {
        &self.backends
    }

    /// One thing goes wrong, and is mended.
    pub fn next(&mut self, tier: &mut Tier) {
        if self.round.is_empty() {
            self.round = (0..KINDS.len()).rev().collect();
            // The first round is in the order of the list, which begins with what parts nobody.
            if self.has_done_all() {
                for at in (1..KINDS.len()).rev() {
                    self.round.swap(at, self.dice.below(at + 1));
                }
            }
        }
        let kind = self
            .only
            .unwrap_or_else(|| self.round.pop().expect("a round"));
        let victim = self.dice.below(DIRECTORS);
        println!("{} (director {victim})", KINDS[kind]);
        match KINDS[kind] {
            "orders" => self.orders(tier, 6),
            "killed" => self.kill(tier, victim, 0),
            "other clock" => {
                let offset = if self.dice.below(2) == 0 { 40 } else { -40 };
                self.kill(tier, victim, offset);
            }
            "slow" => {
                let delay = Duration::from_millis(50 + self.dice.below(250) as u64);
                tier.network.change(victim, |way| way.delay = delay);
                self.orders(tier, 2);
                sleep(self.dice.seconds(2, 4));
                tier.network
                    .change(victim, |way| way.delay = Duration::ZERO);
            }
            "narrow" => {
                tier.network.change(victim, |way| way.rate = 60_000);
                self.orders(tier, 2);
                sleep(self.dice.seconds(2, 4));
                tier.network.change(victim, |way| way.rate = 0);
            }
            "moves" => self.moves(tier, victim),
            "kicks" => self.kick(tier, victim),
            "stopped" => {
                let time = self.dice.seconds(3, 10);
                tier.sessions.part(time);
                tier.signal(victim, libc::SIGSTOP);
                sleep(time);
                tier.signal(victim, libc::SIGCONT);
                tier.wait_synced(victim);
            }
            "cut off" => self.cut(tier, victim, Cut::Silent),
            "half cut" => self.cut(tier, victim, Cut::OneWay),
            "unplugged" => self.cut(tier, victim, Cut::Cable),
            other => panic!("{other}"),
        }
        tier.are_running();
        self.done[kind] += 1;
        sleep(self.dice.seconds(1, 2));
    }

    /// Weights, and backends down and up, at any director.
    fn orders(&mut self, tier: &Tier, count: usize) {
        for _ in 0..count {
            let ip = backend(1 + self.dice.below(usize::from(BACKENDS)) as u8);
            let at = self.dice.below(DIRECTORS);
            let (weight, down) = self.backends[&ip];
            let few_down = self.backends.values().filter(|it| it.1).count() < 8;
            let (line, now) = match self.dice.below(3) {
                0 if down => (format!("HOST-UP\t{ip}"), (weight, false)),
                0 if few_down => (format!("HOST-DOWN\t{ip}"), (weight, true)),
                _ => {
                    let weight = 50 + self.dice.below(100) as u32;
                    (format!("HOST-UPDATE\t{ip}\t{weight}"), (weight, down))
                }
            };
            self.keep_ordering(tier, at, &line);
            if now.1 != down {
                self.touched.insert(ip);
            }
            self.backends.insert(ip, now);
        }
    }

    /// Until it is taken.
    fn keep_ordering(&self, tier: &Tier, at: usize, line: &str) {
        wait_until(&format!("{line} is taken"), 2 * PATIENCE, || {
            tier.order(at, line) == "OK"
        });
    }

    /// Killed, and started again.
    fn kill(&mut self, tier: &mut Tier, victim: usize, offset: i64) {
        tier.kill(victim);
        sleep(self.dice.seconds(1, 5));
        tier.run(victim, offset);
        tier.wait_synced(victim);
    }

    /// Some users go elsewhere, and everybody knows it. While directors may have parted users are put together first.
    fn moves(&mut self, tier: &Tier, at: usize) {
        wait_until("the ring is whole", PATIENCE, || tier.sessions.is_whole());
        let up: Vec<_> = self.backends.iter().filter(|(_, it)| !it.1).collect();
        for _ in 0..5 {
            let user = format!("user{}", self.dice.below(USERS));
            let ip = *up[self.dice.below(up.len())].0;
            let line = format!("USER-MOVE\t{}\t{ip}", hash(&user));
            wait_until(&format!("{line} is taken"), PATIENCE, || {
                tier.order(at, &line) == "OK"
            });
            for at in 0..DIRECTORS {
                wait_until(
                    &format!("director {at} has {user} at {ip}"),
                    PATIENCE,
                    || tier.users(at).get(&hash(&user)) == Some(&ip),
                );
            }
            wait_until(
                &format!("{user} has left other backends than {ip}"),
                PATIENCE,
                || tier.sessions.of(&user).iter().all(|it| it.backend == ip),
            );
        }
    }

    /// Sessions end at all directors' login processes.
    fn kick(&mut self, tier: &Tier, at: usize) {
        for _ in 0..5 {
            let user = format!("user{}", self.dice.below(USERS));
            let before = tier.sessions.of(&user);
            let line = format!("USER-KICK\t{user}");
            self.keep_ordering(tier, at, &line);
            wait_until(&format!("{user} was kicked"), PATIENCE, || {
                let after = tier.sessions.of(&user);
                before
                    .iter()
                    .all(|old| after.iter().all(|new| new.number != old.number))
            });
        }
    }

    /// From all others. Meanwhile it takes a backend down, of which the others know nothing: the same new users go to
    /// different backends on both sides, as soon as it serves alone.
    fn cut(&mut self, tier: &Tier, victim: usize, cut: Cut) {
        let time = self.dice.seconds(7, 14);
        tier.sessions.part(time);
        let set = |is_cut: bool| match cut {
            Cut::Cable => tier.network.link(victim, !is_cut),
            Cut::Silent => tier.network.change(victim, |way| way.is_cut = is_cut),
            Cut::OneWay => (0..DIRECTORS).for_each(|other| {
                tier.network
                    .change_one(victim, other, |way| way.is_cut = is_cut);
            }),
        };
        set(true);
        // The last change of a backend's state counts, by the clock of whoever has made it.
        let mut untouched = (1..=BACKENDS).map(backend);
        let down = untouched.find(|ip| !self.touched.contains(ip));
        let order = down.map(|ip| {
            let socket = tier.admin(victim);
            let line = format!("HOST-DOWN\t{ip}");
            self.touched.insert(ip);
            self.backends.entry(ip).and_modify(|it| it.1 = true);
            let order = line.clone();
            let asking = thread::spawn(move || ask(&socket, &order).expect("an answer"));
            (line, asking)
        });
        sleep(time);
        set(false);
        (0..DIRECTORS).for_each(|at| tier.wait_synced(at));
        let Some((line, order)) = order else {
            return;
        };
        let said = order.join().expect("an order");
        let is_done = said == "OK" || said == Reply::SyncTimedOut.text();
        assert!(is_done, "{line} at director {victim}: {said}");
        // What one side has changed the other may undo when they meet: operators are told to look, and to repeat it.
        self.keep_ordering(tier, victim, &line);
    }
}
