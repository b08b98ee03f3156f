//! Results as they were saved: read again for pictures and comparisons.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::report::Report;

/// A result larger than this is no result: a day of intervals has some 20 MB.
const FILE_MAX: u64 = 1 << 28;

/// One saved result.
#[derive(Clone, Debug)]
pub struct Saved {
    /// What it is called: the file's name without its ending.
    pub name: String,
    /// Everything.
    pub json: Value,
    /// Latencies in the measured part.
    pub(crate) count: u64,
    pub(crate) distribution: Vec<Point>,
    pub(crate) intervals: Vec<Slice>,
}

/// A point of the distribution.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Point {
    pub(crate) quantile: f64,
    pub(crate) micros: f64,
}

/// What the picture shows of an interval.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Slice {
    pub(crate) at: f64,
    pub(crate) seconds: f64,
    pub(crate) latency: Latency,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    pub(crate) count: u64,
}

#[derive(Deserialize)]
struct Known {
    latency: Latency,
    distribution: Vec<Point>,
    intervals: Vec<Slice>,
}

impl Saved {
    /// Reads a result that `loadgen run --json` wrote.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let wrong = |problem: String| Error::Plan {
            setting: "result",
            problem: format!("{}: {problem}", path.display()),
            right: "a file written by this loadgen run --json",
        };
        let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?;
        if size.len() > FILE_MAX {
            return Err(wrong(format!("{} bytes", size.len())));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(name.into_owned(), &text).map_err(wrong)
    }

    /// Reads what is to be compared: files in the order A, B, A, B; or two directories with the results
    /// of A and of B, each in the order in which they were made.
    pub fn pairs(paths: &[PathBuf]) -> Result<Vec<Self>, Error> {
        let [a, b] = paths else {
            return paths.iter().map(|path| Self::read(path)).collect();
        };
        if !a.is_dir() || !b.is_dir() {
            return paths.iter().map(|path| Self::read(path)).collect();
        }
        let (one, other) = (Self::all_in(a)?, Self::all_in(b)?);
        if one.len() != other.len() {
            return Err(Error::Plan {
                setting: "compare",
                problem: format!(
                    "{} results in {} and {} in {}",
                    one.len(),
                    a.display(),
                    other.len(),
                    b.display()
                ),
                right: "as many of one as of the other, made alternately",
            });
        }
        let pairs = one.into_iter().zip(other);
        Ok(pairs.flat_map(|(a, b)| [a, b]).collect())
    }

    fn all_in(directory: &Path) -> Result<Vec<Self>, Error> {
        let wrong = |error: std::io::Error| Error::Plan {
            setting: "compare",
            problem: format!("{}: {error}", directory.display()),
            right: "a directory that can be read",
        };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                found.push(Self::read(&path)?);
            }
        }
        let began = |run: &Self| run.json["began"].as_f64().unwrap_or(0.0);
        found.sort_by(|a, b| began(a).total_cmp(&began(b)));
        Ok(found)
    }

    /// The same of a run just made.
    pub fn of(name: &str, report: &Report) -> Result<Self, Error> {
        let parsed = Self::parse(name.to_owned(), &report.json()?);
        parsed.map_err(|error| Error::kernel("cannot read JSON")(std::io::Error::other(error)))
    }

    pub(crate) fn parse(name: String, text: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let known = Known::deserialize(&json).map_err(|error| error.to_string())?;
        let finite = |point: &Point| point.micros.is_finite() && point.quantile.is_finite();
        if !known.distribution.iter().all(finite) {
            return Err("a latency that is no number".to_owned());
        }
        Ok(Self {
            name,
            json,
            count: known.latency.count,
            distribution: known.distribution,
            intervals: known.intervals,
        })
    }
}
