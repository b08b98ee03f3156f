//! Keeps one cause from flooding the log.

use crate::core::Mono;

/// Lines per cause and second; more are counted and told of later.
const PER_SECOND: u32 = 10;
const SECOND: u64 = 1_000_000_000;

/// The limit of one cause on one core.
#[derive(Debug, Default)]
pub struct LogLimit {
    window: Option<Mono>,
    logged: u32,
    suppressed: u64,
}

impl LogLimit {
    /// Whether a line may be written now; `Some(n)`: yes, and n lines were left out before it.
    pub fn allow(&mut self, now: Mono) -> Option<u64> {
        if self.window.is_none_or(|start| now.since(start) >= SECOND) {
            self.window = Some(now);
            self.logged = 0;
        }
        if self.logged >= PER_SECOND {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second_and_the_rest_counted() {
        let mut limit = LogLimit::default();
        let allowed = (0..25).filter(|_| limit.allow(Mono(5)).is_some()).count();
        assert_eq!(allowed, 10);
        assert_eq!(limit.allow(Mono(5 + SECOND)), Some(15));
        assert_eq!(limit.allow(Mono(5 + SECOND)), Some(0));
    }
}
