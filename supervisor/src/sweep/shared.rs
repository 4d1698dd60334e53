//! A directory that others on the host use, too: only what workers own and what came
//! after boot is removed from it, and nothing else of it is touched.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use super::directory::{clear, open};
use super::listing::{Room, is_dot, list};
use super::remove::{Budget, remove};
use super::{SweepError, Swept, at};

pub(super) struct SharedDirectory {
    path: PathBuf,
    handle: File,
    /// Whose files go.
    workers: Range<u32>,
    /// What was in it at boot.
    entries: BTreeSet<CString>,
}

impl SharedDirectory {
    pub(super) fn remember(path: PathBuf, workers: Range<u32>) -> Result<Self, SweepError> {
        let handle = open(&path).map_err(at(&path))?;
        let entries = names(&handle).map_err(at(&path))?;
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
        let mut room = Room::new();
        let mut entries = list(&self.handle, &mut room).map_err(at(&self.path))?;
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| at(&self.path)(errno.into()))?;
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

fn names(directory: &File) -> io::Result<BTreeSet<CString>> {
    let mut names = BTreeSet::new();
    let mut room = Room::new();
    let mut entries = list(directory, &mut room)?;
    while let Some(entry) = entries.next() {
        names.insert(entry?.file_name().to_owned());
    }
    Ok(names)
}
