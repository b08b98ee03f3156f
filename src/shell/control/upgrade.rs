//! SIGUSR2: the program is started anew and takes over, or everything stays as it is.

use std::os::fd::AsFd;
use std::time::Duration;

use crossbeam::channel::{TryRecvError, bounded};
use glommio::timer::Timer;

use super::Shared;
use super::listening::Which;
use crate::core::state::Head;
use crate::settings::kind_name;
use crate::shell::clock;
use crate::shell::keeper::{Keeper, messages};
use crate::shell::rest::Resting;
use crate::shell::signals::{ControlSource, Notice};
use crate::shell::systemd;
use crate::shell::takeover::give::{Next, Program, Shown};
use crate::wire::takeover::{Listeners, Offer};

/// Users that are being moved are waited for, for longer than a move takes by default: the next process
/// would not know that their old sessions are still about to end.
const MOVES_LIMIT: Duration = Duration::from_secs(40);
const MOVES_PAUSE: Duration = Duration::from_millis(250);
/// How often it is looked whether the next process is ready.
const START_PAUSE: Duration = Duration::from_millis(20);
/// How long operators may be busy: what they order takes milliseconds.
const REST_LIMIT: Duration = Duration::from_secs(2);

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
    /// Orders, and the state on the disk, are its business.
    _resting: [Option<Resting>; 2],
}

impl Shared {
    /// Lets the program take over. `None`: it did not, which was logged.
    pub(super) async fn upgrade(
        &self,
        how: Option<&Succession>,
        source: &mut ControlSource,
    ) -> Option<Successor> {
        let done = match how {
            Some(_) if std::process::id() == 1 => {
                Err("its end would be that of the container, whose first process it is".to_owned())
            }
            Some(how) => self.try_upgrade(how, source).await,
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

    async fn try_upgrade(
        &self,
        how: &Succession,
        source: &mut ControlSource,
    ) -> Result<Successor, String> {
        tracing::info!("upgrade: starting the new process");
        // Nothing can be done when systemd does not listen.
        let _ = systemd::notify("STATUS=upgrade: starting the new process");
        let mut next = self.start(how, source).await?;
        self.wait_for_moves(source).await?;
        // From here on this executor does nothing else: what the keeper says meanwhile is for the next.
        let resting = self.rest()?;
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

    async fn start(&self, how: &Succession, source: &mut ControlSource) -> Result<Next, String> {
        let offer = self.offer()?;
        let program = how.program.clone();
        let (sender, receiver) = bounded(1);
        let start = move || {
            // It is ended if nobody wants it any more.
            let _ = sender.send(Next::start(&program, &offer));
        };
        let thread = std::thread::Builder::new().name("upgrade".to_owned());
        let cannot = |error| format!("there is no thread to be had: {error}");
        thread.spawn(start).map_err(cannot)?;
        loop {
            match receiver.try_recv() {
                Ok(started) => return started,
                Err(TryRecvError::Empty) => self.heed(source)?,
                Err(TryRecvError::Disconnected) => return Err("a thread panicked".to_owned()),
            }
            Timer::new(START_PAUSE).await;
        }
    }

    /// Keeps what this process is told meanwhile for later, and goes on unless it is to end.
    fn heed(&self, source: &mut ControlSource) -> Result<(), String> {
        while let Ok(Some(notice)) = source.notice() {
            match notice {
                // One at a time.
                Notice::Upgrade => {}
                notice => self.put_off.borrow_mut().push_back(notice),
            }
        }
        let ends = |notice: &Notice| matches!(notice, Notice::Terminate | Notice::Interrupt);
        if self.put_off.borrow().iter().any(ends) {
            return Err("it was told to end".to_owned());
        }
        Ok(())
    }

    /// Nobody changes what is shown from here on, or writes where the next process will.
    fn rest(&self) -> Result<[Option<Resting>; 2], String> {
        let operators = self.admin.rest(REST_LIMIT);
        let operators = operators.ok_or("the thread of the admin listeners is busy")?;
        // What they have ordered so far is done when the ring has answered this.
        self.ring
            .summary()
            .ok_or("the thread of the ring is busy")?;
        let state = match &self.keep {
            Some(keep) => Some(
                keep.rest()
                    .ok_or("the state is being written for too long")?,
            ),
            None => None,
        };
        Ok([Some(operators), state])
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

    async fn wait_for_moves(&self, source: &mut ControlSource) -> Result<(), String> {
        let nanos = clock::nanos(MOVES_LIMIT);
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
            self.heed(source)?;
            Timer::new(MOVES_PAUSE).await;
        }
    }

    fn show_all(&self, next: &mut Next, head: &Head) -> Result<crate::wire::takeover::End, String> {
        let keeper = self.keeper.borrow();
        let held = self.held.borrow();
        let marks = self.desk.marks();
        let mut shown = Shown {
            cores: self.tier.cores(),
            directory: self.tier.directory(),
            head,
            marks: &marks,
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
        // Operators' connections end with this process: nothing is taken from them any more.
        self.ring.leave();
        successor.next.gone();
        tracing::info!("upgrade: done, this process ends");
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
