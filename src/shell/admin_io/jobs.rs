//! What takes long, each on a thread that ends with it.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;

use super::serve::Message;
use crate::admin::{Census, UserList, Whose};
use crate::core::ring::Ticket;
use crate::shell::clock;
use crate::shell::cores::Cores;
use crate::shell::directory::Directory;
use crate::shell::mailbox::Mailbox;

/// Reads the settings' backends again, which may wait for name servers. `None`: they are wrong now.
pub type Configured = Arc<dyn Fn() -> Option<Vec<IpAddr>> + Send + Sync>;

/// Counts the sessions that there are of somebody; called on a thread of its own. Errors: they are not
/// known, and why; empty: nobody is to ask for them.
pub type Count = Arc<dyn Fn(&Whose) -> Result<Census, String> + Send + Sync>;

/// Counts of sessions that are under way at a time; each may make Dovecot list all that there are.
const COUNTS_MAX: usize = 4;

/// Threads at a time that ask the serving cores what they counted; each makes every core copy that.
const ASKS_MAX: usize = 2;

/// Users in all lists that are being made or written: 64 MiB. One list may be larger, alone.
const LISTED_MAX: usize = 4 << 20;

/// What is under way, and what waits for its turn.
pub(super) struct Jobs {
    directory: Arc<Directory>,
    configured: Configured,
    mailbox: Arc<Mailbox<Message>>,
    /// Users in lists under way.
    listed: usize,
    lists: usize,
    lists_waiting: VecDeque<(Ticket, Option<IpAddr>)>,
    /// Those that the settings are being read for, and those that came later.
    reading: Vec<Ticket>,
    readers_waiting: Vec<Ticket>,
    count: Count,
    counts: usize,
    cores: Arc<Cores>,
    asks: usize,
    asks_waiting: VecDeque<(Ticket, Option<usize>)>,
}

impl Jobs {
    pub(super) fn new(
        directory: Arc<Directory>,
        configured: Configured,
        count: Count,
        cores: Arc<Cores>,
        mailbox: Arc<Mailbox<Message>>,
    ) -> Jobs {
        Jobs {
            directory,
            configured,
            mailbox,
            listed: 0,
            lists: 0,
            lists_waiting: VecDeque::new(),
            reading: Vec::new(),
            readers_waiting: Vec::new(),
            count,
            counts: 0,
            cores,
            asks: 0,
            asks_waiting: VecDeque::new(),
        }
    }

    /// [`Message::Users`] follows.
    pub(super) fn list_users(&mut self, ticket: Ticket, host: Option<IpAddr>) {
        self.lists_waiting.push_back((ticket, host));
        self.begin_lists();
    }

    /// A list was made; there may be room for another now, if it is smaller than it could have been.
    pub(super) fn list_is_made(&mut self, about: usize, users: usize) {
        self.listed = (self.listed + users).saturating_sub(about);
        self.begin_lists();
    }

    /// A list of so many users is no longer in memory.
    pub(super) fn list_is_over(&mut self, users: usize) {
        self.lists -= 1;
        self.listed = self.listed.saturating_sub(users);
        self.begin_lists();
    }

    fn begin_lists(&mut self) {
        let about = usize::try_from(self.directory.users()).unwrap_or(usize::MAX);
        while self.lists == 0 || self.listed.saturating_add(about) <= LISTED_MAX {
            let Some((ticket, host)) = self.lists_waiting.pop_front() else {
                return;
            };
            self.lists += 1;
            self.listed = self.listed.saturating_add(about);
            let directory = Arc::clone(&self.directory);
            let mailbox = Arc::clone(&self.mailbox);
            let made = spawn("admin-users", move || {
                let list = make_list(&directory, host, about);
                mailbox.send(Message::Users(ticket, list, about));
            });
            if !made {
                self.lists -= 1;
                self.listed = self.listed.saturating_sub(about);
                self.mailbox.send(Message::Failed(ticket));
            }
        }
    }

    /// [`Message::Sessions`] follows, or [`Message::Failed`]. `false`: too many are being counted.
    pub(super) fn count_sessions(&mut self, ticket: Ticket, whose: Whose) -> bool {
        if self.counts >= COUNTS_MAX {
            return false;
        }
        self.counts += 1;
        let count = Arc::clone(&self.count);
        let mailbox = Arc::clone(&self.mailbox);
        let begun = spawn("admin-sessions", move || {
            let counted = count(&whose);
            mailbox.send(Message::Sessions(ticket, whose, counted));
        });
        if !begun {
            self.counts -= 1;
            self.mailbox.send(Message::Failed(ticket));
        }
        true
    }

    /// One of them is over.
    pub(super) fn sessions_are_counted(&mut self) {
        self.counts -= 1;
    }

    /// [`Message::Counted`] follows, or [`Message::Failed`].
    pub(super) fn ask_cores(&mut self, ticket: Ticket, core: Option<usize>) {
        self.asks_waiting.push_back((ticket, core));
        self.begin_asking();
    }

    /// One of them is over.
    pub(super) fn cores_have_answered(&mut self) {
        self.asks -= 1;
        self.begin_asking();
    }

    fn begin_asking(&mut self) {
        while self.asks < ASKS_MAX
            && let Some((ticket, core)) = self.asks_waiting.pop_front()
        {
            let cores = Arc::clone(&self.cores);
            let mailbox = Arc::clone(&self.mailbox);
            let begun = spawn("admin-counted", move || {
                let counted = match core {
                    Some(core) => cores.counted_by(core),
                    None => cores.counted(),
                };
                mailbox.send(Message::Counted(ticket, Box::new(counted)));
            });
            match begun {
                true => self.asks += 1,
                false => self.mailbox.send(Message::Failed(ticket)),
            }
        }
    }

    /// [`Message::Configured`] follows. Who asks while they are being read waits for the next time.
    pub(super) fn read_settings(&mut self, ticket: Ticket) {
        self.readers_waiting.push(ticket);
        self.begin_reading();
    }

    /// The settings were read; returns for whom.
    pub(super) fn settings_are_read(&mut self) -> Vec<Ticket> {
        let done = std::mem::take(&mut self.reading);
        self.begin_reading();
        done
    }

    fn begin_reading(&mut self) {
        if !self.reading.is_empty() || self.readers_waiting.is_empty() {
            return;
        }
        self.reading = std::mem::take(&mut self.readers_waiting);
        let configured = Arc::clone(&self.configured);
        let mailbox = Arc::clone(&self.mailbox);
        if !spawn("admin-names", move || {
            mailbox.send(Message::Configured(configured()));
        }) {
            self.mailbox.send(Message::Configured(None));
        }
    }
}

fn make_list(directory: &Directory, host: Option<IpAddr>, about: usize) -> UserList {
    let snapshot = directory.snapshot();
    let mut list = UserList::new(Arc::clone(&snapshot), host, about);
    if !list.is_vain() {
        directory.each_shard(clock::wall(), &snapshot, |users| list.add(users));
        list.sort();
    }
    list
}

/// Does it on a thread of its own. False: none can be had.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    if let Err(error) = &spawned {
        tracing::error!("cannot start the thread {name}: {error}");
    }
    spawned.is_ok()
}
