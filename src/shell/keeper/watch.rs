//! Notices that something was made or removed near a listener.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::settings::Place;
use crate::shell::sockets::path_of;

/// Directories of a listener that are watched, from its own upwards: that of the socket, which
/// may be wiped, and the two above, in which Dovecot may make or wipe it.
const LEVELS: usize = 3;

/// Bound on reading a queue that somebody keeps filling.
const DRAIN_LIMIT: usize = 64;

pub(super) struct Watch(Inotify);

impl Watch {
    pub(super) fn new() -> Result<Self, Errno> {
        Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map(Self)
    }

    /// Watches the directories of `places` as far as they exist. Repeating it costs little: the
    /// kernel knows a directory by its inode and changes the watch that it has.
    pub(super) fn cover<'a>(&mut self, places: impl Iterator<Item = &'a Place>) {
        let mut directories: BTreeSet<PathBuf> = BTreeSet::new();
        for path in places.filter_map(path_of) {
            let above = path.ancestors().skip(1).take(LEVELS);
            // The root is never wiped, and everything else on the machine happens below it.
            let above = above.filter(|path| *path != Path::new("/") && *path != Path::new(""));
            directories.extend(above.map(Path::to_path_buf));
        }
        let mask = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        for directory in &directories {
            // Not there yet, or out of watches: the one above, or the slow poll, will do.
            let _ = self.0.add_watch(directory, mask);
        }
    }

    /// Forgets what was reported: the caller looks at everything anyway.
    pub(super) fn drain(&self) {
        for _ in 0..DRAIN_LIMIT {
            if self.0.read_events().is_err() {
                return;
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
