//! Host names of `director_mail_servers`, whose addresses may change (docs/protocol/configuration.md, host
//! names).
//!
//! Pure: what resolutions gave and what the list of backends shows go in, requests for the ring and lines for
//! the log come out. What came of a request is seen in the list. A change is asked for by one director of a
//! ring: the one whose place comes first, unless it does not have the name, or is not there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Mono;
use super::ip_text::ip_text;
use super::ring::{Level, Order};

/// Successive resolutions that an address must be missing from. One wrong answer of a name server, or a
/// change that is taken back at once, moves nobody.
const MISSES: u8 = 3;
/// How much longer each director waits than the one before it: as long as a ring may take to agree.
const TURN: u64 = 5 * Mono::SECOND;
/// A request is made again if the list does not show it after this: it has waited for a synced ring for up to
/// 30 s before it ran, and as long for its answer.
const AGAIN: u64 = 70 * Mono::SECOND;
/// Most addresses of a name that are looked at, the lowest ones. Real tiers have a few dozen; what a name
/// server says must not fill the list of backends.
pub const MAX_ADDRESSES: usize = 256;
/// Weight of a new address whose name has no other: that of a backend in the settings.
const DEFAULT_VHOSTS: u32 = 100;
/// Most addresses that are remembered of a name, those included that it has lost: a ring that does not agree
/// for long lets none be forgotten.
const MAX_KNOWN: usize = 4 * MAX_ADDRESSES;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The name has it, but for the last so many resolutions.
    Here { missed: u8 },
    /// The name has got it. `drained`: it had been lost, and the backend may still be there.
    New { since: Mono, drained: bool },
    /// The name has lost it.
    Lost { since: Mono },
    /// The name has lost it, and it takes no new users; without any since then.
    Drained { empty: Option<Mono> },
    /// The name has lost it, and somebody has given it a weight again.
    Kept,
}

#[derive(Clone, Debug)]
struct Name {
    name: String,
    tag: String,
    addresses: BTreeMap<IpAddr, State>,
    failing: bool,
    too_many: bool,
}

/// A backend, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its weight.
    pub vhosts: u32,
    /// Users that it has; may count some that have just expired.
    pub users: u64,
}

/// How things are.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All directors agree on the backends. Nothing is asked for else.
    pub synced: bool,
    /// Our place among the directors of the ring by address, from 0.
    pub rank: usize,
    /// The backends.
    pub backends: BTreeMap<IpAddr, Seen>,
}

/// An address of a name.
#[derive(Clone, Copy)]
struct Address {
    /// The name's number.
    at: usize,
    ip: IpAddr,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To be asked of the ring.
    Ask(Order),
    /// For the log.
    Say(Level, String),
}

/// All names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    list: Vec<Name>,
    asked: BTreeMap<IpAddr, Mono>,
    steps: Vec<Step>,
}

