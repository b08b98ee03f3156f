//! Commands to lines: the client's half.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{Command, User, WHY, Weight, Whose};
use crate::wire::ip_text::ip_text;
use crate::wire::line::escape_into;

impl Command<'_> {
    /// Appends the command's line, LF included. The caller keeps it below [`super::MAX_LINE`]: a name
    /// may be of any length here.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.word().as_bytes());
        match self {
            Command::HostList
            | Command::HostListRemoved
            | Command::DirectorList
            | Command::DrainList
            | Command::SessionsLeft => {}
            Command::Histograms(core) => number(*core, out),
            Command::Sessions(of) => whose(of, out),
            Command::DirectorAdd { ip, port } | Command::DirectorRemove { ip, port } => {
                argument(ip_text(*ip).as_bytes(), out);
                number(port.map(u32::from), out);
            }
            Command::HostSet(weight) | Command::HostUpdate(weight) => host_and_weight(weight, out),
            Command::HostUp(ip)
            | Command::HostDown(ip)
            | Command::HostRemove(ip)
            | Command::DrainCancel(ip) => {
                argument(ip_text(*ip).as_bytes(), out);
            }
            Command::HostFlush(host) | Command::UserList(host) => {
                if host.is_some() {
                    optional(*host, out);
                }
            }
            Command::HostResetUsers { host, max_parallel } => {
                if host.is_some() || max_parallel.is_some() {
                    optional(*host, out);
                }
                number(max_parallel.map(|max| max.get()), out);
            }
            Command::UserLookup { user, tag, why } => {
                whom(user, out);
                argument(tag, out);
                if *why {
                    argument(WHY, out);
                }
            }
            Command::DrainBegin { ip, rate } => {
                argument(ip_text(*ip).as_bytes(), out);
                number(Some(rate.get()), out);
            }
            Command::UserMove { user, host } => {
                whom(user, out);
                argument(ip_text(*host).as_bytes(), out);
            }
            Command::UserKick { user, nowait } => {
                argument(user, out);
                flag(*nowait, out);
            }
            Command::UserKickAlt {
                field,
                value,
                nowait,
            } => {
                argument(field, out);
                argument(value, out);
                flag(*nowait, out);
            }
        }
        out.push(b'\n');
    }

    /// Its first word.
    pub fn word(&self) -> &'static str {
        match self {
            Command::HostList => "HOST-LIST",
            Command::HostListRemoved => "HOST-LIST-REMOVED",
            Command::DirectorList => "DIRECTOR-LIST",
            Command::DirectorAdd { .. } => "DIRECTOR-ADD",
            Command::DirectorRemove { .. } => "DIRECTOR-REMOVE",
            Command::HostSet(_) => "HOST-SET",
            Command::HostUpdate(_) => "HOST-UPDATE",
            Command::HostUp(_) => "HOST-UP",
            Command::HostDown(_) => "HOST-DOWN",
            Command::HostRemove(_) => "HOST-REMOVE",
            Command::HostFlush(_) => "HOST-FLUSH",
            Command::HostResetUsers { .. } => "HOST-RESET-USERS",
            Command::UserLookup { .. } => "USER-LOOKUP",
            Command::DrainBegin { .. } => "HOMING-DRAIN",
            Command::DrainCancel(_) => "HOMING-DRAIN-CANCEL",
            Command::DrainList => "HOMING-DRAIN-LIST",
            Command::Histograms(_) => "HOMING-HISTOGRAMS",
            Command::Sessions(_) => "HOMING-SESSIONS",
            Command::SessionsLeft => "HOMING-SESSIONS-LEFT",
            Command::UserList(_) => "USER-LIST",
            Command::UserMove { .. } => "USER-MOVE",
            Command::UserKick { .. } => "USER-KICK",
            Command::UserKickAlt { .. } => "USER-KICK-ALT",
        }
    }
}

fn argument(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'\t');
    escape_into(value, out);
}

fn number(value: Option<u32>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        argument(value.to_string().as_bytes(), out);
    }
}

/// An address, or the empty argument that stands for all.
fn optional(ip: Option<IpAddr>, out: &mut Vec<u8>) {
    argument(ip.map(ip_text).unwrap_or_default().as_bytes(), out);
}

fn host_and_weight(weight: &Weight<'_>, out: &mut Vec<u8>) {
    let mut host = ip_text(weight.ip).into_bytes();
    if let Some(tag) = &weight.tag {
        host.push(b'@');
        host.extend_from_slice(tag);
    }
    argument(&host, out);
    number(weight.vhosts, out);
}

