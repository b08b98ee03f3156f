//! What the targets of the ring have in common: a machine of the ring with its users, as a driver would
//! hold them, and somebody at the other end of each connection who reads every line that it writes.

mod machine;
mod reader;
mod script;

pub use machine::{LIMITS, Machine, backend, director, user};
pub use reader::Reader;
pub use script::Script;
