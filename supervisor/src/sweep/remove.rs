//! Removing what tenants made: trees of any depth and width with two descriptors,
//! no recursion, and a stop in between when it takes long.

use std::collections::hash_map::RandomState;
use std::ffi::{CStr, CString};
use std::hash::BuildHasher;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, fchown, geteuid, unlinkat};
use rustix::fs::FileType;

use super::known;
use super::listing::{Room, is_dot, list};

/// When to stop for now.
#[derive(Debug)]
pub(super) struct Budget {
    until: Option<Instant>,
    steps: u32,
    /// Others make files meanwhile, who may have got into what is to go.
    among_others: bool,
}

impl Budget {
    /// Steps between two looks at the clock. No sweep does less: one that stopped
    /// before its first step, because to list a directory took all its time, would
    /// never come to an end.
    const STEPS: u32 = 256;

    pub(super) fn until(moment: Option<Instant>) -> Self {
        Self {
            until: moment,
            steps: 0,
            among_others: false,
        }
    }

    /// One for a sweep while others make files.
    pub(super) fn among_others(moment: Option<Instant>) -> Self {
        Self {
            among_others: true,
            ..Self::until(moment)
        }
    }

    /// True if an entry more is too many.
    pub(super) fn is_spent(&mut self) -> bool {
        self.steps += 1;
        self.steps.is_multiple_of(Self::STEPS)
            && self.until.is_some_and(|moment| Instant::now() >= moment)
    }
}

fn directory_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Removes one entry with everything in it; false if the budget was spent before. What
/// is left then is still under the name.
pub(super) fn remove(
    parent: impl AsFd,
    name: &CStr,
    kind: FileType,
    budget: &mut Budget,
) -> io::Result<bool> {
    if budget.is_spent() {
        return Ok(false);
    }
    if !is_directory(&parent, name, kind)? {
        unlink(&parent, name, budget)?;
        return Ok(true);
    }
    let root = open(&parent, name, budget)?;
    let mut lifted = Lifted::new(&root);
    let mut room = Room::new();
    let mut entries = list(&root, &mut room)?;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if is_dot(name) {
            continue;
        }
        let is_removed = if is_directory(&root, name, entry.file_type())? {
            lifted.remove(name, budget)?
        } else {
            unlink(&root, name, budget)?;
            !budget.is_spent()
        };
        if !is_removed {
            return Ok(false);
        }
    }
    while let Some(name) = lifted.waiting.pop() {
        match lifted.remove(&name, budget) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            // The listing came past it after it was moved up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    unlinkat(&parent, name, UnlinkatFlags::RemoveDir)?;
    Ok(true)
}

/// What the listing says, or, where its file system says nothing, what the inode does.
fn is_directory(parent: impl AsFd, name: &CStr, kind: FileType) -> io::Result<bool> {
    Ok(match kind {
        FileType::Directory => true,
        FileType::Unknown => {
            known::is_directory(&fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
        }
        _ => false,
    })
}

/// Removes what is no directory. Others may have done it before.
fn unlink(parent: impl AsFd, name: &CStr, budget: &Budget) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) if budget.among_others => Ok(()),
        other => other,
    }
}

/// Opens a directory that is to go, whatever rights its maker left it. Others can make
/// nothing in it from then on.
fn open(parent: impl AsFd, name: &CStr, budget: &Budget) -> io::Result<OwnedFd> {
    let opened = match openat(&parent, name, directory_flags(), Mode::empty()) {
        Err(Errno::EACCES) => {
            // It is no link, and nobody is left to put one there.
            fchmodat(&parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            openat(&parent, name, directory_flags(), Mode::empty())
        }
        other => other,
    }?;
    if budget.among_others {
        // One of theirs may be in this one, which is to be nobody's to open again.
        fchown(&opened, Some(geteuid()), None)?;
    }
    // Without a capability its own rights decide over what is in it. With one this may
    // be refused, and is not needed.
    let _ = fchmod(&opened, Mode::S_IRWXU);
    Ok(opened)
}

/// Subdirectories are not walked into but moved up into the tree's root, so that a
/// directory as deep as its maker liked is as flat as any.
struct Lifted<'a> {
    root: &'a OwnedFd,
    waiting: Vec<CString>,
    /// Of names that nothing in the root has: nobody knew it when that was made.
    prefix: u64,
    count: u64,
}

impl<'a> Lifted<'a> {
    fn new(root: &'a OwnedFd) -> Self {
        Self {
            root,
            waiting: Vec::new(),
            prefix: RandomState::new().hash_one(0),
            count: 0,
        }
    }

    /// Removes a directory in the root, what is in it moved up; false if the budget was
    /// spent.
    fn remove(&mut self, name: &CStr, budget: &mut Budget) -> io::Result<bool> {
        let directory = open(self.root, name, budget)?;
        let mut room = Room::new();
        let mut entries = list(&directory, &mut room)?;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if is_dot(name) {
                continue;
            }
            if is_directory(&directory, name, entry.file_type())? {
                self.count += 1;
                let above = CString::new(format!("{:016x}-{}", self.prefix, self.count))?;
                lift(&directory, name, self.root, &above)?;
                self.waiting.push(above);
            } else {
                unlink(&directory, name, budget)?;
            }
            if budget.is_spent() {
                return Ok(false);
            }
        }
        unlinkat(self.root, name, UnlinkatFlags::RemoveDir)?;
        Ok(!budget.is_spent())
    }
}

fn lift(from: &OwnedFd, name: &CStr, to: &OwnedFd, above: &CStr) -> nix::Result<()> {
    match renameat(from, name, to, above) {
        // Without a capability its ".." cannot be changed by whoever may not write it.
        Err(Errno::EACCES) => {
            fchmodat(from, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            renameat(from, name, to, above)
        }
        other => other,
    }
}
