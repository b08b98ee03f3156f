//! Users: status, map, move, kick.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use serde::Serialize;

use super::args::{KickArgs, MapArgs, MoveArgs, StatusArgs};
use super::client::{Answer, Client};
use super::failure::{Code, Failure, Outcome};
use super::hosts::judge;
use super::output::{self, Table, lossy};
use super::place::{Source, addresses};
use super::sessions::{Fate, Watch};
use super::{Done, connect, names};
use crate::admin::documents::{Mapped, Place, tags};
use crate::core::ip_text::ip_text;
use crate::wire::admin::read;
use crate::wire::admin::{Command, Fact, LookupRow, Reply, User, Whose};

/// Asks where a user is under a tag.
pub(super) fn lookup(
    client: &mut Client,
    user: User<'_>,
    tag: &[u8],
) -> Result<LookupRow, Failure> {
    explained(client, user, tag, false).map(|(row, _)| row)
}

/// The same, and what only a Homing tells besides, if it is asked; from Dovecot nothing.
pub(super) fn explained(
    client: &mut Client,
    user: User<'_>,
    tag: &[u8],
    why: bool,
) -> Result<(LookupRow, Vec<Fact>), Failure> {
    let tag = Cow::Borrowed(tag);
    let line = client.ask(&Command::UserLookup { user, tag, why })?;
    if read::reply(&line) == Some(Reply::TryAgain) {
        let what = "the director cannot hash the name (its director_username_hash)";
        return Err(Failure::protocol(format!("{}: {what}", client.place())));
    }
    let row = read::lookup(&line).map_err(|error| client.unexpected(&error))?;
    Ok((row, read::facts(&line)))
}

/// Where a user is and would go, under one tag or all.
pub(super) fn status(args: &StatusArgs, user: &str, tag: Option<&str>) -> Done {
    let mut client = connect(&args.common)?;
    let tags = match tag {
        Some(tag) => vec![tag.as_bytes().to_vec()],
        None => tags(&client.hosts()?),
    };
    let mut found = Vec::new();
    for tag in tags {
        let name = User::Name(Cow::Borrowed(user.as_bytes()));
        let row = lookup(&mut client, name, &tag)?;
        found.push((lossy(&tag), row));
    }
    let text = |ip: Option<IpAddr>| ip.map(ip_text);
    let rows: Vec<_> = found
        .iter()
        .map(|(tag, row)| Place::of(user, tag.clone(), row))
        .collect();
    output::list(args.common.json, &rows, || {
        let mut table = Table::new(&["tag", "current", "expires", "hashed", "initial config"]);
        for (tag, row) in &found {
            let expires = row.current.map(|it| output::time(it.1));
            table.row([
                tag.clone(),
                text(row.current.map(|it| it.0)).unwrap_or_default(),
                expires.unwrap_or_default(),
                text(row.hashed).unwrap_or_default(),
                text(row.initial).unwrap_or_default(),
            ]);
        }
        table
    })?;
    Ok(Outcome::default())
}

/// Which users are where.
pub(super) fn map(args: &MapArgs) -> Done {
    let source = Source::new(&args.common);
    let template = source.template(&args.hash)?;
    let mut scratch = Vec::new();
    if let Some(user) = &args.user_map {
        let hash = template.hash(user.as_bytes(), &mut scratch).0;
        match args.common.json {
            true => output::json(&hash)?,
            false => output::print(&format!("{hash}\n"))?,
        }
        return Ok(Outcome::default());
    }
    let mut outcome = Outcome::default();
    let mut by_hash: HashMap<u32, Vec<Vec<u8>>> = HashMap::new();
    match names::read(args.users_file.as_deref(), &source) {
        Ok(names) => {
            for name in names {
                let hash = template.hash(&name, &mut scratch).0;
                by_hash.entry(hash).or_default().push(name);
            }
        }
        // A file was asked for; auth's list is only there to help.
        Err(failure) if args.users_file.is_some() => return Err(failure),
        Err(failure) => {
            eprintln!("{failure}; users are shown by their hashes, -f FILE gives names");
            outcome.failed(failure.code);
        }
    }
    if let Some(hash) = args.hash_map {
        let names: Vec<_> = by_hash.remove(&hash).unwrap_or_default();
        let names: Vec<_> = names.iter().map(|name| lossy(name)).collect();
        match args.common.json {
            true => output::json(&names)?,
            false => names
                .iter()
                .try_for_each(|name| output::print(&format!("{name}\n")))?,
        }
        return Ok(outcome);
    }
    list(args, &source, &by_hash)?;
    Ok(outcome)
}

