//! The rig: rings of Dovecot 2.3's directors and Homings, and what they should agree on.
//!
//! A [`Ring`] is several members on loopback addresses of one site. It remembers what all of them
//! should know (backends, users), changes that together with them, and compares.

mod backends;
mod complaints;
mod door;
mod load;
mod member;
mod orders;
mod ring;
mod view;

pub use backends::{Change, TAGGED, user_hash};
pub use door::Outcome;
pub use ring::{Ring, RingSpec, backend, named};
