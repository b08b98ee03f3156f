//! Backends: the list, changes, drains, plans, dumps.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::StatusCode;

use super::call::{Answer, Call, address, json, json_with};
use super::director::{Session, judge};
use crate::admin::documents::{self as told, Backend, BackendHealth, Drain};
use crate::admin::dump::{Dump, Step};
use crate::admin::plan::{self, Change, Refused};
use crate::core::ip_text::{ip_order, ip_text};
use crate::core::snapshot::Snapshot;
use crate::http::documents as doc;
use crate::http::problem::{Fault, Problem};
use crate::wire::admin::read::{self, Host};
use crate::wire::admin::{Command, HealthRow, MAX_VHOSTS, Reply, Weight, Whose};

pub(super) async fn list(call: Call) -> Answer {
    let limit = call.limit()?;
    let after = call.query("cursor").map(address).transpose()?;
    let mut director = call.director().await?;
    let mut hosts = director.hosts().await?;
    if let Some(after) = after {
        hosts.retain(|host| ip_order(host.ip, after).is_gt());
    }
    let more = hosts.len() > limit;
    hosts.truncate(limit);
    let next = hosts.last().filter(|_| more).map(|host| ip_text(host.ip));
    let told = Told::gather(&call, &mut director).await?;
    json(&doc::Backends {
        items: hosts.iter().map(|host| told.of(host)).collect(),
        next,
    })
}

/// What the list of backends does not tell of them.
struct Told {
    snapshot: Arc<Snapshot>,
    health: Vec<HealthRow>,
}

impl Told {
    async fn gather(call: &Call, director: &mut Session) -> Result<Told, Problem> {
        Ok(Told {
            snapshot: call.app.directory.snapshot(),
            health: director.rows(&Command::HealthList, read::health).await?,
        })
    }

    fn of(&self, host: &Host) -> Backend {
        let mut backends = self.snapshot.backends.iter().flatten();
        let known = backends.find(|it| it.ip == host.ip);
        Backend {
            name: known.and_then(|it| it.name.as_deref().map(str::to_owned)),
            health: BackendHealth::of(host.ip, &self.health),
            ..Backend::of(host)
        }
    }
}

pub(super) fn find(hosts: &[Host], ip: IpAddr) -> Result<&Host, Problem> {
    let host = hosts.iter().find(|host| host.ip == ip);
    host.ok_or_else(|| Problem::of_reply(Reply::NotFound, &name(ip)))
}

pub(super) fn name(ip: IpAddr) -> String {
    format!("backend {}", ip_text(ip))
}

pub(super) async fn show(call: Call) -> Answer {
    let ip = call.backend()?;
    let mut director = call.director().await?;
    let hosts = director.hosts().await?;
    let host = find(&hosts, ip)?;
    json(&Told::gather(&call, &mut director).await?.of(host))
}

async fn order(call: &Call, ip: IpAddr, command: Command<'_>) -> Answer {
    let done = call.director().await?.order(&command, &name(ip)).await?;
    json(&done)
}

pub(super) async fn add(call: Call) -> Answer {
    let ip = call.address()?;
    let new: doc::NewBackend = call.document()?;
    let tag = new.tag.filter(|tag| !tag.is_empty());
    if tag
        .as_deref()
        .is_some_and(|tag| tag.contains(['@', '\n', '\r', '\0']))
    {
        return Err(Problem::bad("a tag has neither '@' nor line breaks"));
    }
    let weight = Weight {
        ip,
        tag: tag.map(|tag| Cow::Owned(tag.into_bytes())),
        vhosts: new.vhosts.map(vhosts).transpose()?,
    };
    order(&call, ip, Command::HostSet(weight)).await
}

fn vhosts(vhosts: u32) -> Result<u32, Problem> {
    match vhosts <= MAX_VHOSTS {
        true => Ok(vhosts),
        false => Err(Problem::of_reply(Reply::TooManyVhosts, "vhosts")),
    }
}

pub(super) async fn update(call: Call) -> Answer {
    let ip = call.backend()?;
    let new: doc::NewWeight = call.document()?;
    let weight = Weight {
        ip,
        tag: None,
        vhosts: Some(vhosts(new.vhosts)?),
    };
    order(&call, ip, Command::HostUpdate(weight)).await
}

pub(super) async fn remove(call: Call) -> Answer {
    let ip = call.backend()?;
    order(&call, ip, Command::HostRemove(ip)).await
}

pub(super) async fn up(call: Call) -> Answer {
    let ip = call.backend()?;
    order(&call, ip, Command::HostUp(ip)).await
}

pub(super) async fn down(call: Call) -> Answer {
    let ip = call.backend()?;
    order(&call, ip, Command::HostDown(ip)).await
}

/// Of one backend or of all.
pub(super) async fn flush(call: Call, all: bool) -> Answer {
    let host = match all {
        true => None,
        false => Some(call.backend()?),
    };
    let wanted: doc::FlushOrder = call.document()?;
    let what = host.map_or_else(|| "the backends".to_owned(), name);
    let command = match (wanted.force, wanted.max_parallel) {
        (true, Some(_)) => {
            let what = "max_parallel has no meaning with force: nobody is moved";
            return Err(Problem::bad(what));
        }
        (true, None) => Command::HostFlush(host),
        (false, max_parallel) => Command::HostResetUsers { host, max_parallel },
    };
    let count = call.said("count")?.unwrap_or(true) && !wanted.force;
    let mut director = call.director().await?;
    let users = |hosts: Vec<Host>| {
        let meant = hosts.iter().filter(|it| host.is_none_or(|ip| ip == it.ip));
        meant.map(|it| it.users).sum::<u64>()
    };
    let users_before = users(director.hosts().await?);
    let sessions = match count {
        true => director.count(Whose::Backend(host)).await?,
        false => None,
    };
    let state = director.long_order(&command, &what).await?.state;
    let is_done = state == doc::Done::DONE.state;
    let (status, ended, survived, users_after) = match is_done {
        true => {
            let (ended, survived) = director.fate(sessions).await?;
            let after = users(director.hosts().await?);
            (StatusCode::OK, ended, survived, after)
        }
        // This conversation waits for the flush.
        false => (
            StatusCode::ACCEPTED,
            None,
            None,
            users(call.director().await?.hosts().await?),
        ),
    };
    let flushed = doc::Flushed {
        state,
        users_before,
        users_after,
        sessions_ended: ended,
        sessions_survived: survived,
    };
    json_with(status, "application/json", &flushed)
}

