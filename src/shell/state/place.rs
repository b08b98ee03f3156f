//! The directory of the file. The process that writes it is not root, and a directory below /var/lib is
//! root's to make.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::{Gid, Uid, fchown};

/// What is wrong with the place of the file, as far as can be seen from here; `None`: nothing.
pub fn look(path: &Path) -> Option<String> {
    let parent = path.parent()?;
    match (std::fs::metadata(parent), std::fs::symlink_metadata(path)) {
        (Ok(meta), _) if !meta.is_dir() => Some(format!("{} is no directory", parent.display())),
        (_, Ok(meta)) if !meta.is_file() => Some(format!("{} is no plain file", path.display())),
        (Err(_), _) if parent.parent().is_some_and(|above| !above.is_dir()) => {
            Some(format!("{} is not there", parent.display()))
        }
        _ => None,
    }
}

/// Makes the directory of the file where it is missing, and gives it to `user` where it was made for the
/// service (`STATE_DIRECTORY` in dist/homing.service). For root, before the
/// process becomes that user; does nothing for others.
///
/// # Errors
/// What could not be done. The file will probably not be written.
pub fn prepare(path: &Path, ids: Option<(Uid, Gid)>) -> io::Result<()> {
    let (Some(parent), Some((uid, gid))) = (path.parent(), ids) else {
        return Ok(());
    };
    let made = match DirBuilder::new().mode(0o700).create(parent) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    if !made && !is_the_services(parent) {
        return Ok(());
    }
    give(parent, libc::O_DIRECTORY, (uid, gid))?;
    match give(path, 0, (uid, gid)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn is_the_services(directory: &Path) -> bool {
    std::env::var_os("STATE_DIRECTORY").is_some_and(|own| Path::new(&own) == directory)
}

fn give(path: &Path, flags: i32, (uid, gid): (Uid, Gid)) -> io::Result<()> {
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let meta = file.metadata()?;
    // What is linked to from elsewhere may be somebody else's.
    if meta.is_file() && meta.nlink() > 1 {
        return Err(io::Error::other("the file has other names"));
    }
    if meta.uid() != uid.as_raw() || meta.gid() != gid.as_raw() {
        fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(())
}
