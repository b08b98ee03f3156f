//! What a client of the admin socket says, and what it is answered (docs/protocol/admin.md).
//!
//! Pure, as `core` is: bytes of a client go in, [`Work`] comes out; what came of it goes in, and bytes
//! for the client come out. The driver has the sockets, the ring's thread and the user table.
//!
//! | module | what it is about |
//! |---|---|
//! | [`session`] | one client: its lines in order, one command at a time |
//! | [`work`] | from a command to what is to be done, and from what came of it to a reply |
//! | [`rows`] | the rows of lists |
//! | [`census`] | sessions that an order is about to end |
//! | [`plan`] | what a change of backends would move |
//! | [`dump`] | the backends as a file, and the steps back to it |
//! | [`documents`] | what is told of backends, users and directors in JSON |
//!
//! A command that Dovecot does not know is added to [`crate::wire::admin::Command`], gets its [`Work`],
//! and is answered like the others: by a reply, by an answer of the ring, or by rows.

pub mod census;
pub mod documents;
pub mod dump;
pub mod plan;
pub mod rows;
pub mod session;
pub mod work;

pub use census::{Census, Whose};
pub use rows::UserList;
pub use session::{Fault, Session};
pub use work::{Context, Work};
