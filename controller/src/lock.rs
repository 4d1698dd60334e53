//! The lock on a state directory: two daemons would take each other's containers for their own.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// The file's name.
pub(crate) const FILE: &str = "refunctiond.lock";

/// How far apart it is tried to be had: the kernel tells nobody that it is free.
const PAUSE: Duration = Duration::from_millis(50);

/// Held as long as this lives; the kernel lets go of it whatever ends the process.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code)] Flock<File>);

impl Lock {
    /// Takes it within this time; none if somebody else has it.
    pub(crate) async fn take(state: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let path = state.join(FILE);
        let end = Instant::now() + patience;
        loop {
            // What its holder noted down is not to be lost.
            let handle = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
                Ok(mut lock) => {
                    // Whoever had it before may have removed the file.
                    let is_it = std::fs::metadata(&path)
                        .is_ok_and(|there| lock.metadata().is_ok_and(|it| it.ino() == there.ino()));
                    if is_it {
                        lock.set_len(0)?;
                        write!(lock, "{}", std::process::id())?;
                        return Ok(Some(Self(lock)));
                    }
                }
                Err(_) if Instant::now() > end => return Ok(None),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

/// True if somebody has it now.
pub(crate) fn is_held(state: &Path) -> bool {
    let Ok(handle) = File::open(state.join(FILE)) else {
        return false;
    };
    Flock::lock(handle, FlockArg::LockSharedNonblock).is_err()
}

/// Who has it, as noted down by them. Old news unless it [is held](is_held).
pub(crate) fn holder(state: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(state.join(FILE)).ok()?;
    // Less than 2 would be everybody.
    let pid = text.trim().parse().ok().filter(|pid| *pid > 1)?;
    Some(Pid::from_raw(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_has_it_and_says_who() {
        let state = tempfile::tempdir().unwrap();
        assert!(!is_held(state.path()));
        let lock = Lock::take(state.path(), Duration::ZERO).await.unwrap();
        assert!(lock.is_some() && is_held(state.path()));
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(holder(state.path()), Some(Pid::from_raw(own)));
        let other = Lock::take(state.path(), Duration::ZERO).await.unwrap();
        assert!(other.is_none());
        assert_eq!(holder(state.path()), Some(Pid::from_raw(own)));
        drop(lock);
        assert!(!is_held(state.path()));
        // A file that was removed by its holder is nobody's.
        let lock = Lock::take(state.path(), Duration::ZERO).await.unwrap();
        std::fs::remove_file(state.path().join(FILE)).unwrap();
        let other = Lock::take(state.path(), Duration::ZERO).await.unwrap();
        assert!(lock.is_some() && other.is_some());
    }
}
