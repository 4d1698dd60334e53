//! A directory of the container's own in which workers can make files.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, SFlag, fstatat, lstat};
use nix::unistd::geteuid;

use super::attributes::{self, Extended, Times, extended};
use super::known::{Known, is_file};
use super::listing::{Room, is_dot, list};
use super::remove::{Budget, remove};
use super::{SweepError, Swept, at};

/// Bits of a mode that chmod(2) sets.
const RIGHTS: u32 = 0o7777;

/// Whose entries nobody but their owners, and the directory's, can replace.
const STICKY: u32 = 0o1000;

pub(super) struct WritableDirectory {
    path: PathBuf,
    known: Known,
    times: Times,
    /// None where workers can set none: in a sticky directory only its owner may.
    extended: Option<Extended>,
    /// What was in it at boot.
    entries: BTreeMap<CString, Known>,
    /// It stays open, as directories in it do, so that their numbers stay the same: where an
    /// overlay's layers are of several file systems, a directory that the kernel forgets when
    /// memory is short comes back with another (Documentation/filesystems/overlayfs.rst).
    handle: File,
    _held: Vec<File>,
}

/// Directories in one that are held, at most. One more that gets another number ends the
/// container, as if it had been replaced.
const MOST_HELD: usize = 64;

/// How often a listing may be begun again because something in it changed meanwhile.
const MOST_IN_VAIN: u32 = 64;

/// True of what is said where something was made or removed after it was looked at: a spare
/// that boots imports the command's function, which may make files.
fn is_of_a_change(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
    )
}

/// Opened for nothing but to be there; nothing if it cannot be.
fn hold(path: &Path) -> Option<File> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    // Opened by the standard library, it goes with an exec.
    let mut options = File::options();
    options.read(true).custom_flags(flags.bits());
    options.open(path).ok()
}

impl WritableDirectory {
    pub(super) fn remember(
        path: PathBuf,
        status: &FileStat,
        is_workers_own: bool,
        entries: BTreeMap<CString, Known>,
    ) -> Result<Self, SweepError> {
        let known = Known::changing(status);
        let handle = open(&path).map_err(at(&path))?;
        let has_attributes = is_workers_own || known.mode & STICKY == 0;
        let extended = has_attributes
            .then(|| extended(&handle))
            .transpose()
            .map_err(at(&path))?;
        let is_directory =
            |known: &Known| known.mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        let directories = entries.iter().filter(|(_, known)| is_directory(known));
        let paths = directories.map(|(name, _)| path.join(OsStr::from_bytes(name.to_bytes())));
        Ok(Self {
            times: Times::of(status),
            extended,
            _held: paths
                .take(MOST_HELD)
                .filter_map(|path| hold(&path))
                .collect(),
            handle,
            path,
            known,
            entries,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what was not in it, and gives it its rights and times back; an error if
    /// something is not what it was and cannot be made so.
    pub(super) fn put_back(&self, budget: &mut Budget) -> Result<Swept, SweepError> {
        let path = self.path.as_path();
        let handle = self.look()?;
        if let Some(before) = &self.extended
            && extended(handle).map_err(at(path))? != *before
        {
            // An access list is the group's rights, too.
            attributes::put_back(handle, before)
                .and_then(|()| handle.set_permissions(self.rights()))
                .map_err(at(path))?;
        }
        let mut swept = Swept::default();
        let mut in_vain = 0;
        loop {
            let once = match self.empty(handle, budget) {
                Err(error) if is_of_a_change(&error.cause) && in_vain < MOST_IN_VAIN => {
                    in_vain += 1;
                    continue;
                }
                other => other?,
            };
            swept.removed += once.removed;
            if !once.is_complete {
                return Ok(swept);
            }
            // A listing may pass over entries while others are removed: the last one
            // was of a directory at rest.
            if once.removed == 0 {
                break;
            }
        }
        self.times.put_back(handle).map_err(at(path))?;
        swept.is_complete = true;
        Ok(swept)
    }

    /// Removes what was not in it at boot and is of a user who `goes`; others have files in
    /// it, and keep them.
    pub(super) fn clear(
        &self,
        goes: &impl Fn(u32) -> bool,
        budget: &mut Budget,
    ) -> Result<Swept, SweepError> {
        let handle = self.look()?;
        let was_there = |name: &CStr| self.entries.contains_key(name);
        clear(handle, was_there, goes, budget).map_err(at(&self.path))
    }

    /// The directory, if it is still where it was, with the rights that it had.
    fn look(&self) -> Result<&File, SweepError> {
        let path = self.path.as_path();
        let status = match lstat(path) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(self.differs("was replaced"));
            }
            other => other.map_err(|errno| at(path)(errno.into()))?,
        };
        if !self.known.is_but_for_rights(&status) {
            return Err(self.differs("was replaced"));
        }
        if !self.known.is(&status) {
            (self.handle.set_permissions(self.rights())).map_err(at(path))?;
        }
        Ok(&self.handle)
    }

    fn rights(&self) -> Permissions {
        Permissions::from_mode(self.known.mode & RIGHTS)
    }

    fn empty(&self, handle: &File, budget: &mut Budget) -> Result<Swept, SweepError> {
        let path = self.path.as_path();
        let failed = |errno: nix::Error| at(path)(errno.into());
        let mut swept = Swept::default();
        let mut known = 0;
        let mut room = Room::new();
        let mut entries = list(handle, &mut room).map_err(at(path))?;
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| at(path)(errno.into()))?;
            let name = entry.file_name();
            if is_dot(name) {
                continue;
            }
            let below = || path.join(OsStr::from_bytes(name.to_bytes()));
            if let Some(before) = self.entries.get(name) {
                let now = fstatat(handle, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
                let is_kept = before.is(&now)
                    || before.is_changing() && before.is_but_for_rights(&now)
                    || self.is_written_by_us(before, &now);
                if !is_kept {
                    let cause = io::Error::other("what was there at boot was replaced");
                    return Err(at(&below())(cause));
                }
                known += 1;
                continue;
            }
            if budget.is_spent()
                || !remove(handle, name, entry.file_type(), budget).map_err(at(&below()))?
            {
                return Ok(swept);
            }
            swept.removed += 1;
        }
        if known < self.entries.len() {
            return Err(self.differs("has lost what was in it"));
        }
        swept.is_complete = true;
        Ok(swept)
    }

