//! Mounts, sockets, directories and files that are refunction's.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use tokio::net::UnixStream;

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

/// The control group around all containers' own.
pub(super) async fn control_group(tally: &mut Tally) {
    let mut found = Vec::new();
    let top = Path::new("/sys/fs/cgroup");
    let name = CGROUP_PARENT.trim_start_matches('/');
    found.push(top.join(name));
    for hierarchy in fs::read_dir(top).into_iter().flatten().flatten() {
        found.push(hierarchy.path().join(name));
    }
    for group in found {
        if !group.is_dir() {
            continue;
        }
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
