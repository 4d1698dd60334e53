//! A file or directory of the supervisor's own user, which is the workers', too, in a place
//! where they can make and write none: its rights, times and attributes they can change.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag, fstat, lstat};

use super::attributes::{self, Extended, Times, extended};
use super::known::{Known, changed};
use super::{SweepError, at};

/// Bits of a mode that chmod(2) sets.
const RIGHTS: u32 = 0o7777;

pub(super) struct Owned {
    path: PathBuf,
    known: Known,
    changed: (i64, i64),
    times: Times,
    extended: Extended,
}

impl Owned {
    /// Nothing if it is of a kind of which nothing can be changed that is seen.
    pub(super) fn remember(path: PathBuf, status: &FileStat) -> Result<Option<Self>, SweepError> {
        let kind = status.st_mode & SFlag::S_IFMT.bits();
        if kind != SFlag::S_IFREG.bits() && kind != SFlag::S_IFDIR.bits() {
            return Ok(None);
        }
        let extended = match open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unopened(&path),
            opened => opened.and_then(|file| extended(&file)),
        };
        let extended = extended.map_err(at(&path))?;
        Ok(Some(Self {
            known: Known::changing(status),
            changed: changed(status),
            times: Times::of(status),
            extended,
            path,
        }))
    }

    pub(super) fn put_back(&mut self) -> Result<(), SweepError> {
        let path = self.path.as_path();
        let now = lstat(path).map_err(|errno| at(path)(errno.into()))?;
        if changed(&now) == self.changed {
            return Ok(());
        }
        if !self.known.is_but_for_rights(&now) {
            let cause = io::Error::other("what was there at boot was replaced");
            return Err(at(path)(cause));
        }
        self.changed = self.mend(path).map_err(at(path))?;
        Ok(())
    }

    /// Sets all of it again; when that was.
    fn mend(&self, path: &Path) -> io::Result<(i64, i64)> {
        let rights = Permissions::from_mode(self.known.mode & RIGHTS);
        // First: without them it may not even be opened.
        std::fs::set_permissions(
            path,
            Permissions::from_mode(self.known.mode & RIGHTS | 0o600),
        )?;
        let file = open(path)?;
        attributes::put_back(&file, &self.extended)?;
        file.set_permissions(rights)?;
        self.times.put_back(&file)?;
        Ok(changed(&fstat(&file)?))
    }
}

/// The attributes of what its own user may not read.
fn unopened(path: &Path) -> io::Result<Extended> {
    xattr::list(path)?
        .map(|name| Ok((name.clone(), xattr::get(path, name)?)))
        .collect()
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}
