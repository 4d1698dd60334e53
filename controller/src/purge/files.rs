//! Mounts, sockets, directories and files that are refunction's.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::processes::{self, DEATH};
use super::tally::Tally;
use crate::container::spec::CGROUP_PARENT;

/// What is mounted in the directories that are only refunction's: root filesystems of a
/// private containerd, network namespaces that are held.
pub(super) async fn mounts(tally: &mut Tally, [state, root]: [&Path; 2]) {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let ours = [
        state.join("containers"),
        state.join("containerd"),
        root.join("containerd"),
    ];
    let points = text.lines().filter_map(|line| line.split(' ').nth(1));
    let points: Vec<PathBuf> = points.map(unescaped).collect();
    // What was mounted last may be in what was mounted before.
    for point in points.iter().rev() {
        if ours.iter().any(|it| point.starts_with(it)) {
            let what = format!("the mount at {}", point.display());
            let unmounting = async {
                match umount2(point, MntFlags::MNT_DETACH) {
                    Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
                    Err(error) => Err(io::Error::from(error)),
                }
            };
            tally.remove(what, unmounting).await;
        }
    }
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut path = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        path += before;
        let code = after.get(..3).and_then(|it| u8::from_str_radix(it, 8).ok());
        match code {
            Some(code) => {
                path.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                path.push('\\');
                rest = after;
            }
        }
    }
    path += rest;
    path.into()
}

/// A socket that nobody listens on.
pub(super) async fn socket(tally: &mut Tally, path: &Path) {
    if !fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket()) {
        return;
    }
    if UnixStream::connect(path).await.is_ok() {
        return tally.spare(format_args!(
            "the socket {}, where somebody listens",
            path.display()
        ));
    }
    tally
        .remove(path.display(), async { remove_file(path) })
        .await;
}

/// A directory, with all that is in it.
pub(super) async fn directory(tally: &mut Tally, path: &Path) {
    if !path.exists() {
        return;
    }
    let removing = async {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    tally.remove(path.display(), removing).await;
}

/// A directory in which others may have put something.
pub(super) async fn directory_if_empty(tally: &mut Tally, path: &Path) {
    if tally.is_dry {
        return;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            tally.spare(format_args!(
                "{}, which has other things in it",
                path.display()
            ));
        }
        // A directory that something is mounted at, such as one given to a DaemonSet.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            tally.spare(format_args!("{}, which is empty", path.display()));
        }
        done => tally.remove(path.display(), async { done }).await,
    }
}

/// Removes a file; done if there is none.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The control groups of containers, as far as they came back, with what was started in them
/// meanwhile; then the one around all of them.
pub(super) async fn control_groups(tally: &mut Tally) {
    for group in std::mem::take(&mut tally.groups) {
        if tally.is_dry || hierarchies(&group).is_empty() {
            continue;
        }
        let what = format!("the control group {group}, which was made once more");
        tally.remove(what, take_apart(&group)).await;
    }
    for group in hierarchies(CGROUP_PARENT) {
        if tally.is_dry {
            return tally.spare("the control groups of containers until they are gone");
        }
        match fs::remove_dir(&group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                tally.spare(format_args!(
                    "the control group {}: another refunctiond has containers in it",
                    group.display()
                ));
            }
            done => {
                let what = format!("the control group {}", group.display());
                tally.remove(what, async { done }).await;
            }
        }
    }
}

/// Where a group is in the hierarchies that have it.
fn hierarchies(group: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let name = group.trim_start_matches('/');
    let below = fs::read_dir(top).into_iter().flatten().flatten();
    let all = std::iter::once(top.join(name)).chain(below.map(|it| it.path().join(name)));
    all.filter(|it| it.is_dir()).collect()
}

/// A group stays busy for as long as what was in it takes to be gone.
async fn take_apart(group: &str) -> io::Result<()> {
    let until = Instant::now() + DEATH;
    loop {
        let mut busy = None;
        for path in hierarchies(group) {
            let inside = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            let inside: Vec<i32> = inside.lines().filter_map(|it| it.parse().ok()).collect();
            processes::end(&inside).await?;
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => busy = Some(error),
                _ => {}
            }
        }
        match busy {
            None => return Ok(()),
            Some(error) if Instant::now() > until => return Err(error),
            Some(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_way_of_writing_paths_is_read() {
        assert_eq!(unescaped("/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescaped("/a"), Path::new("/a"));
        assert_eq!(unescaped("/a\\x"), Path::new("/a\\x"));
    }
}
