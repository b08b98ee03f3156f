//! Backends: status, add, update, up, down, remove, flush.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;

use super::args::{AddArgs, FlushArgs, HostArgs, StatusArgs, UpdateArgs};
use super::client::{Answer, Client};
use super::failure::{Code, Failure, Outcome};
use super::output::{self, Table, lossy};
use super::place::addresses;
use super::sessions::{Fate, Watch};
use super::{Done, connect};
use crate::admin::documents::{Backend, state};
use crate::core::ip_text::ip_text;
use crate::wire::admin::read::Host;
use crate::wire::admin::{Command, Reply, Weight, Whose};

/// All backends.
pub(super) fn status(args: &StatusArgs) -> Done {
    let hosts = connect(&args.common)?.hosts()?;
    let rows: Vec<_> = hosts.iter().map(Backend::of).collect();
    output::list(args.common.json, &rows, || {
        let titles = [
            "address",
            "tag",
            "vhosts#",
            "state",
            "state changed",
            "users#",
        ];
        let mut table = Table::new(&titles);
        for host in &hosts {
            table.row([
                ip_text(host.ip),
                lossy(&host.tag),
                host.vhosts.to_string(),
                state(host.down).to_owned(),
                output::time(host.last_updown_change),
                host.users.to_string(),
            ]);
        }
        table
    })?;
    Ok(Outcome::default())
}

/// What came of a change of one backend, in JSON.
#[derive(Serialize)]
struct ChangeJson {
    address: String,
    reply: String,
}

/// Adds a backend, or changes its weight.
pub(super) fn add(args: &AddArgs) -> Done {
    let tag = args.tag.as_deref().filter(|tag| !tag.is_empty());
    let weight = |ip| Weight {
        ip,
        tag: tag.map(|tag| Cow::Borrowed(tag.as_bytes())),
        vhosts: args.vhost_count,
    };
    let mut changes = Changes::new(connect(&args.common)?, "added");
    for ip in addresses(&args.host)? {
        changes.make(ip, &Command::HostSet(weight(ip)), Code::Temporary)?;
    }
    changes.end(args.common.json, args.common.verbose)
}

/// Changes the weight of a known backend.
pub(super) fn update(args: &UpdateArgs) -> Done {
    let mut changes = Changes::new(connect(&args.common)?, "updated");
    for ip in addresses(&args.host)? {
        let weight = Weight {
            ip,
            tag: None,
            vhosts: Some(args.vhost_count),
        };
        // doveadm exits with 75 here and with 68 for the others; scripts may rely on it.
        changes.make(ip, &Command::HostUpdate(weight), Code::Temporary)?;
    }
    changes.end(args.common.json, args.common.verbose)
}

/// What has no argument but the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// New users again.
    Up,
    /// No new users.
    Down,
    /// Away.
    Remove,
}

/// Makes one of these changes.
pub(super) fn change(args: &HostArgs, change: Change) -> Done {
    let done = match change {
        Change::Up => "up",
        Change::Down => "down",
        Change::Remove => "removed",
    };
    let mut changes = Changes::new(connect(&args.common)?, done);
    for ip in addresses(&args.host)? {
        let command = match change {
            Change::Up => Command::HostUp(ip),
            Change::Down => Command::HostDown(ip),
            Change::Remove => Command::HostRemove(ip),
        };
        changes.make(ip, &command, Code::NotFound)?;
    }
    changes.end(args.common.json, args.common.verbose)
}

/// The same change of one backend after the other.
pub(super) struct Changes {
    client: Client,
    /// What has happened to a backend when the director says OK.
    done: &'static str,
    /// What it means that the director knows no such, and what would be right.
    unknown: &'static str,
    outcome: Outcome,
    replies: Vec<ChangeJson>,
}

impl Changes {
    /// Nothing is changed yet.
    pub(super) fn new(client: Client, done: &'static str) -> Changes {
        Changes {
            client,
            done,
            unknown: UNKNOWN,
            outcome: Outcome::default(),
            replies: Vec::new(),
        }
    }

    /// The same, for an order that is about something else than the backend itself.
    pub(super) fn of_what_may_be_missing(self, unknown: &'static str) -> Changes {
        Changes { unknown, ..self }
    }

    /// One backend; `unknown` is the status when there is no such.
    pub(super) fn make(
        &mut self,
        ip: IpAddr,
        command: &Command<'_>,
        unknown: Code,
    ) -> Result<(), Failure> {
        let answer = self.client.request(command)?;
        if let Err(mut failure) = judge(ip, &answer, unknown) {
            if answer == Answer::Known(Reply::NotFound) {
                failure.text = format!("{}: {}", ip_text(ip), self.unknown);
            }
            eprintln!("{failure}");
            self.outcome.failed(failure.code);
        }
        self.replies.push(ChangeJson {
            address: ip_text(ip),
            reply: answer.text().to_owned(),
        });
        Ok(())
    }

    /// The connection, for more to be asked, and what came of the changes.
    pub(super) fn leave(self) -> (Client, Outcome) {
        (self.client, self.outcome)
    }

    /// Says what came of them.
    pub(super) fn end(self, json: bool, verbose: bool) -> Done {
        if json {
            output::json(&self.replies)?;
        } else if verbose {
            let ok = self
                .replies
                .iter()
                .filter(|it| it.reply == Reply::Ok.text());
            ok.for_each(|it| eprintln!("{}: {}", it.address, self.done));
        }
        Ok(self.outcome)
    }
}

