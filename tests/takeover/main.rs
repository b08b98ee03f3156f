//! A running Homing whose program is started anew and takes over (docs/protocol/takeover.md): under load, with
//! everything half done that can be, in a ring, and by processes that are none or die in the midst of it.
//!
//! Needs Python 3; what needs root says so.

mod half;
mod line;
mod load;
#[path = "../networks/mod.rs"]
mod networks;
mod places;
#[allow(
    dead_code,
    unused_imports,
    reason = "these tests need only a part of it"
)]
#[path = "../abuse/rig/mod.rs"]
mod rig;
mod ring;
mod vain;
