//! What a tenant writes to the channel and to its output.

use libtest_mimic::Trial;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

use crate::case::Case;
use crate::case::Way::{Either, Rewind};
use crate::case::{case, ending};
use crate::trial;

#[rustfmt::skip]
pub const CASES: &[Case] = &[
    case("forged answers for later requests", Either(&["descriptors"]), "
forged = struct.pack('<I', 8) + b'v\"forged\"'
def forge():
    while True: os.write(4, forged)
for _ in range(2): threading.Thread(target=forge, daemon=True).start()
time.sleep(0.02)", "
# The forger's own next answer is the forged one.
seen.append('mine')"),
    case("forged answers of a child's", Either(&["descriptors"]), "
forged = struct.pack('<I', 8) + b'v\"forged\"'
if os.fork() == 0:
    while True: os.write(4, forged)
time.sleep(0.02)", "seen.append('mine')"),
    case("forged failures for later requests", Either(&["descriptors"]), "
if os.fork() == 0:
    while True: os.write(4, struct.pack('<I', 4) + b'vnull')
time.sleep(0.02)", "seen.append('mine')"),
    case("output that fills its pipe", Rewind, "
for number in (1, 2):
    if os.fork() == 0:
        while True: os.write(number, b'secret\\n' * 1000)", "seen += processes()"),
    case("output without an end of line", Rewind, "
if os.fork() == 0:
    while True: os.write(1, b'secret' * 1000)", "seen += processes()"),
    ending("an answer of an unknown kind", "crashed", "os.write(4, struct.pack('<I', 1) + b'Zx')", "seen.append('mine')"),
    ending("an answer longer than any may be", "crashed", "os.write(4, b'\\xff\\xff\\xff\\xffv')", "seen.append('mine')"),
    ending("an answer that never becomes whole", "timeout", "os.write(4, struct.pack('<I', 30_000_000) + b'v'); os.write(4, b'x' * 1000)", "seen.append('mine')"),
    ending("an answer that is no JSON", "crashed", "os.write(4, struct.pack('<I', 3) + b'v{[}'); time.sleep(1000)", "seen.append('mine')"),
    ending("noise without an end", "crashed", "
while True: os.write(4, os.urandom(60000))", "seen.append('mine')"),
];

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "half_a_line_is_not_glued_to_the_next_tenants",
            half_a_line_is_not_glued_to_the_next_tenants,
        ),
        trial(
            "nothing_is_printed_in_another_tenants_time",
            nothing_is_printed_in_another_tenants_time,
        ),
    ]
}

const MINE: &str = "def main(args):\n    print('the next one says this')\n";

fn next_tenants_lines(supervisor: &mut Supervisor) -> Vec<Value> {
    supervisor.take_logs();
    supervisor.load(MINE);
    supervisor.call(&Value::Null);
    supervisor.wait_for_log(|log| log["line"] == "the next one says this");
    supervisor.take_logs()
}

fn half_a_line_is_not_glued_to_the_next_tenants() {
    for method in ["auto", "refork"] {
        let mut supervisor = Supervisor::start(&["--method", method]);
        for stream in [1, 2] {
            supervisor.load(&format!(
                "import os\ndef main(args):\n    os.write({stream}, b'whole\\nhalf a secret')\n"
            ));
            supervisor.call(&Value::Null);
            let restored = supervisor.restore();
            if method == "auto" {
                assert_eq!(restored.method, "rewind", "{}", restored.report);
            }
            let lines = next_tenants_lines(&mut supervisor);
            assert_eq!(lines.len(), 1, "{lines:?}");
        }
        supervisor.send(&json!({"type": "shutdown"}));
        assert_eq!(supervisor.wait(), 0);
    }
}

/// A tenant's processes go on printing until they are killed.
fn nothing_is_printed_in_another_tenants_time() {
    let mut supervisor = Supervisor::start(&[]);
    for _ in 0..6 {
        supervisor.load(
            "import os, threading
def main(args):
    def flood(stream):
        while True: os.write(stream, b'secret\\nsecr')
    for stream in 1, 2:
        threading.Thread(target=flood, args=(stream,), daemon=True).start()
        if os.fork() == 0: flood(stream)
",
        );
        supervisor.call(&Value::Null);
        let restored = supervisor.restore();
        assert_eq!(restored.method, "rewind", "{}", restored.report);
        let lines = next_tenants_lines(&mut supervisor);
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}
