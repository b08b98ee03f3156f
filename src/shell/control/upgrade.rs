//! SIGUSR2: the program is started anew and takes over, or everything stays as it is.

use std::os::fd::AsFd;
use std::time::Duration;

use glommio::timer::Timer;

use super::Shared;
use super::listening::Which;
use crate::core::state::Head;
use crate::settings::kind_name;
use crate::shell::clock;
use crate::shell::keeper::{Keeper, messages};
use crate::shell::state::Resting;
use crate::shell::systemd;
use crate::shell::takeover::give::{Next, Program, Shown};
use crate::wire::takeover::{Listeners, Offer};

/// Users that are being moved are waited for, for as long as a move may take and some more: the next process
/// would not know that their old sessions are still about to end.
const MOVES_LIMIT: Duration = Duration::from_secs(40);
const MOVES_PAUSE: Duration = Duration::from_millis(250);

/// What the next process is, and what it must know to read the users.
#[derive(Debug)]
pub struct Succession {
    /// The program.
    pub program: Program,
    /// The settings that say what users mean; the time in it does not count.
    pub head: Head,
}

/// Another process serves now.
pub(super) struct Successor {
    next: Next,
    /// The state on the disk is its business.
    _resting: Option<Resting>,
}

impl Shared {
    /// Lets the program take over. `None`: it did not, which was logged.
    pub(super) async fn upgrade(&self, how: Option<&Succession>) -> Option<Successor> {
        let done = match how {
            Some(how) => self.try_upgrade(how).await,
            None => Err(
                "only a director that homing run has started can be taken over; Dovecot's master \
                 starts its own anew when it is reloaded"
                    .to_owned(),
            ),
        };
        done.inspect_err(|why| {
            tracing::error!("upgrade: given up, this process goes on: {why}");
            // Nothing can be done when systemd does not listen.
            let _ = systemd::notify(&format!("STATUS=upgrade given up: {why}"));
        })
        .ok()
    }

    async fn try_upgrade(&self, how: &Succession) -> Result<Successor, String> {
        let offer = self.offer()?;
        let program = how.program.clone();
        tracing::info!("upgrade: starting the new process");
        let executor = glommio::executor();
        let start = executor.spawn_blocking(move || Next::start(&program, &offer));
        let mut next = start.await?;
        self.wait_for_moves().await?;
        // From here on this executor does nothing else: what the keeper says meanwhile is for the next.
        let resting = match &self.keep {
            Some(keep) => Some(
                keep.rest()
                    .ok_or("the state is being written for too long")?,
            ),
            None => None,
        };
        let began = clock::mono();
        let end = self.show_all(&mut next, &how.head)?;
        if let Err(why) = next.go() {
            self.tier.cores().thaw();
            return Err(why);
        }
        let millis = clock::mono().since(began) / 1_000_000;
        let (relays, parked, pid) = (end.relays, end.parked, next.pid());
        tracing::info!(
            "upgrade: process {pid} has taken over {relays} connections and {parked} lookups that wait; \
             logins stood still for {millis} ms"
        );
        Ok(Successor {
            next,
            _resting: resting,
        })
    }

    fn offer(&self) -> Result<Offer, String> {
        let kept = messages::encode_listeners(&self.kept).map_err(|error| error.to_string())?;
        let kinds = self.kept.iter().map(|it| kind_name(it.kind).to_owned());
        Ok(Offer {
            kept,
            kinds: kinds.collect(),
            handed: self.places.borrow().clone(),
        })
    }

    async fn wait_for_moves(&self) -> Result<(), String> {
        let nanos = u64::try_from(MOVES_LIMIT.as_nanos()).unwrap_or(u64::MAX);
        let end = clock::mono().after(nanos);
        let directory = self.tier.directory();
        loop {
            let mut moving = 0;
            directory.each_shard(clock::wall(), &directory.snapshot(), |entries| {
                moving += entries.iter().filter(|entry| entry.is_killing()).count();
            });
            if moving == 0 {
                return Ok(());
            }
            if clock::mono() >= end {
                return Err(format!(
                    "{moving} users are being moved: upgrade when that is over"
                ));
            }
            Timer::new(MOVES_PAUSE).await;
        }
    }

    fn show_all(&self, next: &mut Next, head: &Head) -> Result<crate::wire::takeover::End, String> {
        let keeper = self.keeper.borrow();
        let held = self.held.borrow();
        let mut shown = Shown {
            cores: self.tier.cores(),
            directory: self.tier.directory(),
            head,
            listeners: Listeners {
                keeper: keeper.is_some(),
                ..Listeners::default()
            },
            descriptors: keeper.iter().map(Keeper::as_fd).collect(),
        };
        for (which, fd) in &*held {
            match *which {
                Which::Kept(at) => shown.listeners.kept.push(number(at)),
                Which::Handed(at) => shown.listeners.handed.push(number(at)),
            }
            shown.descriptors.push(fd.as_fd());
        }
        next.show_all(&shown)
    }

    /// Ends everything that the other process does not do already.
    pub(super) fn make_way(&self, mut successor: Successor) {
        let pid = successor.next.pid();
        // Before it says that it is ready, or systemd would not believe it.
        if let Err(error) = systemd::notify(&format!("MAINPID={pid}")) {
            tracing::warn!("cannot tell systemd that process {pid} has taken over: {error}");
        }
        if let Some(keeper) = self.keeper.borrow_mut().take() {
            keeper.let_go();
        }
        self.ring.stop_listening();
        self.http.leave();
        self.health.leave();
        self.admin.leave();
        self.ring.leave();
        successor.next.gone();
        tracing::info!("upgrade: done, this process ends");
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
