//! The only code that knows glommio, sockets, clocks and signals.

pub mod clock;
mod coalesce;
pub mod control;
pub mod cores;
pub mod directory;
pub mod dovecot_log;
pub mod dovecot_master;
pub mod epoll;
pub mod io;
pub mod keeper;
mod log_limit;
pub mod mailbox;
pub mod notes;
pub mod preflight;
pub mod privileges;
pub mod random;
pub mod readable;
pub mod relay;
pub mod ring_io;
mod serve;
pub mod sessions;
pub mod signals;
pub mod sockets;
pub mod stats;
pub mod systemd;
pub mod tier;