async fn all_drains(call: &Call) -> Result<Vec<Drain>, Problem> {
    let mut director = call.director().await?;
    let rows = director.rows(&Command::DrainList, read::drain).await?;
    let hosts = director.hosts().await?;
    Ok(rows.iter().map(|row| Drain::of(row, &hosts)).collect())
}

pub(super) async fn drains(call: Call) -> Answer {
    let items = all_drains(&call).await?;
    json(&doc::Drains { items })
}

pub(super) async fn drain(call: Call) -> Answer {
    let address = ip_text(call.backend()?);
    let drains = all_drains(&call).await?;
    let drain = drains.iter().find(|drain| drain.address == address);
    match drain {
        Some(drain) => json(drain),
        None => Err(Problem::not_found(format!(
            "{address} is not being drained"
        ))),
    }
}

pub(super) async fn drain_begin(call: Call) -> Answer {
    let ip = call.backend()?;
    let doc::DrainOrder { rate } = call.document()?;
    let most = crate::core::ring::MAX_RATE;
    if rate.get() > most {
        return Err(Problem::bad(format!("rate: 1 to {most} users a second")));
    }
    order(&call, ip, Command::DrainBegin { ip, rate }).await
}

pub(super) async fn drain_cancel(call: Call) -> Answer {
    let ip = call.backend()?;
    order(&call, ip, Command::DrainCancel(ip)).await
}

pub(super) async fn plan(call: Call) -> Answer {
    let backend = call.query("backend");
    let backend = backend.ok_or_else(|| Problem::bad("backend: an address is needed"))?;
    let ip = call.known_backend(backend)?;
    let weight = call.number("vhosts")?.map(vhosts).transpose()?;
    let tag = call.query("tag").filter(|tag| !tag.is_empty());
    let (word, change) = match (call.query("change"), weight) {
        (Some("add"), vhosts) => {
            let tag = tag.map(|tag| tag.as_bytes().to_vec());
            ("add", Change::Add { tag, vhosts })
        }
        (Some("update"), Some(vhosts)) => ("update", Change::Update(vhosts)),
        (Some("update"), None) => return Err(Problem::bad("vhosts: a number is needed")),
        (Some("up"), None) => ("up", Change::Up),
        (Some("down"), None) => ("down", Change::Down),
        (Some("remove"), None) => ("remove", Change::Remove),
        _ => {
            let what = "change: add, update, up, down or remove; vhosts only with the first two";
            return Err(Problem::bad(what));
        }
    };
    let mut director = call.director().await?;
    let now = director.hosts().await?;
    let users = director.rows(&Command::UserList(None), read::user).await?;
    let then = plan::changed(&now, ip, &change).map_err(|refused| match refused {
        Refused::Unknown => Problem::of_reply(Reply::NotFound, &name(ip)),
        Refused::Not(what) => Problem::new(409, Fault::Client, what),
    })?;
    // Some ten nanoseconds for each user, but there may be millions.
    let planned = tokio::task::spawn_blocking(move || plan::plan(&now, &then, &users)).await;
    let planned = planned.map_err(|error| Problem::director(error.to_string()))?;
    let planned = planned.map_err(|what| Problem::new(422, Fault::Client, what))?;
    json(&told::Plan::of(word, vec![ip_text(ip)], weight, &planned))
}

pub(super) async fn dump(call: Call) -> Answer {
    let mut director = call.director().await?;
    let hosts = director.hosts().await?;
    let command = Command::HostListRemoved;
    let removed = director.rows(&command, read::removed_host).await?;
    json(&Dump::of(&hosts, &removed).map_err(Problem::director)?)
}

pub(super) async fn restore(call: Call) -> Answer {
    let (dry, others) = (call.flag("dry_run")?, call.flag("remove_others")?);
    let dump =
        Dump::parse_json(&call.body).map_err(|what| Problem::bad(format!("the dump: {what}")))?;
    let mut director = call.director().await?;
    let now = director.hosts().await?;
    let wrong = |what| Problem::new(422, Fault::Client, what);
    let steps = dump.steps(&now, others).map_err(wrong)?;
    let mut told = Vec::new();
    for step in &steps {
        let reply = match step.command().filter(|_| !dry) {
            None => None,
            Some(command) => {
                let line = director.ask(&command).await?;
                // Somebody was faster.
                let gone =
                    matches!(step, Step::Remove(_)) && read::reply(&line) == Some(Reply::NotFound);
                match judge(&line, &name(step.ip())) {
                    Err(problem) if !gone => Some(problem.detail),
                    _ => Some("OK".to_owned()),
                }
            }
        };
        told.push(doc::Step {
            address: ip_text(step.ip()),
            step: step.to_string(),
            reply,
        });
    }
    let others = match others {
        true => 0,
        false => dump.others(&now).map_err(wrong)?,
    };
    json(&doc::Restored {
        steps: told,
        others,
    })
}
