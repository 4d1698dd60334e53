//! As root, with a user who is nobody else's: what the supervisor finds in a container,
//! in a directory of the test's own.

use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use xattr::FileExt;

use super::*;

const WORKER: u32 = 64_001;

/// What a search does to this process, it does to all of its threads.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A directory of a container's.
struct Root {
    path: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Root {
    fn new(name: &str) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // Memory: what is tried here is not a disk.
        let path = PathBuf::from(format!("/dev/shm/sweep-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self {
            path,
            _alone: alone,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn directory(&self, name: &str, mode: u32) {
        fs::create_dir(self.at(name)).unwrap();
        fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
    }

    fn file(&self, name: &str, contents: &str, mode: u32) {
        fs::write(self.at(name), contents).unwrap();
        fs::set_permissions(self.at(name), Permissions::from_mode(mode)).unwrap();
    }

    fn sweep(&self) -> Sweep {
        let owner = (Uid::from_raw(WORKER), Gid::from_raw(WORKER));
        let found = find::below(
            std::slice::from_ref(&self.path),
            owner,
            &find::only(owner.0),
        )
        .unwrap();
        Sweep {
            users: None,
            shared: Vec::new(),
            directories: found.directories,
            files: found.files,
            owned: Vec::new(),
        }
    }

    fn names(&self, name: &str) -> Vec<String> {
        let listing = fs::read_dir(self.at(name)).unwrap();
        let mut names: Vec<String> = listing
            .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = remove_tree(&CString::new(self.path.to_str().unwrap()).unwrap());
    }
}

fn removes(sweep: &mut Sweep, removed: u64) {
    let is_complete = true;
    assert_eq!(
        sweep.run(Uid::from_raw(WORKER), None).unwrap(),
        Swept {
            removed,
            is_complete
        }
    );
}

#[track_caller]
fn refuses(sweep: &mut Sweep, words: &[&str]) {
    let refusal = sweep
        .run(Uid::from_raw(WORKER), None)
        .unwrap_err()
        .to_string();
    for word in words {
        assert!(refusal.contains(word), "{refusal}");
    }
}

#[test]
fn in_shared_directories_only_new_files_of_workers_go() {
    let uid = WORKER + 1;
    let owner = (Uid::from_raw(uid), Gid::from_raw(uid));
    let path =
        |name: &str| std::env::temp_dir().join(format!("shared-{}-{name}", std::process::id()));
    let make = |name: &str, of_worker: bool| {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join("file"), "").unwrap();
        if of_worker {
            chown(path(name), Some(uid), None).unwrap();
        }
    };
    make("before", true);
    let mut sweep = Sweep::prepare(&Scope::Shared, owner, Workers::of(owner.0)).unwrap();
    make("after", true);
    make("others", false);
    removes(&mut sweep, 1);
    assert!(path("before").exists() && path("others").exists());
    assert!(!path("after").exists());
    fs::remove_dir_all(path("before")).unwrap();
    fs::remove_dir_all(path("others")).unwrap();
}

#[test]
fn a_sweep_leaves_what_was_there() {
    let root = Root::new("leaves");
    root.directory("open", 0o1777);
    root.file("open/before", "", 0o644);
    root.directory("closed", 0o755);
    let mut sweep = root.sweep();
    removes(&mut sweep, 0);
    fs::create_dir_all(root.at("open/.hidden/deep")).unwrap();
    fs::write(root.at("open/.hidden/deep/\u{1}\n"), "secret").unwrap();
    symlink("/etc", root.at("open/link")).unwrap();
    symlink("/etc", root.at("open/.hidden/link")).unwrap();
    fs::write(root.at("closed/of root"), "").unwrap();
    removes(&mut sweep, 2);
    removes(&mut sweep, 0);
    assert!(Path::new("/etc/passwd").exists());
    assert_eq!(root.names("open"), ["before"]);
    assert_eq!(root.names("closed"), ["of root"]);
    fs::remove_file(root.at("open/before")).unwrap();
    refuses(&mut sweep, &["open", "lost"]);
}

#[test]
fn directories_get_their_rights_and_times_back() {
    let root = Root::new("times");
    root.directory("open", 0o1777);
    root.directory("own", 0o755);
    chown(root.at("own"), Some(WORKER), Some(WORKER)).unwrap();
    let moment = |seconds| std::time::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
    let looks = |name: &str| {
        let it = fs::metadata(root.at(name)).unwrap();
        (it.accessed().unwrap(), it.modified().unwrap(), it.mode())
    };
    for name in ["open", "own"] {
        let times = fs::FileTimes::new()
            .set_accessed(moment(1_000_000))
            .set_modified(moment(2_000_000));
        File::open(root.at(name)).unwrap().set_times(times).unwrap();
    }
    let before = [looks("open"), looks("own")];
    let mut sweep = root.sweep();
    removes(&mut sweep, 0);
    assert_eq!([looks("open"), looks("own")], before, "a look shows");
    for name in ["open", "own"] {
        fs::write(root.at(name).join("file"), "").unwrap();
        root.names(name);
    }
    fs::set_permissions(root.at("own"), Permissions::from_mode(0o000)).unwrap();
    assert_ne!(looks("open"), before[0]);
    assert_ne!(looks("own"), before[1]);
    removes(&mut sweep, 2);
    assert_eq!([looks("open"), looks("own")], before);
}

#[test]
fn a_tree_of_any_depth_and_width_goes() {
    const DEPTH: usize = 3_000;
    let root = Root::new("depth");
    root.directory("open", 0o1777);
    let mut sweep = root.sweep();
    let long = "n".repeat(255);
    let mut directory = File::open(root.at("open")).unwrap();
    for level in 0..DEPTH {
        let name: &str = if level % 2 == 0 { &long } else { "short" };
        mkdirat(&directory, name, Mode::S_IRWXU).unwrap();
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        directory = openat(&directory, name, flags, Mode::empty())
            .unwrap()
            .into();
        let flags = OFlag::O_CREAT | OFlag::O_CLOEXEC;
        openat(&directory, "file", flags, Mode::empty()).unwrap();
    }
    drop(directory);
    for number in 0..5_000 {
        fs::create_dir_all(root.at(&format!("open/wide/{number}/below"))).unwrap();
    }
    // Each level's descriptor or frame would be one too many.
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    removes(&mut sweep, 2);
    assert_eq!(descriptors(), before);
    assert_eq!(root.names("open"), [""; 0]);
}

#[test]
fn a_sweep_whose_time_is_over_goes_on_with_the_next() {
    let root = Root::new("slices");
    root.directory("open", 0o1777);
    let mut sweep = root.sweep();
    fs::create_dir_all(root.at("open/deep/1/2/3/4/5")).unwrap();
    for number in 0..2_000 {
        fs::write(root.at(&format!("open/file-{number}")), "").unwrap();
        fs::write(root.at(&format!("open/deep/1/2/file-{number}")), "").unwrap();
    }
    // Whose time is over before it began: each gets somewhere all the same.
    let mut slices = 0;
    while !sweep
        .run(Uid::from_raw(WORKER), Some(Instant::now()))
        .unwrap()
        .is_complete
    {
        slices += 1;
        assert!(slices < 100, "it gets nowhere");
    }
    assert!(slices > 10, "{slices}");
    assert_eq!(root.names("open"), [""; 0]);
}

/// As where a function makes files when it is imported, in a spare that boots.
#[test]
fn what_is_made_and_removed_meanwhile_is_no_failure() {
    let root = Root::new("meanwhile");
    root.directory("open", 0o777);
    let mut sweep = root.sweep();
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            for round in 0..2_000 {
                let made = root.at(&format!("open/made-{round}"));
                // Each may be gone by then.
                let _ = fs::create_dir(&made);
                let _ = fs::write(made.join("file"), "x");
                let _ = fs::create_dir(made.join("below"));
                let _ = fs::write(made.join("below/file"), "x");
                if round % 2 == 0 {
                    let _ = fs::remove_dir_all(&made);
                }
            }
        });
        while !maker.is_finished() {
            sweep.run(Uid::from_raw(WORKER), None).unwrap();
        }
    });
    sweep.run(Uid::from_raw(WORKER), None).unwrap();
    assert_eq!(root.names("open"), [""; 0]);
}

