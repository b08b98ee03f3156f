//! Codecs: total functions from bytes to messages, or "incomplete", or a typed error that says
//! who is at fault. No panic and no unbounded memory on any input.

pub mod admin;
pub mod anvil;
pub mod auth;
pub mod health;
pub mod ip_text;
pub mod ipc;
pub mod line;
pub mod ring;
pub mod script;
pub mod takeover;
