//! The backends as a file, and what must be done so that a director has them again. No I/O.
//!
//! The file is TOML, one backend on each line:
//!
//! ```toml
//! format = 1
//! backends = [
//!   { address = "10.0.0.1", vhosts = 100, state = "up" },
//!   { address = "10.0.0.2", vhosts = 50, state = "down", tag = "a" },
//! ]
//! removed = ["10.0.0.3"]
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::documents::state;
use crate::core::ip_text::{ip_text, parse_lenient};
use crate::wire::admin::read::Host;
use crate::wire::admin::{Command, Weight};

/// The only format so far.
const FORMAT: u32 = 1;

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    format: u32,
    backends: Vec<Backend>,
    /// Backends of the director's settings that an administrator has removed.
    #[serde(default)]
    removed: Vec<String>,
}

/// One backend of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Backend {
    address: String,
    vhosts: u32,
    state: State,
    #[serde(default)]
    tag: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    Up,
    Down,
}

impl Dump {
    /// What a director says that it has.
    ///
    /// # Errors
    /// A tag that is no text: TOML cannot hold it.
    pub fn of(hosts: &[Host], removed: &[IpAddr]) -> Result<Dump, String> {
        let backend = |host: &Host| {
            let tag = String::from_utf8(host.tag.clone())
                .map_err(|_| format!("{}: its tag is not UTF-8", ip_text(host.ip)))?;
            Ok(Backend {
                address: ip_text(host.ip),
                vhosts: host.vhosts,
                state: if host.down { State::Down } else { State::Up },
                tag,
            })
        };
        Ok(Dump {
            format: FORMAT,
            backends: hosts.iter().map(backend).collect::<Result<_, String>>()?,
            removed: removed.iter().copied().map(ip_text).collect(),
        })
    }

    /// The file's text. The same backends always give the same text.
    pub fn text(&self) -> String {
        // A JSON string is a TOML string.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut out = format!("format = {}\nbackends = [\n", self.format);
        for backend in &self.backends {
            let address = quoted(&backend.address);
            let state = state(backend.state == State::Down);
            let tag = match backend.tag.as_str() {
                "" => String::new(),
                tag => format!(", tag = {}", quoted(tag)),
            };
            let vhosts = backend.vhosts;
            out += &format!(
                "  {{ address = {address}, vhosts = {vhosts}, state = \"{state}\"{tag} }},\n"
            );
        }
        let removed: Vec<_> = self.removed.iter().map(|ip| quoted(ip)).collect();
        out + &format!("]\nremoved = [{}]\n", removed.join(", "))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Dump, String> {
        toml::from_str(text)
            .map_err(|error| error.to_string())
            .and_then(Dump::checked)
    }

    /// Reads the same as JSON.
    ///
    /// # Errors
    /// As [`Dump::parse`].
    pub fn parse_json(text: &[u8]) -> Result<Dump, String> {
        serde_json::from_slice(text)
            .map_err(|error| error.to_string())
            .and_then(Dump::checked)
    }

    fn checked(dump: Dump) -> Result<Dump, String> {
        if dump.format != FORMAT {
            let format = dump.format;
            return Err(format!("format {format} is not known, only {FORMAT}"));
        }
        dump.wanted()?;
        Ok(dump)
    }

    /// The backends and whether each should be there. Addresses are written as everywhere.
    fn wanted(&self) -> Result<BTreeMap<IpAddr, Option<&Backend>>, String> {
        let mut wanted = BTreeMap::new();
        let backends = self.backends.iter().map(|it| (&it.address, Some(it)));
        for (text, backend) in backends.chain(self.removed.iter().map(|ip| (ip, None))) {
            let ip = parse_lenient(text).ok_or_else(|| format!("'{text}' is no address"))?;
            if wanted.insert(ip, backend).is_some() {
                return Err(format!("{text} is there twice"));
            }
        }
        Ok(wanted)
    }

    /// The steps that make a director's backends those of the file. None when they are already.
    ///
    /// Backends come before others go, so that no tag runs empty in between; one that should be down
    /// gets no user meanwhile.
    ///
    /// # Errors
    /// As [`Dump::parse`], which has looked already.
    pub fn steps(&self, now: &[Host], remove_others: bool) -> Result<Vec<Step>, String> {
        let wanted = self.wanted()?;
        let mut steps = Vec::new();
        let mut last = Vec::new();
        for (&ip, &wanted) in &wanted {
            let current = now.iter().find(|host| host.ip == ip);
            match (wanted, current) {
                (Some(wanted), None) => add(ip, wanted, &mut steps),
                (Some(wanted), Some(current)) => change(wanted, current, &mut steps, &mut last),
                (None, Some(_)) => last.push(Step::Remove(ip)),
                (None, None) => {}
            }
        }
        if remove_others {
            let others = now.iter().filter(|host| !wanted.contains_key(&host.ip));
            last.extend(others.map(|host| Step::Remove(host.ip)));
        }
        steps.extend(last);
        Ok(steps)
    }

    /// How many backends the file does not name.
    ///
    /// # Errors
    /// An address that is none, or is there twice.
    pub fn others(&self, now: &[Host]) -> Result<usize, String> {
        let wanted = self.wanted()?;
        Ok(now.iter().filter(|it| !wanted.contains_key(&it.ip)).count())
    }
}

fn add(ip: IpAddr, wanted: &Backend, steps: &mut Vec<Step>) {
    let tag = wanted.tag.clone();
    let vhosts = wanted.vhosts;
    if wanted.state == State::Up {
        steps.push(Step::Add { ip, tag, vhosts });
        return;
    }
    // A new backend is up: without vhosts it gets nobody until it is down.
    let none = 0;
    steps.push(Step::Add {
        ip,
        tag,
        vhosts: none,
    });
    steps.push(Step::Down(ip));
    if vhosts != none {
        let from = none;
        let to = vhosts;
        steps.push(Step::Vhosts { ip, from, to });
    }
}

fn change(wanted: &Backend, current: &Host, steps: &mut Vec<Step>, last: &mut Vec<Step>) {
    let ip = current.ip;
    if current.tag != wanted.tag.as_bytes() {
        steps.push(Step::OtherTag {
            ip,
            from: String::from_utf8_lossy(&current.tag).into_owned(),
            to: wanted.tag.clone(),
        });
        return;
    }
    let vhosts = (current.vhosts != wanted.vhosts).then_some(Step::Vhosts {
        ip,
        from: current.vhosts,
        to: wanted.vhosts,
    });
    match (current.down, wanted.state == State::Down) {
        (false, true) => last.extend([Step::Down(ip)].into_iter().chain(vhosts)),
        (true, false) => steps.extend(vhosts.into_iter().chain([Step::Up(ip)])),
        _ => steps.extend(vhosts),
    }
}

/// One difference, and what is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A backend is missing.
    Add {
        /// Which.
        ip: IpAddr,
        /// Its tag, empty for none.
        tag: String,
        /// Its weight.
        vhosts: u32,
    },
    /// It has another weight.
    Vhosts {
        /// Which.
        ip: IpAddr,
        /// What it has.
        from: u32,
        /// What it should have.
        to: u32,
    },
    /// It is down.
    Up(IpAddr),
    /// It is up.
    Down(IpAddr),
    /// It should not be there.
    Remove(IpAddr),
    /// It has another tag, which cannot be changed.
    OtherTag {
        /// Which.
        ip: IpAddr,
        /// The tag that it has.
        from: String,
        /// The one that it should have.
        to: String,
    },
}