#[test]
fn another_file_under_a_known_name_is_told_from_it() {
    type Trick = fn(&Root);
    // What a tenant does in a directory that it can write to but whose files it cannot.
    let tricks: [(&str, Trick); 5] = [
        ("file", |root| {
            fs::remove_file(root.at("open/file")).unwrap();
            fs::write(root.at("open/file"), "kept").unwrap();
            chown(root.at("open/file"), Some(WORKER), Some(WORKER)).unwrap();
        }),
        ("file", |root| {
            fs::rename(root.at("open/file"), root.at("open/other")).unwrap();
            symlink("other", root.at("open/file")).unwrap();
        }),
        ("below", |root| {
            fs::rename(root.at("open/below"), root.at("open/other")).unwrap();
            symlink(root.at("closed"), root.at("open/below")).unwrap();
        }),
        ("below", |root| {
            fs::remove_dir(root.at("open/below")).unwrap();
            fs::create_dir(root.at("open/below")).unwrap();
            chown(root.at("open/below"), Some(WORKER), Some(WORKER)).unwrap();
        }),
        ("link", |root| {
            fs::remove_file(root.at("open/link")).unwrap();
            symlink("elsewhere", root.at("open/link")).unwrap();
        }),
    ];
    for (number, (name, trick)) in tricks.into_iter().enumerate() {
        let root = Root::new(&format!("known-{number}"));
        root.directory("open", 0o777);
        root.file("open/file", "kept", 0o644);
        symlink("file", root.at("open/link")).unwrap();
        root.directory("open/below", 0o777);
        root.directory("closed", 0o755);
        root.file("closed/precious", "", 0o644);
        let mut sweep = root.sweep();
        fs::write(root.at("open/below/new"), "").unwrap();
        removes(&mut sweep, 1);
        trick(&root);
        refuses(&mut sweep, &[name, "replaced"]);
        assert!(root.at("closed/precious").exists(), "a link was followed");
    }
}

