//! Every row of the rules about connections (docs/protocol/ring.md): who is dialled and who is left
//! alone, what a connection takes, who becomes left and right, what time does, SYNC.

use super::scripted::*;
use super::*;

mod dialling;
mod handshakes;
mod membership;
mod places;
mod syncs;
mod timers;

/// Among four others, .34 to .32 downwards to the right and .31 to the left of .33.
fn five(us: u8) -> Setup {
    Setup {
        us,
        directors: vec![31, 32, 33, 34, 35],
        ..Setup::default()
    }
}

fn said_quit(lines: &[String]) -> bool {
    lines.iter().any(|line| line.starts_with("QUIT\t"))
}
