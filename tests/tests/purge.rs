//! One command removes everything that refunction ever made on a host, whatever became of the
//! daemons that made it.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use refunction_tests::host::Host;
use refunction_tests::process::Handle;
use refunction_tests::random::Random;

fn deploy(host: &Host, name: &str) {
    let code = b"def main(args):\n    return args\n";
    host.funk_reading(&["deploy", name, "-f", "-", "--runtime", "python"], code)
        .ok();
}

/// Twice: what is gone is no failure.
#[track_caller]
fn purge(host: &Host, words: &[&str]) {
    let dry = host.purge(&["--dry-run"]);
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.text.contains("would remove"), "{dry:?}");
    assert!(dry.text.ends_with("nothing was changed\n"), "{dry:?}");
    let purged = host.purge(&[]);
    assert_eq!(purged.code, 0, "{purged:?}");
    for word in words {
        assert!(purged.text.contains(word), "{word:?} is not in {purged:?}");
    }
    assert!(purged.text.contains("nothing of refunction's is left"));
    host.assert_purged();
    let again = host.purge(&[]);
    assert_eq!(again.code, 0, "{again:?}");
    // The control group around all containers of the host may be another test's.
    let removed = again.text.lines().filter(|it| it.starts_with("removed"));
    let removed: Vec<&str> = removed.filter(|it| !it.contains("control group")).collect();
    assert_eq!(removed, [""; 0]);
    assert!(
        again.text.contains("nothing of refunction's is"),
        "{again:?}"
    );
}

#[test]
fn nothing_is_left_of_daemons_killed_in_the_middle_of_creations() {
    let mut random = Random::from_environment();
    for round in 0..4 {
        let mut host = Host::with_image();
        deploy(&host, "f");
        host.funk(&["invoke", "f", "-r", "1"]).ok();
        let kept = host.create("kept", &[]);
        let containerd = Handle::open(host.containerd()).expect("it runs");
        let daemon = Handle::open(host.daemon().pid).expect("it runs");
        let moment = Duration::from_millis(random.below(400));
        thread::scope(|scope| {
            for number in 0..4 {
                let (host, id) = (&host, host.id(&format!("half{number}")));
                scope.spawn(move || {
                    // Some are made in time.
                    host.funk(&["create", "--image", "refunction/python", "--name", &id])
                });
            }
            // The moment itself is what is drawn.
            thread::sleep(moment);
            daemon.signal(Signal::SIGKILL);
            match round {
                1 => containerd.signal(Signal::SIGKILL),
                2 => containerd.signal(Signal::SIGSTOP),
                _ => {}
            }
        });
        host.kill();
        purge(&host, &[&kept, "refunction.db", "the image "]);
        // And it is a host like any other.
        let mut after = Host::with_image();
        after.create("after", &[]);
        assert_eq!(after.stop(), Some(0));
        after.assert_ended();
    }
}

#[test]
fn a_daemon_that_runs_is_left_alone_unless_it_is_to_end() {
    let mut host = Host::with_image();
    deploy(&host, "f");
    let id = host.create("kept", &[]);
    let pid = format!("process {}", host.daemon().pid);
    host.purge(&[])
        .fails(1, &["is running", &pid, "--end-daemon"]);
    let dry = host.purge(&["--dry-run"]);
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(
        dry.text
            .contains(&format!("would remove the container {id}")),
        "{dry:?}"
    );
    assert!(dry.errors.contains("is running"), "{dry:?}");
    // Neither changed anything.
    host.load(&id, "def main(args):\n    return args\n");
    assert_eq!(host.request(&id, "1").ok()["value"], 1);
    assert_eq!(host.funk(&["invoke", "f", "-r", "2"]).ok()["value"], 2);
    // Somebody's own file in our directory is not ours.
    let others = host.root().join("others");
    fs::write(&others, "kept").expect("a file");
    let purged = host.purge(&["--end-daemon"]);
    assert_eq!(purged.code, 0, "{purged:?}");
    assert!(
        purged.text.contains("which has other things in it"),
        "{purged:?}"
    );
    assert_eq!(fs::read_to_string(&others).expect("it is there"), "kept");
    fs::remove_file(others).expect("removed");
    assert!(!host.daemon().is_alive());
    host.kill();
    host.assert_purged();
}

#[test]
fn only_with_purge_there_is_something_to_try() {
    let host = Host::start();
    let mut command =
        std::process::Command::new(refunction_tests::environment::file("REFUNCTIOND"));
    let answer = refunction_tests::host::run(command.arg("--dry-run"), b"");
    answer.fails(2, &["--purge"]);
    drop(host);
}
