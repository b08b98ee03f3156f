//! Health of backends: what this director's own probes say, what the other directors say, and what is ordered
//! because of it (docs/health.md).
//!
//! Pure: results of probes, lines of other directors and the state of the ring go in, orders for the ring and
//! lines for the log come out. It orders nothing by a way of its own: its orders are those of an operator.
//!
//! | module | what it is about |
//! |---|---|
//! | [`check`] | one check of one backend: rise, fall, when it is made again |
//! | [`dialogue`] | what a probe says to a backend |
//! | [`votes`] | what the other directors say |
//! | [`marks`] | who has set a backend's state, and its weight |
//! | `decide` | what is ordered |
//! | `recalled` | marks of the state on disk |
//! | [`rows`] | what an operator is shown |
//! | [`told`] | what another director was told already |

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ring::{Level, Order, Request};
use super::{Mono, Wall};
pub use crate::wire::health::{Kind, Mark, Verdict};
use crate::wire::health::{Line, MarkLine, STEPS};
use crate::wire::ring::DirectorId;

pub mod check;
mod decide;
pub mod dialogue;
pub mod marks;
mod recalled;
pub mod rows;
pub mod told;
pub mod votes;

#[cfg(test)]
mod tests;

pub use check::{Rhythm, State, Watch};
pub use decide::{Decision, Obstacle};
pub use marks::Marks;
pub use rows::Row;
pub use votes::Votes;

/// A check, as far as it is decided here. How it is made, the driver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its name, for logs and tables.
    pub name: String,
    /// How often, and what counts.
    pub rhythm: Rhythm,
    /// Backends of this tag; `None`: of all tags.
    pub tag: Option<Vec<u8>>,
    /// These backends; empty: all.
    pub backends: BTreeSet<IpAddr>,
}

/// What the settings say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// All checks; a backend is good if all are that concern it.
    pub checks: Vec<Plan>,
    /// So many directors must agree; 0: the majority of all.
    pub quorum: u32,
    /// So many of a hundred of a tag's backends stay in service, whatever their health.
    pub floor: u32,
    /// How long a backend that comes back takes to get its whole weight, nanoseconds; 0: no time.
    pub slow_start: u64,
    /// Whether anything is ordered. Else it is only told.
    pub act: bool,
}

/// A backend in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its tag.
    pub tag: Vec<u8>,
    /// Its weight.
    pub vhosts: u32,
    /// Out of service.
    pub down: bool,
    /// When that last changed; 0: never, or not known.
    pub changed: Wall,
    /// Users that it has; may count some that have just expired.
    pub users: u64,
}

/// How things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Who we are in the ring.
    pub me: DirectorId,
    /// All directors of the ring, reachable or not, this one included.
    pub directors: BTreeSet<DirectorId>,
    /// Our neighbours, and whether they have said that they are Homing.
    pub neighbours: Vec<(DirectorId, bool)>,
    /// The ring has been complete.
    pub handshaked: bool,
    /// Both neighbours are there, or there are no other directors.
    pub joined: bool,
    /// The backends.
    pub backends: BTreeMap<IpAddr, Backend>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To be asked of the ring. What came of it shows in the list of backends.
    Ask(Request),
    /// For the log.
    Say(Level, String),
}

/// A probe that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// Of this backend.
    pub ip: IpAddr,
    /// By the check of this number in [`Policy::checks`].
    pub check: usize,
}

/// Most backends whose votes or marks of others are kept: more than there can be.
pub const MAX_BACKENDS: usize = super::backends::MAX_BACKENDS;

/// The machine. See the module's page.
#[derive(Debug)]
pub struct Health {
    policy: Policy,
    me: Option<DirectorId>,
    view: Option<View>,
    watches: BTreeMap<Probe, Watch>,
    votes: Votes,
    marks: Marks,
    recalled: recalled::Recalled,
    /// Counts what the others have not heard of.
    news: u64,
    /// What was last ordered of a backend, and when.
    asked: BTreeMap<IpAddr, (Order, Mono)>,
    /// When its users were last ordered to leave.
    flushed: BTreeMap<IpAddr, Mono>,
    /// What operators want held or released, until the next look at how things are.
    wishes: Vec<(IpAddr, Kind)>,
    /// What was decided last.
    decisions: BTreeMap<IpAddr, Decision>,
    obstacle: Option<Obstacle>,
    steps: Vec<Step>,
}

