//! Homing, a mail director: all simultaneous connections of one user go to the same backend.
//!
//! Seven layers, each of which may use only those above it in this list:
//!
//! | layer | what it is | may use |
//! |---|---|---|
//! | [`wire`] | codecs: bytes to messages and back | nothing |
//! | [`core`] | the decisions: user hash, hash ring, user table, lookups | `wire` |
//! | [`admin`] | what operators order and ask, and what they are answered | `wire`, `core` |
//! | [`http`] | the HTTP interface: tokens, routes, documents, metrics, the page | `wire`, `core`, `admin` |
//! | [`settings`] | every setting, its default and range; import of a Dovecot configuration | `wire`, `core` |
//! | [`shell`] | sockets, executors, clocks, signals: the only layer that knows glommio | all |
//! | [`cli`] | the commands | all |
//!
//! `wire`, `core`, `admin` and `http` hold no socket, clock, random number, thread, lock, async or unsafe code.
//! `src/core/LIFECYCLE.md` tells the life of a login from beginning to end.

pub mod admin;
pub mod cli;
pub mod core;
pub mod http;
pub mod settings;
pub mod shell;
pub mod wire;
