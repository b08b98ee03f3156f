//! The commands `dump` and `restore`.

use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;

use super::args::{DumpArgs, RestoreArgs};
use super::client::Answer;
use super::failure::{Code, Failure, Outcome};
use super::hosts::judge;
use super::{Done, connect, output};
use crate::admin::dump::{Dump, Step};
use crate::core::ip_text::ip_text;
use crate::wire::admin::{Command, Reply, read};

/// Longest dump: 16,384 backends with long tags have a tenth of it.
const MAX_FILE: u64 = 32 << 20;

/// Prints the backends.
pub(super) fn dump(args: &DumpArgs) -> Done {
    let mut client = connect(&args.common)?;
    let hosts = client.hosts()?;
    let removed = client.rows(&Command::HostListRemoved, read::removed_host)?;
    let dump = Dump::of(&hosts, &removed).map_err(Failure::temporary)?;
    match args.common.json {
        true => output::json(&dump)?,
        false => output::print(&dump.text())?,
    }
    Ok(Outcome::default())
}

/// What came of a step, in JSON.
#[derive(Serialize)]
struct StepJson {
    address: String,
    step: String,
    /// Nothing in a dry run, or when there is no command for it.
    reply: Option<String>,
}

/// Makes a director's backends those of a file.
pub(super) fn restore(args: &RestoreArgs) -> Done {
    let text = file(&args.file)?;
    let named = |error| Failure::usage(format!("{}: {error}", name(&args.file)));
    let dump = Dump::parse(&text).map_err(named)?;
    let mut client = connect(&args.common)?;
    let now = client.hosts()?;
    let steps = dump.steps(&now, args.remove_others).map_err(named)?;
    let mut outcome = Outcome::default();
    let mut done = Vec::new();
    for step in &steps {
        let mut reply = None;
        let mut failed = false;
        match step.command() {
            None => {
                eprintln!("homing: {step}");
                outcome.failed(Code::Temporary);
            }
            Some(_) if args.dry_run => {}
            Some(command) => {
                let answer = client.request(&command)?;
                if let Err(failure) = judged(step, &answer) {
                    eprintln!("{failure}");
                    outcome.failed(failure.code);
                    failed = true;
                }
                reply = Some(answer.text().to_owned());
            }
        }
        if !args.common.json && step.command().is_some() {
            let before = match (args.dry_run, failed) {
                (true, _) => "would ",
                (false, true) => "failed: ",
                (false, false) => "",
            };
            output::print(&format!("{before}{step}\n"))?;
        }
        done.push(StepJson {
            address: ip_text(step.ip()),
            step: step.to_string(),
            reply,
        });
    }
    if args.common.json {
        output::json(&done)?;
        return Ok(outcome);
    }
    if steps.is_empty() {
        output::print("nothing to do: the backends are those of the dump\n")?;
    }
    let others = dump.others(&now).map_err(named)?;
    if others > 0 && !args.remove_others {
        eprintln!("{others} backends are not in the dump and stay; --remove-others removes them");
    }
    Ok(outcome)
}

fn judged(step: &Step, answer: &Answer) -> Result<(), Failure> {
    match (step, answer) {
        // Somebody was faster.
        (Step::Remove(_), Answer::Known(Reply::NotFound)) => Ok(()),
        _ => judge(step.ip(), answer, Code::Temporary),
    }
}

/// What a file is called when something is wrong with it.
fn name(path: &Path) -> String {
    match path == Path::new("-") {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    }
}

fn file(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    let path = name(path);
    read.map_err(|error| Failure::temporary(format!("{path}: {error}")))?;
    if bytes.len() as u64 > MAX_FILE {
        let what = format!("{path}: longer than {MAX_FILE} bytes");
        return Err(Failure::usage(what));
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{path}: not UTF-8")))
}
