//! The homing program.

use std::process::ExitCode;

fn main() -> ExitCode {
    homing::cli::main()
}