impl Names {
    /// The names of the settings: name, tag, and an address that it has. Lines of one name and tag belong
    /// together.
    pub fn new<'a>(addresses: impl IntoIterator<Item = (&'a str, &'a str, IpAddr)>) -> Names {
        let mut names = Names::default();
        for (name, tag, ip) in addresses {
            let at = names
                .list
                .iter()
                .position(|it| it.name == name && it.tag == tag);
            let at = at.unwrap_or_else(|| {
                names.list.push(Name {
                    name: name.to_owned(),
                    tag: tag.to_owned(),
                    addresses: BTreeMap::new(),
                    failing: false,
                    too_many: false,
                });
                names.list.len() - 1
            });
            let here = State::Here { missed: 0 };
            names.list[at].addresses.insert(ip, here);
        }
        names
    }

    /// The host names, by the numbers of [`Names::resolved`].
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.list.iter().map(|name| name.name.as_str())
    }

    /// What the resolver says of a name: all addresses that it has, or, in words, why there is no answer,
    /// after which everything stays as it is.
    pub fn resolved(&mut self, at: usize, result: Result<Vec<IpAddr>, String>, now: Mono) {
        let Some(name) = self.list.get_mut(at) else {
            return;
        };
        let found = match result {
            Ok(found) if !found.is_empty() => found,
            Ok(_) => return name.fail("it has no address", &mut self.steps),
            Err(why) => return name.fail(&why, &mut self.steps),
        };
        if std::mem::take(&mut name.failing) {
            let text = format!("host name {}: can be looked up again", name.name);
            self.steps.push(Step::Say(Level::Info, text));
        }
        name.found(found, now, &mut self.steps);
    }

    /// Whether [`Names::decide`] has anything to do.
    pub fn is_busy(&self) -> bool {
        let settled = |state: &State| matches!(state, State::Here { .. });
        let mut states = self.list.iter().flat_map(|name| name.addresses.values());
        !self.steps.is_empty() || !states.all(settled)
    }

    /// What is to be done now. To be called every second or so while there is something to do.
    pub fn decide(&mut self, view: &View, now: Mono) -> Vec<Step> {
        if view.synced {
            self.asked.retain(|_, asked| now.since(*asked) < AGAIN);
            for at in 0..self.list.len() {
                let all: Vec<_> = self.list[at].addresses.clone().into_iter().collect();
                for (ip, state) in all {
                    let next = self.next(Address { at, ip }, state, view, now);
                    let addresses = &mut self.list[at].addresses;
                    match next {
                        Some(state) => {
                            addresses.insert(ip, state);
                        }
                        None => {
                            addresses.remove(&ip);
                            self.asked.remove(&ip);
                        }
                    }
                }
            }
        }
        std::mem::take(&mut self.steps)
    }

    /// The state that follows; `None`: the address is forgotten.
    fn next(&mut self, whose: Address, state: State, view: &View, now: Mono) -> Option<State> {
        let seen = view.backends.get(&whose.ip).copied();
        let delay = TURN.saturating_mul(view.rank as u64);
        let is_due = |since: Mono| now.since(since) >= delay;
        match (state, seen) {
            (State::Here { .. }, _) => {}
            (State::New { drained, .. }, Some(seen)) if !drained || seen.vhosts > 0 => {
                self.asked.remove(&whose.ip);
                return Some(State::Here { missed: 0 });
            }
            (State::New { since, .. }, _) => {
                if is_due(since) && self.may_ask(whose.ip, now) {
                    self.welcome(whose, seen.is_some(), view);
                }
            }
            // Somebody has removed it.
            (State::Lost { .. } | State::Drained { .. } | State::Kept, None) => return None,
            (State::Lost { .. }, Some(_)) if self.is_held(whose) => return None,
            (State::Lost { .. }, Some(Seen { vhosts: 0, .. })) => {
                self.asked.remove(&whose.ip);
                return Some(State::Drained { empty: None });
            }
            (State::Lost { since }, Some(seen)) => {
                if is_due(since) && self.may_ask(whose.ip, now) {
                    self.drain(whose, seen.vhosts);
                }
            }
            (State::Drained { .. }, Some(seen)) if seen.vhosts > 0 => {
                let (ip, vhosts) = (ip_text(whose.ip), seen.vhosts);
                let text = format!(
                    "{ip} has weight {vhosts} again: it stays, although the name has lost it"
                );
                self.say(whose, Level::Info, &text);
                return Some(State::Kept);
            }
            (State::Drained { empty }, Some(seen)) => {
                let empty = (seen.users == 0).then(|| empty.unwrap_or(now));
                if empty.is_some_and(is_due) && self.may_ask(whose.ip, now) {
                    let text = format!("{} has no users any more: removing it", ip_text(whose.ip));
                    self.say(whose, Level::Info, &text);
                    self.steps.push(Step::Ask(Order::Remove(whose.ip)));
                }
                return Some(State::Drained { empty });
            }
            (State::Kept, Some(_)) => {}
        }
        Some(state)
    }

    /// The name has got an address: it becomes a backend, or gets its weight back.
    fn welcome(&mut self, whose: Address, is_there: bool, view: &View) {
        let ip = whose.ip;
        let vhosts = self.weight(whose.at, view);
        let name = &self.list[whose.at];
        let order = match is_there {
            true => Order::UpdateBackend {
                ip,
                tag: None,
                vhosts: Some(vhosts),
            },
            false => Order::AddNamed {
                ip,
                name: name.name.clone(),
                tag: name.tag.clone().into_bytes(),
                vhosts,
            },
        };
        let text = format!("it has {} now, which gets weight {vhosts}", ip_text(ip));
        self.say(whose, Level::Info, &text);
        self.steps.push(Step::Ask(order));
    }

    fn drain(&mut self, whose: Address, vhosts: u32) {
        let ip = ip_text(whose.ip);
        let text = format!(
            "{ip} was missing from {MISSES} lookups: it gets weight 0, and is removed when it has no users; to \
             keep it, give it a weight then: homing update {ip} {vhosts}"
        );
        self.say(whose, Level::Warning, &text);
        self.steps.push(Step::Ask(Order::UpdateBackend {
            ip: whose.ip,
            tag: None,
            vhosts: Some(0),
        }));
    }

    /// The weight of the name's other addresses; where they differ, the greatest.
    fn weight(&self, at: usize, view: &View) -> u32 {
        let addresses = self.list[at].addresses.iter();
        let here = addresses.filter(|(_, state)| matches!(state, State::Here { .. }));
        let weights = here.filter_map(|(ip, _)| Some(view.backends.get(ip)?.vhosts));
        weights.max().unwrap_or(DEFAULT_VHOSTS)
    }

    /// Whether another name has this address.
    fn is_held(&self, whose: Address) -> bool {
        let others = self.list.iter().enumerate();
        let mut others = others.filter(|(at, _)| *at != whose.at);
        others.any(|(_, name)| {
            let state = name.addresses.get(&whose.ip);
            matches!(state, Some(State::Here { .. } | State::New { .. }))
        })
    }

    /// Whether a request about a backend may be made, which is then taken for made.
    fn may_ask(&mut self, ip: IpAddr, now: Mono) -> bool {
        let free = !self.asked.contains_key(&ip);
        if free {
            self.asked.insert(ip, now);
        }
        free
    }

    fn say(&mut self, whose: Address, level: Level, text: &str) {
        let text = format!("host name {}: {text}", self.list[whose.at].name);
        self.steps.push(Step::Say(level, text));
    }
}

