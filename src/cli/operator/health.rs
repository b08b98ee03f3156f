//! Health of backends: what checks say, what was decided, and which backends are left alone.

use super::args::{HealthArgs, HealthCommand};
use super::failure::{Code, Failure, Outcome};
use super::hosts::Changes;
use super::output::{self, Table};
use super::place::addresses;
use super::{Done, connect};
use crate::admin::documents::Health;
use crate::core::ip_text::ip_text;
use crate::wire::admin::{Command, HealthRow, read};

/// Shows health, or says who decides about a backend.
pub(super) fn run(args: &HealthArgs) -> Done {
    let common = match &args.command {
        None => &args.common,
        Some(HealthCommand::Hold(args) | HealthCommand::Release(args)) => &args.common,
    };
    let mut client = connect(common)?;
    if !client.is_homing()? {
        return Err(Failure::temporary(format!(
            "{}: only a Homing checks backends, and this director is none",
            client.place()
        )));
    }
    let (host, hold) = match &args.command {
        None => {
            let rows = client.rows(&Command::HealthList, read::health)?;
            return show(common.json, &rows).map(|()| Outcome::default());
        }
        Some(HealthCommand::Hold(args)) => (&args.host, true),
        Some(HealthCommand::Release(args)) => (&args.host, false),
    };
    let done = if hold { "held" } else { "released" };
    let mut changes = Changes::new(client, done);
    for ip in addresses(host)? {
        let command = match hold {
            true => Command::HealthHold(ip),
            false => Command::HealthRelease(ip),
        };
        changes.make(ip, &command, Code::NotFound)?;
    }
    changes.end(common.json, common.verbose)
}

fn show(json: bool, rows: &[HealthRow]) -> Result<(), Failure> {
    if rows.is_empty() && !json {
        eprintln!(
            "homing: no backend is checked: there is no [[health_check]] in the settings that concerns one"
        );
    }
    let all: Vec<_> = rows.iter().map(Health::of).collect();
    output::list(json, &all, || table(rows))
}

fn table(rows: &[HealthRow]) -> Table {
    let mut table = Table::new(&[
        "address",
        "check",
        "state",
        "since",
        "votes",
        "decision",
        "weight",
        "last error",
    ]);
    for row in rows {
        let weight = match row.vhosts == row.weight {
            true => row.weight.to_string(),
            false => format!("{} of {}", row.vhosts, row.weight),
        };
        table.row([
            ip_text(row.ip),
            row.check.clone(),
            row.state.clone(),
            output::time(row.since),
            // Of so many that must agree.
            format!("{} bad, {} good of {}", row.failed, row.good, row.quorum),
            row.reason.clone(),
            weight,
            row.error.clone(),
        ]);
    }
    table
}