fn list(
    args: &MapArgs,
    source: &Source<'_>,
    by_hash: &HashMap<u32, Vec<Vec<u8>>>,
) -> Result<(), Failure> {
    let mut client = Client::connect(source.place()?)?;
    let wanted = args.host.as_deref().map(addresses).transpose()?;
    let filter = match wanted.as_deref() {
        Some([ip]) => Some(*ip),
        _ => None,
    };
    let mut users = client.rows(&Command::UserList(filter), read::user)?;
    if let Some(wanted) = &wanted {
        users.retain(|user| wanted.contains(&user.ip));
    }
    let rows: Vec<_> = users
        .iter()
        .flat_map(|user| {
            let row = |name: Option<&Vec<u8>>| Mapped::of(name.map(|name| lossy(name)), user);
            match by_hash.get(&user.hash) {
                Some(names) => names.iter().map(|name| row(Some(name))).collect(),
                None => vec![row(None)],
            }
        })
        .collect();
    output::list(args.common.json, &rows, || {
        let mut table = Table::new(&["user", "hash#", "backend", "expires"]);
        for row in &rows {
            let user = row.user.clone();
            table.row([
                user.unwrap_or_else(|| "<unknown>".to_owned()),
                row.hash.to_string(),
                row.backend.clone(),
                output::time(row.expires),
            ]);
        }
        table
    })
}

/// What a move did, in JSON.
#[derive(Serialize)]
struct MoveJson<'a> {
    user: &'a str,
    hash: u32,
    tag: String,
    from: Option<String>,
    to: String,
    reply: &'a str,
    #[serde(flatten)]
    fate: Fate,
}

/// Moves one user.
pub(super) fn move_user(args: &MoveArgs) -> Done {
    let source = Source::new(&args.common);
    let template = source.template(&args.hash)?;
    let hash = template.hash(args.user.as_bytes(), &mut Vec::new()).0;
    let mut client = Client::connect(source.place()?)?;
    let all = addresses(&args.host)?;
    let Some(&host) = all.first() else {
        return Err(Failure::temporary(format!("{}: no address", args.host)));
    };
    let to = ip_text(host);
    if all.len() > 1 {
        eprintln!(
            "{} has {} addresses; the first is {to}",
            args.host,
            all.len()
        );
    }
    let hosts = client.hosts()?;
    let tag = hosts.iter().find(|it| it.ip == host).map(|it| &it.tag);
    let from = match tag {
        Some(tag) => lookup(&mut client, User::Hash(hash), tag)?.current,
        None => None,
    };
    let user = User::Hash(hash);
    let except = Some(host);
    let watch = Watch::begin(
        &mut client,
        Whose::User {
            user: user.clone(),
            except,
        },
    )?;
    let answer = client.request(&Command::UserMove { user, host })?;
    let fate = watch.end_of(&answer, &mut client)?;
    let from = from.map(|(ip, _)| ip_text(ip));
    if args.common.json {
        output::json(&MoveJson {
            user: &args.user,
            hash,
            tag: tag.map(|tag| lossy(tag)).unwrap_or_default(),
            from: from.clone(),
            to: to.clone(),
            reply: answer.text(),
            fate,
        })?;
    }
    if answer == Answer::Known(Reply::TryAgain) {
        return Err(Failure::temporary(format!(
            "{} (hash {hash}) is already being moved: wait a while for that to be finished",
            args.user
        )));
    }
    judge(host, &answer, Code::NotFound)?;
    if !args.common.json {
        let user = format!("{} (hash {hash})", args.user);
        output::print(&match from {
            None => format!("{user}: was nowhere, now on {to}{}\n", fate.text()),
            Some(from) if from == to => format!("{user}: is on {to} already\n"),
            Some(from) => format!("{user}: moves from {from} to {to}{}\n", fate.text()),
        })?;
    }
    Ok(Outcome::default())
}

/// What a kick did, in JSON.
#[derive(Serialize)]
struct KickJson<'a> {
    user: &'a str,
    reply: &'a str,
    #[serde(flatten)]
    fate: Fate,
}

/// Ends a user's sessions.
pub(super) fn kick(args: &KickArgs) -> Done {
    if args.user.is_empty() {
        return Err(Failure::usage("the user's name is empty"));
    }
    let value = Cow::Borrowed(args.user.as_bytes());
    let nowait = false;
    let command = match &args.passdb_field {
        None => Command::UserKick {
            user: value,
            nowait,
        },
        Some(field) => Command::UserKickAlt {
            field: Cow::Borrowed(field.as_bytes()),
            value,
            nowait,
        },
    };
    let mut client = connect(&args.common)?;
    // Which sessions have a passdb field nobody tells.
    let watch = match &command {
        Command::UserKick { user, .. } => Watch::begin(&mut client, Whose::Name(user.clone()))?,
        _ => Watch::nothing(),
    };
    let answer = client.request(&command)?;
    let fate = watch.end_of(&answer, &mut client)?;
    if args.common.json {
        output::json(&KickJson {
            user: &args.user,
            reply: answer.text(),
            fate,
        })?;
    }
    if answer != Answer::Known(Reply::Ok) {
        let (user, text) = (&args.user, answer.text());
        return Err(Failure::temporary(format!("{user}: {text}")));
    }
    if !args.common.json && fate != Fate::default() {
        output::print(&format!("{}: kicked{}\n", args.user, fate.text()))?;
    } else if args.common.verbose {
        eprintln!("{}: kicked", args.user);
    }
    Ok(Outcome::default())
}
