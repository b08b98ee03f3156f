//! What all members should know about backends, and where a new user then belongs. Computed here
//! anew, from the protocol's description, so that members are not compared with themselves.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use md5::{Digest, Md5};

/// A backend's share of new users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    pub vhosts: u32,
    pub up: bool,
}

/// All backends of a ring, without tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends(pub BTreeMap<Ipv4Addr, Weight>);

/// What an administrator does to a backend.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Add(Ipv4Addr, u32),
    Update(Ipv4Addr, u32),
    Down(Ipv4Addr),
    Up(Ipv4Addr),
    Remove(Ipv4Addr),
}

impl Change {
    /// The words after `doveadm director`.
    pub fn words(self) -> Vec<String> {
        let words = match self {
            Self::Add(address, vhosts) => format!("add {address} {vhosts}"),
            Self::Update(address, vhosts) => format!("update {address} {vhosts}"),
            Self::Down(address) => format!("down {address}"),
            Self::Up(address) => format!("up {address}"),
            Self::Remove(address) => format!("remove {address}"),
        };
        words.split(' ').map(str::to_owned).collect()
    }
}

impl Backends {
    /// Backends as they are in a configuration.
    pub fn configured(addresses: &[Ipv4Addr]) -> Self {
        let weight = Weight {
            vhosts: 100,
            up: true,
        };
        Self(addresses.iter().map(|address| (*address, weight)).collect())
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Add(address, vhosts) => {
                self.0.insert(address, Weight { vhosts, up: true });
            }
            Change::Update(address, vhosts) => self.weight(address).vhosts = vhosts,
            Change::Down(address) => self.weight(address).up = false,
            Change::Up(address) => self.weight(address).up = true,
            Change::Remove(address) => {
                self.0.remove(&address);
            }
        }
    }

    fn weight(&mut self, address: Ipv4Addr) -> &mut Weight {
        self.0.get_mut(&address).expect("a known backend")
    }

    /// Where new users belong.
    pub fn homes(&self) -> Homes {
        let usable = self.0.iter().filter(|(_, weight)| weight.up);
        let mut points: Vec<_> = usable
            .flat_map(|(address, weight)| {
                (0..weight.vhosts).map(move |n| (md5(&format!("{address}-{n}")), *address))
            })
            .collect();
        points.sort_unstable();
        Homes(points)
    }
}

/// The hash ring: points in ascending order.
pub struct Homes(Vec<(u32, Ipv4Addr)>);

impl Homes {
    /// The backend of a new user: that of the first point that is not below its hash.
    pub fn of(&self, name: &str) -> Ipv4Addr {
        let first = self
            .0
            .partition_point(|(point, _)| *point < user_hash(name));
        self.0.get(first).or(self.0.first()).expect("a backend").1
    }
}

/// `director_username_hash = %Lu`.
pub fn user_hash(name: &str) -> u32 {
    md5(&name.to_ascii_lowercase()).max(1)
}

fn md5(text: &str) -> u32 {
    let digest = Md5::digest(text.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
