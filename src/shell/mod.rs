//! The only code that knows glommio, sockets, clocks and signals.

pub mod dovecot_log;
pub mod dovecot_master;
pub mod keeper;
pub mod preflight;
pub mod privileges;
pub mod signals;
pub mod sockets;
pub mod systemd;
