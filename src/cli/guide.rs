//! Completions and manual pages, made of the command lines themselves.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::shell::preflight::Exit;

/// Prints the completions of a shell.
pub(super) fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "homing", &mut script);
    match std::io::Write::write_all(&mut std::io::stdout(), &script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("standard output", &error),
    }
}

/// Writes `homing.1`, `homing-status.1` and so on.
pub(super) fn man(dir: &Path) -> ExitCode {
    let written =
        std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&dir.display().to_string(), &error),
    }
}

fn fail(place: &str, error: &std::io::Error) -> ExitCode {
    eprintln!("homing: {place}: cannot be written: {error}");
    ExitCode::from(Exit::Environment.code())
}