fn whom(user: &User<'_>, out: &mut Vec<u8>) {
    let text: Cow<'_, [u8]> = match user {
        User::Hash(hash) => Cow::Owned(hash.to_string().into_bytes()),
        User::Name(name) => Cow::Borrowed(name),
    };
    argument(&text, out);
}

fn whose(whose: &Whose<'_>, out: &mut Vec<u8>) {
    match whose {
        Whose::User { user, except } => {
            argument(b"user", out);
            whom(user, out);
            if except.is_some() {
                optional(*except, out);
            }
        }
        Whose::Name(name) => {
            argument(b"name", out);
            argument(name, out);
        }
        Whose::Backend(backend) => {
            argument(b"backend", out);
            optional(*backend, out);
        }
    }
}

fn flag(nowait: bool, out: &mut Vec<u8>) {
    if nowait {
        argument(b"nowait", out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn any_command() -> impl Strategy<Value = Command<'static>> {
        let bytes = || prop::collection::vec(1..=u8::MAX, 0..20).prop_map(Cow::<[u8]>::Owned);
        let user = || {
            let name = "[a-z@\t.]{1,12}".prop_map(|name| User::Name(Cow::Owned(name.into_bytes())));
            prop_oneof![any::<u32>().prop_map(User::Hash), name]
        };
        let weight = |needed: bool| {
            let tag = prop::option::of("[a-z@\t]{1,5}".prop_map(|t| Cow::Owned(t.into_bytes())));
            let vhosts = prop_oneof![Just(None), (0..u32::MAX).prop_map(Some)];
            (any::<IpAddr>(), tag, vhosts).prop_map(move |(ip, tag, vhosts)| {
                let vhosts = if needed { vhosts.or(Some(7)) } else { vhosts };
                Weight { ip, tag, vhosts }
            })
        };
        let port = || prop::option::of(1..=u16::MAX);
        let max = prop::option::of(1..=u32::MAX).prop_map(|max| max.and_then(NonZeroU32::new));
        prop_oneof![
            Just(Command::HostList),
            Just(Command::HostListRemoved),
            Just(Command::DirectorList),
            (any::<IpAddr>(), port()).prop_map(|(ip, port)| Command::DirectorAdd { ip, port }),
            (any::<IpAddr>(), port()).prop_map(|(ip, port)| Command::DirectorRemove { ip, port }),
            weight(false).prop_map(Command::HostSet),
            weight(true).prop_map(Command::HostUpdate),
            any::<IpAddr>().prop_map(Command::HostUp),
            any::<IpAddr>().prop_map(Command::HostDown),
            any::<IpAddr>().prop_map(Command::HostRemove),
            any::<Option<IpAddr>>().prop_map(Command::HostFlush),
            (any::<Option<IpAddr>>(), max)
                .prop_map(|(host, max_parallel)| Command::HostResetUsers { host, max_parallel }),
            (user(), bytes(), any::<bool>()).prop_map(|(user, tag, why)| Command::UserLookup {
                user,
                tag,
                why
            }),
            (any::<IpAddr>(), 1..=u32::MAX).prop_map(|(ip, rate)| {
                let rate = NonZeroU32::new(rate).expect("from 1 on");
                Command::DrainBegin { ip, rate }
            }),
            any::<IpAddr>().prop_map(Command::DrainCancel),
            Just(Command::DrainList),
            any::<Option<u32>>().prop_map(Command::Histograms),
            (user(), any::<Option<IpAddr>>())
                .prop_map(|(user, except)| Command::Sessions(Whose::User { user, except })),
            bytes().prop_map(|name| Command::Sessions(Whose::Name(name))),
            any::<Option<IpAddr>>().prop_map(|host| Command::Sessions(Whose::Backend(host))),
            Just(Command::SessionsLeft),
            any::<Option<IpAddr>>().prop_map(Command::UserList),
            (user(), any::<IpAddr>()).prop_map(|(user, host)| Command::UserMove { user, host }),
            (bytes(), any::<bool>()).prop_map(|(user, nowait)| Command::UserKick { user, nowait }),
            (bytes(), bytes(), any::<bool>()).prop_map(|(field, value, nowait)| {
                Command::UserKickAlt {
                    field,
                    value,
                    nowait,
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_director_reads_what_was_written(command in any_command()) {
            let mut line = Vec::new();
            command.write(&mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
            prop_assert_eq!(parse(&line), Ok(command));
        }
    }
}
