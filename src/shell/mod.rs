//! The only code that knows glommio, sockets, clocks and signals.

pub mod clock;
pub mod cores;
pub mod directory;
pub mod epoll;
pub mod io;
mod log_limit;
pub mod relay;
mod serve;
pub mod stats;
pub mod tier;
