//! One handler of Python's half left out on purpose, to see which test notices
//! (docs/mutants.md): its line in `bootstrap.py` is put otherwise before it is
//! compiled.

use std::sync::OnceLock;

const GENERATORS: &str = "random generators of the runtime";
const ENVIRONMENT: &str = "environment, arguments";

/// Every handler, and how its row of docs/restore.md begins.
pub const HANDLERS: &[(&str, &str)] = &[
    ("python:reseeding", GENERATORS),
    ("python:generators-of-random", GENERATORS),
    ("python:generator-of-numpy", GENERATORS),
    ("python:generators-of-numpys-objects", GENERATORS),
    ("python:openssl", GENERATORS),
    ("python:multiprocessing", GENERATORS),
    ("python:environment", ENVIRONMENT),
];

/// What stands in `bootstrap.py`, and what stands there without the handler.
const LINES: &[(&str, &str, &str)] = &[
    (
        "python:reseeding",
        "    for reseed in _reseeders:\n",
        "    for reseed in ():\n",
    ),
    (
        "python:generators-of-random",
        "            found.append(lambda thing=thing: seed(thing))\n",
        "            pass\n",
    ),
    (
        "python:generator-of-numpy",
        "        yield seed_legacy\n",
        "        pass\n",
    ),
    (
        "python:generators-of-numpys-objects",
        "    for thing in others.values():\n",
        "    for thing in ():\n",
    ),
    (
        "python:openssl",
        "        found.append(openssl)\n",
        "        pass\n",
    ),
    (
        "python:multiprocessing",
        "        found.append(authkey)\n",
        "        pass\n",
    ),
    (
        "python:environment",
        "        _environ[name] = value\n    if \"TZ\" in env:",
        "        pass\n    if \"TZ\" in env:",
    ),
];

static CHOSEN: OnceLock<fn(&str) -> bool> = OnceLock::new();

/// Has this say which handler is left out, instead of the environment.
pub fn choose(is_chosen: fn(&str) -> bool) {
    CHOSEN.get_or_init(|| is_chosen);
}

fn is_in_environment(handler: &str) -> bool {
    let chosen = std::env::var("REFUNCTION_SABOTAGE").unwrap_or_default();
    chosen.split('@').next() == Some(handler)
}

/// The source without the handler that was chosen.
///
/// # Panics
/// A handler's lines are not there as this file has them.
pub(crate) fn applied_to(source: &str) -> String {
    let mut source = source.to_owned();
    for (handler, line, instead) in LINES {
        assert_eq!(source.matches(line).count(), 1, "the lines of {handler}");
        if CHOSEN.get_or_init(|| is_in_environment)(handler) {
            source = source.replace(line, instead);
        }
    }
    source
}
