//! TLS of the ring's connections, between the sockets and the machine.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::tls::{Certificates, Link, Opened};
use super::{Machine, READ_SIZE, RingIo};
use crate::core::ring::{ConnId, Input, Level, Limits};
use crate::shell::{health, sessions};

/// What a reload changes for the ring.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// For the machine.
    pub limits: Limits,
    /// For connections made from now on; those that are there stay as they are.
    pub certificates: Option<Arc<Certificates>>,
    /// How sessions are ended.
    pub sessions: sessions::Config,
    /// `resolve_interval`; not for the ring.
    pub resolve_interval: Duration,
    /// `state_interval`; not for the ring.
    pub state_interval: Duration,
    /// How backends are checked; not for the ring.
    pub health: health::Config,
}

impl<M: Machine> RingIo<M> {
    /// The machine wants a connection that it dialled to go over to TLS.
    pub(super) fn secure(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match (self.machine.certificates(), conn.dialled) {
            (Some(certificates), Some(to)) => {
                let mut ask = Vec::new();
                conn.link = Link::ask(certificates, to.ip(), &mut ask);
                conn.send_as_it_is(&mut ask);
                self.watch(id);
            }
            // A reload has taken them away.
            _ => {
                self.conns.remove(&id);
                self.answers.push_back(Input::Ended(id));
            }
        }
    }

    /// The first `count` bytes of `scratch` have come on a connection that is not plain, or may become
    /// one of TLS.
    pub(super) fn read_through(&mut self, id: ConnId, count: usize) {
        if self
            .conns
            .get(&id)
            .is_some_and(|conn| conn.link.is_offered())
        {
            // The answer to STARTTLS comes behind what was said before.
            self.perform();
            self.write();
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let was_secure = conn.link.is_secure();
        let mut opened = Opened::default();
        let received = conn.link.received(&self.scratch[..count], &mut opened);
        let told = !opened.out.is_empty();
        conn.send_as_it_is(&mut opened.out);
        let unsent = conn.outbox.len();
        let (is_secure, peer) = (conn.link.is_secure(), conn.peer);
        if is_secure && !was_secure {
            let text = || format!("director {peer}: its certificate is right, TLS 1.3 begins");
            self.log.line(Level::Info, "tls", self.now.mono, text);
            self.handle(Input::Secured(id));
        }
        if told {
            self.handle(Input::Written(id, unsent));
        }
        self.taken += count;
        // What TLS has kept of a record comes as well, so that there may be more than was read.
        for bytes in opened.plain.chunks(READ_SIZE) {
            self.make_room(bytes.len() + bytes.len() / 2);
            self.handle(Input::Received(id, bytes));
        }
        if let Err(fault) = received {
            self.end_of_tls(id, peer, &fault);
        }
    }

    fn end_of_tls(&mut self, id: ConnId, peer: IpAddr, fault: &str) {
        let text = || format!("director {peer}: {fault}");
        self.log.line(Level::Error, "no tls", self.now.mono, text);
        // The machine may have closed it in the meantime.
        if let Some(conn) = self.conns.remove(&id) {
            conn.close(Vec::new(), &mut self.scratch);
            self.handle(Input::Ended(id));
        }
    }
}
