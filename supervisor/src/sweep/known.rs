//! What an entry was at boot, so that another under its name is told from it.

use nix::sys::stat::{FileStat, SFlag};

/// An inode, as far as it can be told from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    device: u64,
    inode: u64,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    /// Of its last change: no unprivileged process can set it back. None where the
    /// container's own life changes it.
    changed: Option<(i64, i64)>,
}

impl Known {
    /// An inode that nothing in the container is to change.
    pub(super) fn unchanging(status: &FileStat) -> Self {
        Self {
            changed: Some(changed(status)),
            ..Self::changing(status)
        }
    }

    /// A directory, or a file that is looked at by itself.
    pub(super) fn changing(status: &FileStat) -> Self {
        Self {
            device: status.st_dev,
            inode: status.st_ino,
            mode: status.st_mode,
            owner: (status.st_uid, status.st_gid),
            changed: None,
        }
    }

    /// True if the container's own life, or a tenant's, may change it.
    pub(super) fn is_changing(&self) -> bool {
        self.changed.is_none()
    }

    /// True if that is what is there now.
    pub(super) fn is(&self, status: &FileStat) -> bool {
        let now = match self.changed {
            Some(_) => Self::unchanging(status),
            None => Self::changing(status),
        };
        now == *self
    }

    /// As [`is`](Self::is), whatever its rights are by now.
    pub(super) fn is_but_for_rights(&self, status: &FileStat) -> bool {
        let rights = !SFlag::S_IFMT.bits();
        let mut with_rights = *status;
        with_rights.st_mode = status.st_mode & !rights | self.mode & rights;
        self.is(&with_rights)
    }
}

/// When the inode changed last.
pub(super) fn changed(status: &FileStat) -> (i64, i64) {
    (status.st_ctime, status.st_ctime_nsec)
}

/// True of a directory.
pub(super) fn is_directory(status: &FileStat) -> bool {
    status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

/// True of a file with contents.
pub(super) fn is_file(status: &FileStat) -> bool {
    status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
}
