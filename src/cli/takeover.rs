//! `homing run` in the place of a director that runs (docs/protocol/takeover.md).

use std::os::fd::OwnedFd;

use super::log::Level;
use super::run::{
    Origin, Refused, control_source, direct, drop_privileges, override_cores, prepare, read_again,
};
use super::{RunArgs, state};
use crate::core::state::Head;
use crate::settings::{Listener, Place, Settings, Sockets, kind_name, place_text};
use crate::shell::control::Succession;
use crate::shell::keeper::{KeeperEvent, messages};
use crate::shell::takeover::give::Program;
use crate::shell::takeover::take::Old;
use crate::wire::takeover::Offer;

/// Takes over, and directs until told to stop.
pub(super) fn take_over(
    args: &RunArgs,
    settings: Settings,
    mut old: Old,
    level: Level,
) -> Result<(), Refused> {
    let ready = get_ready(&settings, &mut old);
    let (cpus, kept, handed) = ready.inspect_err(|refused| old.refuse(&refused.sentence))?;
    let mut all = old
        .take_all(settings.user_table_limit)
        .map_err(Refused::environment)?;
    let made = std::mem::take(&mut all.kept).into_iter();
    let made = made.map(|(index, fd)| KeeperEvent::Made { index, fd });
    let handed: Vec<_> = std::mem::take(&mut all.handed)
        .into_iter()
        .filter_map(|(at, fd)| listener(handed.get(at)?, fd))
        .collect();
    let kept_state = state::taken_over(&settings, &mut all.saved);
    let cores = args.cores;
    let origin = Origin {
        source: control_source(None)?,
        keeper: None,
        kept,
        made: made.collect(),
        before: Some(all),
        succession: Some(succession(&settings)?),
        master: None,
        read: read_again(args, Sockets::FromSettings),
        level,
    };
    let adjust = move |new: &mut Settings| override_cores(new, cores);
    direct(
        settings,
        &cpus,
        handed.into_iter(),
        origin,
        kept_state,
        adjust,
    )
}

type Ready = (Vec<usize>, Vec<Listener>, Vec<Listener>);

/// Everything that may fail, while the other process serves on.
fn get_ready(settings: &Settings, old: &mut Old) -> Result<Ready, Refused> {
    let report = prepare(settings)?;
    drop_privileges(settings)?;
    let offer = old.offer();
    let offer = offer.map_err(|error| Refused::environment(error.to_string()))?;
    let (kept, handed) = same_listeners(settings, &offer).map_err(Refused::config)?;
    Ok((report.cpus, kept, handed))
}

/// How another process will take over from this one.
pub(super) fn succession(settings: &Settings) -> Result<Succession, Refused> {
    let program = Program::this()
        .map_err(|error| Refused::environment(format!("cannot read /proc/self/exe: {error}")))?;
    Ok(Succession {
        program,
        head: Head {
            created: crate::shell::clock::wall(),
            expire_secs: settings.director_user_expire,
            username_hash: settings.director_username_hash.clone(),
            master_user_separator: settings.auth_master_user_separator,
        },
    })
}

/// The listeners of the settings: those of the keeper, and others. They must be the running director's: its
/// keeper knows no others, and only root could make them.
fn same_listeners(
    settings: &Settings,
    offer: &Offer,
) -> Result<(Vec<Listener>, Vec<Listener>), String> {
    let mut kept = settings.listeners.clone();
    let mut handed = Vec::new();
    let other = "the listeners of the settings are not those of the running director: restart it";
    for place in &offer.handed {
        let at = kept.iter().position(|it| place_text(&it.place) == *place);
        handed.push(kept.remove(at.ok_or(other)?));
    }
    let kinds = kept.iter().map(|it| kind_name(it.kind));
    let same = kinds.eq(offer.kinds.iter().map(String::as_str))
        && messages::encode_listeners(&kept).is_ok_and(|text| text == offer.kept);
    same.then_some((kept, handed))
        .ok_or_else(|| other.to_owned())
}

fn listener(
    of: &Listener,
    fd: OwnedFd,
) -> Option<(crate::settings::ListenerKind, OwnedFd, Place, bool)> {
    let is_fifo = matches!(of.place, Place::Fifo(_));
    Some((of.kind, fd, of.place.clone(), is_fifo))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::ListenerKind;

    fn at(kind: ListenerKind, path: &str, mode: u32) -> Listener {
        Listener {
            kind,
            place: Place::Unix(path.into()),
            mode,
            owner: None,
            group: None,
            allow: Vec::new(),
        }
    }

    #[test]
    fn listeners_must_be_the_same_but_for_their_order_among_those_of_others() {
        use ListenerKind::{Admin, Login, Userdb};
        let of = |listeners: &[Listener]| Settings {
            listeners: listeners.to_vec(),
            ..Settings::default()
        };
        let (login, userdb) = (at(Login, "/a", 0o666), at(Userdb, "/b", 0o600));
        let admin = at(Admin, "/c", 0o600);
        let offer = Offer {
            kept: messages::encode_listeners(&[login.clone(), userdb.clone()]).unwrap(),
            kinds: vec!["login".to_owned(), "userdb".to_owned()],
            handed: vec!["/c".to_owned()],
        };
        let same = of(&[admin.clone(), login.clone(), userdb.clone()]);
        let (kept, handed) = same_listeners(&same, &offer).unwrap();
        assert_eq!((kept.len(), handed.len()), (2, 1));
        for other in [
            of(&[login.clone(), userdb.clone()]),
            of(&[admin.clone(), userdb.clone(), login.clone()]),
            of(&[admin.clone(), login.clone(), at(Userdb, "/b", 0o666)]),
            of(&[admin.clone(), login, at(Login, "/b", 0o600)]),
            of(&[admin, userdb]),
        ] {
            assert!(same_listeners(&other, &offer).is_err());
        }
    }
}
