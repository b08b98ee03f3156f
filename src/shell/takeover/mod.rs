//! A process that takes the place of another one while logins go on (docs/protocol/takeover.md).
//!
//! | module | what it is |
//! |---|---|
//! | [`channel`] | the socket between the two |
//! | [`give`] | the old process: starts the new one, and shows it everything |
//! | [`take`] | the new process: takes it in, and waits for the word |
//!
//! The old process shows what it has and changes nothing by it, while its cores stand still. The word to go
//! is the only moment that counts: before it the new process has touched nothing, and the old one can go on
//! as if nothing had happened; after it the old one never reads, writes or accepts again.

pub mod channel;
pub mod give;
pub mod take;
