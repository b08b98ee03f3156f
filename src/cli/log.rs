//! Where the log goes: standard error, systemd's journal, or Dovecot's log process.

use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::settings::LogFormat;
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

/// Logs to standard error or to systemd's journal.
pub fn start(filter: &str, format: LogFormat) -> Level {
    let (filter, handle) = reload::Layer::new(parse(filter));
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let wanted = match format {
        LogFormat::Auto if to_journal => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Plain,
        other => other,
    };
    let (lines, problem) = lines(wanted, to_journal);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    if let Some(error) = problem {
        tracing::warn!("systemd's journal cannot be reached, the log is text: {error}");
    }
    Level(handle)
}

type Lines = Box<dyn Layer<Layered<reload::Layer<EnvFilter, Registry>, Registry>> + Send + Sync>;

/// What writes the lines, and why it is not what was wanted.
fn lines(format: LogFormat, to_journal: bool) -> (Lines, Option<std::io::Error>) {
    let text = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    let problem = match format {
        LogFormat::Json => return (text.json().flatten_event(true).boxed(), None),
        LogFormat::Journal => match tracing_journald::layer() {
            // `HOMING_SESSION=` and so on, beside `MESSAGE=` and `PRIORITY=`.
            Ok(journal) => {
                let fields = journal.with_field_prefix(Some("HOMING".to_owned()));
                return (fields.boxed(), None);
            }
            Err(error) => Some(error),
        },
        LogFormat::Auto | LogFormat::Plain => None,
    };
    // systemd adds time stamps of its own.
    let text = if to_journal {
        text.without_time().boxed()
    } else {
        text.boxed()
    };
    (text, problem)
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
