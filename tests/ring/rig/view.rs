//! What a member says it knows.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::backends::{Backends, TAG, Weight};
use crate::e2e::Director;
use crate::e2e::admin::try_rows;
use crate::e2e::seat::over_ipv6;

/// What one member should know when the ring has settled.
pub struct Expected<'a> {
    pub backends: &'a Backends,
    /// Backends by user hash.
    pub users: &'a BTreeMap<u32, Ipv4Addr>,
    /// Its left and right neighbour; none when it is alone.
    pub neighbours: Option<(Ipv4Addr, Ipv4Addr)>,
}

/// The first thing that a member knows differently, in words.
pub fn difference(director: &Director, expected: &Expected<'_>) -> Option<String> {
    let socket = director.admin_socket();
    by_admin_socket(&socket, expected)
        .unwrap_or_else(|error| Some(format!("{} does not answer: {error}", socket.display())))
}

/// Everything, as `doveadm director status`, `map` and `ring status` would show it.
fn by_admin_socket(socket: &Path, expected: &Expected<'_>) -> io::Result<Option<String>> {
    let ring = try_rows(socket, "DIRECTOR-LIST")?;
    let status = ring.iter().find(|row| row[2] == "self").map(|row| &row[4]);
    if status.is_none_or(|status| status != "ring synced") {
        return Ok(Some(format!("its status is {status:?}")));
    }
    let neighbour = |side| {
        let row = ring.iter().find(|row| row[2] == side)?;
        address(&row[0])
    };
    let neighbours = neighbour("left").zip(neighbour("right"));
    if neighbours != expected.neighbours {
        let wanted = expected.neighbours;
        return Ok(Some(format!("neighbours {neighbours:?}, not {wanted:?}")));
    }
    let backends = backends(&try_rows(socket, "HOST-LIST")?);
    if &backends != expected.backends {
        let wanted = expected.backends;
        return Ok(Some(format!("backends {backends:?}, not {wanted:?}")));
    }
    let users = users(&try_rows(socket, "USER-LIST")?);
    Ok(differing(&users, expected.users))
}

/// What the rig knows a director's address by.
pub fn address(text: &str) -> Option<Ipv4Addr> {
    match text.parse().ok()? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            let short = Ipv4Addr::new(a, b, c, d);
            (over_ipv6(short) == address).then_some(short)
        }
    }
}

/// `HOST-LIST` rows: address, vhosts, users, tag, state.
pub fn backends(rows: &[Vec<String>]) -> Backends {
    let backend = |row: &Vec<String>| {
        let weight = Weight {
            vhosts: row[1].parse().expect("vhosts"),
            up: row[4] == "U",
            tagged: row[3] == TAG,
        };
        (row[0].parse().expect("an address"), weight)
    };
    Backends(rows.iter().map(backend).collect())
}

/// `USER-LIST` rows: hash, expiry, backend.
pub fn users(rows: &[Vec<String>]) -> BTreeMap<u32, Ipv4Addr> {
    let user = |row: &Vec<String>| {
        let hash = row[0].parse().expect("a hash");
        (hash, row[2].parse().expect("an address"))
    };
    rows.iter().map(user).collect()
}

fn differing(own: &BTreeMap<u32, Ipv4Addr>, wanted: &BTreeMap<u32, Ipv4Addr>) -> Option<String> {
    let missing = wanted.keys().filter(|hash| !own.contains_key(hash)).count();
    let unknown = own.keys().filter(|hash| !wanted.contains_key(hash)).count();
    let elsewhere: Vec<_> = own
        .iter()
        .filter_map(|(hash, at)| Some((hash, at, wanted.get(hash).filter(|to| *to != at)?)))
        .collect();
    let differs = missing + unknown + elsewhere.len() > 0;
    differs.then(|| {
        format!(
            "of {} users it lacks {missing}, {unknown} nobody knows, {} elsewhere, e.g. {:?}",
            wanted.len(),
            elsewhere.len(),
            elsewhere.first()
        )
    })
}
