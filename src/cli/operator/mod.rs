//! The commands for operators, over the admin protocol: what `doveadm director` does, and more.
//!
//! | file | what |
//! |---|---|
//! | `place`, `client`, `failure`, `output` | where the director is; one connection; exit codes; tables and JSON |
//! | `hosts`, `users`, `ring` | the commands of `doveadm director` |
//! | `sessions` | how many sessions an order has ended |
//! | `drain` | a backend is emptied gradually |
//! | `histogram` | how long lookups took |
//! | `names` | which user names there are |
//! | `dump`, `restore` | the backends as a file: format and differences without I/O; the commands |
//! | `plan`, `plan_command` | what a change would move: computed without I/O; the command |
//! | `why` | why a user is where it is |

mod args;
mod client;
mod drain;
mod dump;
mod failure;
mod histogram;
mod hosts;
mod names;
mod output;
mod place;
mod plan;
mod plan_command;
mod restore;
mod ring;
mod sessions;
mod users;
mod why;

use std::process::ExitCode;

pub(super) use args::OperatorCommand;

use client::Client;
use failure::{Failure, Outcome};
use place::{Common, Source};

/// Runs one command; its exit status.
pub(super) fn run(command: &OperatorCommand) -> ExitCode {
    let done = match command {
        OperatorCommand::Status(args) => match args.user() {
            Ok(None) => hosts::status(args),
            Ok(Some((user, tag))) => users::status(args, user, tag),
            Err(failure) => Err(failure),
        },
        OperatorCommand::Map(args) => users::map(args),
        OperatorCommand::Add(args) => hosts::add(args),
        OperatorCommand::Update(args) => hosts::update(args),
        OperatorCommand::Up(args) => hosts::change(args, hosts::Change::Up),
        OperatorCommand::Down(args) => hosts::change(args, hosts::Change::Down),
        OperatorCommand::Remove(args) => hosts::change(args, hosts::Change::Remove),
        OperatorCommand::Flush(args) => hosts::flush(args),
        OperatorCommand::Move(args) => users::move_user(args),
        OperatorCommand::Kick(args) => users::kick(args),
        OperatorCommand::Drain(args) => drain::run(args),
        OperatorCommand::Dump(args) => restore::dump(args),
        OperatorCommand::Restore(args) => restore::restore(args),
        OperatorCommand::Ring(args) => ring::run(args),
        OperatorCommand::Plan(args) => plan_command::run(args),
        OperatorCommand::Why(args) => why::run(args),
        OperatorCommand::Histogram(args) => histogram::run(args),
    };
    match done {
        Ok(outcome) => ExitCode::from(outcome.status()),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}

/// A command's end: it may have failed in part, and said so.
type Done = Result<Outcome, Failure>;

/// The director that the operator means.
fn connect(common: &Common) -> Result<Client, Failure> {
    Client::connect(Source::new(common).place()?)
}
