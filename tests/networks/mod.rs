//! Loopback addresses that no other test has, of this program or of any other on the machine.

use std::net::{Ipv4Addr, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first networks of 127.0.0.0/8 are for whoever just takes one.
const FIRST: u32 = 1024;
/// All that are looked at.
const COUNT: u32 = 60_000;
/// Programs begin this far from each other, so that a network is not taken again as soon as it is free: what
/// was started on it may need a moment to end.
const APART: u32 = 1000;
/// Whoever has this UDP port on the last address of a network has the network.
const CLAIM: (u8, u16) = (254, 19_999);

/// A /24 of 127.0.0.0/8, from its address 1 to 253. It is free again when this is dropped, or when the program ends
/// in whatever way.
#[derive(Debug)]
pub struct Network {
    bytes: [u8; 2],
    _claim: UdpSocket,
}

impl Network {
    /// Takes one that is free.
    pub fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..COUNT {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let start = process::id() % (COUNT / APART) * APART;
            let [.., high, low] = (FIRST + (start + number) % COUNT).to_be_bytes();
            let bytes = [high, low];
            if let Ok(claim) = UdpSocket::bind((at(bytes, CLAIM.0), CLAIM.1)) {
                return Self {
                    bytes,
                    _claim: claim,
                };
            }
        }
        panic!("no network of 127.0.0.0/8 is free");
    }

    /// Address `host` of it.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        at(self.bytes, host)
    }
}

fn at(network: [u8; 2], host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, network[0], network[1], host)
}

#[test]
fn no_two_have_the_same_network() {
    let networks: Vec<_> = (0..50).map(|_| Network::claim()).collect();
    let mut bytes: Vec<_> = networks.iter().map(|network| network.bytes).collect();
    bytes.sort_unstable();
    bytes.dedup();
    assert_eq!(bytes.len(), networks.len());
    // Nor does another program get one of them.
    let last = at(bytes[0], CLAIM.0);
    assert!(UdpSocket::bind((last, CLAIM.1)).is_err());
}