impl Name {
    fn fail(&mut self, why: &str, steps: &mut Vec<Step>) {
        if !std::mem::replace(&mut self.failing, true) {
            let text = format!(
                "host name {} cannot be looked up, its backends stay as they are: {why}",
                self.name
            );
            steps.push(Step::Say(Level::Warning, text));
        }
    }

    fn found(&mut self, mut found: Vec<IpAddr>, now: Mono, steps: &mut Vec<Step>) {
        found.sort_unstable();
        found.dedup();
        let too_many = found.len() > MAX_ADDRESSES;
        if too_many && !self.too_many {
            let text = format!(
                "host name {}: has {} addresses, of which only {MAX_ADDRESSES} are looked at",
                self.name,
                found.len()
            );
            steps.push(Step::Say(Level::Warning, text));
        }
        self.too_many = too_many;
        found.truncate(MAX_ADDRESSES);
        for (ip, state) in &mut self.addresses {
            *state = match found.binary_search(ip) {
                Ok(_) => state.found(now),
                Err(_) => state.missed(now),
            };
        }
        for ip in found {
            if self.addresses.len() < MAX_KNOWN {
                let new = State::New {
                    since: now,
                    drained: false,
                };
                self.addresses.entry(ip).or_insert(new);
            }
        }
    }
}

impl State {
    /// The name has the address.
    fn found(self, now: Mono) -> State {
        match self {
            State::New { .. } => self,
            State::Drained { .. } => State::New {
                since: now,
                drained: true,
            },
            State::Here { .. } | State::Lost { .. } | State::Kept => State::Here { missed: 0 },
        }
    }

    /// The name has addresses, and not this one.
    fn missed(self, now: Mono) -> State {
        match self {
            State::Here { missed } if missed + 1 >= MISSES => State::Lost { since: now },
            State::Here { missed } => State::Here { missed: missed + 1 },
            State::New { drained: true, .. } => State::Drained { empty: None },
            State::New { drained: false, .. } => State::Here { missed: 1 },
            State::Lost { .. } | State::Drained { .. } | State::Kept => self,
        }
    }
}

#[cfg(test)]
mod tests;
