//! Where the log goes: standard error, or Dovecot's log process.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

use crate::shell::dovecot_log;

/// Changes what is logged while the program runs.
pub struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    /// Logs what `filter` says from now on.
    pub fn set(&self, filter: &str) {
        if let Err(error) = self.0.reload(parse(filter)) {
            tracing::error!("cannot change log_level: {error}");
        }
    }
}

/// A filter, or `info` for one that is not understood; the settings are checked before.
fn parse(filter: &str) -> EnvFilter {
    EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// Logs to standard error. systemd adds time stamps of its own.
pub fn to_stderr(filter: &str) -> Level {
    let (filter, handle) = reload::Layer::new(parse(filter));
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    if journal {
        registry.with(lines.without_time()).init();
    } else {
        registry.with(lines).init();
    }
    Level(handle)
}

/// Logs in the form that Dovecot's log process reads.
pub fn to_dovecot(filter: &str) -> Level {
    let (filter, handle) = reload::Layer::new(parse(filter));
    tracing_subscriber::registry()
        .with(filter)
        .with(dovecot_log::layer(dovecot_log::LogPipe::stderr()))
        .init();
    Level(handle)
}