impl Step {
    /// Which backend.
    pub fn ip(&self) -> IpAddr {
        match self {
            Step::Add { ip, .. } | Step::Vhosts { ip, .. } | Step::OtherTag { ip, .. } => *ip,
            Step::Up(ip) | Step::Down(ip) | Step::Remove(ip) => *ip,
        }
    }

    /// What to say to the director; `None`: there is nothing that would help.
    pub fn command(&self) -> Option<Command<'_>> {
        Some(match self {
            Step::Add { ip, tag, vhosts } => Command::HostSet(Weight {
                ip: *ip,
                tag: (!tag.is_empty()).then_some(Cow::Borrowed(tag.as_bytes())),
                vhosts: Some(*vhosts),
            }),
            Step::Vhosts { ip, to, .. } => Command::HostUpdate(Weight {
                ip: *ip,
                tag: None,
                vhosts: Some(*to),
            }),
            Step::Up(ip) => Command::HostUp(*ip),
            Step::Down(ip) => Command::HostDown(*ip),
            Step::Remove(ip) => Command::HostRemove(*ip),
            Step::OtherTag { .. } => return None,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = ip_text(self.ip());
        match self {
            Step::Add { tag, vhosts, .. } if tag.is_empty() => {
                write!(f, "add {ip} with {vhosts} vhosts")
            }
            Step::Add { tag, vhosts, .. } => {
                write!(f, "add {ip} with {vhosts} vhosts and tag {tag}")
            }
            Step::Vhosts { from, to, .. } => write!(f, "update {ip} from {from} to {to} vhosts"),
            Step::Up(_) => write!(f, "up {ip}"),
            Step::Down(_) => write!(f, "down {ip}"),
            Step::Remove(_) => write!(f, "remove {ip}"),
            Step::OtherTag { from, to, .. } => write!(
                f,
                "{ip} has the tag '{from}' and should have '{to}': a tag cannot be changed; \
                 `homing remove {ip}`, then restore again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(ip: &str, vhosts: u32, tag: &str, down: bool) -> Host {
        Host {
            ip: ip.parse().expect("an address"),
            vhosts,
            users: 3,
            tag: tag.as_bytes().to_vec(),
            down,
            last_updown_change: 5,
        }
    }

    const TEXT: &str = "format = 1\nbackends = [\n  \
        { address = \"10.0.0.1\", vhosts = 100, state = \"up\" },\n  \
        { address = \"::2\", vhosts = 0, state = \"down\", tag = \"a \\\"b\" },\n\
        ]\nremoved = [\"10.0.0.9\"]\n";

    fn hosts() -> Vec<Host> {
        vec![
            host("10.0.0.1", 100, "", false),
            host("::2", 0, "a \"b", true),
        ]
    }

    #[test]
    fn the_text_is_stable_and_read_back() {
        let removed = ["10.0.0.9".parse().expect("an address")];
        let dump = Dump::of(&hosts(), &removed).expect("text");
        assert_eq!(dump.text(), TEXT);
        assert_eq!(Dump::parse(TEXT), Ok(dump));
        let mut odd = hosts();
        odd[0].tag = vec![0xff];
        assert!(Dump::of(&odd, &[]).is_err());
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_reason() {
        for (text, reason) in [
            (TEXT.replace("= 1\n", "= 2\n"), "format 2 is not known"),
            (TEXT.replace("10.0.0.1", "host"), "'host' is no address"),
            (
                TEXT.replace("10.0.0.9", "10.0.0.1"),
                "10.0.0.1 is there twice",
            ),
            (TEXT.replace("\"up\"", "\"on\""), "unknown variant"),
            (TEXT.replace("vhosts = 100, ", ""), "missing field `vhosts`"),
            ("doveadm director add".to_owned(), "line 1"),
        ] {
            let error = Dump::parse(&text).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn backends_come_before_others_go() {
        let dump = Dump::parse(TEXT).expect("a dump");
        let now = [
            host("10.0.0.1", 50, "", true),
            host("10.0.0.8", 100, "", false),
            host("10.0.0.9", 100, "", false),
        ];
        let told = |remove_others| {
            let steps = dump.steps(&now, remove_others).expect("steps");
            steps.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let kept = [
            "update 10.0.0.1 from 50 to 100 vhosts",
            "up 10.0.0.1",
            "add ::2 with 0 vhosts and tag a \"b",
            "down ::2",
            "remove 10.0.0.9",
        ];
        assert_eq!(told(false), kept);
        assert_eq!(told(true), [&kept[..], &["remove 10.0.0.8"]].concat());
        assert_eq!(dump.others(&now), Ok(1));
    }

    #[test]
    fn another_tag_is_said_and_nothing_is_done_about_it() {
        let dump = Dump::parse(TEXT).expect("a dump");
        let now = [host("10.0.0.1", 5, "x", true), hosts().remove(1)];
        let steps = dump.steps(&now, true).expect("steps");
        assert_eq!(steps.len(), 1);
        assert_eq!(steps[0].command(), None);
        assert!(steps[0].to_string().contains("has the tag 'x'"));
    }

    /// What a director does with the steps.
    fn carry_out(steps: &[Step], mut hosts: Vec<Host>) -> Vec<Host> {
        for step in steps {
            let ip = step.ip();
            let at = hosts.iter().position(|host| host.ip == ip);
            match step {
                Step::Add { tag, vhosts, .. } => {
                    assert_eq!(at, None);
                    hosts.push(host(&ip.to_string(), *vhosts, tag, false));
                }
                Step::Remove(_) => {
                    hosts.remove(at.expect("a known backend"));
                }
                _ => {
                    let host = &mut hosts[at.expect("a known backend")];
                    match step {
                        Step::Vhosts { from, to, .. } => {
                            assert_eq!(host.vhosts, *from);
                            host.vhosts = *to;
                        }
                        Step::Up(_) => host.down = false,
                        _ => host.down = true,
                    }
                }
            }
        }
        hosts.sort_by_key(|host| host.ip);
        hosts
    }

    fn any_hosts() -> impl Strategy<Value = Vec<Host>> {
        // Few addresses, so that both sides have many in common.
        prop::collection::btree_map(1..9u8, (0..3u32, any::<bool>()), 0..8).prop_map(|map| {
            let of = |(at, (vhosts, down)): (u8, (u32, bool))| {
                host(&format!("10.0.0.{at}"), vhosts, "", down)
            };
            map.into_iter().map(of).collect()
        })
    }

    proptest! {
        #[test]
        fn the_steps_make_the_backends_those_of_the_dump(was in any_hosts(), now in any_hosts()) {
            let dump = Dump::of(&was, &[]).expect("text");
            let dump = Dump::parse(&dump.text()).expect("a dump");
            let steps = dump.steps(&now, true).expect("steps");
            let after = carry_out(&steps, now.clone());
            prop_assert_eq!(&after, &was);
            prop_assert_eq!(dump.steps(&after, true), Ok(Vec::new()));
            let kept = carry_out(&dump.steps(&now, false).expect("steps"), now.clone());
            prop_assert!(was.iter().all(|host| kept.contains(host)));
            prop_assert!(now.iter().all(|host| kept.iter().any(|it| it.ip == host.ip)));
        }
    }
}
