//! The running director: the shared user table and the serving cores.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use glommio::{ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement};

use super::cores::{Cores, Message};
use super::directory::{Directory, Tunables};
use super::io::UnixAddress;
use super::relay::conn::{Greeting, Role};
use super::relay::{Relay, Setup};
use super::serve::serve;
use crate::core::lookup::Socket;
use crate::core::snapshot::Snapshot;
use crate::settings::{ListenerKind, Settings};

/// Why the cores could not be started; the environment is at fault.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A descriptor or thread could not be made.
    #[error("cannot start the serving cores: {0}")]
    Io(#[from] io::Error),
    /// glommio refused.
    #[error("cannot start an executor: {0}")]
    Executor(String),
    /// Newer kernels count its rings as locked memory of the user.
    #[error(
        "no locked memory is left for an executor, which takes some 200 KiB; there is one for each \
         of cores and two more: raise LimitMEMLOCK= in the systemd unit, --ulimit memlock= in Docker \
         or ulimit -l, or set cores lower"
    )]
    LockedMemory,
    /// It was to take over from a process that goes on.
    #[error("the director that was to be taken over goes on itself: {0}")]
    NotWanted(String),
    /// A socket path is too long.
    #[error("{setting} is longer than the 107 bytes that a unix socket's path may have")]
    PathTooLong {
        /// Which setting.
        setting: &'static str,
    },
}

impl From<GlommioError<()>> for StartError {
    fn from(error: GlommioError<()>) -> Self {
        match &error {
            GlommioError::IoError(cause) if cause.raw_os_error() == Some(libc::ENOMEM) => {
                StartError::LockedMemory
            }
            _ => StartError::Executor(error.to_string()),
        }
    }
}

/// The serving cores and what they share.
pub struct Tier {
    cores: Arc<Cores>,
    directory: Arc<Directory>,
    executors: Mutex<Vec<ExecutorJoinHandle<io::Result<()>>>>,
}

impl Tier {
    /// Starts one executor per CPU of `cpus`, or `settings.cores` of them. Nothing is listened on
    /// yet. `seed` should be random.
    pub fn start(
        settings: &Settings,
        snapshot: Arc<Snapshot>,
        cpus: &[usize],
        seed: u64,
    ) -> Result<Tier, StartError> {
        let directory = Directory::new(snapshot, tunables(settings)?, seed as u32)?;
        let directory = Arc::new(directory);
        let count = settings.cores.unwrap_or(cpus.len()).max(1);
        let cores = Arc::new(Cores::new(count, settings.client_limit as usize)?);
        let mut tier = Tier {
            cores,
            directory,
            executors: Mutex::default(),
        };
        for core in 0..count {
            let setup = Setup {
                directory: Arc::clone(&tier.directory),
                waits: tier.cores.waits_of(core),
                seed: seed.rotate_left(core as u32 % 64) ^ core as u64,
            };
            tier.start_core(core, setup, cpus[core % cpus.len()])?;
        }
        Ok(tier)
    }

    fn start_core(&mut self, core: usize, setup: Setup, cpu: usize) -> Result<(), StartError> {
        let cores = Arc::clone(&self.cores);
        let relay = Relay::new(setup)?;
        // No registered buffers: they are for files, and are charged to the locked memory.
        let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name(&format!("serve-{core}"))
            .io_memory(0)
            .spawn(move || serve(core, cores, relay))?;
        self.executors.lock().push(executor);
        Ok(())
    }

    /// What the cores share.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The cores' mailboxes.
    pub fn cores(&self) -> &Arc<Cores> {
        &self.cores
    }

    /// Makes all cores accept from a listener; a FIFO is read by the first one. Returns what
    /// [`Tier::unlisten`] needs.
    pub fn listen(&self, fd: OwnedFd, kind: ListenerKind, is_fifo: bool) -> Option<Arc<OwnedFd>> {
        let role = role(kind)?;
        if is_fifo {
            self.cores.send(0, Message::Adopt(fd, role));
            return None;
        }
        let fd = Arc::new(fd);
        for core in 0..self.cores.count() {
            self.cores
                .send(core, Message::Listen(Arc::clone(&fd), role));
        }
        Some(fd)
    }

    /// Makes all cores stop accepting from a listener; its connections live on.
    pub fn unlisten(&self, fd: &Arc<OwnedFd>) {
        for core in 0..self.cores.count() {
            self.cores.send(core, Message::Unlisten(Arc::clone(fd)));
        }
    }

    /// Ends all cores and waits for them.
    pub fn stop(&self) {
        for core in 0..self.cores.count() {
            self.cores.send(core, Message::Stop);
        }
        for executor in std::mem::take(&mut *self.executors.lock()) {
            match executor.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("a serving core ended with an error: {error}"),
                Err(error) => tracing::error!("a serving core ended with an error: {error}"),
            }
        }
    }
}

/// The settings that a reload changes at once.
///
/// # Errors
/// A path that is too long.
pub fn tunables(settings: &Settings) -> Result<Tunables, StartError> {
    let address =
        |path: &Path, setting| UnixAddress::new(path).ok_or(StartError::PathTooLong { setting });
    Ok(Tunables {
        users: settings.user_table_limit,
        new_per_second: settings.new_user_rate,
        auth_login: address(&settings.auth_login_path, "auth_login_path")?,
        auth_userdb: address(&settings.auth_userdb_path, "auth_userdb_path")?,
        lookup_timeout: crate::shell::clock::nanos(settings.lookup_timeout),
        batch_delay: u64::from(settings.lookup_batch_delay) * 1000,
    })
}

/// What a serving core does with connections of a listener; `None`: not its business.
fn role(kind: ListenerKind) -> Option<Role> {
    match kind {
        ListenerKind::Login => Some(Role::Relay(Socket::Login)),
        ListenerKind::Userdb => Some(Role::Relay(Socket::Userdb)),
        ListenerKind::Authreply => Some(Role::Authreply(Greeting::Awaited)),
        ListenerKind::Notify => Some(Role::Notify),
        ListenerKind::Ring | ListenerKind::Admin | ListenerKind::Health | ListenerKind::Http => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_without_memory_says_what_to_raise() {
        let refused = |errno| GlommioError::<()>::IoError(io::Error::from_raw_os_error(errno));
        let says = |errno| StartError::from(refused(errno)).to_string();
        assert!(says(libc::ENOMEM).contains("LimitMEMLOCK"));
        assert!(!says(libc::EPERM).contains("LimitMEMLOCK"));
    }
}
