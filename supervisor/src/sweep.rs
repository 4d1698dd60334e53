//! Files that a tenant left: every directory in which a worker can make any is
//! found once at boot, and after that holds between tenants what it held then.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid};

/// How much of the file system is the container's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it: this is PID 1 of a container. What was not there at boot goes,
    /// whoever owns it.
    Container,
    /// Only what workers own in the usual directories, and what came after boot:
    /// others use them too.
    Shared,
    /// Nothing: workers run as the supervisor's own user, whose files are not ours to
    /// tell apart.
    None,
}

/// Where a hand-started supervisor looks.
const USUAL: &[&str] = &["/tmp", "/var/tmp", "/dev/shm"];

/// File systems in which no file of a tenant's can be.
const NO_FILES: &[&str] = &[
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "securityfs",
    "debugfs",
    "tracefs",
    "pstore",
    "bpf",
    "configfs",
    "fusectl",
    "efivarfs",
];

/// A directory that workers can write to, and what was in it at boot.
struct Writable {
    path: PathBuf,
    /// Kept open: a tenant may rename the directory, and put a link in its place.
    handle: File,
    entries: BTreeSet<OsString>,
}

impl Writable {
    fn open(path: PathBuf, entries: BTreeSet<OsString>) -> Result<Self, SweepError> {
        let handle = File::options()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
            .open(&path)
            .map_err(at(&path))?;
        Ok(Self {
            path,
            handle,
            entries,
        })
    }

    /// A path that leads to the directory itself, whatever its name is by now.
    fn itself(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.handle.as_raw_fd()).into()
    }

    /// True if the name still leads to it.
    fn is_in_place(&self) -> io::Result<bool> {
        let (named, opened) = (fs::symlink_metadata(&self.path)?, self.handle.metadata()?);
        Ok((named.dev(), named.ino()) == (opened.dev(), opened.ino()))
    }
}

/// All such directories.
pub(crate) struct Sweep {
    scope: Scope,
    owner: Uid,
    directories: Vec<Writable>,
    files: Vec<WritableFile>,
}

/// A file of the container's own that workers can write to.
struct WritableFile {
    path: PathBuf,
    /// Of the inode's last change: no unprivileged process can set it back.
    changed: (i64, i64),
}

/// What a search found.
#[derive(Default)]
struct Found {
    directories: Vec<Writable>,
    files: Vec<WritableFile>,
}

/// A directory could not be brought back.
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

impl Sweep {
    /// Finds the directories in which `owner` can make files.
    pub(crate) fn prepare(scope: Scope, owner: (Uid, Gid)) -> Result<Self, SweepError> {
        let mut found = Found::default();
        match scope {
            Scope::Container => {
                for root in writable_mounts()? {
                    find(&root, owner, &mut found)?;
                }
            }
            Scope::Shared => {
                for path in USUAL.iter().map(PathBuf::from).filter(|it| it.is_dir()) {
                    let entries = fs::read_dir(&path)
                        .and_then(|listing| listing.map(|it| Ok(it?.file_name())).collect())
                        .map_err(at(&path))?;
                    found.directories.push(Writable::open(path, entries)?);
                }
            }
            Scope::None => {}
        }
        Ok(Self {
            scope,
            owner: owner.0,
            directories: found.directories,
            files: found.files,
        })
    }