    /// True of a file of the supervisor's own user that no worker can have written or
    /// replaced, since its directory is sticky and not a worker's: a function that is
    /// imported once more wrote it again.
    fn is_written_by_us(&self, before: &Known, now: &FileStat) -> bool {
        const WRITABLE_BY_OTHERS: u32 = 0o022;
        let own = geteuid().as_raw();
        let is_closed = !before.is_changing() && self.extended.is_none();
        is_closed
            && is_file(now)
            && before.owner.0 == own
            && now.st_uid == own
            && now.st_nlink == 1
            && now.st_mode & WRITABLE_BY_OTHERS == 0
    }

    fn differs(&self, what: &str) -> SweepError {
        at(&self.path)(io::Error::other(format!(
            "a directory that was there at boot {what}"
        )))
    }
}

/// Removes what was not there at boot and is of a user who `goes`, while others make and
/// remove files in the same directory.
pub(super) fn clear(
    handle: &File,
    was_there: impl Fn(&CStr) -> bool,
    goes: &impl Fn(u32) -> bool,
    budget: &mut Budget,
) -> io::Result<Swept> {
    let mut swept = Swept::default();
    loop {
        let mut removed = 0;
        let mut room = Room::new();
        let mut entries = list(handle, &mut room)?;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if is_dot(name) || was_there(name) {
                continue;
            }
            match fstatat(handle, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(status) if goes(status.st_uid) => {}
                // Somebody else's, who may have removed it by now.
                Ok(_) | Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if budget.is_spent() || !remove(handle, name, entry.file_type(), budget)? {
                return Ok(swept);
            }
            removed += 1;
        }
        swept.removed += removed;
        // A listing may pass over entries while others are removed, whoever does it: the
        // last one found nothing. Nobody is left to make any more of this user's.
        if removed == 0 {
            break;
        }
    }
    swept.is_complete = true;
    Ok(swept)
}

/// A directory that is no link to one.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}