#[test]
fn what_only_the_supervisors_user_can_write_may_be_written_again_in_a_sticky_directory() {
    for (number, (mode, owner, rights, is_kept)) in [
        (0o1777, 0, 0o644, true),
        // There a worker can put another in its place.
        (0o777, 0, 0o644, false),
        (0o1777, 0, 0o622, false),
        (0o1777, WORKER, 0o644, false),
    ]
    .into_iter()
    .enumerate()
    {
        let root = Root::new(&format!("again-{number}"));
        root.directory("open", mode);
        root.file("open/file", "as it was", 0o644);
        let mut sweep = root.sweep();
        removes(&mut sweep, 0);
        fs::remove_file(root.at("open/file")).unwrap();
        root.file("open/file", "once more", rights);
        chown(root.at("open/file"), Some(owner), Some(owner)).unwrap();
        if is_kept {
            removes(&mut sweep, 0);
        } else {
            refuses(&mut sweep, &["file", "replaced"]);
        }
    }
}

#[test]
fn a_directory_that_was_replaced_is_not_swept() {
    let root = Root::new("replaced");
    root.directory("open", 0o1777);
    let mut sweep = root.sweep();
    fs::rename(root.at("open"), root.at("moved")).unwrap();
    symlink("/etc", root.at("open")).unwrap();
    refuses(&mut sweep, &["open", "replaced"]);
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn small_files_that_workers_can_write_to_are_written_again() {
    let root = Root::new("files");
    root.file("small", "as it was", 0o666);
    root.file("large", &"x".repeat(65 * 1024), 0o666);
    root.file("of root", "", 0o644);
    let mut sweep = root.sweep();
    assert_eq!(sweep.files.len(), 2);
    let before = fs::metadata(root.at("small")).unwrap();
    for _ in 0..2 {
        fs::write(root.at("small"), "a message, longer than it was").unwrap();
        fs::set_permissions(root.at("small"), Permissions::from_mode(0o000)).unwrap();
        removes(&mut sweep, 0);
        assert_eq!(fs::read(root.at("small")).unwrap(), b"as it was");
        let after = fs::metadata(root.at("small")).unwrap();
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        assert_eq!(after.permissions(), before.permissions());
    }
    let attribute = File::open(root.at("small")).unwrap();
    attribute.set_xattr("user.message", b"hello").unwrap();
    removes(&mut sweep, 0);
    assert_eq!(attribute.list_xattr().unwrap().count(), 0);
    fs::write(root.at("large"), "short").unwrap();
    refuses(&mut sweep, &["large", "changed"]);
}

#[test]
fn a_single_file_that_is_mounted_counts() {
    let root = Root::new("single");
    root.file("hosts", "as it was", 0o666);
    let owner = (Uid::from_raw(WORKER), Gid::from_raw(WORKER));
    let found = find::below(&[root.at("hosts")], owner, &find::only(owner.0)).unwrap();
    assert_eq!(found.files.len(), 1);
}

/// user:WORKER:rwx beside rwx for the owner and nothing for others (acl(5), in the form
/// of the kernel's `struct posix_acl_xattr_header`).
fn access_list() -> Vec<u8> {
    let nobody = u32::MAX;
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, who) in [
        (0x01_u16, 7_u16, nobody),
        (0x02, 7, WORKER),
        (0x04, 0, nobody),
        (0x10, 7, nobody),
        (0x20, 0, nobody),
    ] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(who.to_le_bytes());
    }
    bytes
}

