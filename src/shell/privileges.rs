//! Becoming an unprivileged user, for good.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getresgid, getresuid, initgroups, setgroups,
    setresgid, setresuid,
};

/// Why privileges could not be dropped; the process must not go on.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// `user` of the settings.
    #[error("there is no user \"{0}\": create it (useradd --system {0}) or correct `user`")]
    NoUser(String),
    /// `group` of the settings.
    #[error("there is no group \"{0}\": create it (groupadd --system {0}) or correct `group`")]
    NoGroup(String),
    /// Not root, and somebody else is asked for.
    #[error(
        "cannot become {0}: start as root, or as that user, or remove `user` from the settings"
    )]
    NotRoot(String),
    /// `user = root`.
    #[error("running as root is not supported: name an unprivileged `user` in the settings")]
    Root,
    /// The kernel refused.
    #[error("cannot {0}: {1}: under systemd or in a container allow CAP_SETUID and CAP_SETGID")]
    Refused(&'static str, Errno),
    /// A bug or a broken sandbox: the process could become root again.
    #[error("privileges came back after they were dropped; not going on")]
    CameBack,
}

/// Becomes `user`, with the supplementary groups that the system gives it and `group` (default:
/// the user's own) as its group. Names or numbers. Without being root it only checks that nothing
/// has to change. Call it while the process has one thread and after the last privileged act.
///
/// # Errors
/// One sentence with the fix.
pub fn drop(user: &str, group: Option<&str>) -> Result<(), PrivilegeError> {
    let account = match user.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(user),
    };
    let account = account
        .ok()
        .flatten()
        .ok_or_else(|| PrivilegeError::NoUser(user.to_owned()))?;
    let gid = match group {
        None => account.gid,
        Some(name) => {
            let found = match name.parse() {
                Ok(number) => Group::from_gid(Gid::from_raw(number)),
                Err(_) => Group::from_name(name),
            };
            let found = found.ok().flatten();
            found
                .ok_or_else(|| PrivilegeError::NoGroup(name.to_owned()))?
                .gid
        }
    };
    if !geteuid().is_root() {
        let same = geteuid() == account.uid && (group.is_none() || getegid() == gid);
        return if same {
            Ok(())
        } else {
            Err(PrivilegeError::NotRoot(user.to_owned()))
        };
    }
    let name = CString::new(account.name.clone())
        .map_err(|_| PrivilegeError::NoUser(account.name.clone()))?;
    become_ids(account.uid, gid, || initgroups(&name, gid))
}

/// As [`drop`], by number and with exactly `extra` as supplementary groups: for a parent that has
/// looked everything up already.
///
/// # Errors
/// One sentence with the fix.
pub fn drop_ids(uid: u32, gid: u32, extra: &[u32]) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if !geteuid().is_root() {
        return match (geteuid() == uid, getegid() == gid) {
            (true, true) => Ok(()),
            _ => Err(PrivilegeError::NotRoot(format!("user {uid}, group {gid}"))),
        };
    }
    let mut groups = vec![gid];
    groups.extend(
        extra
            .iter()
            .map(|&id| Gid::from_raw(id))
            .filter(|&id| id != gid),
    );
    become_ids(uid, gid, || setgroups(&groups))
}

fn become_ids(
    uid: Uid,
    gid: Gid,
    set_groups: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), PrivilegeError> {
    if uid.is_root() {
        return Err(PrivilegeError::Root);
    }
    // Groups first: without root neither of the two could be changed any more.
    set_groups().map_err(|errno| PrivilegeError::Refused("set the groups", errno))?;
    setresgid(gid, gid, gid).map_err(|errno| PrivilegeError::Refused("set the group", errno))?;
    setresuid(uid, uid, uid).map_err(|errno| PrivilegeError::Refused("set the user", errno))?;
    let users = getresuid().map_err(|errno| PrivilegeError::Refused("read the user", errno))?;
    let groups = getresgid().map_err(|errno| PrivilegeError::Refused("read the group", errno))?;
    let all_set = [users.real, users.effective, users.saved] == [uid; 3]
        && [groups.real, groups.effective, groups.saved] == [gid; 3];
    // The saved ids are gone and so are the capabilities; the attempt is the proof.
    if !all_set || setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return Err(PrivilegeError::CameBack);
    }
    Ok(())
}

/// Whether this process is root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_refused_before_anything_changes() {
        let error = drop("no-such-user-here", None).unwrap_err();
        assert!(error.to_string().contains("useradd"), "{error}");
        let error = drop("nobody", Some("no-such-group-here")).unwrap_err();
        assert!(error.to_string().contains("groupadd"), "{error}");
    }

    #[test]
    fn root_is_refused_when_root() {
        if geteuid().is_root() {
            assert!(matches!(drop("root", None), Err(PrivilegeError::Root)));
        } else {
            assert!(matches!(
                drop("root", None),
                Err(PrivilegeError::NotRoot(_))
            ));
        }
    }
}
