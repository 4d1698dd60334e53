//! The one directory in which workers make files when they run as the supervisor's own
//! user.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;

use crate::sweep;

/// Made for this supervisor, and gone with it.
pub(crate) struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// Makes one that nobody but this user can enter.
    pub(crate) fn make() -> io::Result<Self> {
        let template = std::env::temp_dir().join("refunction-XXXXXX");
        // Links on the way to it are resolved now: rules and checks are for the place.
        Ok(Self(mkdtemp(&template)?.canonicalize()?))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let removed = CString::new(self.0.as_os_str().as_bytes())
            .map_err(io::Error::from)
            .and_then(|path| sweep::remove_tree(&path));
        if let Err(error) = removed {
            let path = self.0.display();
            eprintln!("refunction-supervisor: {path} could not be removed: {error}");
        }
    }
}
