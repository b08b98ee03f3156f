//! Contradictions in a plan, found before anything is done.

use crate::error::Error;

use super::{
    Amount, Connections, Load, MAX_CONNECTIONS, MAX_IN_FLIGHT, MAX_INTERVALS, MAX_STORM,
    MAX_TARGETS, MAX_USERS, Plan, Popularity, Security, Target, Users,
};

fn wrong(setting: &'static str, problem: String, right: &'static str) -> Result<(), Error> {
    Err(Error::Plan {
        setting,
        problem,
        right,
    })
}

impl Plan {
    /// Whether mail sessions are made, rather than lookups.
    pub fn is_mail(&self) -> bool {
        matches!(self.targets.first(), Some(Target::Mail(_)))
    }

    /// Whether replies are to say which backend a user is on.
    pub fn expects_host(&self) -> bool {
        self.expect_host && (!self.is_mail() || self.session.backend_mark.is_some())
    }

    /// What is wrong with this plan, if anything.
    pub fn check(&self) -> Result<(), Error> {
        within(
            "--connections",
            u64::from(self.connections),
            u64::from(MAX_CONNECTIONS),
        )?;
        within(
            "--in-flight",
            u64::from(self.in_flight),
            u64::from(MAX_IN_FLIGHT),
        )?;
        self.check_targets()?;
        self.check_users()?;
        self.check_amount()?;
        self.check_load()?;
        self.check_session()?;
        if self.lifetime == Connections::PerLogin && self.in_flight != 1 {
            return wrong(
                "--in-flight",
                format!(
                    "{} requests on a connection that carries one",
                    self.in_flight
                ),
                "with one connection per login it is 1; --connections says how many at a time",
            );
        }
        Ok(())
    }

    fn check_targets(&self) -> Result<(), Error> {
        let count = self.targets.len();
        if count == 0 || count > MAX_TARGETS || count > self.connections as usize {
            return wrong(
                "--target",
                format!("{count} targets for {} connections", self.connections),
                "1 to 64, and a connection for each",
            );
        }
        let is_mail = |target: &Target| matches!(target, Target::Mail(_));
        if self.targets.iter().any(is_mail) && !self.targets.iter().all(is_mail) {
            return wrong(
                "--target",
                "mail sessions and a director's sockets in one run".to_owned(),
                "one or the other: a latency of both together says nothing",
            );
        }
        Ok(())
    }

    fn check_users(&self) -> Result<(), Error> {
        match self.users {
            Users::Known { count, .. } => within("--users", count.into(), MAX_USERS.into())?,
            Users::New { first } => within("--new-users", u64::from(first) + 1, MAX_USERS.into())?,
        }
        for (setting, part) in [("--prefix", &self.prefix), ("--suffix", &self.suffix)] {
            if !part.bytes().all(|byte| byte.is_ascii_graphic()) || part.len() > 64 {
                return wrong(
                    setting,
                    format!("{part:?} cannot be in a user name"),
                    "at most 64 printable ASCII characters without spaces",
                );
            }
        }
        let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if !self.password.bytes().all(printable) || self.password.len() > 256 {
            return wrong(
                "--password",
                "it cannot be sent by every protocol".to_owned(),
                "at most 256 printable ASCII characters",
            );
        }
        if let Some(accounts) = &self.accounts {
            let known = match self.users {
                Users::Known { count, .. } => count as usize <= accounts.len(),
                Users::New { .. } => false,
            };
            if !known || self.new_share > 0.0 {
                return wrong(
                    "--accounts",
                    format!("the file has {} users, more are wanted", accounts.len()),
                    "--users up to that number, without --new-users and --new-share",
                );
            }
        }
        for (setting, share) in [
            ("--new-share", self.new_share),
            ("--wrong-password-share", self.wrong_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(setting, share.to_string(), "from 0 to 1");
            }
        }
        Ok(())
    }

