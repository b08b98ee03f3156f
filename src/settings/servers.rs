//! The two server lists: `director_servers` and `director_mail_servers`
//! (docs/protocol/configuration.md, server lists).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::address::{is_plain, parse_address};
use super::document::Item;
use super::kinds;
use super::network::Network;
use super::problem::{Problem, Problems};
use super::table;
use super::{Listener, ListenerKind, MailServer, Place};

/// Most backends: they are numbered with 16 bits, and slots of removed ones are kept for a while.
pub const MAX_BACKENDS: usize = 16_384;
/// Most directors: a change takes one turn of the ring, so real rings are far smaller.
pub const MAX_DIRECTORS: usize = 1_024;
/// Virtual nodes of a backend at start.
pub const START_VHOSTS: u32 = 100;

const DIRECTORS: &str = "director_servers";
const BACKENDS: &str = "director_mail_servers";

/// One entry of `director_servers` with its place in the file.
struct Entry {
    address: SocketAddr,
    at: usize,
}

/// The directors, sorted, and which of them we are. `ring` are our ring listeners in their order.
/// Says nothing more when the list or a listener is faulty already.
pub(crate) fn directors(
    items: &[Item],
    ring: &[SocketAddr],
    network: &dyn Network,
    problems: &mut Problems<'_>,
) -> (Vec<SocketAddr>, Option<SocketAddr>) {
    let faulty = |p: &Problem| p.key == DIRECTORS || p.key.starts_with("listener");
    let Some(first) = items
        .first()
        .filter(|_| !problems.errors.iter().any(faulty))
    else {
        return (Vec::new(), None);
    };
    let Some(&own) = ring.first() else {
        let what = "No inet_listeners defined for director service (for standalone keep director_servers empty)";
        problems.error(
            Some(first.at),
            DIRECTORS,
            what,
            "a [[listener]] of type \"ring\"",
        );
        return (Vec::new(), None);
    };
    let before = problems.errors.len();
    let entries = director_entries(items, own.port(), network, problems);
    if problems.errors.len() > before || !one_family(&entries, problems) {
        return (Vec::new(), None);
    }
    let me = ourselves(&entries, own, network, problems);
    if let Some(me) = me {
        refuse_second_selves(&entries, me, ring, network, problems);
    }
    (entries.iter().map(|e| e.address).collect(), me)
}

/// Our ring listeners, in the order in which a director looks at them.
pub(crate) fn ring_listeners(handed: &[SocketAddr], listeners: &[Listener]) -> Vec<SocketAddr> {
    let own = listeners.iter().filter_map(|l| match (l.kind, &l.place) {
        (ListenerKind::Ring, Place::Tcp(address)) => Some(*address),
        _ => None,
    });
    handed.iter().copied().chain(own).collect()
}

fn director_entries(
    items: &[Item],
    port: u16,
    network: &dyn Network,
    problems: &mut Problems<'_>,
) -> Vec<Entry> {
    let mut entries = BTreeMap::new();
    for item in items {
        match director_item(&item.text, network) {
            Ok((ips, item_port)) => {
                unusual(host_part(&item.text), item.at, DIRECTORS, problems);
                for ip in ips {
                    let address = SocketAddr::new(ip, item_port.unwrap_or(port));
                    entries.entry(address).or_insert(item.at);
                }
            }
            Err((what, accepted)) => problems.error(Some(item.at), DIRECTORS, what, accepted),
        }
    }
    if entries.len() > MAX_DIRECTORS {
        let what = format!("{} directors are too many", entries.len());
        problems.error(
            Some(items[0].at),
            DIRECTORS,
            what,
            format!("at most {MAX_DIRECTORS}"),
        );
    }
    entries
        .into_iter()
        .map(|(address, at)| Entry { address, at })
        .collect()
}

type Wrong = (String, String);

fn director_item(item: &str, network: &dyn Network) -> Result<(Vec<IpAddr>, Option<u16>), Wrong> {
    let accepts = || table::find(DIRECTORS).expect("in the table").accepts();
    let invalid = || (format!("Invalid director host:port in '{item}'"), accepts());
    let (host, port) = split_host_port(item).ok_or_else(invalid)?;
    let port = port.map(kinds::port).transpose().map_err(|_| invalid())?;
    let ips = addresses_of(host, network)
        .map_err(|why| (format!("Unknown director host: {item}{why}"), accepts()))?;
    Ok((ips, port))
}

