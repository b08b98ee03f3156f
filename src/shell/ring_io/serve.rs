//! The thread of the ring, and what others tell it.
//!
//! It is one glommio executor with one task, which waits in `epoll_wait` itself, as the serving
//! cores do: parking through the executor's ring costs many system calls for each wait.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use super::orders::Orders;
use super::{Driver, LOST_PER_TURN, Machine, RingIo, Tuning};
use crate::core::ring::{Answer, Draining, Input, Report, Request, Ticket, Whereabouts};
use crate::core::users::SHARDS;
use crate::core::{Mono, UserHash};
use crate::shell::clock;
use crate::shell::cores::Cores;
use crate::shell::epoll::Events;
use crate::shell::mailbox::Mailbox;
use crate::shell::notes::Notes;
use crate::shell::sessions::{self, Learnt, Sessions};
use crate::shell::tier::StartError;

/// Longest wait without events.
const IDLE_MS: i32 = 1000;
/// Pause after a failure of the kernel, before the ring is served again.
const FAILED_PAUSE: u64 = 100_000_000;
/// At the end, how long neighbours may take to read what they are told, and how often that is looked at.
const FLUSH_LIMIT: u64 = Mono::SECOND;
const FLUSH_PAUSE: u64 = 5_000_000;
/// How long the summary is waited for.
const SUMMARY_LIMIT: Duration = Duration::from_secs(1);

/// What the ring tells those who asked, by their tickets.
pub type Replies = Mailbox<(Ticket, Reply)>;

/// The reply to one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Message::Request`]: now or later, unless the process ends before.
    Answer(Answer),
    /// To [`Message::Report`]: at once.
    Report(Report),
    /// To [`Message::Drains`]: at once.
    Drains(Vec<Draining>),
    /// To [`Message::Why`]: at once. `None`: no backend ever had the tag.
    Why(UserHash, Vec<u8>, Option<Whereabouts>),
}

/// A message to the thread of the ring.
pub enum Message {
    /// Accept from this listener, to be called by this number.
    Listen(usize, OwnedFd),
    /// No longer accept from a listener.
    Unlisten(usize),
    /// No longer accept from any listener.
    StopListening,
    /// Tell the machine.
    Input(Input<'static>),
    /// An operator asks for something.
    Request(Ticket, Request),
    /// An operator asks how the ring is.
    Report(Ticket),
    /// An operator asks which backends are being drained.
    Drains(Ticket),
    /// An operator asks why a user is where it is under a tag.
    Why(Ticket, UserHash, Vec<u8>),
    /// An order of the ring's is over.
    Over(sessions::Answer),
    /// After a reload.
    Tune(Tuning),
    /// Send a line for the log.
    Summary(Sender<String>),
    /// Send our place among the directors by address, from 0.
    Rank(Sender<usize>),
    /// The process ends: say goodbye.
    Leave,
}

/// What the thread is given.
pub struct Setup {
    /// The machine.
    pub driver: Driver,
    /// How sessions are ended.
    pub sessions: sessions::Config,
    /// Sessions that are there already.
    pub learnt: Vec<Learnt>,
    /// What lookup cores note.
    pub notes: Arc<Notes>,
    /// The lookup cores.
    pub cores: Arc<Cores>,
    /// Where the replies to operators go.
    pub replies: Arc<Replies>,
}

/// The thread, as seen by control. It ends when it is told to.
pub struct RingThread {
    mailbox: Arc<Mailbox<Message>>,
    listeners: Cell<usize>,
    executor: RefCell<Option<ExecutorJoinHandle<()>>>,
}

impl RingThread {
    /// Starts it on the last of the CPUs, and the thread that ends sessions on any. The machine is told
    /// nothing yet.
    ///
    /// # Errors
    /// Out of descriptors or threads.
    pub fn start(setup: Setup, cpus: &[usize]) -> Result<RingThread, StartError> {
        // One that no core serves on, if there is any.
        let cpu = cpus.last().copied().unwrap_or(0);
        let own: IpAddr = setup.driver.ring().members().me().ip;
        let mailbox = Arc::new(Mailbox::new()?);
        let mut ring = RingIo::new(
            setup.driver,
            own,
            setup.notes,
            setup.cores,
            Arc::clone(&mailbox),
            setup.replies,
        )?;
        let answers = {
            let mailbox = Arc::clone(&mailbox);
            Arc::new(move |answer| mailbox.send(Message::Over(answer)))
        };
        ring.learnt = setup.learnt;
        // A director without others places them here and now, before anybody asks.
        ring.learn();
        ring.orders = Orders::carried_out_by(Sessions::start(setup.sessions, answers, cpus)?);
        // No registered buffers: they are for files, and are charged to the locked memory.
        let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name("ring")
            .io_memory(0)
            .spawn(move || serve(ring))
            .map_err(StartError::from)?;
        Ok(RingThread {
            mailbox,
            listeners: Cell::new(0),
            executor: RefCell::new(Some(executor)),
        })
    }

