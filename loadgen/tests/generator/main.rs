//! The generator against scripted directors, a plain relay and the stub auth server.

mod open_loop;
mod scripted;
mod with_stub;
mod wrong_replies;