fn host_part(item: &str) -> &str {
    split_host_port(item).map_or(item, |(host, _)| host)
}

/// Host and port; brackets are taken off. `None` when brackets do not match.
pub(crate) fn split_host_port(item: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = item.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None if rest.is_empty() => Some((host, None)),
            None => None,
        };
    }
    match item.split_once(':') {
        Some((_, port)) if port.contains(':') => Some((item, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((item, None)),
    }
}

/// All addresses of an address or a name. The error is the reason in brackets, or nothing.
fn addresses_of(host: &str, network: &dyn Network) -> Result<Vec<IpAddr>, String> {
    if let Some(ip) = parse_address(host) {
        return Ok(vec![ip]);
    }
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || host.len() > 255 || !host.chars().all(name) {
        return Err(String::new());
    }
    match network.addresses(host) {
        Ok(ips) if ips.is_empty() => Err(" (the name has no address)".to_owned()),
        Ok(mut ips) => {
            ips.sort();
            ips.dedup();
            Ok(ips)
        }
        Err(e) => Err(format!(" ({e})")),
    }
}

fn unusual(text: &str, at: usize, key: &str, problems: &mut Problems<'_>) {
    if let Some(ip) = parse_address(text).filter(|_| !is_plain(text)) {
        problems.warning(
            Some(at),
            key,
            format!("'{text}' is read as the address {ip}"),
        );
    }
}

fn one_family(entries: &[Entry], problems: &mut Problems<'_>) -> bool {
    let odd = entries
        .iter()
        .find(|e| e.address.is_ipv4() != entries[0].address.is_ipv4());
    if let Some(odd) = odd {
        let what = format!(
            "IPv4 and IPv6 directors in one ring: {} and {}",
            entries[0].address, odd.address
        );
        problems.error(
            Some(odd.at),
            DIRECTORS,
            what,
            "addresses of one family for all directors",
        );
    }
    odd.is_none()
}

/// Which entry we are: the one of our ring listener's address or, if that is a wildcard, the first
/// one that is an address of this machine.
fn ourselves(
    entries: &[Entry],
    own: SocketAddr,
    network: &dyn Network,
    problems: &mut Problems<'_>,
) -> Option<SocketAddr> {
    let ip = match own.ip().is_unspecified() {
        false => Some(own.ip()),
        true => entries
            .iter()
            .map(|e| e.address.ip())
            .find(|ip| network.is_local(*ip)),
    };
    let me = ip.map(|ip| SocketAddr::new(ip, own.port()));
    if me.is_some_and(|me| entries.iter().any(|e| e.address == me)) {
        return me;
    }
    let what = match me {
        Some(me) => format!("director_servers doesn't list ourself ({me})"),
        None => "director_servers doesn't list ourself".to_owned(),
    };
    let accepted = "all directors, with the address and port of this one's ring listener";
    problems.error(entries.first().map(|e| e.at), DIRECTORS, what, accepted);
    None
}

/// A director that is listed twice under different addresses would dial itself for ever.
fn refuse_second_selves(
    entries: &[Entry],
    me: SocketAddr,
    ring: &[SocketAddr],
    network: &dyn Network,
    problems: &mut Problems<'_>,
) {
    for other in entries.iter().filter(|e| e.address != me) {
        let reaches_us = ring.iter().any(|listener| {
            listener.port() == other.address.port()
                && match listener.ip().is_unspecified() {
                    true => {
                        listener.is_ipv4() == other.address.is_ipv4()
                            && network.is_local(other.address.ip())
                    }
                    false => listener.ip() == other.address.ip(),
                }
        });
        if reaches_us {
            let what = format!(
                "{} is this director too, which is listed as {me}",
                other.address
            );
            problems.error(
                Some(other.at),
                DIRECTORS,
                what,
                "one address for each director",
            );
        }
    }
}

/// The backends, sorted by address and tag, identical ones merged.
pub(crate) fn mail_servers(
    items: &[Item],
    at: Option<usize>,
    network: &dyn Network,
    problems: &mut Problems<'_>,
) -> Vec<MailServer> {
    let accepts = table::find(BACKENDS).expect("in the table").accepts();
    if problems.errors.iter().any(|p| p.key == BACKENDS) {
        return Vec::new();
    }
    if items.is_empty() {
        problems.error(at, BACKENDS, "Empty server list", accepts);
        return Vec::new();
    }
    let mut found: BTreeMap<(IpAddr, String), MailServer> = BTreeMap::new();
    for item in items {
        let (place, tag) = item.text.split_once('@').unwrap_or((&item.text, ""));
        match mail_item(place, network) {
            Ok((ips, name)) => {
                unusual(place, item.at, BACKENDS, problems);
                for ip in ips {
                    add_backend(ip, tag, name, item.at, &mut found, problems);
                }
            }
            Err(what) => problems.error(Some(item.at), BACKENDS, what, &accepts),
        }
        if found.len() > MAX_BACKENDS {
            let accepted = format!("at most {MAX_BACKENDS} backends");
            problems.error(Some(item.at), BACKENDS, "Too many backends", accepted);
            return Vec::new();
        }
    }
    warn_of_tags(&found, at, problems);
    found.into_values().collect()
}

fn add_backend(
    ip: IpAddr,
    tag: &str,
    name: Option<&str>,
    at: usize,
    found: &mut BTreeMap<(IpAddr, String), MailServer>,
    problems: &mut Problems<'_>,
) {
    let server = MailServer {
        ip,
        name: name.map(str::to_owned),
        tag: tag.to_owned(),
        vhosts: START_VHOSTS,
    };
    if let Some(first) = found.get_mut(&(ip, tag.to_owned())) {
        let shown = super::diff::mail_server(&server);
        let what =
            format!("{shown} is listed more than once: it counts once, with the usual share");
        problems.warning(Some(at), BACKENDS, what);
        first.name = first.name.take().or(server.name);
        return;
    }
    found.insert((ip, tag.to_owned()), server);
}

/// The ring tells backends apart by address alone.
fn warn_of_tags(
    found: &BTreeMap<(IpAddr, String), MailServer>,
    at: Option<usize>,
    problems: &mut Problems<'_>,
) {
    let keys: Vec<_> = found.keys().collect();
    for pair in keys.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let what = format!(
            "{} is listed with the tags '{}' and '{}'; directors of a ring know a backend by its \
             address alone, there it would end with one of them",
            pair[0].0, pair[0].1, pair[1].1
        );
        problems.warning(at, BACKENDS, what);
    }
}

