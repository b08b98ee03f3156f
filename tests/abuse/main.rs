//! Homing as a real process that is treated badly: by clients, by auth, by settings and by the
//! machine. Needs no Dovecot; what needs root says so.

mod auth_trouble;
mod demo;
mod environment;
mod garbage;
mod limits;
mod load;
mod log_format;
mod parked;
mod rig;
mod secrets;
mod settings;
mod spread;
mod stickiness;
mod watchdog;
