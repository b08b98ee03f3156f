//! How many sessions an order has ended, at the login processes of the director that was asked
//! (docs/protocol/admin.md, sessions).

use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::client::{Answer, Client};
use super::failure::Failure;
use crate::wire::admin::{Command, Reply, Whose, read};

/// Between two counts, at first; each takes Dovecot a list of all sessions, so it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Counts without a session less, until those that are left are said to have survived.
const STEADY: u32 = 4;
/// Counts at most.
const MOST: u32 = 12;

/// What has become of sessions, in JSON. A number is `null` where nobody can tell: from Dovecot's
/// director, or where the sessions cannot be listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Fate {
    /// Sessions that were there before and no longer are.
    pub(super) sessions_ended: Option<u64>,
    /// Sessions that are still there.
    pub(super) sessions_survived: Option<u64>,
}

/// Sessions that are being watched.
pub(super) struct Watch(Option<u64>);

impl Watch {
    /// Has a Homing remember the sessions that are there before an order. Nobody is told of them
    /// otherwise.
    pub(super) fn begin(client: &mut Client, whose: Whose<'_>) -> Result<Watch, Failure> {
        if !client.is_homing()? {
            return Ok(Watch(None));
        }
        let counted = patiently(client, &Command::Sessions(whose))?;
        // The order is given all the same.
        Ok(Watch(counted))
    }

    /// There is nothing to be watched.
    pub(super) fn nothing() -> Watch {
        Watch(None)
    }

    /// The same as [`Watch::end`] if the order was taken; else nothing has ended.
    pub(super) fn end_of(self, answer: &Answer, client: &mut Client) -> Result<Fate, Failure> {
        match answer {
            Answer::Known(Reply::Ok) => self.end(client),
            _ => Ok(Fate::default()),
        }
    }

    /// After the order: waits until all have ended, or no more do.
    fn end(self, client: &mut Client) -> Result<Fate, Failure> {
        let Some(before) = self.0 else {
            return Ok(Fate::default());
        };
        let (mut left, mut steady, mut pause) = (before, 0, Duration::ZERO);
        for _ in 0..MOST {
            if left == 0 || steady == STEADY {
                break;
            }
            thread::sleep(pause);
            pause = (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            let Some(now) = patiently(client, &Command::SessionsLeft)? else {
                return Ok(Fate::default());
            };
            steady = match now < left {
                true => 0,
                false => steady + 1,
            };
            // A client that is back at once may look like one that never went.
            left = left.min(now);
        }
        Ok(Fate {
            sessions_ended: Some(before - left),
            sessions_survived: Some(left),
        })
    }
}

/// A count; `None`: it cannot be had, which is told unless nobody wants it.
fn patiently(client: &mut Client, command: &Command<'_>) -> Result<Option<u64>, Failure> {
    let mut line = client.ask(command)?;
    for _ in 0..MOST {
        if read::reply(&line) != Some(Reply::TryAgain) {
            break;
        }
        // Others count as well.
        thread::sleep(LONGEST_PAUSE);
        line = client.ask(command)?;
    }
    let count = read::count(&line);
    match read::reply(&line) {
        Some(Reply::TryAgain) => eprintln!("sessions are not counted: others are, all the time"),
        Some(_) => {}
        None if count.is_none() => eprintln!("{}", String::from_utf8_lossy(&line)),
        None => {}
    }
    Ok(count)
}

impl Fate {
    /// For people, with the comma before it; empty where nothing is known.
    pub(super) fn text(self) -> String {
        let (Some(ended), Some(survived)) = (self.sessions_ended, self.sessions_survived) else {
            return String::new();
        };
        let plural = if ended == 1 { "" } else { "s" };
        match survived {
            0 => format!(", {ended} session{plural} ended"),
            survived => format!(", {ended} session{plural} ended, {survived} survived"),
        }
    }
}