/// What it means that a director does not know a backend.
const UNKNOWN: &str = "doesn't exist: `homing status` shows the backends";

/// Whether a director did what it was told about a backend.
pub(super) fn judge(ip: IpAddr, answer: &Answer, unknown: Code) -> Result<(), Failure> {
    let ip = ip_text(ip);
    let text = answer.text();
    let (code, text) = match answer {
        Answer::Known(Reply::Ok) => return Ok(()),
        Answer::Known(Reply::NotFound) => (unknown, UNKNOWN.to_owned()),
        Answer::Known(Reply::SyncTimedOut) => (Code::Temporary, format!("{text}: {UNSYNCED}")),
        Answer::Known(Reply::TooManyVhosts) => (Code::Temporary, format!("{text}: at most 1000")),
        Answer::Known(Reply::TagCannotChange) => (
            Code::Temporary,
            format!("{text}: remove it first, then add it with the other tag"),
        ),
        Answer::Known(Reply::TryAgain | Reply::BeingUpdated) | Answer::Other(_) => {
            (Code::Temporary, text.to_owned())
        }
    };
    let text = format!("{ip}: {text}");
    Err(Failure { code, text })
}

/// What "Ring sync timed out" may mean.
pub(super) const UNSYNCED: &str = "the directors did not agree for 30 s, and the change may have been made or not; \
     `homing status` and `homing ring status` show it";

/// What a flush did, in JSON. The numbers count logins of the meantime too.
#[derive(Serialize)]
struct FlushJson {
    address: String,
    reply: String,
    users_before: Option<u64>,
    users_after: Option<u64>,
    #[serde(flatten)]
    fate: Fate,
}

/// Moves the users of one backend or of all to where they belong.
pub(super) fn flush(args: &FlushArgs) -> Done {
    let mut client = connect(&args.common)?;
    let targets: Vec<_> = match args.host.as_str() {
        "all" => vec![None],
        host => addresses(host)?.into_iter().map(Some).collect(),
    };
    let before = client.hosts()?;
    let mut outcome = Outcome::default();
    let mut replies = Vec::new();
    for target in targets {
        let command = match args.force_flush {
            true => Command::HostFlush(target),
            false => Command::HostResetUsers {
                host: target,
                max_parallel: args.max_parallel,
            },
        };
        // A forced flush ends none.
        let watch = match args.force_flush {
            true => Watch::nothing(),
            false => Watch::begin(&mut client, Whose::Backend(target))?,
        };
        let answer = client.request(&command)?;
        let fate = watch.end_of(&answer, &mut client)?;
        let failed = match target {
            Some(ip) => judge(ip, &answer, Code::NotFound).err(),
            None if answer == Answer::Known(Reply::Ok) => None,
            None => Some(Failure::temporary(format!("flush: {}", answer.text()))),
        };
        if let Some(failure) = failed {
            eprintln!("{failure}");
            outcome.failed(failure.code);
        }
        replies.push((target, answer, fate));
    }
    let after = client.hosts()?;
    report_flush(args, &replies, &before, &after)?;
    Ok(outcome)
}

fn report_flush(
    args: &FlushArgs,
    replies: &[(Option<IpAddr>, Answer, Fate)],
    before: &[Host],
    after: &[Host],
) -> Result<(), Failure> {
    let users = |hosts: &[Host], ip| hosts.iter().find(|it| it.ip == ip).map(|it| it.users);
    let mut rows = Vec::new();
    for (target, answer, fate) in replies {
        let all = before.iter().map(|host| host.ip);
        let targets = target.map_or_else(|| all.collect(), |ip| vec![ip]);
        rows.extend(targets.into_iter().map(|ip| FlushJson {
            address: ip_text(ip),
            reply: answer.text().to_owned(),
            users_before: users(before, ip),
            users_after: users(after, ip),
            // Those of all backends are counted together.
            fate: target.map_or_else(Fate::default, |_| *fate),
        }));
    }
    if args.common.json {
        return output::json(&rows);
    }
    rows.retain(|row| row.reply == Reply::Ok.text());
    if rows.is_empty() {
        return Ok(());
    }
    let number = |number: Option<u64>| number.map(|it| it.to_string()).unwrap_or_default();
    // Of a Dovecot's sessions nothing is known.
    let counted = rows.iter().any(|row| row.fate != Fate::default());
    let mut table = match counted {
        true => Table::new(&[
            "flushed",
            "users before#",
            "users after#",
            "sessions ended#",
            "survived#",
        ]),
        false => Table::new(&["flushed", "users before#", "users after#"]),
    };
    for row in &rows {
        let address = row.address.clone();
        let [before, after] = [row.users_before, row.users_after].map(number);
        let [ended, survived] = [row.fate.sessions_ended, row.fate.sessions_survived].map(number);
        match counted {
            true => table.row([address, before, after, ended, survived]),
            false => table.row([address, before, after]),
        }
    }
    output::print(&table.render(output::terminal()))?;
    let all = replies.iter().filter(|(target, ..)| target.is_none());
    let text: String = all.map(|(.., fate)| fate.text()).collect();
    match text.strip_prefix(", ") {
        Some(text) => output::print(&format!("{text}\n")),
        None => Ok(()),
    }
}