    /// Accepts from a listening socket from now on. Returns what [`RingThread::unlisten`] needs.
    pub fn listen(&self, fd: OwnedFd) -> usize {
        let number = self.listeners.replace(self.listeners.get() + 1);
        self.mailbox.send(Message::Listen(number, fd));
        number
    }

    /// No longer accepts from a listener; its connections live on.
    pub fn unlisten(&self, number: usize) {
        self.mailbox.send(Message::Unlisten(number));
    }

    /// No longer accepts from any listener.
    pub fn stop_listening(&self) {
        self.mailbox.send(Message::StopListening);
    }

    /// Something has happened.
    pub fn feed(&self, input: Input<'static>) {
        self.mailbox.send(Message::Input(input));
    }

    /// Where anybody may leave messages for it.
    pub fn mailbox(&self) -> Arc<Mailbox<Message>> {
        Arc::clone(&self.mailbox)
    }

    /// After a reload.
    pub fn tune(&self, tuning: Tuning) {
        self.mailbox.send(Message::Tune(tuning));
    }

    /// One line for the log; `None`: the thread does not answer.
    pub fn summary(&self) -> Option<String> {
        let (sender, receiver) = bounded(1);
        self.mailbox.send(Message::Summary(sender));
        receiver.recv_timeout(SUMMARY_LIMIT).ok()
    }

    /// The process ends and no lookup core works any more: the others are told what is left to be
    /// said, everything is closed, and the thread ends. Waits for that.
    pub fn leave(&self) {
        self.mailbox.send(Message::Leave);
        let executor = self.executor.borrow_mut().take();
        if let Some(Err(error)) = executor.map(ExecutorJoinHandle::join) {
            tracing::error!("the thread of the director ring ended with an error: {error}");
        }
    }
}

async fn serve(mut ring: RingIo<Driver>) {
    let mut events = Events::default();
    while !ring.left {
        ring.pause();
        if let Err(error) = ring.turn(&mut events, IDLE_MS) {
            tracing::error!("cannot serve the director ring: {error}");
            clock::sleep_until(clock::mono().after(FAILED_PAUSE));
        }
        glommio::yield_if_needed().await;
    }
}

impl<M: Machine> RingIo<M> {
    /// Sleeps until the next turn is to come, when this one had something to do.
    pub(super) fn pause(&mut self) {
        if let Some(at) = self.next_turn.take() {
            clock::sleep_until(at);
        }
    }

    pub(super) fn read_mailbox(&mut self) {
        for message in self.mailbox.take() {
            match message {
                Message::Listen(number, fd) => self.listen(number, fd),
                Message::Unlisten(number) => self.unlisten(number),
                Message::StopListening => self.stop_listening(),
                Message::Input(input) => self.handle(input),
                Message::Request(ticket, request) => {
                    self.handle(Input::Request(ticket, &request));
                }
                Message::Report(ticket) => {
                    let report = self.machine.report(self.now);
                    self.replies.send((ticket, Reply::Report(report)));
                }
                Message::Drains(ticket) => {
                    let drains = self.machine.drains();
                    self.replies.send((ticket, Reply::Drains(drains)));
                }
                Message::Why(ticket, hash, tag) => {
                    let known = self.machine.whereabouts(hash, &tag, self.now);
                    self.replies.send((ticket, Reply::Why(hash, tag, known)));
                }
                Message::Over(answer) => {
                    if let Some(input) = self.orders.over(answer) {
                        self.handle(input);
                    }
                }
                Message::Tune(tuning) => {
                    self.orders.tune(&tuning.sessions);
                    self.machine.tune(tuning);
                }
                Message::Summary(sender) => {
                    // A full or closed channel means that nobody waits for the answer any more.
                    let _ = sender.try_send(self.machine.summary());
                }
                Message::Rank(sender) => {
                    // Likewise.
                    let _ = sender.try_send(self.machine.rank());
                }
                Message::Leave => self.left = true,
            }
        }
    }

    /// Waits until all that was said is with the kernel, or a neighbour does not take it.
    fn flush_all(&mut self) {
        let end = clock::mono().after(FLUSH_LIMIT);
        while self.conns.values().any(|conn| conn.outbox.len() > 0) && clock::mono() < end {
            for conn in self.conns.values_mut() {
                conn.flush();
            }
            clock::sleep_until(clock::mono().after(FLUSH_PAUSE));
        }
    }

    /// Says what is left to be said, and closes everything.
    pub(super) fn leave(&mut self) {
        self.stop_listening();
        // No lookup core works any more: what they have left is all that there is.
        for _ in 0..=SHARDS / LOST_PER_TURN {
            self.drain_notes();
            self.settle();
            if self.notes.is_empty() {
                break;
            }
        }
        self.flush_all();
        self.handle(Input::Leave);
        self.settle();
        self.conns.clear();
    }
}