#[test]
fn what_access_lists_grant_is_found_and_kept_so() {
    let root = Root::new("lists");
    root.directory("listed", 0o700);
    root.file("file", "as it was", 0o600);
    for name in ["listed", "file"] {
        let file = File::open(root.at(name)).unwrap();
        file.set_xattr("system.posix_acl_access", &access_list())
            .unwrap();
        // The mode bits grant it to the group only, which is root's.
        let mode = fs::metadata(root.at(name)).unwrap().mode();
        assert_eq!(mode & 0o002, 0);
    }
    let mut sweep = root.sweep();
    fs::write(root.at("listed/new"), "").unwrap();
    fs::write(root.at("file"), "changed").unwrap();
    removes(&mut sweep, 1);
    assert_eq!(fs::read(root.at("file")).unwrap(), b"as it was");
    let listed = File::open(root.at("listed")).unwrap();
    listed.set_xattr("user.message", b"hello").unwrap();
    listed.remove_xattr("system.posix_acl_access").unwrap();
    removes(&mut sweep, 0);
    assert_eq!(listed.get_xattr("user.message").unwrap(), None);
    let list = listed.get_xattr("system.posix_acl_access").unwrap();
    assert_eq!(list, Some(access_list()));
}

#[test]
fn what_nobody_can_reach_is_not_looked_at() {
    let root = Root::new("reach");
    root.directory("closed", 0o700);
    root.directory("closed/open", 0o777);
    fs::write(root.at("closed/open/config"), "").unwrap();
    let sweep = root.sweep();
    assert_eq!((sweep.directories.len(), sweep.files.len()), (0, 0));
}

#[test]
fn what_an_import_made_becomes_the_workers() {
    let root = Root::new("handover");
    root.directory("open", 0o1777);
    root.file("open/before", "", 0o600);
    let open = root.at("open");
    let handover = Handover::prepare(&[open.to_str().unwrap(), "/not/there"]).unwrap();
    root.directory("open/private", 0o700);
    root.file("open/private/small", "as it was", 0o600);
    root.file("open/large", &"x".repeat(100_000), 0o600);
    root.file("open/others", "", 0o600);
    chown(root.at("open/others"), Some(WORKER + 1), None).unwrap();
    symlink("before", root.at("open/link")).unwrap();
    let owner = (Uid::from_raw(WORKER), Gid::from_raw(WORKER));
    handover.give(owner).unwrap();
    let of = |name: &str| {
        let status = fs::symlink_metadata(root.at(name)).unwrap();
        (status.uid(), status.gid(), status.mode() & 0o777)
    };
    assert_eq!(of("open/before"), (0, 0, 0o600));
    assert_eq!(of("open/private"), (WORKER, WORKER, 0o700));
    assert_eq!(of("open/private/small"), (WORKER, WORKER, 0o600));
    // To be read, and not to be written to: it could not be put back.
    assert_eq!(of("open/large"), (0, WORKER, 0o640));
    assert_eq!(of("open/others").0, WORKER + 1);
    assert_eq!(of("open/link").0, WORKER);
    // What a call does to it goes, as with all that was there at boot.
    let mut sweep = root.sweep();
    fs::write(root.at("open/private/small"), "changed").unwrap();
    fs::write(root.at("open/private/new"), "").unwrap();
    removes(&mut sweep, 1);
    assert_eq!(
        fs::read_to_string(root.at("open/private/small")).unwrap(),
        "as it was"
    );
}