    /// Removes what was not there at boot; how many entries that were. To be called
    /// when no process of the tenant's runs.
    pub(crate) fn run(&self) -> Result<u64, SweepError> {
        let mut removed = 0;
        for file in &self.files {
            let metadata = fs::symlink_metadata(&file.path).map_err(at(&file.path))?;
            if (metadata.ctime(), metadata.ctime_nsec()) != file.changed {
                return Err(SweepError {
                    path: file.path.clone(),
                    cause: io::Error::other("a file that was there at boot was changed"),
                });
            }
        }
        for directory in &self.directories {
            let mut known = 0;
            if !directory.is_in_place().map_err(at(&directory.path))? {
                return Err(SweepError {
                    path: directory.path.clone(),
                    cause: io::Error::other("a directory that was there at boot was replaced"),
                });
            }
            let listing = fs::read_dir(directory.itself()).map_err(at(&directory.path))?;
            for entry in listing {
                let entry = entry.map_err(at(&directory.path))?;
                if directory.entries.contains(&entry.file_name()) {
                    known += 1;
                    continue;
                }
                let path = entry.path();
                if self.scope == Scope::Shared {
                    match entry.metadata() {
                        Ok(metadata) if metadata.uid() == self.owner.as_raw() => {}
                        _ => continue,
                    }
                }
                let is_directory = entry.file_type().map_err(at(&path))?.is_dir();
                if is_directory {
                    fs::remove_dir_all(&path).map_err(at(&path))?;
                } else {
                    fs::remove_file(&path).map_err(at(&path))?;
                }
                removed += 1;
            }
            if self.scope == Scope::Container && known < directory.entries.len() {
                return Err(SweepError {
                    path: directory.path.clone(),
                    cause: io::Error::other("a file that was there at boot is gone"),
                });
            }
        }
        Ok(removed)
    }
}

/// Mount points that are writable and hold files (proc_pid_mountinfo(5)).
fn writable_mounts() -> Result<Vec<PathBuf>, SweepError> {
    let list = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(list).map_err(at(list))?;
    Ok(text.lines().filter_map(writable_mount).collect())
}

fn writable_mount(line: &str) -> Option<PathBuf> {
    let (mount, file_system) = line.split_once(" - ")?;
    let fields: Vec<&str> = mount.split(' ').collect();
    let (point, options) = (fields.get(4)?, fields.get(5)?);
    let mut of_file_system = file_system.split(' ');
    let kind = of_file_system.next()?;
    let super_options = of_file_system.nth(1)?;
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    if read_only(options) || read_only(super_options) || NO_FILES.contains(&kind) {
        return None;
    }
    Some(PathBuf::from(unescape(point)))
}

/// Blanks and backslashes stand as three octal digits.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4);
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text.push_str(rest);
    text
}

/// Adds every directory and file below `root`, on its own file system, that
/// `owner` can write to.
fn find(root: &Path, owner: (Uid, Gid), found: &mut Found) -> Result<(), SweepError> {
    let metadata = match fs::symlink_metadata(root) {
        Ok(metadata) if metadata.is_dir() => metadata,
        // A single file mounted into the container (resolv.conf, hosts).
        Ok(_) => return Ok(()),
        Err(cause) => return Err(at(root)(cause)),
    };
    let device = metadata.dev();
    let mut waiting = vec![(root.to_owned(), metadata)];
    while let Some((path, metadata)) = waiting.pop() {
        let is_writable = can_write(&metadata, owner);
        let mut entries = BTreeSet::new();
        for entry in fs::read_dir(&path).map_err(at(&path))? {
            let entry = entry.map_err(at(&path))?;
            let kind = entry.file_type().map_err(at(&path))?;
            if kind.is_dir() || kind.is_file() {
                let below = entry.path();
                let metadata = fs::symlink_metadata(&below).map_err(at(&below))?;
                if kind.is_file() && can_write(&metadata, owner) {
                    found.files.push(WritableFile {
                        path: below,
                        changed: (metadata.ctime(), metadata.ctime_nsec()),
                    });
                } else if kind.is_dir() && metadata.dev() == device {
                    waiting.push((below, metadata));
                }
            }
            if is_writable {
                entries.insert(entry.file_name());
            }
        }
        if is_writable {
            found.directories.push(Writable::open(path, entries)?);
        }
    }
    Ok(())
}

