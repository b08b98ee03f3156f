//! Bugs that are put in on purpose, to see whether the simulator finds them. Those with a year were
//! found in directors in the field; each is made by the driver or on the wire, so the machine itself
//! has no switch for them.

use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Nobody is told of users.
    UsersUntold,
    /// A director that joins is not told of the users that are there, and what it asks is not heard.
    JoinerUntold,
    /// Sessions on the losing backend of a conflict live on (2014).
    NoConflictKick,
    /// A restarted director's list wins over the ring's (2010).
    JoinerWins,
    /// Idle connections are not probed (2010).
    NoPings,
    /// A SYNC that is lost with its connection is not sent again (2012).
    SyncOnce,
    /// A director in the wrong place is not told where to go (2012).
    NoConnect,
    /// Directors farther away do not hear of a restart (2012).
    DirectorsUntold,
    /// The end of a move is not told (2016).
    KillsUntold,
    /// Notes for which the queue has no room are gone.
    NotesForgotten,
    /// Lookups are not woken when their user may go on.
    NoWakes,
    /// Slots of removed backends are given away before the table was swept.
    NoSweep,
}

impl Bug {
    /// What becomes of the lines that a director writes.
    pub fn rewrite(self, bytes: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
        let mut kept = Vec::with_capacity(bytes.len());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let word = line
                .split(|byte| b"\t\n".contains(byte))
                .next()
                .unwrap_or_default();
            if self.drops(word, rng) {
                continue;
            }
            if self == Bug::JoinerWins && line == b"HOST-HAND-START\t1\n" {
                kept.extend_from_slice(b"HOST-HAND-START\t0\n");
                continue;
            }
            kept.extend_from_slice(line);
        }
        kept
    }

    fn drops(self, word: &[u8], rng: &mut Rng) -> bool {
        match self {
            Bug::UsersUntold => [b"USER".as_slice(), b"USERS", b"U", b"UU"].contains(&word),
            Bug::JoinerUntold => [b"U".as_slice(), b"UU", b"ASK"].contains(&word),
            Bug::NoConflictKick => word == b"USER-KICK-HASH",
            Bug::NoPings => word == b"PING",
            Bug::SyncOnce => word == b"SYNC" && rng.percent(90),
            Bug::NoConnect => word == b"CONNECT",
            Bug::DirectorsUntold => word == b"DIRECTOR",
            Bug::KillsUntold => word == b"USER-KILLED-EVERYWHERE",
            _ => false,
        }
    }
}
