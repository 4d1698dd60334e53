//! What of Python's half can be left out on purpose, to see which test notices
//! (docs/mutants.md): its line in `bootstrap.py` is put otherwise before it is compiled.

use refunction_adapter::sabotage::{Handler, Lines};

const GENERATORS: &str = "random generators of the runtime";
const ENVIRONMENT: &str = "environment, arguments";

/// Every handler, and how its row of docs/restore.md begins.
pub const HANDLERS: &[Handler] = &[
    ("python:reseeding", GENERATORS),
    ("python:generators-of-random", GENERATORS),
    ("python:generator-of-numpy", GENERATORS),
    ("python:generators-of-numpys-objects", GENERATORS),
    ("python:openssl", GENERATORS),
    ("python:multiprocessing", GENERATORS),
    ("python:environment", ENVIRONMENT),
];

/// Where they stand in `bootstrap.py`.
pub(crate) const LINES: &[Lines] = &[
    Lines {
        handler: "python:reseeding",
        with: "    for reseed in _reseeders:\n",
        without: "    for reseed in ():\n",
    },
    Lines {
        handler: "python:generators-of-random",
        with: "            found.append(lambda thing=thing: seed(thing))\n",
        without: "            pass\n",
    },
    Lines {
        handler: "python:generator-of-numpy",
        with: "        yield seed_legacy\n",
        without: "        pass\n",
    },
    Lines {
        handler: "python:generators-of-numpys-objects",
        with: "    for thing in others.values():\n",
        without: "    for thing in ():\n",
    },
    Lines {
        handler: "python:openssl",
        with: "        found.append(openssl)\n",
        without: "        pass\n",
    },
    Lines {
        handler: "python:multiprocessing",
        with: "        found.append(authkey)\n",
        without: "        pass\n",
    },
    Lines {
        handler: "python:environment",
        with: "        _environ[name] = value\n    if \"TZ\" in env:",
        without: "        pass\n    if \"TZ\" in env:",
    },
];