/// Addresses of an item without its tag, and the name when it is one.
fn mail_item<'i>(
    place: &'i str,
    network: &dyn Network,
) -> Result<(Vec<IpAddr>, Option<&'i str>), String> {
    if let Some((first, last)) = place.split_once('-')
        && let (Some(first_ip), Some(last_ip)) = (parse_address(first), parse_address(last))
    {
        return range(first_ip, last_ip, first, last).map(|ips| (ips, None));
    }
    if let Some(ip) = parse_address(place) {
        return Ok((vec![ip], None));
    }
    match addresses_of(place, network) {
        Ok(ips) => Ok((ips, Some(place))),
        Err(why) => {
            let port = split_host_port(place)
                .is_some_and(|(host, port)| port.is_some() && parse_address(host).is_some());
            let hint = if port {
                " (a backend has no port here: it comes from the passdb)"
            } else {
                &why
            };
            Err(format!("Unknown mail host: {place}{hint}"))
        }
    }
}

fn range(first: IpAddr, last: IpAddr, a: &str, b: &str) -> Result<Vec<IpAddr>, String> {
    let (low, high, bits) = match (first, last) {
        (IpAddr::V4(x), IpAddr::V4(y)) => (u32::from(x).into(), u32::from(y).into(), 8),
        (IpAddr::V6(x), IpAddr::V6(y)) => (u128::from(x), u128::from(y), 16),
        _ => return Err(format!("IP address family mismatch: {a} vs {b}")),
    };
    if low > high {
        return Err(format!("IP addresses reversed: {a}-{b}"));
    }
    if low >> bits != high >> bits {
        return Err(format!("IP address range too large: {a}-{b}"));
    }
    Ok((low..=high)
        .map(|n| match first {
            IpAddr::V4(_) => IpAddr::V4((n as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(n.into()),
        })
        .collect())
}
