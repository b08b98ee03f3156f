//! What the director costs: CPU time and memory of its process, or processes.

use std::io;

use serde::Serialize;

use crate::clock::CpuClock;
use crate::error::Error;

/// New users below which a memory figure per user would mostly be noise.
const USERS_FOR_MEMORY: u64 = 10_000;

/// The measured processes.
pub(crate) struct Processes(Vec<Process>);

impl Processes {
    /// `None` without any.
    pub(crate) fn new(pids: &[u32]) -> Result<Option<Self>, Error> {
        let list = pids.iter().map(|pid| Process::new(*pid));
        let list = list.collect::<Result<Vec<_>, _>>()?;
        Ok((!list.is_empty()).then_some(Self(list)))
    }

    /// At the beginning of a part: memory first, so that what its reading disturbs is not counted.
    pub(crate) fn at_begin(&self) -> Result<Reading, Error> {
        let rss = self.sum(Process::rss)?;
        let cpu = self.sum(Process::cpu)?;
        Ok(Reading { cpu, rss })
    }

    /// At the end of a part: CPU first, for the same reason.
    pub(crate) fn at_end(&self) -> Result<Reading, Error> {
        let cpu = self.sum(Process::cpu)?;
        let rss = self.sum(Process::rss)?;
        Ok(Reading { cpu, rss })
    }

    fn sum(&self, of: fn(&Process) -> Result<u64, Error>) -> Result<u64, Error> {
        self.0
            .iter()
            .try_fold(0, |sum, process| Ok(sum + of(process)?))
    }

    /// The sum of a run.
    pub(crate) fn used(
        &self,
        [start, before, end]: [Reading; 3],
        lookups: u64,
        nanos: u64,
        new_users: u64,
    ) -> ProcessUse {
        let cpu = end.cpu.saturating_sub(before.cpu) as f64;
        let growth = end.rss.saturating_sub(start.rss) as f64;
        let mut names: Vec<_> = self.0.iter().map(|process| process.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        ProcessUse {
            pids: self.0.iter().map(|process| process.pid).collect(),
            name: names.join(", "),
            cpu_us_per_lookup: cpu / 1000.0 / lookups.max(1) as f64,
            cpu_share: cpu / nanos.max(1) as f64,
            rss_start: start.rss,
            rss_before: before.rss,
            rss_end: end.rss,
            bytes_per_new_user: (new_users >= USERS_FOR_MEMORY).then(|| growth / new_users as f64),
        }
    }
}

struct Process {
    pid: u32,
    name: String,
    clock: CpuClock,
}

/// CPU and memory at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) cpu: u64,
    pub(crate) rss: u64,
}

/// What the target's processes used.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessUse {
    /// The processes; what follows is their sum.
    pub pids: Vec<u32>,
    /// Their name or names, to see that they were the right ones.
    pub name: String,
    /// User and system time of all its threads, per lookup.
    pub cpu_us_per_lookup: f64,
    /// CPU time by wall time; more than 1 with several threads.
    pub cpu_share: f64,
    /// Resident bytes before the first login.
    pub rss_start: u64,
    /// Resident bytes when the measured part began.
    pub rss_before: u64,
    /// Resident bytes at the end.
    pub rss_end: u64,
    /// Growth by user, for runs with many users that were new to the target.
    pub bytes_per_new_user: Option<f64>,
}

impl Process {
    fn new(pid: u32) -> Result<Self, Error> {
        let error = |source| Error::Process { pid, source };
        let clock = CpuClock::of_process(pid).map_err(error)?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).map_err(error)?;
        Ok(Self {
            pid,
            name: name.trim_end().to_owned(),
            clock,
        })
    }

    fn cpu(&self) -> Result<u64, Error> {
        self.clock.nanos().map_err(|source| Error::Process {
            pid: self.pid,
            source,
        })
    }

    fn rss(&self) -> Result<u64, Error> {
        rss(self.pid).map_err(|source| Error::Process {
            pid: self.pid,
            source,
        })
    }
}

/// Resident bytes. `smaps_rollup` is exact; `statm` lags behind by some pages per thread, but can
/// be read of processes that are not ours.
fn rss(pid: u32) -> io::Result<u64> {
    let exact = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let exact = exact.as_deref().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    if let Some(kilobytes) = exact {
        return Ok(kilobytes * 1024);
    }
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    // SAFETY: reads a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages.unwrap_or(0) * page.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_can_be_read() {
        assert!(Processes::new(&[]).unwrap().is_none());
        let own = Processes::new(&[std::process::id()]).unwrap().unwrap();
        let reading = own.at_begin().unwrap();
        assert!(reading.cpu > 0 && reading.rss > 100_000);
        let later = Reading {
            cpu: reading.cpu + 2_000_000,
            rss: reading.rss + 1_000_000,
        };
        let used = own.used([reading, reading, later], 1000, 4_000_000, 20_000);
        assert_eq!(used.cpu_us_per_lookup, 2.0);
        assert_eq!(used.cpu_share, 0.5);
        assert_eq!(used.bytes_per_new_user, Some(50.0));
        let twice = Processes::new(&[std::process::id(); 2]).unwrap().unwrap();
        assert!(twice.at_end().unwrap().rss > reading.rss / 10 * 15);
        assert!(Processes::new(&[std::process::id(), u32::MAX]).is_err());
    }
}
