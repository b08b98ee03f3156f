//! The command line: one module per command.

mod admin;
mod demo;
mod guide;
mod http;
mod log;
mod operator;
mod ring;
mod run;
mod state;
mod takeover;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::settings::{self, Problem};
use crate::shell::preflight::Exit;

/// Exit status for a wrong command line (EX_USAGE).
const USAGE: u8 = 64;

/// Keeps all mail connections of one user on one backend.
#[derive(Parser)]
#[command(name = "homing", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the director.
    Run(RunArgs),
    /// Run the director as a service of Dovecot's master, which hands over its listeners.
    DovecotService(RunArgs),
    /// Say whether a settings file is right, and what is wrong with it.
    Check(ConfigArgs),
    /// Turn a Dovecot 2.3 configuration with a director into a settings file.
    ImportDovecot {
        /// dovecot.conf, or the output of `doveconf -n`; - for standard input.
        file: PathBuf,
    },
    /// Print the reference of all settings, as Markdown.
    Settings,
    /// Show what a director has kept on disk for its next start.
    State(state::StateArgs),
    /// Show the director at work: some hundred thousand logins against built-in stubs.
    Demo(demo::DemoArgs),
    #[command(flatten)]
    Operator(operator::OperatorCommand),
    /// Print what a shell needs to complete command lines.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command.
    Man {
        /// Directory; made if it is not there.
        dir: PathBuf,
    },
    /// Remove sockets and FIFO that a killed director left behind.
    Clean(ConfigArgs),
    /// The process that keeps sockets in their places; started by `run`.
    #[command(hide = true)]
    Keeper,
}

#[derive(Args)]
struct ConfigArgs {
    /// Settings file.
    #[arg(long, short, default_value = "/etc/homing/homing.toml")]
    config: PathBuf,
}

#[derive(Args)]
struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Cores that serve logins, instead of the setting.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: Option<u16>,
    /// Take over from the director at the standard input, which started this one.
    #[arg(long, hide = true)]
    take_over: bool,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done when the message cannot be printed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::DovecotService(args) => run::dovecot_service(&args),
        Command::Check(args) => check(&args.config),
        Command::ImportDovecot { file } => import(&file),
        Command::Settings => {
            print!("{}", settings::reference());
            ExitCode::SUCCESS
        }
        Command::State(args) => state::show(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Operator(command) => operator::run(&command),
        Command::Completions { shell } => guide::completions(shell),
        Command::Man { dir } => guide::man(&dir),
        Command::Clean(args) => clean(&args.config),
        Command::Keeper => crate::shell::keeper::run(),
    }
}

/// Prints all problems, and how many; the status for wrong settings.
fn refuse(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    let count = problems.len();
    eprintln!(
        "homing: {count} error{} in the settings",
        if count == 1 { "" } else { "s" }
    );
    ExitCode::from(Exit::Config.code())
}

fn check(file: &Path) -> ExitCode {
    match settings::load(file) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                println!("warning: {warning}");
            }
            let place = loaded.settings.state_path.as_deref();
            if let Some(what) = place.and_then(crate::shell::state::look) {
                println!("warning: {}: state_path: {what}", file.display());
            }
            match ring::certificates(&loaded.settings, loaded.settings.director_self) {
                Ok((_, warnings)) => warnings
                    .iter()
                    .for_each(|warning| println!("warning: {}: {warning}", file.display())),
                Err(error) => {
                    let (key, what) = (error.setting.to_owned(), error.what);
                    return refuse(&[Problem::of_file(file, key, what)]);
                }
            }
            if let Err(error) = crate::shell::http_io::Config::load(&loaded.settings) {
                let (key, what) = (error.setting.to_owned(), error.what);
                return refuse(&[Problem::of_file(file, key, what)]);
            }
            let backends = loaded.settings.director_mail_servers.len();
            let listeners = loaded.settings.listeners.len();
            println!(
                "{}: valid, {backends} backends, {listeners} listeners",
                file.display()
            );
            ExitCode::SUCCESS
        }
        Err(problems) => refuse(&problems),
    }
}

fn import(file: &Path) -> ExitCode {
    let imported = if file == Path::new("-") {
        match std::io::read_to_string(std::io::stdin()) {
            Ok(text) => settings::import::import_text("standard input", &text),
            Err(error) => {
                eprintln!("homing: standard input cannot be read: {error}");
                return ExitCode::from(Exit::Config.code());
            }
        }
    } else {
        settings::import_dovecot(file)
    };
    match imported {
        Ok(imported) => {
            print!("{}", imported.toml);
            for note in &imported.notes {
                eprintln!("{note}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("homing: {error}");
            ExitCode::from(Exit::Config.code())
        }
    }
}

fn clean(file: &Path) -> ExitCode {
    match settings::load(file) {
        Ok(loaded) => {
            loaded
                .settings
                .listeners
                .iter()
                .for_each(crate::shell::sockets::remove_stale);
            ExitCode::SUCCESS
        }
        Err(problems) => refuse(&problems),
    }
}
