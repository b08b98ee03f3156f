//! Drains: users leave a backend gradually. The director does it; here it is ordered and looked at.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::args::DrainArgs;
use super::client::Client;
use super::failure::{Code, Failure, Outcome};
use super::hosts::Changes;
use super::output::{self, Table};
use super::place::addresses;
use super::{Done, connect};
use crate::core::ip_text::ip_text;
use crate::wire::admin::read::{self, Host};
use crate::wire::admin::{Command, DrainRow};

/// How often a drain is looked at: often enough for a bar, and nothing to a director.
const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// There is nothing to be cancelled.
const NO_DRAIN: &str = "it is not being drained: `homing drain --status` shows the drains";
/// What the director says when no user is left (docs/protocol/admin.md, drains).
const DONE: &str = "done";

/// A drain in JSON.
#[derive(Serialize)]
struct DrainJson {
    address: String,
    state: Option<String>,
    rate: Option<u32>,
    users_moved: Option<u64>,
    users_left: Option<u64>,
    vhosts_before: Option<u32>,
    begun: Option<u64>,
}

/// Orders, ends, shows or waits for drains.
pub(super) fn run(args: &DrainArgs) -> Done {
    let targets = args.host.as_deref().map(addresses).transpose()?;
    if args.rate.is_none() && !args.wait && !args.cancel && !args.status {
        return Err(Failure::usage(
            "say how fast: --rate N users a second; or --wait, --cancel or --status",
        ));
    }
    let mut client = connect(&args.common)?;
    if !client.is_homing()? {
        return Err(Failure::temporary(format!(
            "{}: only a Homing can drain, and this director is none; `homing update HOST 0` and \
             `homing flush --max-parallel N HOST` do the same less gently",
            client.place()
        )));
    }
    if args.status {
        let (drains, hosts) = look(&mut client)?;
        return show(args, targets.as_deref(), &drains, &hosts).map(|()| Outcome::default());
    }
    let targets = targets.unwrap_or_default();
    if args.cancel {
        return order(client, args, &targets, Command::DrainCancel);
    }
    let Some(rate) = args.rate else {
        return wait(client, args, &targets);
    };
    let begin = |ip| Command::DrainBegin { ip, rate };
    if !args.wait {
        return order(client, args, &targets, begin);
    }
    let mut changes = Changes::new(client, "draining");
    for &ip in &targets {
        changes.make(ip, &begin(ip), Code::NotFound)?;
    }
    let (client, outcome) = changes.leave();
    match outcome.status() {
        0 => wait(client, args, &targets),
        _ => Ok(outcome),
    }
}

fn order(
    client: Client,
    args: &DrainArgs,
    targets: &[IpAddr],
    command: impl Fn(IpAddr) -> Command<'static>,
) -> Done {
    let mut changes = match args.cancel {
        true => Changes::new(client, "no longer draining").of_what_may_be_missing(NO_DRAIN),
        false => Changes::new(client, "draining"),
    };
    for &ip in targets {
        changes.make(ip, &command(ip), Code::NotFound)?;
    }
    changes.end(args.common.json, args.common.verbose)
}

fn look(client: &mut Client) -> Result<(Vec<DrainRow>, Vec<Host>), Failure> {
    let drains = client.rows(&Command::DrainList, read::drain)?;
    Ok((drains, client.hosts()?))
}

/// Waits until no user is left, or a drain has ended otherwise.
fn wait(mut client: Client, args: &DrainArgs, targets: &[IpAddr]) -> Done {
    let bar = bar();
    loop {
        let (drains, hosts) = look(&mut client)?;
        let find = |ip: &IpAddr| drains.iter().find(|drain| drain.ip == *ip);
        let found: Vec<&DrainRow> = targets.iter().filter_map(find).collect();
        let moved: u64 = found.iter().map(|drain| drain.moved).sum();
        let users = |ip: &IpAddr| hosts.iter().find(|it| it.ip == *ip).map(|it| it.users);
        let left: u64 = targets.iter().filter_map(users).sum();
        if let Some(bar) = &bar {
            let states: Vec<&str> = found.iter().map(|drain| drain.state.as_str()).collect();
            bar.set_length(moved + left);
            bar.set_position(moved);
            bar.set_message(states.join(", "));
        }
        let is_over = found.iter().all(|drain| drain.state == DONE);
        if !is_over && found.len() == targets.len() {
            thread::sleep(LOOK_PAUSE);
            continue;
        }
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        let mut outcome = Outcome::default();
        for ip in targets.iter().filter(|ip| find(ip).is_none()) {
            let left = users(ip).unwrap_or(0);
            eprintln!(
                "homing: {}: there is no drain of it (any more): it was cancelled, the backend was \
                 removed or has a vhost count again, or the director was restarted; {left} users are \
                 left",
                ip_text(*ip)
            );
            outcome.failed(Code::Temporary);
        }
        show(args, Some(targets), &drains, &hosts)?;
        return Ok(outcome);
    }
}

/// For people; nothing when standard error goes to a file.
fn bar() -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("[{bar:40}] {pos} of {len} users have left  {msg}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    Some(bar)
}

/// The drains of these backends, those that are none included; without, all that there are.
fn show(
    args: &DrainArgs,
    targets: Option<&[IpAddr]>,
    drains: &[DrainRow],
    hosts: &[Host],
) -> Result<(), Failure> {
    let all: Vec<IpAddr> = drains.iter().map(|drain| drain.ip).collect();
    let row = |ip: &IpAddr| {
        let drain = drains.iter().find(|drain| drain.ip == *ip);
        let host = hosts.iter().find(|host| host.ip == *ip);
        DrainJson {
            address: ip_text(*ip),
            state: drain.map(|it| it.state.clone()),
            rate: drain.map(|it| it.rate),
            users_moved: drain.map(|it| it.moved),
            users_left: host.map(|it| it.users),
            vhosts_before: drain.and_then(|it| it.vhosts),
            begun: drain.map(|it| it.begun),
        }
    };
    let rows: Vec<_> = targets.unwrap_or(&all).iter().map(row).collect();
    output::list(args.common.json, &rows, || table(&rows))
}

fn table(rows: &[DrainJson]) -> Table {
    let mut table = Table::new(&[
        "address",
        "drain",
        "users left#",
        "users moved#",
        "rate#",
        "vhosts before#",
        "begun",
    ]);
    let number = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
    for row in rows {
        table.row([
            row.address.clone(),
            row.state.clone().unwrap_or_default(),
            number(row.users_left),
            number(row.users_moved),
            number(row.rate.map(u64::from)),
            number(row.vhosts_before.map(u64::from)),
            row.begun.map(output::time).unwrap_or_default(),
        ]);
    }
    table
}

/// The `--rate` of a command line.
pub(super) fn rate(text: &str) -> Result<NonZeroU32, String> {
    let most = crate::core::ring::MAX_RATE;
    let rate = text
        .parse()
        .ok()
        .filter(|rate: &NonZeroU32| rate.get() <= most);
    rate.ok_or_else(|| format!("a number of users a second is needed, from 1 to {most}"))
}
