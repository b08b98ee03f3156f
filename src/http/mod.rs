//! The HTTP interface without I/O: who may do what, what there is to ask for, and how it is told.
//!
//! | module | what it is about |
//! |---|---|
//! | [`tokens`] | the file of bearer tokens, and whose a token is |
//! | [`rate`] | how often one peer may ask |
//! | [`routes`] | the table of all routes; the router, the description and the tests are made of it |
//! | [`openapi`] | the description of the JSON interface |
//! | [`problem`] | what is answered instead of a document |
//! | [`documents`] | the documents that only this interface has |
//! | [`exposition`] | the two text formats of metrics |
//! | [`metrics`] | which metrics there are |
//! | [`events`] | the last things that happened, a bounded number |
//! | [`history`] | logins and latencies of the last minutes |
//! | [`page`] | the page for people |
//!
//! Pure, as `core` is. The listener, TLS and the conversation with the director are
//! [`crate::shell::http_io`]'s.

pub mod documents;
pub mod events;
pub mod exposition;
pub mod history;
pub mod metrics;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod rate;
pub mod routes;
pub mod tokens;
