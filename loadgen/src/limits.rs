//! Descriptors: a run that needs more than it may have says so before it begins.

use std::io;

use crate::error::Error;
use crate::plan::Plan;

/// Descriptors for everything but connections.
const OTHERS: u64 = 64;

/// Raises the soft limit of descriptors as far as the plan needs it.
pub(crate) fn raise(plan: &Plan) -> Result<(), Error> {
    // The stub auth server in this process holds the other end of the director's connections.
    let ends = if plan.stub_auth.is_some() { 2 } else { 1 };
    raise_to(u64::from(plan.connections) * ends + OTHERS)
}

fn raise_to(needed: u64) -> Result<(), Error> {
    let failed =
        || Error::kernel("cannot change the limit of descriptors")(io::Error::last_os_error());
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place to write one rlimit to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(failed());
    }
    if limit.rlim_cur >= needed {
        return Ok(());
    }
    if limit.rlim_max < needed {
        return Err(Error::Plan {
            setting: "--connections",
            problem: format!(
                "{needed} descriptors are needed, this process may have {}",
                limit.rlim_max
            ),
            right: "fewer connections, or a higher limit: ulimit -Hn",
        });
    }
    limit.rlim_cur = needed;
    // SAFETY: `limit` is valid for reading.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(failed());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_said() {
        assert!(raise_to(10).is_ok());
        let error = raise_to(u64::MAX / 2).unwrap_err().to_string();
        assert!(
            error.contains("--connections") && error.contains("ulimit"),
            "{error}"
        );
    }
}
