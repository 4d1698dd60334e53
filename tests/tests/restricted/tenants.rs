//! What tenants find in them and leave behind, tried with Python.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use refunction_tests::eventually;
use serde_json::{Value, json};

use crate::container::{Container, DEFAULT, Limits, NEEDED, ORDINARY, USER};

impl Container {
    /// Has this done by a tenant, and then all put back in place.
    #[track_caller]
    fn tenant(&mut self, source: &str) -> Value {
        let answer = self.tenant_who_stays(source);
        let restored = self.peer().restore();
        assert_eq!(restored.method, "rewind", "{}", restored.report);
        answer
    }

    #[track_caller]
    fn tenant_who_stays(&mut self, source: &str) -> Value {
        self.peer().load(OBEY);
        self.peer().call(&json!({ "do": source }))
    }
}

/// Does what it is told.
const OBEY: &str = r#"
import os, subprocess, sys, tempfile

def listing(*places):
    return {place: sorted(os.listdir(place)) for place in places}

def status(name):
    lines = open('/proc/self/status').read().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name + ':'))

def leave(place):
    os.makedirs(place + '/deep/er')
    open(place + '/deep/er/file', 'w').close()
    open(place + '/secret', 'w').write('hunter2')
    os.chmod(place + '/deep/er', 0)
    os.chmod(place + '/deep', 0)

def fails(act):
    try: act()
    except OSError as error: return os.strerror(error.errno)
    return False

def main(args):
    scope = dict(globals(), answer=None)
    exec(args["do"], scope)
    return scope["answer"]
"#;

/// Leaves files wherever it can, and a process.
const LEAVE: &str = "
for place in ('/tmp', '/var/tmp', '/dev/shm'): leave(place)
subprocess.Popen(['/bin/sleep', '1000'], start_new_session=True)
answer = [os.getuid(), status('CapEff'), status('Seccomp'), status('NoNewPrivs')]";

const LOOK: &str = "answer = listing('/tmp', '/var/tmp', '/dev/shm')";

fn nothing() -> Value {
    json!({"/tmp": [], "/var/tmp": [], "/dev/shm": []})
}

const NO_CAPABILITIES: &str = "0000000000000000";

#[test]
fn six_capabilities_are_enough() {
    let mut container = Container::start(&Limits {
        capabilities: NEEDED,
        no_new_privileges: true,
        ..ORDINARY
    });
    container.assert_lines(&[]);
    for _ in 0..3 {
        let seen = container.tenant(LEAVE);
        assert_eq!(seen, json!([64_533, NO_CAPABILITIES, "2", "1"]));
        assert_eq!(container.tenant(LOOK), nothing());
    }
}

#[test]
fn root_without_one_of_them_is_refused_by_its_name() {
    for missing in NEEDED.split_whitespace() {
        let others: Vec<&str> = DEFAULT
            .split_whitespace()
            .filter(|name| *name != missing)
            .collect();
        let mut container = Container::spawn(&Limits {
            capabilities: &others.join(" "),
            ..ORDINARY
        });
        assert!(container.peer().is_over(), "{missing}");
        eventually("it says why", || {
            let errors = container.errors();
            let words = [
                &format!("root without CAP_{missing} "),
                "add CHOWN, ",
                "or drop all",
            ];
            words.iter().all(|word| errors.contains(*word))
        });
    }
}

#[test]
fn root_without_any_capability_is_like_another_user() {
    for capabilities in ["", "NET_BIND_SERVICE"] {
        let mut container = Container::start(&Limits {
            capabilities,
            ..ORDINARY
        });
        container.assert_lines(&[&[
            "started as root without CAP_CHOWN",
            "CAP_SETUID: workers run as this very user",
            "make files in /tmp, /var/tmp, /dev/shm only",
        ]]);
        // The whole image is its user's.
        let change = "
os.chmod('/etc/hostname.of', 0o777); os.utime('/etc/hostname.of', (5, 6))
answer = [fails(lambda: open('/etc/hostname.of', 'a')), fails(lambda: os.remove('/etc/hostname.of')),
          fails(lambda: os.mkdir('/etc/mine'))]";
        container.peer = None;
        drop(container);
        let mut container = Container::start(&Limits {
            capabilities,
            prepare: |root| fs::write(root.join("etc/hostname.of"), "it").expect("written"),
            ..ORDINARY
        });
        let refused = container.tenant(change);
        let denied = "Permission denied";
        assert_eq!(refused, json!([denied, denied, denied]));
        let look = "
it = os.stat('/etc/hostname.of')
answer = [oct(it.st_mode), it.st_mtime == 6, it.st_atime == 5]";
        assert_eq!(container.tenant(look), json!(["0o100644", false, false]));
        container.tenant(LEAVE);
        assert_eq!(container.tenant(LOOK), nothing());
    }
}