/// Users of workers beside one another.
const WORKERS: Range<u32> = WORKER..WORKER + 3;

#[test]
fn among_others_only_ones_own_goes() {
    let root = Root::new("among");
    root.directory("open", 0o1733);
    root.file("open/before", "", 0o644);
    let mut sweep = root.sweep();
    sweep.users = Some(WORKERS);
    let make = |name: &str, owner: u32| {
        fs::write(root.at(name), "").unwrap();
        chown(root.at(name), Some(owner), None).unwrap();
    };
    let make_directory = |name: &str, owner: u32| {
        root.directory(name, 0o777);
        chown(root.at(name), Some(owner), None).unwrap();
    };
    make("open/own", WORKER);
    make_directory("open/own directory", WORKER);
    make_directory("open/own directory/another's", WORKER + 1);
    make("open/own directory/another's/file", WORKER + 2);
    make("open/another's", WORKER + 1);
    make_directory("open/another's directory", WORKER + 2);
    make("open/another's directory/own", WORKER);
    // Of nobody who is a worker: such as another name of a file of the image's.
    make("open/nobody's", WORKERS.end);
    symlink("/etc", root.at("open/link")).unwrap();
    removes(&mut sweep, 4);
    removes(&mut sweep, 0);
    assert_eq!(
        root.names("open"),
        ["another's", "another's directory", "before"]
    );
    assert_eq!(root.names("open/another's directory"), ["own"]);
    // The other's restore takes what was left with it.
    let swept = sweep.run(Uid::from_raw(WORKER + 2), None).unwrap();
    assert_eq!(swept.removed, 1);
    assert_eq!(root.names("open"), ["another's", "before"]);
}

#[test]
fn what_several_workers_share_is_closed() {
    let root = Root::new("closed");
    let owner = (Uid::from_raw(WORKER), Gid::from_raw(WORKER));
    let found = || {
        find::below(
            std::slice::from_ref(&root.path),
            owner,
            &find::only(owner.0),
        )
        .unwrap()
    };
    let modes = |names: &[&str]| -> Vec<(u32, u32)> {
        let status = names
            .iter()
            .map(|name| fs::metadata(root.at(name)).unwrap());
        status.map(|it| (it.uid(), it.mode() & 0o7777)).collect()
    };
    root.directory("open", 0o777);
    root.directory("of all", 0o1777);
    root.directory("closed", 0o755);
    root.directory("own", 0o700);
    chown(root.at("own"), Some(WORKER + 1), Some(WORKER)).unwrap();
    chown(root.at("own"), Some(WORKER), Some(WORKER)).unwrap();
    root.file("open/file", "", 0o666);
    root.file("own/file", "", 0o600);
    chown(root.at("own/file"), Some(WORKER), Some(WORKER)).unwrap();
    root.file("closed/file", "", 0o644);
    closed::check(&found(), &WORKERS).unwrap_err();
    closed::close(&found(), &WORKERS).unwrap();
    closed::check(&found(), &WORKERS).unwrap();
    assert_eq!(
        modes(&["open", "of all", "closed", "own"]),
        [(0, 0o1733), (0, 0o1733), (0, 0o755), (0, 0o1733)]
    );
    assert_eq!(
        modes(&["open/file", "own/file", "closed/file"]),
        [(0, 0o644), (0, 0o644), (0, 0o644)]
    );
}

#[test]
fn where_lists_open_what_is_made_several_workers_are_refused() {
    let root = Root::new("default-list");
    root.directory("open", 0o1777);
    let owner = (Uid::from_raw(WORKER), Gid::from_raw(WORKER));
    let found = || {
        find::below(
            std::slice::from_ref(&root.path),
            owner,
            &find::only(owner.0),
        )
        .unwrap()
    };
    closed::close(&found(), &WORKERS).unwrap();
    xattr::set(root.at("open"), "system.posix_acl_default", &access_list()).unwrap();
    let refusal = closed::close(&found(), &WORKERS).unwrap_err().to_string();
    assert!(refusal.contains("access list"), "{refusal}");
}
