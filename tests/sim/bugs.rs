//! Bugs that are put in on purpose, to see whether the simulator finds them. Those with a year were
//! found in directors in the field; each is made by the driver or on the wire, so the machine itself
//! has no switch for them.

use homing::wire::ring::DirectorId;

use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Nobody is told of users.
    UsersUntold,
    /// A director that joins is not told of the users that are there, and what it asks is not heard.
    JoinerUntold,
    /// Sessions on the losing backend of a conflict live on (2014).
    NoConflictKick,
    /// A restarted director's list wins over the ring's: who is complete is said the wrong way round (2010).
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
    /// What others ask to be confirmed is not passed on (2014 in a ring of two, 2016).
    WeakUnreturned,
    /// SYNC does not say which backends its director has (2015).
    HashUnsaid,
    /// USER-KILLED overtakes USER-MOVE (2017).
    MoveLate,
    /// Notes for which the queue has no room are gone.
    NotesForgotten,
    /// Lookups are not woken when their user may go on.
    NoWakes,
    /// Slots of removed backends are given away before the table was swept.
    NoSweep,
}

impl Bug {
    /// What becomes of the lines that a director writes.
    pub fn rewrite(self, bytes: Vec<u8>, writer: DirectorId, rng: &mut Rng) -> Vec<u8> {
        let mut kept = Vec::with_capacity(bytes.len());
        let mut late = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let word = word(line);
            if self.drops(word, rng) {
                continue;
            }
            match self {
                Bug::JoinerWins if line == b"HOST-HAND-START\t1\n" => {
                    kept.extend_from_slice(b"HOST-HAND-START\t0\n");
                }
                Bug::JoinerWins if line == b"HOST-HAND-START\t0\n" => {
                    kept.extend_from_slice(b"HOST-HAND-START\t1\n");
                }
                Bug::HashUnsaid if word == b"SYNC" => {
                    let hash = line.iter().rposition(|byte| *byte == b'\t').unwrap_or(0);
                    kept.extend_from_slice(&line[..hash]);
                    kept.extend_from_slice(b"\t0\n");
                }
                Bug::MoveLate if word == b"USER-MOVE" => late.extend_from_slice(line),
                Bug::WeakUnreturned if word == b"USER-WEAK" && !is_by(writer, line) => {}
                _ => kept.extend_from_slice(line),
            }
        }
        kept.extend_from_slice(&late);
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

fn word(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|byte| b"\t\n".contains(byte));
    &line[..end.unwrap_or(line.len())]
}

/// Whether a line's origin is this director.
fn is_by(writer: DirectorId, line: &[u8]) -> bool {
    line.split(|byte| *byte == b'\t').nth(1) == Some(writer.ip.to_string().as_bytes())
        && line.split(|byte| *byte == b'\t').nth(2) == Some(writer.port.to_string().as_bytes())
}
