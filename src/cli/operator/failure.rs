//! How a command ends when it could not do what it should.

use std::fmt;

/// Exit status, as `doveadm director` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// The command line is wrong: EX_USAGE.
    Usage = 64,
    /// No such backend or director: EX_NOHOST.
    NotFound = 68,
    /// Anything else that another attempt could change: EX_TEMPFAIL.
    Temporary = 75,
    /// The other side speaks something else: EX_PROTOCOL.
    Protocol = 76,
    /// The settings file is wrong: EX_CONFIG.
    Settings = 78,
}

/// What went wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// For scripts.
    pub(super) code: Code,
    /// For people; no line feed at the end.
    pub(super) text: String,
}

impl Failure {
    /// The operator typed something wrong.
    pub(super) fn usage(text: impl Into<String>) -> Failure {
        let text = text.into();
        Failure {
            code: Code::Usage,
            text,
        }
    }

    /// There is no such backend or director.
    pub(super) fn not_found(text: impl Into<String>) -> Failure {
        let text = text.into();
        Failure {
            code: Code::NotFound,
            text,
        }
    }

    /// It did not work this time.
    pub(super) fn temporary(text: impl Into<String>) -> Failure {
        let text = text.into();
        Failure {
            code: Code::Temporary,
            text,
        }
    }

    /// The other side says what it should not.
    pub(super) fn protocol(text: impl Into<String>) -> Failure {
        let text = text.into();
        Failure {
            code: Code::Protocol,
            text,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "homing: {}", self.text)
    }
}

/// The status of a command that did several things: the last failure counts, but "not found" only
/// if nothing had failed before. As doveadm has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome(Option<Code>);

impl Outcome {
    /// Notes one failure.
    pub(super) fn failed(&mut self, code: Code) {
        if code != Code::NotFound || self.0.is_none() {
            self.0 = Some(code);
        }
    }

    /// The exit status.
    pub(super) fn status(self) -> u8 {
        self.0.map_or(0, |code| code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_counts_only_when_nothing_failed_before() {
        let of = |codes: &[Code]| {
            let mut outcome = Outcome::default();
            codes.iter().for_each(|code| outcome.failed(*code));
            outcome.status()
        };
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[Code::NotFound]), 68);
        assert_eq!(of(&[Code::NotFound, Code::Temporary]), 75);
        assert_eq!(of(&[Code::Temporary, Code::NotFound]), 75);
    }
}