#[test]
fn another_users_files_go_wherever_workers_can_make_them() {
    let mut container = Container::start(&Limits {
        user: USER,
        prepare: |root| {
            let own = root.join("srv/own");
            fs::create_dir(&own).expect("a directory");
            fs::write(own.join("file"), "mine").expect("written");
            fs::write(own.join("closed"), "mine").expect("written");
            fs::set_permissions(own.join("closed"), fs::Permissions::from_mode(0o000))
                .expect("its mode");
            // What is the user's among what was there before the boot.
            fs::write(root.join("tmp/known"), "known").expect("written");
            for place in ["srv/own", "srv/own/file", "srv/own/closed", "tmp/known"] {
                chown(root.join(place), Some(USER), Some(USER)).expect("its owner");
            }
        },
        ..ORDINARY
    });
    container.assert_lines(&[&[
        "not started as root: workers run as this very user",
        "make files in /tmp, /var/tmp, /dev/shm only",
        "read this user's files",
    ]]);
    let errors = container.errors();
    assert!(
        !errors.contains("attributes"),
        "they are put back: {errors}"
    );
    let before = container.tenant(
        "answer = [[*os.stat('/srv/own/' + it)][0:1] + [os.stat('/srv/own/' + it).st_mtime_ns] for it in ('', 'file', 'closed')]",
    );
    for _ in 0..3 {
        let seen = container.tenant(LEAVE);
        assert_eq!(seen, json!([USER, NO_CAPABILITIES, "2", "1"]));
        let change = "
open('/tmp/known', 'w').write('changed'); os.chmod('/tmp/known', 0)
for name in ('', 'file', 'closed'):
    os.chmod('/srv/own/' + name, 0o755); os.utime('/srv/own/' + name, (5, 6))
answer = [fails(lambda: open('/srv/own/more', 'w')), fails(lambda: open('/srv/own/file', 'w')),
          fails(lambda: os.remove('/srv/own/file'))]";
        let denied = "Permission denied";
        assert_eq!(container.tenant(change), json!([denied, denied, denied]));
        assert_eq!(
            container.tenant("answer = open('/tmp/known').read()"),
            "known"
        );
        let after = container.tenant(
            "answer = [[*os.stat('/srv/own/' + it)][0:1] + [os.stat('/srv/own/' + it).st_mtime_ns] for it in ('', 'file', 'closed')]",
        );
        assert_eq!(after, before);
        let mut expected = nothing();
        expected["/tmp"] = json!(["known"]);
        assert_eq!(container.tenant(LOOK), expected);
    }
    // A call that is recorded replaces the worker, and what it did is put back all the same.
    container.tenant_who_stays("os.setxattr('/srv/own/file', 'user.secret', b'it')");
    let restored = container.peer().restore();
    assert_eq!(restored.method, "refork", "{}", restored.report);
    assert_eq!(
        container.tenant("answer = os.listxattr('/srv/own/file')"),
        json!([])
    );
}

/// What Kubernetes calls restricted, with a directory for files.
#[test]
fn a_restricted_pod_is_enough() {
    let mut container = Container::start(&Limits {
        user: USER,
        capabilities: "",
        read_only: true,
        no_new_privileges: true,
        writable: &["/tmp"],
        ..ORDINARY
    });
    container.assert_lines(&[&["not started as root", "make files in /tmp, /dev/shm only"]]);
    let leave = "leave('/tmp'); leave('/dev/shm'); answer = fails(lambda: leave('/var/tmp'))";
    assert_eq!(container.tenant(leave), "Read-only file system");
    assert_eq!(container.tenant(LOOK), nothing());
    let archive = "answer = tempfile.gettempdir()";
    assert_eq!(container.tenant(archive), "/tmp");
}

#[test]
fn a_read_only_root_leaves_shared_memory() {
    for user in [0, USER] {
        let mut container = Container::start(&Limits {
            user,
            read_only: true,
            ..ORDINARY
        });
        match user {
            0 => container.assert_lines(&[]),
            _ => container.assert_lines(&[&["make files in /dev/shm only"]]),
        }
        let leave = "leave('/dev/shm'); answer = fails(lambda: leave('/tmp'))";
        assert_eq!(container.tenant(leave), "Read-only file system");
        assert_eq!(container.tenant(LOOK), nothing());
    }
}

/// A directory that anybody may write to, and that is not one of the usual.
fn shared(root: &Path) {
    let place = root.join("srv/shared");
    fs::create_dir(&place).expect("a directory");
    fs::set_permissions(place, fs::Permissions::from_mode(0o777)).expect("its mode");
}

#[test]
fn behind_an_init_it_says_what_is_not_removed_or_is_told_that_all_is_its_own() {
    let limits = Limits {
        init: true,
        prepare: shared,
        ..ORDINARY
    };
    let leave = format!("{LEAVE}; open('/srv/shared/left', 'w').close()");
    let mut container = Container::start(&limits);
    container.assert_lines(&[&[
        "not PID 1 of its container",
        "/tmp, /var/tmp, /dev/shm",
        "REFUNCTION_OWN_CONTAINER=1",
    ]]);
    container.tenant(&leave);
    assert_eq!(container.tenant(LOOK), nothing());
    let left = "answer = os.listdir('/srv/shared')";
    assert_eq!(container.tenant(left), json!(["left"]));

    let mut container = Container::start(&Limits {
        env: &["REFUNCTION_OWN_CONTAINER=1"],
        ..limits
    });
    container.assert_lines(&[]);
    container.tenant(&leave);
    assert_eq!(container.tenant(LOOK), nothing());
    assert_eq!(container.tenant(left), json!([]));
}

#[test]
fn another_user_behind_an_init_has_one_directory() {
    let mut container = Container::start(&Limits {
        user: USER,
        init: true,
        ..ORDINARY
    });
    container.assert_lines(&[&[
        "not started as root",
        "make files in /tmp/refunction-",
        "attributes",
    ]]);
    let leave = "leave(os.environ['TMPDIR']); answer = fails(lambda: leave('/tmp'))";
    assert_eq!(container.tenant(leave), "Permission denied");
    let look = "answer = os.listdir(os.environ['TMPDIR'])";
    assert_eq!(container.tenant(look), json!([]));
}