fn can_write(metadata: &Metadata, (uid, gid): (Uid, Gid)) -> bool {
    const WRITE: u32 = 0o2;
    let mode = metadata.permissions().mode();
    if metadata.uid() == uid.as_raw() {
        // Its owner may give itself the right whenever it likes.
        true
    } else if metadata.gid() == gid.as_raw() {
        mode >> 3 & WRITE != 0
    } else {
        mode & WRITE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_and_kernel_file_systems_are_left_alone() {
        let writable =
            "36 35 98:0 / /mnt/a\\040b rw,noatime master:1 - ext4 /dev/root rw,errors=continue";
        assert_eq!(writable_mount(writable), Some("/mnt/a b".into()));
        for line in [
            "36 35 98:0 / / ro,noatime - overlay overlay rw",
            "36 35 98:0 / / rw - ext4 /dev/root ro",
            "36 35 98:0 / /proc rw - proc proc rw",
            "nonsense",
        ] {
            assert_eq!(writable_mount(line), None, "{line}");
        }
    }

    /// In a directory that others use too; needs root, to make files of another user.
    #[test]
    fn in_shared_directories_only_new_files_of_workers_go() {
        let owner = (Uid::from_raw(64_002), Gid::from_raw(64_002));
        let path =
            |name: &str| std::env::temp_dir().join(format!("shared-{}-{name}", std::process::id()));
        let make = |name: &str, of_worker: bool| {
            fs::write(path(name), "").unwrap();
            if of_worker {
                std::os::unix::fs::chown(path(name), Some(64_002), None).unwrap();
            }
        };
        make("before", true);
        let sweep = Sweep::prepare(Scope::Shared, owner).unwrap();
        make("after", true);
        make("others", false);
        assert_eq!(
            Sweep::prepare(Scope::None, owner).unwrap().run().unwrap(),
            0
        );
        assert_eq!(sweep.run().unwrap(), 1);
        assert!(path("before").exists() && path("others").exists());
        assert!(!path("after").exists());
        fs::remove_file(path("before")).unwrap();
        fs::remove_file(path("others")).unwrap();
    }

    #[test]
    fn a_sweep_leaves_what_was_there() {
        let root = std::env::temp_dir().join(format!("sweep-{}", std::process::id()));
        fs::create_dir_all(root.join("open")).unwrap();
        fs::write(root.join("open/before"), "").unwrap();
        fs::set_permissions(root.join("open"), fs::Permissions::from_mode(0o1777)).unwrap();
        let owner = (Uid::from_raw(64_001), Gid::from_raw(64_001));
        fs::write(root.join("config"), "a").unwrap();
        fs::set_permissions(root.join("config"), fs::Permissions::from_mode(0o666)).unwrap();
        let mut found = Found::default();
        find(&root, owner, &mut found).unwrap();
        let sweep = Sweep {
            scope: Scope::Container,
            owner: owner.0,
            directories: found.directories,
            files: found.files,
        };
        assert_eq!(sweep.run().unwrap(), 0);
        fs::create_dir_all(root.join("open/.hidden/deep")).unwrap();
        fs::write(root.join("open/.hidden/deep/\u{1}\n"), "secret").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("open/link")).unwrap();
        assert_eq!(sweep.run().unwrap(), 2);
        assert!(Path::new("/etc/passwd").exists());
        let left: Vec<_> = fs::read_dir(root.join("open")).unwrap().collect();
        assert_eq!(left.len(), 1);
        fs::write(root.join("config"), "b").unwrap();
        let changed = sweep.run().unwrap_err().to_string();
        assert!(changed.contains("config"), "{changed}");
        let sweep = Sweep {
            files: Vec::new(),
            ..sweep
        };
        fs::remove_file(root.join("open/before")).unwrap();
        assert!(sweep.run().is_err());
        fs::rename(root.join("open"), root.join("moved")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("open")).unwrap();
        let replaced = sweep.run().unwrap_err().to_string();
        assert!(replaced.contains("replaced"), "{replaced}");
        assert!(Path::new("/etc/passwd").exists());
        fs::remove_dir_all(root).unwrap();
    }
}
