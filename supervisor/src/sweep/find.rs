//! Finding, once at boot, every directory and file that workers can write to.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, lstat};
use nix::unistd::{
    AccessFlags, Gid, Uid, access, getegid, geteuid, getgroups, getresgid, getresuid, setgroups,
    setresgid, setresuid,
};

use super::directory::WritableDirectory;
use super::file::WritableFile;
use super::known::{Known, is_directory, is_file};
use super::owned::Owned;
use super::{SweepError, at};

/// File systems in which no file of a tenant's can be.
const NO_FILES: &[&str] = &[
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "securityfs",
    "debugfs",
    "tracefs",
    "pstore",
    "bpf",
    "configfs",
    "fusectl",
    "efivarfs",
];

/// What a search found.
#[derive(Default)]
pub(super) struct Found {
    /// Each behind the directories that it is in.
    pub(super) directories: Vec<WritableDirectory>,
    pub(super) files: Vec<WritableFile>,
}

/// Searches every mount that holds files, for these users, of whom `owner` is one.
pub(super) fn everywhere(owner: (Uid, Gid), users: &Range<u32>) -> Result<Found, SweepError> {
    let mounts = writable_mounts()?;
    below(&mounts, owner, users)
}

/// Searches these directories, each on its own file system; a file stands for itself.
pub(super) fn below(
    roots: &[PathBuf],
    owner: (Uid, Gid),
    users: &Range<u32>,
) -> Result<Found, SweepError> {
    let mut found = Found::default();
    let asked = asking_for(owner, || {
        roots
            .iter()
            .try_for_each(|root| find(root, users, roots, &mut found))
    });
    asked.map_err(|errno| at(Path::new("asking what workers can write to"))(errno.into()))??;
    Ok(found)
}

/// Searches directories for a process of whose own user the workers are.
pub(super) fn below_own(roots: &[PathBuf]) -> Result<Found, SweepError> {
    let mut found = Found::default();
    let mounts = writable_mounts()?;
    let own = only(geteuid());
    for root in roots {
        find(root, &own, &mounts, &mut found)?;
    }
    Ok(found)
}

/// What is this process's user's on any mount that can be written to, but not in these places.
pub(super) fn owned_outside(places: &[PathBuf]) -> Result<Vec<Owned>, SweepError> {
    let own = geteuid().as_raw();
    let mut owned = Vec::new();
    for mount in writable_mounts()? {
        let root = Place::new(mount, false)?;
        let device = root.status.st_dev;
        let mut waiting = vec![root];
        while let Some(place) = waiting.pop() {
            let is_own = place.status.st_uid == own;
            if is_directory(&place.status) {
                if places.contains(&place.path) || place.status.st_dev != device {
                    continue;
                }
                match std::fs::read_dir(&place.path) {
                    Ok(entries) => {
                        for entry in entries {
                            let entry = entry.map_err(at(&place.path))?;
                            waiting.push(Place::new(entry.path(), false)?);
                        }
                    }
                    Err(error) if is_denied(&error) && !is_own && is_closed(&place.path) => {}
                    Err(error) => return Err(at(&place.path)(error)),
                }
            }
            if is_own {
                owned.extend(Owned::remember(place.path, &place.status)?);
            }
        }
    }
    Ok(owned)
}

fn is_denied(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::PermissionDenied
}

/// True if no worker can enter this directory, and so get at what is in it.
fn is_closed(path: &Path) -> bool {
    access(path, AccessFlags::X_OK).is_err()
}

/// The first directory on the way to this one, itself included, that this user cannot enter.
pub(crate) fn closed_on_the_way(worker: (Uid, Gid), to: &Path) -> nix::Result<Option<PathBuf>> {
    let ways: Vec<&Path> = to.ancestors().collect();
    let is_closed = |way: &&&Path| access(**way, AccessFlags::X_OK) == Err(Errno::EACCES);
    asking_for(worker, || {
        let closed = ways.iter().rev().find(is_closed);
        closed.map(|way| way.to_path_buf())
    })
}

/// Calls with the workers' user and group as the real ones of this process, and no other
/// groups: those that access(2) asks for, of all that grants or denies anything, access
/// lists and read-only mounts included. For every other call the effective ones count.
fn asking_for<T>((uid, gid): (Uid, Gid), ask: impl FnOnce() -> T) -> nix::Result<T> {
    let (groups, users, group) = (getgroups()?, getresuid()?, getresgid()?);
    setgroups(&[])?;
    setresgid(gid, getegid(), group.saved)?;
    setresuid(uid, geteuid(), users.saved)?;
    let answer = ask();
    setresuid(users.real, users.effective, users.saved)?;
    setresgid(group.real, group.effective, group.saved)?;
    setgroups(&groups)?;
    Ok(answer)
}

