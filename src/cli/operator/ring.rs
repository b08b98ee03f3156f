//! The directors of the ring.

use serde::Serialize;

use super::args::{DirectorArgs, RingArgs, RingCommand, RingStatusArgs};
use super::client::Answer;
use super::failure::{Failure, Outcome};
use super::hosts::UNSYNCED;
use super::output::{self, Table, time};
use super::{Done, connect};
use crate::admin::documents::Director;
use crate::core::ip_text::{ip_text, parse_lenient};
use crate::wire::admin::read::{self, Peer};
use crate::wire::admin::{Command, Reply};

/// One of the three.
pub(super) fn run(args: &RingArgs) -> Done {
    match &args.command {
        RingCommand::Status(args) => status(args),
        RingCommand::Add(args) => change(args, true),
        RingCommand::Remove(args) => change(args, false),
    }
}

fn status(args: &RingStatusArgs) -> Done {
    let peers = connect(&args.common)?.rows(&Command::DirectorList, read::peer)?;
    let rows: Vec<_> = peers.iter().map(Director::of).collect();
    output::list(args.common.json, &rows, || table(&peers))?;
    Ok(Outcome::default())
}

fn table(peers: &[Peer]) -> Table {
    let mut table = Table::new(&[
        "director",
        "port#",
        "type",
        "status",
        "ping ms#",
        "in#",
        "out#",
        "buffered#",
        "peak#",
        "last read",
        "last write",
        "last failed",
    ]);
    let number = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
    let when = |seconds: Option<u64>| seconds.map(time).unwrap_or_default();
    for peer in peers {
        let director = peer.director;
        table.row([
            director.map_or_else(|| "unknown".to_owned(), |it| ip_text(it.ip)),
            director.map(|it| it.port.to_string()).unwrap_or_default(),
            peer.kind.clone(),
            peer.status.clone(),
            number(peer.ping_ms),
            number(peer.bytes_in),
            number(peer.bytes_out),
            number(peer.buffered),
            number(peer.peak),
            when(peer.last_read),
            when(peer.last_write),
            when(peer.last_failed),
        ]);
    }
    table
}

/// What came of it, in JSON.
#[derive(Serialize)]
struct ChangeJson<'a> {
    address: String,
    port: Option<u16>,
    reply: &'a str,
}

fn change(args: &DirectorArgs, add: bool) -> Done {
    let ip = parse_lenient(&args.ip)
        .filter(|_| !args.ip.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| {
            let what = "the address of a director is needed, not a name";
            Failure::usage(format!("'{}': {what}", args.ip))
        })?;
    let port = args.port;
    let command = match add {
        true => Command::DirectorAdd { ip, port },
        false => Command::DirectorRemove { ip, port },
    };
    let mut client = connect(&args.common)?;
    let answer = client.request(&command)?;
    if args.common.json {
        output::json(&ChangeJson {
            address: ip_text(ip),
            port,
            reply: answer.text(),
        })?;
    }
    let name = match port {
        Some(port) => format!("{}, port {port}", ip_text(ip)),
        None => ip_text(ip),
    };
    match answer {
        Answer::Known(Reply::Ok) => {
            if args.common.verbose {
                eprintln!("{name}: {}", if add { "added" } else { "removed" });
            }
            Ok(Outcome::default())
        }
        Answer::Known(Reply::NotFound) => Err(Failure::not_found(format!(
            "no such director: {name}; `homing ring status` shows them"
        ))),
        Answer::Known(Reply::SyncTimedOut) => {
            let said = Reply::SyncTimedOut.text();
            Err(Failure::temporary(format!("{name}: {said}: {UNSYNCED}")))
        }
        other => Err(Failure::temporary(format!("{name}: {}", other.text()))),
    }
}
