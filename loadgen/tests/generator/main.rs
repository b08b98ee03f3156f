//! The generator against scripted directors, a plain relay, the stub auth server and fake mail
//! servers.

mod mail;
mod mailserver;
mod open_loop;
mod real_auth;
mod results;
mod ring;
mod scripted;
mod with_stub;
mod wrong_replies;
