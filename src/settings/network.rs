//! What settings need to know of this machine and its network. Tests answer without one.

use std::io;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};

use nix::unistd::{Group, User};

/// Name resolution and knowledge of this machine's own addresses.
pub trait Network {
    /// All addresses of a host name, in any order; may block. Errors: what the resolver says.
    fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// True when this machine could listen on the address.
    fn is_local(&self, ip: IpAddr) -> bool;

    /// False when there is surely no user of this name.
    fn has_user(&self, _name: &str) -> bool {
        true
    }

    /// False when there is surely no group of this name.
    fn has_group(&self, _name: &str) -> bool {
        true
    }
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

    fn has_user(&self, name: &str) -> bool {
        !matches!(User::from_name(name), Ok(None))
    }

    fn has_group(&self, name: &str) -> bool {
        !matches!(Group::from_name(name), Ok(None))
    }
}
