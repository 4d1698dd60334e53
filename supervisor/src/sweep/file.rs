//! A file of the container's own that workers can write to.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, fstat, lstat};

use super::attributes::{self, Extended, Times, extended};
use super::known::{Known, changed};
use super::{SweepError, at};

/// Bytes of a file that are kept to be written again. What a container gets as a
/// single file (Kubernetes' `/dev/termination-log`) is smaller.
pub(super) const KEPT: u64 = 64 * 1024;

/// Bits of a mode that chmod(2) sets, and those that its owner needs.
const RIGHTS: u32 = 0o7777;
const OWNERS: u32 = 0o600;

pub(super) struct WritableFile {
    path: PathBuf,
    known: Known,
    changed: (i64, i64),
    times: Times,
    extended: Extended,
    /// None if they are too many.
    contents: Option<Vec<u8>>,
}

impl WritableFile {
    pub(super) fn remember(path: PathBuf, status: &FileStat) -> Result<Self, SweepError> {
        let mut file = open(&path, false).map_err(at(&path))?;
        let extended = extended(&file).map_err(at(&path))?;
        let mut contents = Vec::new();
        let read = (&mut file).take(KEPT + 1).read_to_end(&mut contents);
        let is_whole = read.map_err(at(&path))? as u64 <= KEPT;
        let file = Self {
            known: Known::changing(status),
            changed: changed(status),
            times: Times::of(status),
            extended,
            contents: is_whole.then_some(contents),
            path,
        };
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it again if it was changed and can be; an error if it cannot.
    pub(super) fn put_back(&mut self) -> Result<(), SweepError> {
        let path = self.path.as_path();
        let now = lstat(path).map_err(|errno| at(path)(errno.into()))?;
        if changed(&now) == self.changed && self.known.is(&now) {
            return Ok(());
        }
        let differs = |what: &str| {
            at(path)(io::Error::other(format!(
                "a file that was there at boot {what}"
            )))
        };
        let is_same = self.known.is_but_for_rights(&now);
        let Some(contents) = self.contents.as_ref().filter(|_| is_same) else {
            return Err(differs("was changed"));
        };
        let rights = |more| Permissions::from_mode(self.known.mode & RIGHTS | more);
        let mut file = match open(path, true) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                // No capability opens it for us: its owner's rights do.
                let opened = fs::set_permissions(path, rights(OWNERS));
                opened.and_then(|()| open(path, true))
            }
            opened => opened,
        }
        .map_err(at(path))?;
        let opened = fstat(&file).map_err(|errno| at(path)(errno.into()))?;
        if !self.known.is_but_for_rights(&opened) {
            return Err(differs("was replaced"));
        }
        // What was allocated behind its end goes, too.
        file.set_len(0)
            .and_then(|()| file.write_all(contents))
            .and_then(|()| attributes::put_back(&file, &self.extended))
            .and_then(|()| match self.known.is(&opened) {
                true => Ok(()),
                false => file.set_permissions(rights(0)),
            })
            .and_then(|()| self.times.put_back(&file))
            .map_err(at(path))?;
        let now = fstat(&file).map_err(|errno| at(path)(errno.into()))?;
        self.changed = changed(&now);
        Ok(())
    }
}

fn open(path: &Path, to_write: bool) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    File::options()
        .read(true)
        .write(to_write)
        .custom_flags(flags.bits())
        .open(path)
}
