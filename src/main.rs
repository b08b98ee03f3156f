//! Arguments, settings, executors.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("keeper") => homing::shell::keeper::run(),
        _ => ExitCode::SUCCESS,
    }
}
