//! A directory that others on the host use, too: only what workers own and what came
//! after boot is removed from it, and nothing else of it is touched.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::ops::Range;
use std::path::PathBuf;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat};

use super::directory::clear;
use super::remove::{Budget, is_dot, list, remove};
use super::{SweepError, Swept, at};

pub(super) struct SharedDirectory {
    path: PathBuf,
    handle: Dir,
    /// Whose files go.
    workers: Range<u32>,
    /// What was in it at boot.
    entries: BTreeSet<CString>,
}

impl SharedDirectory {
    pub(super) fn remember(path: PathBuf, workers: Range<u32>) -> Result<Self, SweepError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let failed = |errno: nix::Error| at(&path)(errno.into());
        let mut handle = Dir::open(&path, flags, Mode::empty()).map_err(failed)?;
        let entries = handle
            .iter()
            .map(|entry| Ok(entry?.file_name().to_owned()))
            .collect::<nix::Result<_>>()
            .map_err(failed)?;
        Ok(Self {
            path,
            handle,
            workers,
            entries,
        })
    }

    /// Removes what came since boot and is of a user who `goes`.
    pub(super) fn clear(
        &self,
        goes: &impl Fn(u32) -> bool,
        budget: &mut Budget,
    ) -> Result<Swept, SweepError> {
        let was_there = |name: &CStr| self.entries.contains(name);
        clear(&self.handle, was_there, goes, budget).map_err(at(&self.path))
    }

    pub(super) fn put_back(&self, budget: &mut Budget) -> Result<Swept, SweepError> {
        let failed = |errno: nix::Error| at(&self.path)(errno.into());
        let mut swept = Swept::default();
        for entry in list(&self.handle).map_err(failed)?.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if is_dot(name) || self.entries.contains(name) {
                continue;
            }
            match fstatat(&self.handle, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(status) if self.workers.contains(&status.st_uid) => {}
                // Somebody else's, who may have removed it by now.
                Ok(_) | Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(failed(errno)),
            }
            let is_removed = !budget.is_spent()
                && remove(&self.handle, name, entry.file_type(), budget).map_err(at(&self.path))?;
            if !is_removed {
                return Ok(swept);
            }
            swept.removed += 1;
        }
        swept.is_complete = true;
        Ok(swept)
    }
}
