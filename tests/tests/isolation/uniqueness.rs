//! Two tenants never draw the same: a restore rewinds generators, too.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use refunction_tests::supervisor::Supervisor;
use serde_json::Value;

use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("no_two_tenants_draw_the_same", no_two_tenants_draw_the_same),
        trial(
            "no_two_tenants_of_preloaded_libraries_draw_the_same",
            no_two_tenants_of_preloaded_libraries_draw_the_same,
        ),
    ]
}

/// Draws from everything that is random.
const DRAW: &str = "
import ctypes, os, random, secrets, ssl, tempfile, uuid
import numpy
libc = ctypes.CDLL(None)
def main(args):
    drawn = {
        'random': random.random(),
        'bits': random.getrandbits(64),
        'shuffle': random.sample(range(1000), 20),
        'new generator': random.Random().random(),
        'system': random.SystemRandom().random(),
        'uuid4': str(uuid.uuid4()),
        'secrets': secrets.token_hex(),
        'urandom': os.urandom(16).hex(),
        'getrandom': os.getrandom(16).hex(),
        'ssl': ssl.RAND_bytes(16).hex(),
        'name': next(tempfile._get_candidate_names()),
        'again': random.random(),
    }
    if hasattr(libc, 'arc4random'):
        drawn['arc4random'] = [libc.arc4random() for _ in range(4)]
    drawn['uuid1'] = str(uuid.uuid1())
    drawn['temporary file'] = tempfile.NamedTemporaryFile().name
    drawn['temporary directory'] = tempfile.TemporaryDirectory().name
    drawn['authkey'] = __import__('multiprocessing').current_process().authkey.hex()
    drawn['numpy'] = float(numpy.random.random())
    drawn['numpy bytes'] = numpy.random.bytes(16).hex()
    drawn['numpy generator'] = float(numpy.random.default_rng().random())
    return drawn
";

/// What is drawn in `draws` restores is never drawn again, nor was it before.
fn draw(seen: &mut BTreeSet<String>, draws: u32, arguments: &[&str]) {
    let is_refork = arguments.contains(&"refork");
    let mut supervisor = Supervisor::start(arguments);
    for round in 0..draws {
        supervisor.load(DRAW);
        let drawn = supervisor.call(&Value::Null);
        let drawn = drawn.as_object().expect("an object");
        assert!(drawn.len() >= 19, "{drawn:?}");
        for (source, value) in drawn {
            assert!(
                seen.insert(value.to_string()),
                "{source} gave {value} again, in round {round} with {arguments:?}"
            );
        }
        let restored = supervisor.restore();
        let expected = if is_refork { "refork" } else { "rewind" };
        assert_eq!(restored.method, expected, "{}", restored.report);
    }
}

/// Numpy is of the tenant's own bringing here: importing it is most of the time.
fn no_two_tenants_draw_the_same() {
    let mut seen = BTreeSet::new();
    draw(&mut seen, 30, &[]);
    draw(&mut seen, 30, &["--method", "refork"]);
}

/// Here its generators live in the template, and would repeat.
fn no_two_tenants_of_preloaded_libraries_draw_the_same() {
    let mut seen = BTreeSet::new();
    draw(&mut seen, 1000, &["--preload", "numpy"]);
    draw(
        &mut seen,
        200,
        &["--preload", "numpy", "--method", "refork"],
    );
}