/// Mount points that are writable and hold files (proc_pid_mountinfo(5)).
fn writable_mounts() -> Result<Vec<PathBuf>, SweepError> {
    let list = Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(list).map_err(at(list))?;
    Ok(text.lines().filter_map(writable_mount).collect())
}

fn writable_mount(line: &str) -> Option<PathBuf> {
    let (mount, file_system) = line.split_once(" - ")?;
    let fields: Vec<&str> = mount.split(' ').collect();
    let (point, options) = (fields.get(4)?, fields.get(5)?);
    let mut of_file_system = file_system.split(' ');
    let kind = of_file_system.next()?;
    let super_options = of_file_system.nth(1)?;
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    if read_only(options) || read_only(super_options) || NO_FILES.contains(&kind) {
        return None;
    }
    Some(PathBuf::from(unescape(point)))
}

/// Blanks and backslashes stand as three octal digits.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4);
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text.push_str(rest);
    text
}

/// A place that the search has come to.
struct Place {
    path: PathBuf,
    status: FileStat,
    /// It is in a directory that belongs to the workers' user, who may give itself
    /// whatever right it lacks there.
    is_in_workers_own: bool,
}

impl Place {
    fn new(path: PathBuf, is_in_workers_own: bool) -> Result<Self, SweepError> {
        let status = lstat(&path).map_err(|errno| at(&path)(errno.into()))?;
        Ok(Self {
            path,
            status,
            is_in_workers_own,
        })
    }

    fn is_writable(&self, workers: &Range<u32>) -> bool {
        let (owner, mode) = (self.status.st_uid, AccessFlags::W_OK);
        workers.contains(&owner) || self.is_in_workers_own || access(&self.path, mode).is_ok()
    }
}

/// This user, and no other.
pub(super) fn only(user: Uid) -> Range<u32> {
    user.as_raw()..user.as_raw().saturating_add(1)
}

/// Searches a directory; what is one of these mounts is searched by itself.
fn find(
    root: &Path,
    workers: &Range<u32>,
    mounts: &[PathBuf],
    found: &mut Found,
) -> Result<(), SweepError> {
    let root = Place::new(root.to_owned(), false)?;
    let device = root.status.st_dev;
    let mut waiting = vec![root];
    while let Some(place) = waiting.pop() {
        let is_writable = place.is_writable(workers);
        if !is_directory(&place.status) {
            if is_writable && is_file(&place.status) {
                let file = WritableFile::remember(place.path, &place.status)?;
                found.files.push(file);
            }
            continue;
        }
        let is_workers_own = place.is_in_workers_own || workers.contains(&place.status.st_uid);
        let mut entries = BTreeMap::new();
        let listed = match std::fs::read_dir(&place.path) {
            Err(error) if is_denied(&error) && !is_workers_own && is_closed(&place.path) => {
                continue;
            }
            listed => listed.map_err(at(&place.path))?,
        };
        for entry in listed {
            let entry = entry.map_err(at(&place.path))?;
            let kind = entry.file_type().map_err(at(&place.path))?;
            if !is_writable && !kind.is_dir() && !kind.is_file() {
                continue;
            }
            let below = Place::new(entry.path(), is_workers_own)?;
            // What is mounted there has a life of its own, and what can be written to
            // is looked at by itself.
            let is_another_mount = match is_directory(&below.status) {
                true => below.status.st_dev != device,
                // Layers of an overlay may give files devices of their own.
                false => mounts.contains(&below.path),
            };
            if is_writable {
                let changes = kind.is_dir() || is_another_mount || below.is_writable(workers);
                let known = if changes {
                    Known::changing(&below.status)
                } else {
                    Known::unchanging(&below.status)
                };
                let name = CString::new(entry.file_name().as_bytes());
                entries.insert(name.map_err(|error| at(&below.path)(error.into()))?, known);
            }
            if !is_another_mount {
                waiting.push(below);
            }
        }
        if is_writable {
            let directory =
                WritableDirectory::remember(place.path, &place.status, is_workers_own, entries)?;
            found.directories.push(directory);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_and_kernel_file_systems_are_left_alone() {
        let writable =
            "36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/root rw,errors=continue";
        assert_eq!(writable_mount(writable), Some("/mnt/a b".into()));
        for line in [
            "36 35 98:0 / / ro,noatime - overlay overlay rw",
            "36 35 98:0 / / rw - ext4 /dev/root ro",
            "36 35 98:0 / /proc rw - proc proc rw",
            "nonsense",
        ] {
            assert_eq!(writable_mount(line), None, "{line}");
        }
    }
}
