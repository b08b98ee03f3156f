//! A whole file in the place of the one before, which stays as it is if anything fails.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::core::snapshot::{BackendView, Snapshot};
use crate::core::state::{Encoder, Head, Placed, SavedBackend, SavedUser};
use crate::core::users::Entry;
use crate::core::{BackendSlot, TagId, Wall};
use crate::shell::directory::Directory;
use crate::wire::health::MarkLine;

/// Bytes gathered before a write.
const PIECE: usize = 256 * 1024;

/// Writes what the directory holds to `path`. Returns how many users that were. No lock is held but for a
/// copy of a thousandth of the users, and no more than such a copy is held besides them.
///
/// # Errors
/// `path` is then what it was.
pub(super) fn write(
    path: &Path,
    head: &Head,
    directory: &Directory,
    marks: &[MarkLine],
) -> io::Result<u64> {
    let beside = beside(path);
    let done = write_beside(&beside, head, directory, marks).and_then(|users| {
        std::fs::rename(&beside, path)?;
        sync_directory(path)?;
        Ok(users)
    });
    if done.is_err() {
        // It may never have been there.
        let _ = std::fs::remove_file(&beside);
    }
    done
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn write_beside(
    beside: &Path,
    head: &Head,
    directory: &Directory,
    marks: &[MarkLine],
) -> io::Result<u64> {
    // Of a process that was killed meanwhile.
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(beside)?;
    let users = write_to(&mut file, head, directory, marks)?;
    file.sync_all()?;
    Ok(users)
}

/// Without it a power cut could undo the rename.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Writes what the directory holds, and nothing more. Returns how many users that were.
///
/// # Errors
/// Those of `file`.
pub fn write_to(
    file: &mut impl Write,
    head: &Head,
    directory: &Directory,
    marks: &[MarkLine],
) -> io::Result<u64> {
    let snapshot = directory.snapshot();
    let mut out = Vec::new();
    let mut encoder = Encoder::begin(head, &mut out);
    let (backends, places) = backends(&snapshot, marks);
    encoder.backends(&backends, &mut out);
    let mut placed = Vec::new();
    let mut failed = None;
    directory.each_shard(head.created, &snapshot, |entries| {
        if failed.is_some() {
            return;
        }
        placed.clear();
        // Backends may have gone since, and their slots been given to others.
        let now = directory.snapshot();
        placed.extend(entries.iter().filter_map(|entry| {
            let same = ip_at(&now, entry.backend()) == ip_at(&snapshot, entry.backend());
            same.then(|| place(entry, &places)).flatten()
        }));
        encoder.users(&mut placed, &mut out);
        if out.len() >= PIECE {
            failed = file.write_all(&out).err();
            out.clear();
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let users = encoder.user_count();
    encoder.end(&mut out);
    file.write_all(&out)?;
    Ok(users)
}

fn ip_at(snapshot: &Snapshot, slot: BackendSlot) -> Option<std::net::IpAddr> {
    snapshot.backend(slot).map(|backend| backend.ip)
}

fn place(entry: &Entry, places: &[Option<u16>]) -> Option<Placed> {
    let backend = *places.get(usize::from(entry.backend().0))?;
    Some(Placed {
        backend: backend?,
        user: SavedUser::new(entry.key().hash, entry.stamp()),
    })
}

/// All backends, and for each slot the place among them.
fn backends(snapshot: &Snapshot, marks: &[MarkLine]) -> (Vec<SavedBackend>, Vec<Option<u16>>) {
    let tags: HashMap<TagId, &[u8]> = snapshot
        .tags
        .iter()
        .map(|(name, &tag)| (tag, &**name))
        .collect();
    let mut backends = Vec::new();
    let mut places = Vec::new();
    for view in snapshot.backends.iter() {
        places.push(match view {
            Some(view) => {
                let tag = tags.get(&view.shown.tag).copied().unwrap_or_default();
                let mark = marks.iter().find(|line| line.ip == view.ip);
                backends.push(saved(view, tag, mark.copied()));
                u16::try_from(backends.len() - 1).ok()
            }
            None => None,
        });
    }
    (backends, places)
}

fn saved(view: &BackendView, tag: &[u8], mark: Option<MarkLine>) -> SavedBackend {
    let shown = &view.shown;
    SavedBackend {
        ip: view.ip,
        name: view.name.as_deref().map(str::to_owned),
        tag: tag.to_owned(),
        vhosts: shown.vhosts,
        down: shown.down,
        mark,
        last_updown_change: shown.last_updown_change,
    }
}

/// What a state made now begins with.
pub(super) fn head_of(head: &Head, created: Wall) -> Head {
    Head {
        created,
        ..head.clone()
    }
}