    fn check_load(&self) -> Result<(), Error> {
        if let Popularity::Zipf { exponent } = self.popularity
            && !(0.01..=10.0).contains(&exponent)
        {
            return wrong("--zipf", exponent.to_string(), "from 0.01 to 10");
        }
        if let Load::Storm { within: time } = self.load {
            let Users::Known { count, .. } = self.users else {
                return wrong(
                    "--storm",
                    "a storm of new users".to_owned(),
                    "--users: who comes back was there before",
                );
            };
            within("--users", count.into(), MAX_STORM.into())?;
            if time > self.time_limit || self.new_share > 0.0 {
                return wrong(
                    "--storm",
                    "a storm beyond the time limit, or with new users".to_owned(),
                    "at most --time-limit, without --new-share",
                );
            }
        }
        if self.wrong_share > 0.0 && (self.stub_auth.is_some() || !self.passwords_count()) {
            return wrong(
                "--wrong-password-share",
                "nobody there looks at passwords".to_owned(),
                "a login socket with real auth, or mail; the stub auth server has --fail-share",
            );
        }
        if self.interval.is_zero()
            || self.time_limit.div_duration_f64(self.interval) > MAX_INTERVALS as f64
        {
            return wrong(
                "--interval",
                format!("{:?} in at most {:?}", self.interval, self.time_limit),
                "at most 86,400 intervals until --time-limit",
            );
        }
        let retry = &self.retry;
        if retry.times > 0 && (retry.first.is_zero() || retry.longest < retry.first) {
            return wrong(
                "--backoff",
                format!("from {:?} to {:?}", retry.first, retry.longest),
                "above 0, and --backoff-max not below it",
            );
        }
        Ok(())
    }

    /// Whether the targets are shown a password that somebody checks.
    fn passwords_count(&self) -> bool {
        let shown = |target: &Target| matches!(target, Target::Login(_) | Target::Mail(_));
        self.targets.iter().all(shown)
    }

    fn check_session(&self) -> Result<(), Error> {
        let secured = |target: &Target| match target {
            Target::Mail(mail) => mail.security != Security::Plain,
            _ => false,
        };
        let tls = self.targets.iter().any(secured);
        let trust = self.session.tls_any || self.session.tls_ca.is_some();
        if tls && (!trust || (self.session.tls_any && self.session.tls_ca.is_some())) {
            return wrong(
                "--tls-ca",
                "it is not said which certificates are trusted".to_owned(),
                "--tls-ca FILE, or --tls-any to trust all: one of them",
            );
        }
        if self.is_mail() && self.lifetime != Connections::PerLogin {
            return wrong(
                "--connection-per-login",
                "a mail session carries one login".to_owned(),
                "one connection per login with mail targets",
            );
        }
        if self.is_mail() && self.stub_auth.is_some() {
            return wrong(
                "--auth-stub",
                "the generator cannot serve as auth in the midst of mail sessions".to_owned(),
                "loadgen stub-auth, in a process of its own",
            );
        }
        if self
            .session
            .backend_mark
            .as_ref()
            .is_some_and(String::is_empty)
        {
            return wrong(
                "--backend-mark",
                "it is empty".to_owned(),
                "the text after which backends give their address",
            );
        }
        if self.session.login_timeout.is_zero() {
            return wrong(
                "--login-timeout",
                "no time at all".to_owned(),
                "more than 0",
            );
        }
        Ok(())
    }

    fn check_amount(&self) -> Result<(), Error> {
        let rates = match self.load {
            Load::Open { rate } => vec![rate],
            Load::Ramp { from, to } => vec![from, to],
            Load::Closed | Load::Storm { .. } => Vec::new(),
        };
        if let Some(rate) = rates.iter().find(|rate| !(1.0..=1e8).contains(*rate)) {
            return wrong(
                "--rate",
                format!("{rate} logins per second"),
                "from 1 to 100,000,000",
            );
        }
        if matches!(self.load, Load::Ramp { .. }) && matches!(self.amount, Amount::Lookups(_)) {
            return wrong(
                "--ramp-to",
                "a ramp over a number of lookups".to_owned(),
                "a ramp needs its time: --seconds",
            );
        }
        let empty = match self.amount {
            Amount::Time(time) => time.is_zero(),
            Amount::Lookups(count) => count == 0,
        };
        if empty {
            return Err(Error::Plan {
                setting: "--seconds or --lookups",
                problem: "nothing to measure".to_owned(),
                right: "more than 0",
            });
        }
        if let Amount::Time(time) = self.amount
            && time + self.warm_up > self.time_limit
        {
            return Err(Error::Plan {
                setting: "--seconds",
                problem: "the measured time ends after the time limit".to_owned(),
                right: "at most --time-limit less the warm-up",
            });
        }
        Ok(())
    }
}

fn within(setting: &'static str, value: u64, max: u64) -> Result<(), Error> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    let problem = format!("{value} is outside 1 to {max}");
    Err(Error::Plan {
        setting,
        problem,
        right: "a number in that range",
    })
}

#[cfg(test)]
mod tests;
