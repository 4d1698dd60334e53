//! Where workers make files if they run as the supervisor's own user: nowhere else may they.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, mkdtemp};

use crate::sweep::{self, USUAL};

/// The places, as one owner of them.
#[derive(Default)]
pub(crate) struct Grounds {
    places: Vec<PathBuf>,
    /// Made for this supervisor, and gone with it.
    private: Option<PathBuf>,
}

impl Grounds {
    /// One directory that nobody but this user can enter, where others make files, too.
    pub(crate) fn private() -> io::Result<Self> {
        let template = std::env::temp_dir().join("refunction-XXXXXX");
        // Links on the way to it are resolved now: rules and checks are for the place.
        let private = mkdtemp(&template)?.canonicalize()?;
        Ok(Self {
            places: vec![private.clone()],
            private: Some(private),
        })
    }

    /// The usual ones, as far as they can be written to, where nobody else makes files.
    pub(crate) fn usual() -> Self {
        let usable = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
        let mut places: Vec<PathBuf> = Vec::new();
        let usual = USUAL.iter().map(PathBuf::from);
        for place in std::iter::once(std::env::temp_dir()).chain(usual) {
            if let Ok(place) = place.canonicalize()
                && place.is_dir()
                && access(&place, usable).is_ok()
                && !places.iter().any(|known| place.starts_with(known))
            {
                places.retain(|known| !known.starts_with(&place));
                places.push(place);
            }
        }
        Self {
            places,
            private: None,
        }
    }

    pub(crate) fn places(&self) -> &[PathBuf] {
        &self.places
    }

    /// Where files of no name are made.
    pub(crate) fn temporary(&self) -> Option<&Path> {
        self.places.first().map(PathBuf::as_path)
    }

    /// As a person is told.
    pub(crate) fn words(&self) -> String {
        if self.places.is_empty() {
            return "make no files".into();
        }
        let names: Vec<String> = self
            .places
            .iter()
            .map(|it| it.display().to_string())
            .collect();
        format!("make files in {} only", names.join(", "))
    }
}

impl Drop for Grounds {
    fn drop(&mut self) {
        let Some(private) = &self.private else {
            return;
        };
        let removed = CString::new(private.as_os_str().as_bytes())
            .map_err(io::Error::from)
            .and_then(|path| sweep::remove_tree(&path));
        if let Err(error) = removed {
            let path = private.display();
            eprintln!("refunction-supervisor: {path} could not be removed: {error}");
        }
    }
}
