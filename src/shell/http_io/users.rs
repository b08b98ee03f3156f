//! Users: the map, where one is and why, moves, kicks.

use std::borrow::Cow;
use std::collections::{BinaryHeap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::call::{Answer, Call, json};
use super::director::Session;
use super::names;
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
use crate::wire::admin::{Command, Fact, LookupRow, User, UserRow, Whose};

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
    let directory = Arc::clone(&call.app.directory);
    let found = tokio::task::spawn_blocking(move || part(&directory, backend, after, limit)).await;
    let mut found = found.map_err(|error| Problem::director(error.to_string()))?;
    if call.flag("names")? {
        let wanted = found.items.iter().map(|it| it.hash).collect();
        let mut names = names::listed(&call, wanted).await?;
        let named = |it: Mapped| match names.remove(&it.hash) {
            None => vec![it],
            Some(names) => {
                let with = |name| Mapped {
                    user: Some(name),
                    ..it.clone()
                };
                names.into_iter().map(with).collect()
            }
        };
        found.items = found.items.into_iter().flat_map(named).collect();
    }
    json(&found)
}

/// The names with a hash.
pub(super) async fn hash(call: Call) -> Answer {
    let hash = call.part("hash").parse();
    let hash = hash.map_err(|_| Problem::bad("a user hash is a number of 32 bits"))?;
    let mut names = names::listed(&call, HashSet::from([hash])).await?;
    json(&doc::HashNames {
        hash,
        names: names.remove(&hash).unwrap_or_default(),
    })
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
    let name = call.user()?;
    let wanted: doc::MoveOrder = call.document()?;
    let host = call.known_backend(&wanted.backend)?;
    let hash = hash_of(&call, name);
    let count = call.said("count")?.unwrap_or(true);
    let mut director = call.director().await?;
    let hosts = director.hosts().await?;
    let tag = super::backends::find(&hosts, host)?.tag.clone();
    let from = look_up(&mut director, hash, &tag, false).await?.0.current;
    let user = User::Hash(hash.0);
    let whose = Whose::User {
        user: user.clone(),
        except: Some(host),
    };
    let sessions = match count {
        true => director.count(whose).await?,
        false => None,
    };
    let command = Command::UserMove { user, host };
    let what = format!("the user, or backend {}", ip_text(host));
    let done = director.order(&command, &what).await?;
    let (ended, survived) = director.fate(sessions).await?;
    json(&doc::Moved {
        state: done.state,
        user: name.to_owned(),
        hash: hash.0,
        tag: String::from_utf8_lossy(&tag).into_owned(),
        from: from.map(|(ip, _)| ip_text(ip)),
        to: ip_text(host),
        sessions_ended: ended,
        sessions_survived: survived,
    })
}

pub(super) async fn kick(call: Call) -> Answer {
    let user = Cow::Borrowed(call.user()?.as_bytes());
    let wanted: doc::KickOrder = call.document()?;
    let count = call.said("count")?;
    let nowait = false;
    let mut director = call.director().await?;
    let (whose, command, what) = match wanted.passdb_field {
        Some(_) if count == Some(true) => {
            let what = "count: which sessions have a passdb field nobody tells";
            return Err(Problem::bad(what));
        }
        None => {
            let whose = Whose::Name(user.clone());
            (Some(whose), Command::UserKick { user, nowait }, "the user")
        }
        Some(field) => {
            let field = Cow::Owned(field.into_bytes());
            let value = user;
            let command = Command::UserKickAlt {
                field,
                value,
                nowait,
            };
            (None, command, "the users")
        }
    };
    let sessions = match whose {
        Some(whose) if count != Some(false) => director.count(whose).await?,
        _ => None,
    };
    let done = director.order(&command, what).await?;
    let (ended, survived) = director.fate(sessions).await?;
    json(&doc::Done {
        sessions_ended: ended,
        sessions_survived: survived,
        ..done
    })
}

#[cfg(test)]
mod tests {
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
