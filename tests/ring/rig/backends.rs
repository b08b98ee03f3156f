//! What all members should know about backends, and where a new user then belongs. Computed here
//! anew, from the protocol's description, so that members are not compared with themselves.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use md5::{Digest, Md5};

/// The one director tag there is.
pub const TAG: &str = "A";
/// How names of users begin that have it.
pub const TAGGED: &str = "tagged-";

/// A backend's share of new users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    pub vhosts: u32,
    pub up: bool,
    /// It has [`TAG`], and takes users that have it, and no others.
    pub tagged: bool,
}

/// All backends of a ring.
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
    /// Backends as they are in a configuration, some of them tagged.
    pub fn configured(addresses: &[Ipv4Addr], tagged: &[Ipv4Addr]) -> Self {
        let backend = |address: &Ipv4Addr| {
            let weight = Weight {
                vhosts: 100,
                up: true,
                tagged: tagged.contains(address),
            };
            (*address, weight)
        };
        Self(addresses.iter().map(backend).collect())
    }

    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Add(address, vhosts) => {
                let weight = Weight {
                    vhosts,
                    up: true,
                    tagged: false,
                };
                self.0.insert(address, weight);
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
        Homes([false, true].map(|tagged| self.points(tagged)))
    }

    fn points(&self, tagged: bool) -> Vec<(u32, Ipv4Addr)> {
        let usable = self.0.iter();
        let usable = usable.filter(|(_, weight)| weight.up && weight.tagged == tagged);
        let mut points: Vec<_> = usable
            .flat_map(|(address, weight)| {
                (0..weight.vhosts).map(move |n| (md5(&format!("{address}-{n}")), *address))
            })
            .collect();
        points.sort_unstable();
        points
    }
}

/// The hash rings of users without and with the tag: points in ascending order.
pub struct Homes([Vec<(u32, Ipv4Addr)>; 2]);

impl Homes {
    /// The backend of a new user: that of the first point that is not below its hash.
    pub fn of(&self, name: &str) -> Ipv4Addr {
        let points = &self.0[usize::from(name.starts_with(TAGGED))];
        let first = points.partition_point(|(point, _)| *point < user_hash(name));
        points.get(first).or(points.first()).expect("a backend").1
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
