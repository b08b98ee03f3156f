//! Users: the map, where one is and why, moves, kicks.

use std::borrow::Cow;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use super::call::{Answer, Call, json};
use super::director::Session;
use crate::admin::documents::{Mapped, Place, Whom, Why, tags};
use crate::admin::plan::Rings;
use crate::core::UserHash;
use crate::core::ip_text::ip_text;
use crate::core::user_hash::cut_master_user;
use crate::core::users::Entry;
use crate::http::documents as doc;
use crate::http::problem::{Fault, Problem};
use crate::shell::clock;
use crate::shell::directory::Directory;
use crate::wire::admin::read::{self, Host};
use crate::wire::admin::{Command, Fact, LookupRow, Reply, User, UserRow, Whose};

/// Where a part of the user table begins: behind this tag and hash.
type Cursor = (u16, u32);

fn cursor(text: &str) -> Result<Cursor, Problem> {
    let read = || {
        let (tag, hash) = text.split_once('-')?;
        Some((tag.parse().ok()?, hash.parse().ok()?))
    };
    read().ok_or_else(|| Problem::bad("cursor: it is none that was given out"))
}

pub(super) async fn list(call: Call) -> Answer {
    let limit = call.limit()?;
    let after = call.query("cursor").map(cursor).transpose()?;
    let backend = call.query("backend");
    let backend = backend.map(|it| call.known_backend(it)).transpose()?;
    let directory = std::sync::Arc::clone(&call.app.directory);
    let found = tokio::task::spawn_blocking(move || part(&directory, backend, after, limit)).await;
    json(&found.map_err(|error| Problem::director(error.to_string()))?)
}

/// One part of the user table, in the order of tags and hashes. All of it is looked at, some
/// nanoseconds for each user; no more than the part is kept.
fn part(
    directory: &Directory,
    backend: Option<IpAddr>,
    after: Option<Cursor>,
    limit: usize,
) -> doc::Users {
    let snapshot = directory.snapshot();
    let place = |entry: &Entry| (entry.key().tag.0, entry.key().hash.0);
    // The greatest is on top; one more than is wanted tells whether there are more.
    let mut least: BinaryHeap<(Cursor, u64, IpAddr)> = BinaryHeap::new();
    directory.each_shard(clock::wall(), &snapshot, |entries| {
        for entry in entries {
            let at = place(entry);
            let is_late = least.len() > limit && least.peek().is_some_and(|top| top.0 < at);
            if after.is_some_and(|after| at <= after) || is_late {
                continue;
            }
            let Some(view) = snapshot.backend(entry.backend()) else {
                continue;
            };
            if backend.is_none_or(|ip| ip == view.ip) {
                let expires = entry.stamp().0 + snapshot.expiry.seconds();
                least.push((at, expires, view.ip));
                if least.len() > limit + 1 {
                    least.pop();
                }
            }
        }
    });
    let mut found = least.into_sorted_vec();
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more);
    let next = last.map(|((tag, hash), ..)| format!("{tag}-{hash}"));
    let row = |&((_, hash), expires, ip): &(Cursor, u64, IpAddr)| {
        Mapped::of(None, &UserRow { hash, expires, ip })
    };
    doc::Users {
        items: found.iter().map(row).collect(),
        next,
    }
}

/// The hash of a login name, as lookups compute it.
fn hash_of(call: &Call, user: &str) -> UserHash {
    let snapshot = call.app.directory.snapshot();
    let name = cut_master_user(user.as_bytes(), snapshot.master_user_separator);
    snapshot.username_hash.hash(name, &mut Vec::new())
}

fn wanted_tags(call: &Call, hosts: &[Host]) -> Vec<Vec<u8>> {
    match call.query("tag") {
        Some(tag) => vec![tag.as_bytes().to_vec()],
        None => tags(hosts),
    }
}

async fn look_up(
    director: &mut Session,
    hash: UserHash,
    tag: &[u8],
    why: bool,
) -> Result<(LookupRow, Vec<Fact>), Problem> {
    let command = Command::UserLookup {
        user: User::Hash(hash.0),
        tag: Cow::Borrowed(tag),
        why,
    };
    let line = director.ask(&command).await?;
    let row = read::lookup(&line).map_err(|error| Problem::director(error.to_string()))?;
    Ok((row, read::facts(&line)))
}

