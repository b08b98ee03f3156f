//! One member of a ring: a director at an address, of either kind.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::load::Plate;
use crate::e2e::seat::Seat;
use crate::e2e::{Director, DirectorKind, DirectorPlacement, DirectorSpec, Site, Sockets};

/// The letter of a kind in a composition such as `HDD`.
pub fn kind(letter: char) -> DirectorKind {
    match letter {
        'D' => DirectorKind::Dovecot23,
        'H' => DirectorKind::Homing,
        _ => panic!("no kind of director: {letter}"),
    }
}

/// A member, running or not.
pub struct Member {
    pub address: Ipv4Addr,
    spec: DirectorSpec,
    director: Option<Director>,
    /// Odd while it is down, as [`Plate`] tells.
    generation: Arc<AtomicU32>,
}

impl Member {
    /// A member that was never started. Its sockets' paths do not depend on its kind.
    pub fn new(site: &Site, number: usize, kind: DirectorKind, wanted: Wanted<'_>) -> Self {
        let address = wanted.seat.directors[number];
        let socket = |name: &str| site.path().join(format!("m{number}-{name}"));
        let spec = DirectorSpec {
            kind,
            placement: DirectorPlacement::Standalone,
            name: name(number, 0, kind),
            address,
            backends: wanted.backends.to_owned(),
            expire: wanted.expire,
            sockets: Sockets {
                login: socket("login"),
                userdb: socket("userdb"),
                notify: socket("notify"),
                authreply: None,
            },
            auth_login: wanted.auth.clone(),
            auth_userdb: wanted.auth.clone(),
            director_settings: wanted.settings.to_owned(),
            seat: Some(wanted.seat.clone()),
        };
        Self {
            address,
            spec,
            director: None,
            generation: Arc::new(AtomicU32::new(1)),
        }
    }

    /// Starts it and waits until it takes connections; it need not be in the ring by then.
    pub fn start(&mut self, site: &Site) {
        match &mut self.director {
            Some(director) => director.run(),
            None => self.director = Some(Director::start(site, self.spec.clone())),
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Says that it is down from now on, and ends it with `end`.
    pub fn end(&mut self, end: impl FnOnce(&mut Director)) {
        assert!(self.is_up(), "{} is down already", self.address);
        self.generation.fetch_add(1, Ordering::SeqCst);
        end(self.director.as_mut().expect("it was started"));
    }

    /// Has another process take over from it.
    pub fn take_over(&mut self) {
        self.director.as_mut().expect("it was started").take_over();
    }

    /// Lets a process go on that was stopped with SIGSTOP. Its connections were kept all the time,
    /// but it counted as down.
    pub fn resume(&self) {
        assert!(!self.is_up(), "{} was not paused", self.address);
        self.director().signal(libc::SIGCONT);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// The opposite of [`Self::end`] for one that was not ended.
    pub fn counts_again(&self) {
        assert!(!self.is_up(), "{} was not let go", self.address);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Another kind of director takes its place; it must be down.
    pub fn replace(&mut self, number: usize, kind: DirectorKind) {
        assert!(!self.is_up(), "{} is still there", self.address);
        self.director = None;
        self.spec.kind = kind;
        let generation = self.generation.load(Ordering::SeqCst);
        self.spec.name = name(number, generation, kind);
    }

    pub fn is_up(&self) -> bool {
        self.generation.load(Ordering::SeqCst).is_multiple_of(2)
    }

    pub fn kind(&self) -> DirectorKind {
        self.spec.kind
    }

    /// Its process, if it is a Homing.
    pub fn homing_pid(&self) -> Option<u32> {
        (self.kind() == DirectorKind::Homing).then(|| self.director().pid())
    }

    pub fn director(&self) -> &Director {
        self.director.as_ref().expect("it was started")
    }

    /// For [`super::Load`].
    pub fn plate(&self) -> Plate {
        Plate {
            socket: self.spec.sockets.login.clone(),
            generation: self.generation.clone(),
        }
    }
}

/// What all members of a ring have in common.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub seat: &'a Seat,
    pub backends: &'a str,
    /// Further settings of Homings.
    pub settings: &'a str,
    pub expire: u32,
    pub auth: &'a PathBuf,
}

/// Names directory, configuration and logs. A successor of another kind has its own.
fn name(number: usize, generation: u32, kind: DirectorKind) -> String {
    match kind {
        DirectorKind::Dovecot23 => format!("m{number}-{generation}-dovecot"),
        DirectorKind::Homing => format!("m{number}-{generation}-homing"),
    }
}
