//! Keeps one cause from flooding the log.

use crate::core::Mono;

const SECOND: u64 = 1_000_000_000;

/// The limit of one cause on one core; lines beyond it are counted and told of later.
#[derive(Debug)]
pub struct LogLimit {
    most: u32,
    span: u64,
    window: Option<Mono>,
    logged: u32,
    suppressed: u64,
}

impl Default for LogLimit {
    /// Ten lines a second: enough to see what goes on, too few to fill a disk.
    fn default() -> Self {
        LogLimit {
            most: 10,
            span: SECOND,
            window: None,
            logged: 0,
            suppressed: 0,
        }
    }
}

impl LogLimit {
    /// One line a minute: for what may be true of every login and needs to be said only once.
    pub fn rare() -> LogLimit {
        LogLimit {
            most: 1,
            span: 60 * SECOND,
            ..LogLimit::default()
        }
    }

    /// Whether a line may be written now; `Some(n)`: yes, and n lines were left out before it.
    pub fn allow(&mut self, now: Mono) -> Option<u64> {
        if self
            .window
            .is_none_or(|start| now.since(start) >= self.span)
        {
            self.window = Some(now);
            self.logged = 0;
        }
        if self.logged >= self.most {
            self.suppressed += 1;
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Text that tells of lines left out, to be appended to a line.
pub fn left_out(suppressed: u64) -> String {
    match suppressed {
        0 => String::new(),
        n => format!(" ({n} similar lines left out before this one)"),
    }
}

/// Logs a line of one of the core's levels, and the number of lines left out before it. A macro, so that
/// the line belongs to the module that says it.
macro_rules! say {
    ($level:expr, $text:expr, $more:expr) => {{
        use $crate::core::ring::Level;
        let (text, more) = (&$text, $crate::shell::log_limit::left_out($more));
        match $level {
            Level::Error => tracing::error!("{text}{more}"),
            Level::Warning => tracing::warn!("{text}{more}"),
            Level::Info => tracing::info!("{text}{more}"),
            Level::Debug => tracing::debug!("{text}{more}"),
        }
    }};
}
pub(super) use say;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_minute_where_it_may_be_true_of_every_login() {
        let mut limit = LogLimit::rare();
        assert_eq!(limit.allow(Mono(5)), Some(0));
        assert_eq!(limit.allow(Mono(5 + 59 * SECOND)), None);
        assert_eq!(limit.allow(Mono(5 + 60 * SECOND)), Some(1));
    }

    #[test]
    fn ten_a_second_and_the_rest_counted() {
        let mut limit = LogLimit::default();
        let allowed = (0..25).filter(|_| limit.allow(Mono(5)).is_some()).count();
        assert_eq!(allowed, 10);
        assert_eq!(limit.allow(Mono(5 + SECOND)), Some(15));
        assert_eq!(limit.allow(Mono(5 + SECOND)), Some(0));
    }
}
