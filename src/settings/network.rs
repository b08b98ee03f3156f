//! The two questions about the network that settings need answered. Tests answer them without one.

use std::io;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

/// Name resolution and knowledge of this machine's own addresses.
pub trait Network {
    /// All addresses of a host name, in any order; may block. Errors: what the resolver says.
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// True when this machine could listen on the address.
    fn is_local(&self, ip: IpAddr) -> bool;
}

/// The real network of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNetwork;

impl Network for SystemNetwork {
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok((host, 0u16).to_socket_addrs()?.map(|a| a.ip()).collect())
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        // A datagram socket on a port of the kernel's choice: nobody can reach it by accident and
        // it is gone at the end of the statement.
        UdpSocket::bind((ip, 0)).is_ok()
    }
}
