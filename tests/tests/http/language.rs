//! What differs between the runtimes: where the functions are, and how they are named.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use refunction_tests::http::Site;
use refunction_tests::java;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

/// A runtime, and the functions of `programs/` that are written for it.
pub struct Language {
    /// As `--runtime` calls it.
    pub name: &'static str,
    /// Of the file of its action.
    pub extension: &'static str,
    /// The function that does what its event asks for.
    pub handler: &'static str,
    /// The name of what it raises.
    pub exception: &'static str,
    /// A module that cannot be imported, and words that must be said of it.
    pub broken: (&'static str, &'static [&'static str]),
    /// A name for what is not there, and words that must be said of it.
    pub missing: (&'static str, &'static [&'static str]),
    /// What else can be named, all of which give back what they are given in some form.
    pub others: &'static [&'static str],
    /// True if a function can end its process by itself.
    pub can_exit: bool,
    /// True if a function can answer in pieces.
    pub streams: bool,
}

/// All of them.
pub static LANGUAGES: &[Language] = &[
    Language {
        name: "python",
        extension: "py",
        handler: "app.handler",
        exception: "NoGood",
        broken: ("broken.handler", &["broken.py", "line 1", "not_there"]),
        missing: ("app.nothing", &["nothing", "it has NoGood, handler"]),
        others: &["dir/app.handler", "dir.app.handler"],
        can_exit: true,
        streams: true,
    },
    Language {
        name: "node",
        extension: "js",
        handler: "app.handler",
        exception: "NoGood",
        broken: ("broken.handler", &["broken.js:1", "not_there"]),
        missing: ("app.nothing", &["nothing", "it exports handler"]),
        others: &["dir/app.handler"],
        can_exit: true,
        streams: true,
    },
    Language {
        name: "javascript",
        extension: "js",
        handler: "app.handler",
        exception: "NoGood",
        broken: ("broken.handler", &["broken.js:1", "not_there"]),
        missing: ("app.nothing", &["nothing", "it has handler"]),
        others: &[],
        can_exit: false,
        streams: true,
    },
    Language {
        name: "java",
        extension: "java",
        handler: "shop.App::handle",
        exception: "shop.App$NoGood",
        broken: (
            "shop.Broken::handle",
            &["NumberFormatException", "Broken.java:5"],
        ),
        missing: ("shop.App::nothing", &["nothing", "it has", "handle"]),
        others: &["shop.App::main"],
        can_exit: true,
        streams: false,
    },
    Language {
        name: "lua",
        extension: "lua",
        handler: "app.handler",
        exception: "error",
        broken: ("broken.handler", &["broken.lua:1", "not_there"]),
        missing: ("app.nothing", &["nothing", "it has handler"]),
        others: &["app.main"],
        can_exit: false,
        streams: true,
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

    /// A supervisor whose command names the function that does what it is asked for.
    #[track_caller]
    pub fn site(&self, arguments: &[&str], set: impl FnOnce(&mut Command)) -> Site {
        let arguments = [&self.arguments()[..], arguments, &[self.handler]].concat();
        Site::start(&arguments, |command| {
            self.furnish(command);
            set(command);
        })
    }

    /// One that is ready, whose command names another function.
    #[track_caller]
    pub fn named_site(&self, handler: &str, set: impl FnOnce(&mut Command)) -> Site {
        let arguments = [&self.arguments()[..], &[handler]].concat();
        Site::start(&arguments, |command| {
            self.furnish(command);
            set(command);
        })
    }

    /// The same, with arguments of its own.
    #[track_caller]
    pub fn named_site_with(&self, handler: &str, arguments: &[&str]) -> Site {
        let arguments = [&self.arguments()[..], arguments, &[handler]].concat();
        Site::start(&arguments, |command| self.furnish(command))
    }

    /// One that listens, and may not be ready yet.
    #[track_caller]
    pub fn listening_for(&self, handler: &str) -> Site {
        let arguments = [&self.arguments()[..], &[handler]].concat();
        Site::listening(&arguments, |command| self.furnish(command))
    }

    /// One that is not waited for.
    pub fn spawn(&self, handler: &str, set: impl FnOnce(&mut Command)) -> Supervisor {
        let arguments = [&self.arguments()[..], &[handler]].concat();
        Supervisor::spawn(&arguments, |command| {
            self.furnish(command);
            set(command);
        })
    }

    /// One for any function.
    #[track_caller]
    pub fn generic_site(&self, arguments: &[&str]) -> Site {
        let arguments = [&self.arguments()[..], &["--http"], arguments].concat();
        Site::start(&arguments, |command| self.furnish(command))
    }

    /// An action as OpenWhisk sends it.
    pub fn action(&self) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/http/programs/actions")
            .join(format!("action.{}", self.extension));
        let text = std::fs::read_to_string(path).expect("an action");
        if self.name != "java" {
            return json!({"main": "main", "code": text, "binary": false});
        }
        static CLASS: OnceLock<Vec<u8>> = OnceLock::new();
        let class = CLASS.get_or_init(|| java::compile_text(&text).expect("it compiles"));
        json!({"main": "Main", "code": STANDARD.encode(class), "binary": true})
    }

    /// The action's other entry.
    pub fn another_main(&self) -> &'static str {
        if self.name == "java" {
            "Main#another"
        } else {
            "another"
        }
    }

    /// Gives a supervisor what an image would give it.
    pub fn furnish(&self, command: &mut Command) {
        // As in Lambda's images; the supervisor's own name for it is tried by hand.
        command
            .env("LAMBDA_TASK_ROOT", self.root())
            .env_remove("FUNCTION_ROOT")
            // Whichever is free: others run on this host.
            .env("PORT", "0");
        if self.name == "java" {
            command.env("FUNCTION_JAVA_ADAPTER", java::adapter());
        }
    }
}
