//! Files that a function makes while it is imported. It is imported with the supervisor's
//! rights and called with a worker's: what it made in the usual places becomes the
//! workers', as if one of them had made it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, geteuid};

use super::file::KEPT;
use super::{SweepError, at};

/// What was there before the import.
pub(crate) struct Handover {
    before: Vec<(PathBuf, BTreeSet<OsString>)>,
}

impl Handover {
    /// Looks at these directories, as far as they are there.
    pub(crate) fn prepare(directories: &[&str]) -> Result<Self, SweepError> {
        let directories = directories.iter().map(Path::new);
        let before = directories
            .filter(|directory| directory.is_dir())
            .map(|directory| {
                let names = names(directory).map_err(at(directory))?;
                Ok((directory.to_owned(), names))
            });
        Ok(Self {
            before: before.collect::<Result<_, _>>()?,
        })
    }

    /// Gives what has come since, and is the supervisor's, to the workers.
    pub(crate) fn give(&self, owner: (Uid, Gid)) -> Result<(), SweepError> {
        self.for_each(|path| give(path, owner))
    }

    /// Lets everybody read what has come since, and is the supervisor's.
    pub(crate) fn show(&self) -> Result<(), SweepError> {
        self.for_each(show)
    }

    fn for_each(&self, handle: impl Fn(&Path) -> io::Result<()>) -> Result<(), SweepError> {
        for (directory, before) in &self.before {
            let now = names(directory).map_err(at(directory))?;
            for name in now.difference(before) {
                let path = directory.join(name);
                handle(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }
}

fn names(directory: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

/// Lets everybody read it: what one of several workers wrote to it others would see.
fn show(path: &Path) -> io::Result<()> {
    let status = fs::symlink_metadata(path)?;
    if status.uid() != geteuid().as_raw() || status.is_symlink() {
        return Ok(());
    }
    if status.is_dir() {
        for name in names(path)? {
            show(&path.join(name))?;
        }
    }
    let readable = if status.is_dir() { 0o555 } else { 0o444 };
    let mode = status.mode() & !0o022 | readable;
    fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
}

fn give(path: &Path, (uid, gid): (Uid, Gid)) -> io::Result<()> {
    let status = fs::symlink_metadata(path)?;
    if status.uid() != geteuid().as_raw() {
        return Ok(());
    }
    if status.is_dir() {
        for name in names(path)? {
            give(&path.join(name), (uid, gid))?;
        }
    }
    // One that is larger could not be put back if a call wrote to it: it is theirs to read.
    let is_too_large = status.is_file() && status.len() > KEPT;
    let user = (!is_too_large).then_some(uid.as_raw());
    lchown(path, user, Some(gid.as_raw()))?;
    if is_too_large {
        let mode = status.mode() & !0o022 | 0o040;
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))?;
    }
    Ok(())
}
