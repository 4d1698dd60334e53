//! Users for workers that run beside one another.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::unistd::{Uid, User};

/// True if somebody else has this user: it has a name, or a process.
pub(super) fn is_taken(user: Uid) -> bool {
    // What cannot be asked for has no name.
    let has_name = User::from_uid(user).is_ok_and(|user| user.is_some());
    has_name || user.as_raw() == u32::MAX || has_process(user)
}

fn has_process(user: Uid) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else {
        return false;
    };
    entries.flatten().any(|entry| {
        let is_process = entry.file_name().as_encoded_bytes()[0].is_ascii_digit();
        is_process
            && entry
                .metadata()
                .is_ok_and(|process| process.uid() == user.as_raw())
    })
}