pub(super) async fn places(call: Call) -> Answer {
    let user = call.user()?;
    let hash = hash_of(&call, user);
    let mut director = call.director().await?;
    let hosts = director.hosts().await?;
    let mut places = Vec::new();
    for tag in wanted_tags(&call, &hosts) {
        let (row, _) = look_up(&mut director, hash, &tag, false).await?;
        let tag = String::from_utf8_lossy(&tag).into_owned();
        places.push(Place::of(user, tag, &row));
    }
    json(&doc::UserPlaces {
        user: user.to_owned(),
        hash: hash.0,
        places,
    })
}

pub(super) async fn why(call: Call) -> Answer {
    let user = call.user()?;
    let hash = hash_of(&call, user);
    let stay = call.app.config.load().stay;
    let mut director = call.director().await?;
    let hosts = director.hosts().await?;
    let mut found = Vec::new();
    for tag in wanted_tags(&call, &hosts) {
        found.push((look_up(&mut director, hash, &tag, true).await?, tag));
    }
    let rings = Rings::new(&hosts).map_err(|what| Problem::new(422, Fault::State, what))?;
    let mut items = Vec::new();
    for ((row, facts), tag) in found {
        let whom = Whom {
            user,
            hash: hash.0,
            tag: &tag,
        };
        items.push(Why::of(whom, &row, facts, &hosts, &rings, Some(stay)));
    }
    // One that is nowhere is told about under all tags; one that is somewhere, only there.
    if call.query("tag").is_none() && items.iter().any(|why| why.current.is_some()) {
        items.retain(|why| why.current.is_some());
    }
    json(&doc::Whys { items })
}

pub(super) async fn move_user(call: Call) -> Answer {
    let user = call.user()?;
    let wanted: doc::MoveOrder = call.document()?;
    let host = call.known_backend(&wanted.backend)?;
    let user = User::Hash(hash_of(&call, user).0);
    let command = Command::UserMove {
        user: user.clone(),
        host,
    };
    let except = Some(host);
    let what = format!("the user, or backend {}", ip_text(host));
    let mut director = call.director().await?;
    let hosts = director.hosts().await?;
    if !hosts.iter().any(|it| it.ip == host) {
        let what = format!("backend {}", ip_text(host));
        return Err(Problem::of_reply(Reply::NotFound, &what));
    }
    json(&match call.flag("count")? {
        true => {
            let whose = Whose::User { user, except };
            director.counted_order(whose, &command, &what).await?
        }
        false => director.order(&command, &what).await?,
    })
}

pub(super) async fn kick(call: Call) -> Answer {
    let user = Cow::Borrowed(call.user()?.as_bytes());
    let wanted: doc::KickOrder = call.document()?;
    let count = call.flag("count")?;
    let nowait = false;
    let mut director = call.director().await?;
    let done = match wanted.passdb_field {
        None => {
            let whose = Whose::Name(user.clone());
            let command = Command::UserKick { user, nowait };
            match count {
                true => director.counted_order(whose, &command, "the user").await?,
                false => director.order(&command, "the user").await?,
            }
        }
        Some(_) if count => {
            let what = "count: which sessions have a passdb field nobody tells";
            return Err(Problem::bad(what));
        }
        Some(field) => {
            let command = Command::UserKickAlt {
                field: Cow::Owned(field.into_bytes()),
                value: user,
                nowait,
            };
            director.order(&command, "the users").await?
        }
    };
    json(&done)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::{TagId, UserKey};

    #[test]
    fn the_parts_of_the_table_are_the_table() {
        let directory = Arc::new(crate::shell::directory::tests::with_backends(2));
        let snapshot = directory.snapshot();
        let now = clock::wall();
        for hash in 1..=1000u32 {
            let key = UserKey {
                tag: TagId(0),
                hash: UserHash(hash.wrapping_mul(2_654_435_761)),
            };
            let slot = snapshot.choose(key).expect("a backend");
            assert!(directory.learn(key, slot, now, &snapshot));
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let part = part(&directory, None, after, 64);
            assert!(part.items.len() <= 64);
            seen.extend(part.items.iter().map(|item| item.hash));
            match part.next {
                Some(next) => after = Some(cursor(&next).expect("ours")),
                None => break,
            }
        }
        assert_eq!(seen.len(), 1000);
        assert!(seen.is_sorted());
        let ip = snapshot.backends[0].as_ref().expect("a backend").ip;
        let of_one = part(&directory, Some(ip), None, 1000).items.len();
        assert!(of_one > 300 && of_one < 700, "{of_one}");
        assert!(cursor("1").is_err() && cursor("a-1").is_err());
    }
}
