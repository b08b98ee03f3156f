//! The file is read before anybody is served; a disk that hangs must not prevent that.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam::channel::bounded;
use nix::unistd::geteuid;
use thiserror::Error;

use crate::core::state::{Decoder, Fault, Saved};

/// How long the start waits for the disk.
pub const LIMIT: Duration = Duration::from_secs(5);

const PIECE: usize = 256 * 1024;

/// Why there is no state.
#[derive(Debug, Error)]
pub enum Unread {
    /// Nothing is there: a first start.
    #[error("there is none yet")]
    Missing,
    /// The file cannot be opened or read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    /// A directory, a device, a link.
    #[error("it is no plain file")]
    NoFile,
    /// Somebody else could have written it.
    #[error("it belongs to user {0}: chown it to the user of the director, or remove it")]
    Foreign(u32),
    /// Likewise.
    #[error("others may write to it (mode {0:o}): chmod 600")]
    Open(u32),
    /// What is in it.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The disk hangs.
    #[error("it could not be read within {} s", LIMIT.as_secs())]
    TooSlow,
}

/// Reads the file, on a thread of its own: waits for [`LIMIT`] at most.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn at_start(path: &Path, max_users: u64) -> Result<Saved, Unread> {
    let (sender, receiver) = bounded(1);
    let path: PathBuf = path.to_owned();
    std::thread::Builder::new()
        .name("state".to_owned())
        .spawn(move || {
            // Nobody may wait any more.
            let _ = sender.send(open(&path).and_then(|file| {
                ours(&file)?;
                decode(file, max_users)
            }));
        })
        .map_err(Unread::Io)?;
    receiver.recv_timeout(LIMIT).unwrap_or(Err(Unread::TooSlow))
}

/// Reads the file, however long that takes and whoever may have written it: to be shown.
///
/// # Errors
/// As [`at_start`].
pub fn read(path: &Path) -> Result<Saved, Unread> {
    decode(open(path)?, u64::MAX)
}

fn decode(mut file: File, max_users: u64) -> Result<Saved, Unread> {
    let mut decoder = Decoder::new(max_users);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(decoder.finish()?),
            Ok(count) => decoder.feed(&piece[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unread::Io(error)),
        }
    }
}

fn open(path: &Path) -> Result<File, Unread> {
    // A FIFO without a writer would be waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT) => Unread::Missing,
        Some(libc::ELOOP) => Unread::NoFile,
        _ => Unread::Io(error),
    })?;
    let meta = file.metadata().map_err(Unread::Io)?;
    if !meta.is_file() {
        return Err(Unread::NoFile);
    }
    Ok(file)
}

/// Nobody but us, or root, can have written it.
fn ours(file: &File) -> Result<(), Unread> {
    let meta = file.metadata().map_err(Unread::Io)?;
    let owner = meta.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        return Err(Unread::Foreign(owner));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(Unread::Open(meta.mode() & 0o7777));
    }
    Ok(())
}
