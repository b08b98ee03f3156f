//! What the other directors say of a backend (docs/protocol/ring.md, hosts).
//!
//! Called by the machine of the ring; without a ring nobody says anything.

use std::net::IpAddr;

use super::{Backend, BackendError, Backends, NewBackend, names_fit};
use crate::core::{BackendSlot, Wall};
use crate::wire::ring::Host;

/// No host name is longer. One that is would only take the room of the tag in our own lines.
const MAX_NAME: usize = 255;

/// A HOST line, in a block of hosts or with an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLine<'a> {
    /// The backend.
    pub ip: IpAddr,
    /// Its weight.
    pub vhosts: u32,
    /// Its tag; empty for none.
    pub tag: &'a [u8],
    /// Out of service.
    pub down: bool,
    /// When that changed; 0: never.
    pub changed: Wall,
    /// Host name, if it can be written into replies and logs.
    pub name: Option<&'a str>,
}

impl<'a> From<&'a Host<'_>> for HostLine<'a> {
    fn from(host: &'a Host<'_>) -> Self {
        // A TAB in a name would be another field of every login's reply.
        let name = host
            .name
            .as_deref()
            .and_then(|name| str::from_utf8(name).ok());
        HostLine {
            ip: host.ip,
            vhosts: host.vhosts,
            tag: &host.tag,
            down: host.down,
            changed: Wall(host.changed),
            name: name
                .filter(|name| name.len() <= MAX_NAME)
                .filter(|name| !name.contains(|c: char| c.is_control() || c == ' ')),
        }
    }
}

/// In whose name a changed backend is told to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// The line's origin; the sender of the line need not hear it.
    Origin,
    /// This director, to everybody: two changes crossed, and what came of them is new to all.
    Ourselves,
}

/// What a HOST line did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It said nothing new. It is not forwarded.
    Unchanged,
    /// The backend is new or changed: publish a snapshot, tell the others what is stored now, begin a
    /// ring sync.
    Changed {
        /// Who tells it.
        teller: Teller,
        /// The backend was not known.
        created: bool,
        /// It has another tag, so its users are forgotten: the slot that they were filed under, which
        /// is retired.
        retired: Option<BackendSlot>,
    },
}

/// The values that a line leads to.
struct Outcome {
    vhosts: u32,
    down: bool,
    changed: Wall,
    teller: Teller,
}

impl Backends {
    /// Whether a line says nothing new. Another time or another name alone is no change: it would be
    /// told round for nothing.
    pub fn is_as_told(&self, line: &HostLine<'_>) -> bool {
        self.find(line.ip).is_some_and(|known| {
            *self.tag_name(known.tag) == *line.tag
                && known.vhosts == line.vhosts
                && known.down == line.down
        })
    }

    /// Applies a HOST line. `in_ring`: there is a left or a right, so that the change will be on its
    /// way for a while. `agreed`: [`Backends::changes`] when the line's director last was seen to have
    /// the list as it was here, 0 for never. What that director changes later follows on those changes.
    ///
    /// # Errors
    /// `NamesTooLong`, `TooManyVhosts`, `TooManyPoints`, `TooManyBackends`, `TooManyTags`. The list is
    /// then as it was.
    pub fn merge(
        &mut self,
        line: &HostLine<'_>,
        in_ring: bool,
        agreed: u64,
    ) -> Result<Merged, BackendError> {
        let merged = match self.position(line.ip) {
            Err(_) => self.learn(line)?,
            Ok(index) => self.change(index, line, agreed)?,
        };
        if let (Merged::Changed { .. }, Ok(index)) = (merged, self.position(line.ip)) {
            self.list[index].desynced |= in_ring;
            self.mark_changed(index);
        }
        self.check_invariants();
        Ok(merged)
    }

    /// Adds a backend as it was saved. Unlike one that is heard of, it keeps the time of its last change
    /// whether it is up or down.
    pub(in crate::core) fn recall(
        &mut self,
        line: &HostLine<'_>,
        now: Wall,
    ) -> Result<(), BackendError> {
        self.learn(line)?;
        let index = self.known(line.ip)?;
        self.list[index].last_updown_change = line.changed.min(now);
        Ok(())
    }

    /// A backend that is up when it is first heard of has never changed, whatever the line says.
    fn learn(&mut self, line: &HostLine<'_>) -> Result<Merged, BackendError> {
        self.add(NewBackend {
            ip: line.ip,
            name: line.name,
            tag: line.tag,
            vhosts: line.vhosts,
        })?;
        self.set_down(line.ip, line.down, line.changed)?;
        Ok(Merged::Changed {
            teller: Teller::Origin,
            created: true,
            retired: None,
        })
    }

    fn change(
        &mut self,
        index: usize,
        line: &HostLine<'_>,
        agreed: u64,
    ) -> Result<Merged, BackendError> {
        let known = &self.list[index];
        let same_tag = *self.tag_name(known.tag) == *line.tag;
        if self.is_as_told(line) {
            return Ok(Merged::Unchanged);
        }
        let outcome = cross(known, line, agreed);
        // Everything that can fail comes before everything that changes.
        names_fit(line.ip, line.tag, known.name.as_deref())?;
        self.points_with(line.ip, known.vhosts, outcome.vhosts)?;
        let mut retired = None;
        if !same_tag {
            self.intern_tag(line.tag)?;
            retired = Some(self.drop_users(line.ip)?);
            self.set_tag(line.ip, line.tag)?;
        }
        self.set_vhosts(line.ip, outcome.vhosts)?;
        self.set_down(line.ip, outcome.down, outcome.changed)?;
        Ok(Merged::Changed {
            teller: outcome.teller,
            created: false,
            retired,
        })
    }
}

/// A change that crosses another one: every director comes to the same result, in whichever order it
/// hears of them. The lower weight wins, and the later of two times the state was changed.
fn cross(known: &Backend, line: &HostLine<'_>, agreed: u64) -> Outcome {
    let changed = line.changed.max(known.last_updown_change);
    if !known.desynced || known.changed <= agreed {
        return Outcome {
            vhosts: line.vhosts,
            down: line.down,
            changed,
            teller: Teller::Origin,
        };
    }
    // Changed in the same second, the state of both would change places for ever: down wins.
    let same_time = known.last_updown_change == line.changed;
    let ours_is_later = known.last_updown_change > line.changed || (same_time && known.down);
    Outcome {
        vhosts: known.vhosts.min(line.vhosts),
        down: if ours_is_later { known.down } else { line.down },
        changed,
        teller: Teller::Ourselves,
    }
}

#[cfg(test)]
mod tests;
