//! The HTTP listeners: one thread with a tokio runtime of its own, which serves no login.
//!
//! | module | what it does |
//! |---|---|
//! | `accept` | who may connect, how many, TLS, and how slow a client may be |
//! | `steady` | a connection whose client must take what it is sent |
//! | [`config`] | tokens and certificates of the settings |
//! | `router` | from a request to its answer: rate, token, body |
//! | `call` | what an endpoint is given, and what it gives back |
//! | `director` | the conversation with the director, in the words of the admin protocol |
//! | `backends`, `health`, `users`, `ring`, `around` | the endpoints |
//! | `names` | names of users, which auth lists |
//! | `gather` | what metrics are made of |
//! | `sampler` | what the page draws |
//!
//! Orders and most questions go to the thread of the admin listeners as those of any other client do, by
//! a connection inside the process: so they wait for the ring in the same way, and are logged with who
//! gave them.

mod accept;
mod around;
mod backends;
mod call;
pub mod config;
mod director;
mod gather;
mod health;
mod names;
mod ring;
mod router;
mod sampler;
mod steady;
mod users;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{Builder, JoinHandle};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use config::Config;

use super::admin_io::serve as admin;
use super::admin_io::serve::Gate;
use super::chronicle::Chronicle;
use super::clock;
use super::cores::Cores;
use super::directory::Directory;
use super::log_limit::LogLimit;
use super::mailbox::Mailbox;
use crate::core::Wall;
use crate::http::history::History;
use crate::http::rate::Rates;
use director::Line;

/// Threads for what waits or takes long: counts of cores, walks through the user table.
const BLOCKING_THREADS: usize = 4;

/// What the thread needs.
pub struct Setup {
    /// Tokens and certificates; a reload replaces them.
    pub config: Arc<ArcSwap<Config>>,
    /// The snapshot and the user table.
    pub directory: Arc<Directory>,
    /// The serving cores.
    pub cores: Arc<Cores>,
    /// The thread of the admin listeners.
    pub admin: Arc<Mailbox<admin::Message>>,
    /// What the ring did.
    pub chronicle: Arc<Chronicle>,
}

/// What all requests share.
struct App {
    config: Arc<ArcSwap<Config>>,
    directory: Arc<Directory>,
    cores: Arc<Cores>,
    chronicle: Arc<Chronicle>,
    line: Line,
    started: Wall,
    history: Mutex<History>,
    rates: Mutex<Rates>,
    conns: accept::Conns,
    refused: Mutex<LogLimit>,
    /// Who may have auth list its users.
    naming: Arc<Semaphore>,
    tallies: Tallies,
}

/// What is counted of the interface itself.
#[derive(Default)]
struct Tallies {
    answers: [AtomicU64; 6],
    unauthorized: AtomicU64,
    over_rate: AtomicU64,
}

enum Message {
    Listen(usize, OwnedFd, Gate),
    Unlisten(usize),
    Leave,
}

/// The thread, as seen by control.
pub struct HttpThread {
    messages: UnboundedSender<Message>,
    listeners: Cell<usize>,
    thread: RefCell<Option<JoinHandle<()>>>,
}

impl HttpThread {
    /// Starts it, on whatever CPUs the caller may use. It sleeps until there is a listener.
    ///
    /// # Errors
    /// Out of descriptors or threads.
    pub fn start(setup: Setup) -> io::Result<HttpThread> {
        let (messages, receiver) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("http-work")
            .build()?;
        let app = Arc::new(App {
            config: setup.config,
            directory: setup.directory,
            cores: setup.cores,
            chronicle: setup.chronicle,
            line: Line::new(setup.admin),
            started: clock::wall(),
            history: Mutex::default(),
            rates: Mutex::default(),
            conns: accept::Conns::new(),
            refused: Mutex::default(),
            naming: Arc::new(Semaphore::new(1)),
            tallies: Tallies::default(),
        });
        let thread = Builder::new().name("http".to_owned()).spawn(move || {
            runtime.block_on(serve(app, receiver));
            // What still waits for a core or a client is cut.
            runtime.shutdown_background();
        })?;
        Ok(HttpThread {
            messages,
            listeners: Cell::new(0),
            thread: RefCell::new(Some(thread)),
        })
    }

    /// Accepts from a listening socket from now on. Returns what [`HttpThread::unlisten`] needs.
    pub fn listen(&self, fd: OwnedFd, gate: Gate) -> usize {
        let number = self.listeners.replace(self.listeners.get() + 1);
        self.send(Message::Listen(number, fd, gate));
        number
    }

    /// No longer accepts from a listener; its connections live on.
    pub fn unlisten(&self, number: usize) {
        self.send(Message::Unlisten(number));
    }

    /// The process ends: everything is closed, and the thread ends. Waits for that.
    pub fn leave(&self) {
        self.send(Message::Leave);
        if let Some(Err(_)) = self.thread.borrow_mut().take().map(JoinHandle::join) {
            tracing::error!("the thread of the HTTP listeners ended with an error");
        }
    }

    fn send(&self, message: Message) {
        if self.messages.send(message).is_err() {
            tracing::error!("the thread of the HTTP listeners has ended");
        }
    }
}

async fn serve(app: Arc<App>, mut messages: UnboundedReceiver<Message>) {
    let router = router::router(Arc::clone(&app));
    let mut listeners = HashMap::new();
    let mut sampler = None;
    while let Some(message) = messages.recv().await {
        match message {
            Message::Listen(number, fd, gate) => {
                sampler.get_or_insert_with(|| tokio::spawn(sampler::run(Arc::clone(&app))));
                let accepting = accept::run(Arc::clone(&app), router.clone(), fd, gate);
                listeners.insert(number, tokio::spawn(accepting));
            }
            Message::Unlisten(number) => {
                if let Some(accepting) = listeners.remove(&number) {
                    accepting.abort();
                }
            }
            Message::Leave => return,
        }
    }
}
