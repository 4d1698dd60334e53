//! What differs between the runtimes: the text of the programs, and a few names.

use std::fs;
use std::path::Path;

use refunction_tests::supervisor::Supervisor;

/// A runtime, and the functions that are written for it in `programs/`.
pub struct Language {
    /// As `--runtime` calls it.
    pub name: &'static str,
    /// Of the files of its programs.
    pub extension: &'static str,
    /// What `raise` throws.
    pub exception: &'static str,
    /// The entry of `handler`, as a `handler` field names it.
    pub handler: &'static str,
    /// The names in an archive, and the programs that stand under them.
    pub archive: &'static [(&'static str, &'static str)],
}

/// All of them.
pub static LANGUAGES: &[Language] = &[
    Language {
        name: "python",
        extension: "py",
        exception: "ValueError",
        handler: "function.handler",
        archive: &[
            ("__main__.py", "zip_main"),
            ("parts/__init__.py", "zip_empty"),
            ("parts/helper.py", "zip_helper"),
        ],
    },
    Language {
        name: "javascript",
        extension: "js",
        exception: "RangeError",
        handler: "function.handler",
        archive: &[("index.js", "zip_main"), ("parts/helper.js", "zip_helper")],
    },
    Language {
        name: "node",
        extension: "js",
        exception: "RangeError",
        handler: "function.handler",
        archive: &[("index.js", "zip_main"), ("parts/helper.js", "zip_helper")],
    },
    Language {
        name: "lua",
        extension: "lua",
        exception: "error",
        handler: "function.handler",
        archive: &[("main.lua", "zip_main"), ("parts/helper.lua", "zip_helper")],
    },
];

impl Language {
    /// A supervisor with this runtime, each rewind of which is verified.
    pub fn start(&self, arguments: &[&str]) -> Supervisor {
        Supervisor::start(&[&["--runtime", self.name], arguments].concat())
    }

    /// A supervisor that holds this program.
    pub fn load(&self, program: &str) -> Supervisor {
        let mut supervisor = self.start(&[]);
        supervisor.load(&self.program(program));
        supervisor
    }

    /// The text of one of its programs.
    pub fn program(&self, name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/conformance/programs")
            .join(format!("{name}.{}", self.extension));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}
