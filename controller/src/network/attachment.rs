//! What is noted down of a container's attachment, so that whoever removes the
//! container can undo it, and the hold on its namespace until then.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Conflist, NetworkError, file};

/// An attachment under way, or done.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Attachment {
    /// The container's id.
    pub(super) container: String,
    /// What plugins know it by.
    pub(super) unique: String,
    /// The state directory of the daemon that made it.
    pub(super) owner: PathBuf,
    /// Where the namespace is held.
    pub(super) netns: PathBuf,
    /// Where plugins are.
    pub(super) search: Vec<PathBuf>,
    /// The network as it was then: its file may be another by now.
    pub(super) network: Conflist,
    /// What the plugins answered; none if they did not get that far.
    pub(super) result: Option<Value>,
}

impl Attachment {
    /// Writes it down, whole or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<(), NetworkError> {
        let text = serde_json::to_vec(self)
            .map_err(io::Error::from)
            .map_err(file("writing", path))?;
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(file("making", directory))?;
        }
        let new = path.with_extension("new");
        let write = || {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            file.write_all(&text)?;
            fs::rename(&new, path)
        };
        write().map_err(file("writing", path))
    }

    /// Reads it; none if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, NetworkError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file("reading", path)(error)),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(io::Error::from)
            .map_err(file("reading", path))
    }
}

/// The attachments that are noted down in a directory.
pub(super) fn all(records: &Path) -> Vec<PathBuf> {
    fs::read_dir(records)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .collect()
}

/// Holds a process's network namespace by a mount.
pub(super) fn pin(at: &Path, pid: u32) -> Result<(), NetworkError> {
    let theirs = PathBuf::from(format!("/proc/{pid}/ns/net"));
    let own = Path::new("/proc/self/ns/net");
    File::create(at).map_err(file("making", at))?;
    mount(
        Some(&theirs),
        at,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(io::Error::from)
    .map_err(file("holding the container's network namespace at", at))?;
    // A process that is gone may have given its number to one of the host's, and
    // plugins would then rename and remove interfaces there.
    let inode = |path: &Path| {
        fs::metadata(path)
            .map(|it| it.ino())
            .map_err(file("looking at", path))
    };
    if inode(at)? == inode(own)? {
        return Err(NetworkError::NotItsOwn(pid));
    }
    Ok(())
}

/// Lets go of it; done if nothing is held.
pub(super) fn unpin(at: &Path) -> Result<(), NetworkError> {
    match umount2(at, MntFlags::MNT_DETACH) {
        // Not mounted, or not there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(error) => Err(file("letting go of", at)(error.into())),
    }
}
