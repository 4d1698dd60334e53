//! Files that a tenant left: every place where a worker can leave any is found once at
//! boot, and holds between tenants what it held then.

mod attributes;
mod closed;
mod directory;
mod file;
mod find;
mod handover;
mod known;
mod listing;
mod owned;
mod remove;
mod shared;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::fcntl::AT_FDCWD;
use nix::unistd::{Gid, Uid};
use rustix::fs::FileType;

pub(crate) use find::closed_on_the_way;
pub(crate) use handover::Handover;

use crate::sabotage::leaves_out;
use directory::WritableDirectory;
use file::WritableFile;
use find::Found;
use owned::Owned;
use remove::Budget;
use shared::SharedDirectory;

/// How much of the file system is the container's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it: this is PID 1 of a container. What was not there at boot goes,
    /// whoever owns it.
    Container,
    /// Only what workers own in the usual directories, and what came after boot:
    /// others use them too.
    Shared,
    /// These directories, where alone workers can make files: they run as the supervisor's
    /// own user, whose other files are not ours to tell apart.
    Private(Vec<PathBuf>),
    /// All of it, and these directories are where alone workers can make files: they run as
    /// the supervisor's own user, in a container of its own.
    Own(Vec<PathBuf>),
}

/// Where everybody makes files: where a hand-started supervisor looks, and where a function
/// may have made some while it was imported.
pub(crate) const USUAL: &[&str] = &["/tmp", "/var/tmp", "/dev/shm"];

/// All such places, in the order in which they have to be put back: no path leads
/// through a directory that was not looked at before.
pub(crate) struct Sweep {
    /// Who the workers are that make files beside one another. A single worker is not asked
    /// for: in a container everything goes that was not there at boot.
    users: Option<Range<u32>>,
    shared: Vec<SharedDirectory>,
    directories: Vec<WritableDirectory>,
    /// After the directories, which may hold other names of them.
    files: Vec<WritableFile>,
    /// Of which only rights, times and attributes can be changed.
    owned: Vec<Owned>,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Swept {
    /// Entries of the directories found at boot; what was in them is not counted.
    pub(crate) removed: u64,
    /// False if the time was over before: the next sweep goes on.
    pub(crate) is_complete: bool,
}

impl Swept {
    /// Counts a part; false if that is not complete.
    fn add(&mut self, part: Self) -> bool {
        self.removed += part.removed;
        part.is_complete
    }
}

/// Which users workers have, and whether several make files at once.
#[derive(Debug, Clone)]
pub(crate) enum Workers {
    /// One after another makes files.
    Alone(Range<u32>),
    /// They do beside one another.
    Beside(Range<u32>),
}

impl Workers {
    /// All have this user.
    pub(crate) fn of(user: Uid) -> Self {
        Self::Alone(find::only(user))
    }
}

/// Something could not be brought back.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", .path.display())]
pub(crate) struct SweepError {
    path: PathBuf,
    cause: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SweepError + '_ {
    move |cause| SweepError {
        path: path.to_owned(),
        cause,
    }
}

/// Removes a directory of ours with all that tenants made in it.
pub(crate) fn remove_tree(path: &CStr) -> io::Result<()> {
    remove::remove(AT_FDCWD, path, FileType::Unknown, &mut Budget::until(None)).map(drop)
}

impl Sweep {
    /// Finds the places in which workers can leave files. To be called when nothing makes
    /// files there. `owner` is one of their users, with the group that all have.
    pub(crate) fn prepare(
        scope: &Scope,
        owner: (Uid, Gid),
        workers: Workers,
    ) -> Result<Self, SweepError> {
        let all = match &workers {
            Workers::Alone(users) | Workers::Beside(users) => users.clone(),
        };
        if let (Scope::Container, Workers::Beside(users)) = (scope, &workers) {
            closed::close(&find::everywhere(owner, users)?, users)?;
            closed::check(&find::everywhere(owner, users)?, users)?;
        }
        let found = match scope {
            Scope::Container => find::everywhere(owner, &all)?,
            Scope::Private(places) | Scope::Own(places) => find::below_own(places)?,
            Scope::Shared => Found::default(),
        };
        let owned = match scope {
            Scope::Own(places) => find::owned_outside(places)?,
            _ => Vec::new(),
        };
        let usual = match scope {
            Scope::Shared => USUAL,
            _ => &[],
        };
        let shared = usual
            .iter()
            .map(PathBuf::from)
            .filter(|path| path.is_dir())
            .map(|path| SharedDirectory::remember(path, all.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            users: match workers {
                Workers::Alone(_) => None,
                Workers::Beside(users) => Some(users),
            },
            shared,
            directories: found.directories,
            files: found.files,
            owned,
        })
    }

    /// Puts back what the worker of this user left, or as much as can be until then. To
    /// be called when no process of its runs; where it is the only one, everything is put
    /// back.
    pub(crate) fn run(&mut self, worker: Uid, until: Option<Instant>) -> Result<Swept, SweepError> {
        if let Some(users) = &self.users {
            return self.run_among_others(worker, users, until);
        }
        let mut budget = Budget::until(until);
        let mut swept = Swept::default();
        for directory in &self.shared {
            if !swept.add(directory.put_back(&mut budget)?) {
                return Ok(swept);
            }
        }
        for directory in &self.directories {
            if !swept.add(directory.put_back(&mut budget)?) {
                return Ok(swept);
            }
        }
        for file in &mut self.files {
            file.put_back()?;
        }
        for owned in &mut self.owned {
            owned.put_back()?;
        }
        swept.is_complete = true;
        Ok(swept)
    }

    /// Removes what a worker left while others make files beside it.
    fn run_among_others(
        &self,
        worker: Uid,
        users: &Range<u32>,
        until: Option<Instant>,
    ) -> Result<Swept, SweepError> {
        let mut budget = Budget::among_others(until);
        let mut swept = Swept::default();
        let is_own = |uid: u32| uid == worker.as_raw();
        let is_others = |uid: u32| users.contains(&uid) && !is_own(uid);
        let is_to_go = |uid: u32| !is_others(uid) || leaves_out("beside:files-of-others");
        for directory in &self.shared {
            // Others on the host make files there, too.
            if !swept.add(directory.clear(&is_own, &mut budget)?) {
                return Ok(swept);
            }
        }
        for directory in &self.directories {
            if !swept.add(directory.clear(&is_to_go, &mut budget)?) {
                return Ok(swept);
            }
        }
        swept.is_complete = true;
        Ok(swept)
    }
}
