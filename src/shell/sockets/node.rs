//! A socket or FIFO as a file: its identity, owner and mode.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Gid, Group, Uid, User, fchownat};

use super::BindError;

/// A handle on a file that is not opened for I/O. While it lives the inode number stays taken.
#[derive(Debug)]
pub(super) struct Node {
    handle: OwnedFd,
    device: u64,
    inode: u64,
}

impl Node {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = open(path, flags, Mode::empty())?;
        let stat = fstat(&handle)?;
        Ok(Self {
            handle,
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// Whether `path` leads to this file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        fs::symlink_metadata(path)
            .is_ok_and(|meta| meta.dev() == self.device && meta.ino() == self.inode)
    }

    /// The handle's name in /proc: acts on this very file, whatever the path leads to by now.
    fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd())
    }

    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(self.proc_path(), fs::Permissions::from_mode(mode))
    }

    pub(super) fn set_owner(&self, user: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
        let path = self.proc_path();
        Ok(fchownat(
            AT_FDCWD,
            path.as_str(),
            user,
            group,
            AtFlags::empty(),
        )?)
    }
}

/// A user by name or number.
pub(super) fn user_id(name: &str, path: &Path) -> Result<Uid, BindError> {
    if let Ok(number) = name.parse() {
        return Ok(Uid::from_raw(number));
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid),
        _ => Err(BindError::unknown_name("user", name, path)),
    }
}

/// A group by name or number.
pub(super) fn group_id(name: &str, path: &Path) -> Result<Gid, BindError> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        _ => Err(BindError::unknown_name("group", name, path)),
    }
}
