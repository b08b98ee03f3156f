//! The command line.

#[path = "cli/options.rs"]
mod options;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
#[cfg(feature = "pictures")]
use loadgen::picture;
use loadgen::{Bar, Error, Report, Saved, StubAuth, compare};
use options::{Run, Stub};

/// A check did not hold.
const FAILED: u8 = 1;
/// The run could not be made.
const UNUSABLE: u8 = 2;

#[derive(Parser)]
#[command(
    version,
    about = "Drives mail directors and mail proxies with logins, checks every reply, measures"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Drive a director or a mail proxy.
    Run(Box<Run>),
    /// Draw results that --json wrote on one sheet.
    #[cfg(feature = "pictures")]
    Plot {
        /// The sheet: .svg or .png.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// The results.
        #[arg(required = true, value_name = "RESULT.json")]
        results: Vec<PathBuf>,
    },
    /// Compare two targets by pairs of runs, made alternately with the same settings.
    Compare {
        /// The results: A.json B.json, and more pairs of them; or two directories, one with the results
        /// of A, one with those of B.
        #[arg(required = true, num_args = 2.., value_name = "RESULT")]
        results: Vec<PathBuf>,
    },
    /// Serve as auth server behind a director: any user, any password, always proxied.
    StubAuth {
        #[command(flatten)]
        stub: Stub,
        /// End after this many seconds.
        #[arg(long, default_value_t = 3600)]
        seconds: u64,
    },
}

fn write(setting: &'static str, path: &Path, text: &[u8]) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|error| Error::Plan {
        setting,
        problem: format!("cannot write {}: {error}", path.display()),
        right: "a path that can be written",
    })
}

fn drive(arguments: &Run) -> Result<Report, Error> {
    let plan = arguments.plan()?;
    let bar = Bar::new();
    let report = loadgen::run(&plan, |progress| bar.show(progress));
    bar.clear();
    let report = report?;
    if let Some(path) = &arguments.json {
        write("--json", path, report.json()?.as_bytes())?;
    }
    if let Some(path) = &arguments.hgrm {
        write("--hgrm", path, report.hgrm().as_bytes())?;
    }
    if let Some(path) = &arguments.hlog {
        write("--hlog", path, &report.hlog()?)?;
    }
    #[cfg(feature = "pictures")]
    if let Some(path) = &arguments.picture {
        picture::draw(&[Saved::of("this run", &report)?], path)?;
    }
    Ok(report)
}

fn run(command: Command) -> Result<u8, Error> {
    match command {
        Command::Run(arguments) => {
            let report = drive(&arguments)?;
            println!("{report}");
            Ok(if report.passed() { 0 } else { FAILED })
        }
        #[cfg(feature = "pictures")]
        Command::Plot { output, results } => {
            let runs = results.iter().map(|path| Saved::read(path));
            picture::draw(&runs.collect::<Result<Vec<_>, _>>()?, &output)?;
            Ok(0)
        }
        Command::Compare { results } => {
            print!("{}", compare(&Saved::pairs(&results)?)?);
            Ok(0)
        }
        Command::StubAuth { stub, seconds } => {
            let _serving = StubAuth::spawn(&stub.config())?;
            std::thread::sleep(Duration::from_secs(seconds.min(86_400)));
            Ok(0)
        }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("loadgen: {error}");
            ExitCode::from(UNUSABLE)
        }
    }
}
