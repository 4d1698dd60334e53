//! Where several workers make files beside one another: what was there at boot must be
//! nobody's to change, and tell nobody what others made.

use std::fs::{self, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::unistd::geteuid;

use crate::sabotage::leaves_out;

use super::find::Found;
use super::{SweepError, at};

/// Rights to list a directory, of others than its owner.
const LISTED: u32 = 0o044;

/// Rights to write, of the same.
const WRITABLE: u32 = 0o022;

/// What makes an entry its owner's alone to rename and to remove.
const STICKY: u32 = 0o1000;

/// Where access lists say what new entries are to have, whatever their maker asks for.
const DEFAULT_LIST: &str = "system.posix_acl_default";

/// Closes these directories to listing, and these files to writing. An error if one of them
/// cannot be closed: it would have each worker tell the others.
pub(super) fn close(found: &Found, users: &Range<u32>) -> Result<(), SweepError> {
    for directory in &found.directories {
        let path = directory.path();
        if !leaves_out("beside:directories") {
            close_directory(path, users).map_err(at(path))?;
        }
    }
    for file in &found.files {
        let path = file.path();
        if !leaves_out("beside:files") {
            close_file(path, users).map_err(at(path))?;
        }
    }
    Ok(())
}

/// An error if something of it is still open to others.
pub(super) fn check(found: &Found, users: &Range<u32>) -> Result<(), SweepError> {
    if leaves_out("beside:still-open") {
        return Ok(());
    }
    let failed = |what: &str| {
        let message = format!("{what}, and several workers at once are to be kept from each other");
        io::Error::other(message)
    };
    if let Some(file) = found.files.first() {
        return Err(at(file.path())(failed("workers can write to it")));
    }
    for directory in &found.directories {
        let path = directory.path();
        let status = fs::symlink_metadata(path).map_err(at(path))?;
        let is_a_workers = users.contains(&status.uid());
        if is_a_workers || status.mode() & LISTED != 0 || status.mode() & STICKY == 0 {
            return Err(at(path)(failed("it cannot be closed to listing")));
        }
    }
    Ok(())
}

fn close_directory(path: &Path, users: &Range<u32>) -> io::Result<()> {
    if xattr::get(path, DEFAULT_LIST).is_ok_and(|list| list.is_some()) {
        let message = "what is made in it can be opened by others, as its access list has it: several workers at once cannot be kept from each other's files there";
        return Err(io::Error::other(message));
    }
    let mode = take(path, users)?;
    fs::set_permissions(path, Permissions::from_mode(mode & !LISTED | STICKY))
}

fn close_file(path: &Path, users: &Range<u32>) -> io::Result<()> {
    let mode = take(path, users)?;
    fs::set_permissions(path, Permissions::from_mode(mode & !WRITABLE))
}

/// Takes it from a worker's user, which could open it again; its mode.
fn take(path: &Path, users: &Range<u32>) -> io::Result<u32> {
    let status = fs::symlink_metadata(path)?;
    let is_a_workers = users.contains(&status.uid());
    let mode = status.mode() & 0o7777;
    if !is_a_workers || leaves_out("beside:owners") {
        return Ok(mode);
    }
    chown(path, Some(geteuid().as_raw()), None)?;
    // They had the owner's rights, and have those of all from now on.
    Ok(mode | (mode & 0o700) >> 3 | (mode & 0o700) >> 6)
}