impl Health {
    /// Nothing is known.
    pub fn new(policy: Policy) -> Health {
        Health {
            policy,
            me: None,
            view: None,
            watches: BTreeMap::new(),
            votes: Votes::default(),
            marks: Marks::default(),
            recalled: recalled::Recalled::default(),
            news: 0,
            asked: BTreeMap::new(),
            flushed: BTreeMap::new(),
            wishes: Vec::new(),
            decisions: BTreeMap::new(),
            obstacle: None,
            steps: Vec::new(),
        }
    }

    /// Settings after a reload. Checks that are as they were go on; all others begin anew. What was begun by a
    /// check that has changed and ends now is ignored by the driver.
    pub fn tune(&mut self, policy: Policy) {
        if self.policy.checks != policy.checks {
            self.watches.clear();
        }
        self.policy = policy;
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the other directors say.
    pub fn votes(&self) -> &Votes {
        &self.votes
    }

    /// Who has set which state.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Counts up with every mark that is set here and every check that says something else: the others are to hear
    /// of it at once.
    pub fn news(&self) -> u64 {
        self.news
    }

    /// How things are, as of the last [`Health::look`].
    pub fn view(&self) -> Option<&View> {
        self.view.as_ref()
    }

    /// Whether a check concerns a backend.
    fn concerns(plan: &Plan, ip: IpAddr, backend: &Backend) -> bool {
        plan.tag.as_ref().is_none_or(|tag| *tag == backend.tag)
            && (plan.backends.is_empty() || plan.backends.contains(&ip))
    }

    /// Probes that are to be made now, `most` at most. `random` gives any numbers.
    pub fn due(&mut self, most: usize, mut random: impl FnMut() -> u64, now: Mono) -> Vec<Probe> {
        let mut due = Vec::new();
        for (probe, watch) in &mut self.watches {
            if due.len() == most {
                break;
            }
            let rhythm = self.policy.checks[probe.check].rhythm;
            if watch.begin(rhythm, random(), now) {
                due.push(*probe);
            }
        }
        due
    }

    /// When [`Health::due`] has something next.
    pub fn next_due(&self) -> Option<Mono> {
        self.watches.values().filter_map(Watch::next).min()
    }

    /// A probe has ended.
    pub fn probed(&mut self, probe: Probe, result: Result<(), String>, wall: Wall) {
        let Some(watch) = self.watches.get_mut(&probe) else {
            return;
        };
        let plan = &self.policy.checks[probe.check];
        if !watch.ended(result, plan.rhythm, wall) {
            return;
        }
        self.news += 1;
        let (ip, name) = (super::ip_text::ip_text(probe.ip), &plan.name);
        let step = match watch.state {
            State::Down => {
                let why = watch.error.as_deref().unwrap_or_default();
                let text = format!("health: backend {ip} fails check {name}: {why}");
                Step::Say(Level::Warning, text)
            }
            _ => Step::Say(
                Level::Info,
                format!("health: backend {ip} passes check {name}"),
            ),
        };
        self.steps.push(step);
    }

    /// A probe could not be begun, for a reason that is not the backend's.
    pub fn not_probed(&mut self, probe: Probe, why: String) {
        if let Some(watch) = self.watches.get_mut(&probe) {
            watch.not_begun(why);
        }
    }

    /// Our own verdict about a backend, since when, and why.
    pub fn verdict(&self, ip: IpAddr) -> (Verdict, Wall, &str) {
        let from = Probe { ip, check: 0 };
        let to = Probe {
            ip,
            check: usize::MAX,
        };
        let mut watches = self.watches.range(from..=to).map(|(_, watch)| watch);
        let bad = watches.clone().find(|watch| watch.state == State::Down);
        if let Some(watch) = bad {
            let why = watch
                .error
                .as_deref()
                .unwrap_or("it has not passed often enough yet");
            return (Verdict::Failed, watch.since, why);
        }
        let since = watches.clone().map(|watch| watch.since).max();
        let is_good = since.is_some() && watches.all(|watch| watch.state == State::Up);
        let verdict = if is_good {
            Verdict::Good
        } else {
            Verdict::Unknown
        };
        (verdict, since.unwrap_or_default(), "")
    }

    /// A director has said something on a connection whose first line told that it is `from`.
    pub fn heard(&mut self, from: DirectorId, line: &Line, now: Mono) {
        if let Line::Mark(line) = line {
            self.merge_mark(line, now);
        } else {
            self.votes.heard(from, line, now);
        }
    }

    fn merge_mark(&mut self, line: &MarkLine, now: Mono) {
        if self.marks.merge(line, MAX_BACKENDS, now) {
            // What was ordered before belongs to another state.
            self.asked.remove(&line.ip);
        }
    }

    /// The connection on which a director spoke has ended.
    pub fn lost(&mut self, from: DirectorId) {
        self.votes.lost(from);
    }

    /// An operator has taken a backend up or down by hand, by whatever tool: it stays so.
    pub fn hold(&mut self, ip: IpAddr) {
        self.wish(ip, Kind::Held);
    }

    /// An operator leaves a backend to health again. One that is down counts as taken down by health.
    pub fn release(&mut self, ip: IpAddr) {
        self.wish(ip, Kind::Auto);
    }

    /// Whether a backend is up or down, now that somebody may just have changed that, shows at the next look.
    fn wish(&mut self, ip: IpAddr, kind: Kind) {
        self.wishes.retain(|(other, _)| *other != ip);
        if self.wishes.len() < MAX_BACKENDS {
            self.wishes.push((ip, kind));
        }
    }

    fn grant_wishes(&mut self, view: &View, now: Mono) {
        for (ip, wish) in std::mem::take(&mut self.wishes) {
            let Some(backend) = view.backends.get(&ip) else {
                continue;
            };
            let mark = self.marks.get(ip);
            let kind = match (wish, mark.kind, backend.down) {
                (Kind::Held, ..) => Kind::Held,
                (_, Kind::Held | Kind::Auto, true) => Kind::Down,
                // What is left of a slow start is its end.
                (_, Kind::Held, false) if mark.weight.is_some() => Kind::Rising(STEPS - 1),
                (_, Kind::Held, false) => Kind::Auto,
                // Health is at it already.
                _ => continue,
            };
            self.set_mark(ip, kind, now);
        }
    }

    fn set_mark(&mut self, ip: IpAddr, kind: Kind, now: Mono) {
        let mark = self.marks.get(ip);
        self.set_whole_mark(ip, Mark { kind, ..mark }, now);
    }

    fn set_whole_mark(&mut self, ip: IpAddr, mark: Mark, now: Mono) {
        let Some(me) = self.me else {
            return;
        };
        if self.marks.set(ip, mark, me, now) {
            self.news += 1;
            self.asked.remove(&ip);
        }
    }

    /// Takes what the ring and the list of backends look like, and decides. To be called a few times a second.
    /// `random` gives any numbers.
    pub fn look(
        &mut self,
        view: View,
        mut random: impl FnMut() -> u64,
        now: Mono,
        wall: Wall,
    ) -> Vec<Step> {
        self.watch_backends(&view, &mut random, now, wall);
        self.votes.forget_strangers(&view.directors);
        let is_there = |ip: IpAddr| view.backends.contains_key(&ip);
        // Before the ring is complete the list is that of the settings.
        if view.handshaked {
            self.marks.forget_absent(is_there, now);
        }
        self.me = Some(view.me);
        self.grant_wishes(&view, now);
        self.take_recalled(view.handshaked, &view.backends, now);
        self.asked.retain(|ip, _| is_there(*ip));
        self.flushed.retain(|ip, _| is_there(*ip));
        self.decide(&view, now);
        self.view = Some(view);
        std::mem::take(&mut self.steps)
    }

    /// Begins to watch backends that are new, and forgets those that are gone.
    fn watch_backends(
        &mut self,
        view: &View,
        random: &mut impl FnMut() -> u64,
        now: Mono,
        wall: Wall,
    ) {
        let checks = &self.policy.checks;
        self.watches.retain(|probe, _| {
            let backend = view.backends.get(&probe.ip);
            backend.is_some_and(|backend| Self::concerns(&checks[probe.check], probe.ip, backend))
        });
        for (&ip, backend) in &view.backends {
            for (check, plan) in checks.iter().enumerate() {
                if Self::concerns(plan, ip, backend) {
                    let watch = self.watches.entry(Probe { ip, check });
                    watch.or_insert_with(|| Watch::new(plan.rhythm, random(), now, wall));
                }
            }
        }
    }
}
