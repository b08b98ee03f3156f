//! The state of the director on disk, for a start after a power cut ([`crate::core::state`]).
//!
//! | file | what |
//! |---|---|
//! | `read` | at the start: read within a time, or not at all |
//! | `write` | one whole file in the place of the one before |
//! | `keep` | the thread that writes now and then, and at the end |
//! | `place` | the directory, and what is wrong with it |

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::core::state::SavedUser;

mod keep;
mod place;
mod read;
mod write;

pub use keep::{Keep, Setup};
pub use place::{look, prepare};
pub use read::{LIMIT, Unread, at_start, read};
pub use write::write_to;

/// Users that were saved, until it is known whether they are needed.
#[derive(Debug)]
pub struct Recollection {
    /// By the address of their backend.
    pub users: Vec<(IpAddr, Vec<SavedUser>)>,
    /// Set when they were taken in, or are not needed: what is written before has not got them.
    pub settled: Arc<AtomicBool>,
}
