//! What whoever starts a supervisor may do is not passed on to its workers.

#![forbid(unsafe_code)]

use refunction_tests::process;
use refunction_tests::supervisor::Supervisor;
use serde_json::json;

/// A user that nothing else here has.
const USER: &str = "61239";

/// Gives what this process, and a program that it starts, may do.
const PYTHON: &str = "
import subprocess
def main(args):
    return open('/proc/self/status').read() + subprocess.check_output(['cat', '/proc/self/status'], text=True)
";

const NODE: &str = "
const { execFileSync } = require('child_process');
const path = '/proc/self/status';
exports.main = () => require('fs').readFileSync(path, 'utf8') + execFileSync('cat', [path]);
";

const SETS: [&str; 4] = ["CapInh", "CapPrm", "CapEff", "CapAmb"];

/// Workers have none in any set, though the supervisor has some in these.
#[track_caller]
fn keeps_them(by: &[&str], sets: &[&str]) {
    for (runtime, program) in [("python", PYTHON), ("node", NODE)] {
        let mut supervisor = Supervisor::start_by(by, &["--runtime", runtime]);
        for set in sets {
            let own = process::status(supervisor.pid(), set).expect("it has such a set");
            assert!(own.contains("2000"), "{set} of the supervisor: {own}");
        }
        for _ in 0..2 {
            supervisor.load(program);
            let told = supervisor.call(&json!({}));
            let told = told.as_str().expect("text");
            let lines = told.lines().filter_map(|line| line.split_once(':'));
            let found: Vec<_> = lines.filter(|(name, _)| SETS.contains(name)).collect();
            assert_eq!(found.len(), 2 * SETS.len(), "{told}");
            for (set, value) in found {
                assert_eq!(value.trim(), "0000000000000000", "{set} of {runtime}");
            }
            let restored = supervisor.restore();
            assert_eq!(restored.method, "rewind", "{}", restored.report);
        }
        // With the directory that it made for workers of its own user.
        supervisor.send(&json!({"type": "shutdown"}));
        assert_eq!(supervisor.wait(), 0);
    }
}

#[test]
fn ambient_capabilities_of_another_user_are_not_passed_on() {
    let by = [
        "setpriv",
        "--reuid",
        USER,
        "--regid",
        USER,
        "--clear-groups",
        "--inh-caps",
        "+net_raw",
        "--ambient-caps",
        "+net_raw",
    ];
    keeps_them(&by, &SETS);
}

#[test]
fn inheritable_capabilities_of_root_are_not_passed_on() {
    keeps_them(&["setpriv", "--inh-caps", "+net_raw"], &["CapInh"]);
}
