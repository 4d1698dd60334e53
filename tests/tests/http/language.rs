//! What differs between the runtimes: where the functions are, and how they are named.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use refunction_tests::java;

/// A runtime, and the functions of `programs/` that are written for it.
pub struct Language {
    /// As `--runtime` calls it.
    pub name: &'static str,
    /// The function that does what its event asks for.
    pub handler: &'static str,
    /// A module that cannot be imported, and words that must be said of it.
    pub broken: (&'static str, &'static [&'static str]),
    /// A name for what is not there, and words that must be said of it.
    pub missing: (&'static str, &'static [&'static str]),
    /// What else can be named, all of which give back what they are given in some form.
    pub others: &'static [&'static str],
}

/// All of them.
pub static LANGUAGES: &[Language] = &[
    Language {
        name: "python",
        handler: "app.handler",
        broken: ("broken.handler", &["broken.py", "line 1", "not_there"]),
        missing: ("app.nothing", &["nothing", "it has NoGood, handler"]),
        others: &["dir/app.handler", "dir.app.handler"],
    },
    Language {
        name: "node",
        handler: "app.handler",
        broken: ("broken.handler", &["broken.js:1", "not_there"]),
        missing: ("app.nothing", &["nothing", "it exports handler"]),
        others: &["dir/app.handler"],
    },
    Language {
        name: "javascript",
        handler: "app.handler",
        broken: ("broken.handler", &["broken.js:1", "not_there"]),
        missing: ("app.nothing", &["nothing", "it has handler"]),
        others: &[],
    },
    Language {
        name: "java",
        handler: "shop.App::handle",
        broken: (
            "shop.Broken::handle",
            &["NumberFormatException", "Broken.java:5"],
        ),
        missing: ("shop.App::nothing", &["nothing", "it has", "handle"]),
        others: &["shop.App::main"],
    },
    Language {
        name: "lua",
        handler: "app.handler",
        broken: ("broken.handler", &["broken.lua:1", "not_there"]),
        missing: ("app.nothing", &["nothing", "it has handler"]),
        others: &["app.main"],
    },
];

impl Language {
    /// The arguments that name the runtime.
    pub fn arguments(&self) -> [&'static str; 2] {
        ["--runtime", self.name]
    }

    /// Where its functions are.
    pub fn root(&self) -> PathBuf {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/http/programs")
            .join(self.name);
        if self.name == "java" {
            // Cases run beside each other, and would compile at the same time.
            static CLASSES: OnceLock<PathBuf> = OnceLock::new();
            let classes = CLASSES.get_or_init(|| java::compile(&java::sources_under(&sources)));
            return classes.clone();
        }
        sources
    }

    /// Gives a supervisor what an image would give it.
    pub fn furnish(&self, command: &mut Command) {
        // As in Lambda's images; the supervisor's own name for it is tried by hand.
        command
            .env("LAMBDA_TASK_ROOT", self.root())
            .env_remove("FUNCTION_ROOT");
        if self.name == "java" {
            command.env("FUNCTION_JAVA_ADAPTER", java::adapter());
        }
    }
}
