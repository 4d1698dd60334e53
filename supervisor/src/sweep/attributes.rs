//! What else an inode carries: times, and extended attributes, access lists among them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::geteuid;
use xattr::FileExt;

/// When it was read and written last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    read: TimeSpec,
    written: TimeSpec,
}

impl Times {
    pub(super) fn of(status: &FileStat) -> Self {
        Self {
            read: TimeSpec::new(status.st_atime, status.st_atime_nsec),
            written: TimeSpec::new(status.st_mtime, status.st_mtime_nsec),
        }
    }

    /// Sets them again. The time of the inode's last change is then this moment's,
    /// which says nothing of a tenant. Without a capability only its owner can, and what
    /// is another's stays as it is.
    pub(super) fn put_back(&self, on: &File) -> io::Result<()> {
        match futimens(on, &self.read, &self.written) {
            Err(Errno::EPERM) if fstat(on)?.st_uid != geteuid().as_raw() => Ok(()),
            set => Ok(set?),
        }
    }
}

/// Its extended attributes.
pub(super) type Extended = BTreeMap<OsString, Option<Vec<u8>>>;

/// Sets and removes what differs.
pub(super) fn put_back(file: &File, before: &Extended) -> io::Result<()> {
    let now = extended(file)?;
    for name in now.keys().filter(|name| !before.contains_key(*name)) {
        file.remove_xattr(name)?;
    }
    for (name, value) in before {
        if let (Some(value), true) = (value, now.get(name) != before.get(name)) {
            file.set_xattr(name, value)?;
        }
    }
    Ok(())
}

/// Lists them; none where the file system has none.
pub(super) fn extended(file: &File) -> io::Result<Extended> {
    let names = match file.list_xattr() {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Extended::new()),
        Err(error) => return Err(error),
    };
    names
        .map(|name| {
            let value = file.get_xattr(&name)?;
            Ok((name, value))
        })
        .collect()
}
