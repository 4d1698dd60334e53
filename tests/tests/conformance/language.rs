//! What differs between the runtimes: the text of the programs, a few names, and whether
//! the text is what is sent.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use refunction_tests::java;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

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
    /// True if a compiler stands between the text and the function.
    pub is_compiled: bool,
    /// What a crash by SIGSEGV is told as.
    pub segmentation_fault: Signal,
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
        is_compiled: false,
        segmentation_fault: Signal::SIGSEGV,
    },
    Language {
        name: "javascript",
        extension: "js",
        exception: "RangeError",
        handler: "function.handler",
        archive: &[("index.js", "zip_main"), ("parts/helper.js", "zip_helper")],
        is_compiled: false,
        segmentation_fault: Signal::SIGSEGV,
    },
    Language {
        name: "node",
        extension: "js",
        exception: "RangeError",
        handler: "function.handler",
        archive: &[("index.js", "zip_main"), ("parts/helper.js", "zip_helper")],
        is_compiled: false,
        segmentation_fault: Signal::SIGSEGV,
    },
    Language {
        name: "java",
        extension: "java",
        exception: "java.lang.IllegalArgumentException",
        handler: "Main::handler",
        archive: &[("Main.class", "zip_main"), ("parts/Helper.class", "Helper")],
        is_compiled: true,
        // The JVM takes it, says on stderr what it was, and aborts.
        segmentation_fault: Signal::SIGABRT,
    },
    Language {
        name: "lua",
        extension: "lua",
        exception: "error",
        handler: "function.handler",
        archive: &[("main.lua", "zip_main"), ("parts/helper.lua", "zip_helper")],
        is_compiled: false,
        segmentation_fault: Signal::SIGSEGV,
    },
];

impl Language {
    /// A supervisor with this runtime, each rewind of which is verified.
    pub fn start(&self, arguments: &[&str]) -> Supervisor {
        if self.is_compiled {
            return java::start(arguments);
        }
        Supervisor::start(&[&["--runtime", self.name], arguments].concat())
    }

    /// A supervisor that holds this program.
    pub fn load(&self, program: &str) -> Supervisor {
        let mut supervisor = self.start(&[]);
        self.load_into(&mut supervisor, program);
        supervisor
    }

    /// Loads one of its programs.
    #[track_caller]
    pub fn load_into(&self, supervisor: &mut Supervisor, program: &str) {
        let answer = supervisor.try_load(&self.function(&self.program(program)));
        assert_eq!(answer["data"], true, "{answer}");
    }

    /// The text of one of its programs.
    pub fn program(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/conformance/programs")
            .join(format!("{name}.{}", self.extension))
    }

    /// A function of this text, as it is sent. What no compiler takes is sent as it is:
    /// that, too, must be refused.
    pub fn function(&self, text: &str) -> Value {
        match self.is_compiled.then(|| java::compile_text(text)).flatten() {
            Some(class) => json!({"code": STANDARD.encode(class), "binary": true}),
            None => json!({"code": text}),
        }
    }

    /// The files of an archive.
    pub fn archive(&self) -> Vec<(&'static str, Vec<u8>)> {
        let programs = self.archive.iter().map(|(_, program)| self.path(program));
        let classes = self
            .is_compiled
            .then(|| java::compile(&programs.collect::<Vec<_>>()));
        let content = |name: &str, program: &str| match &classes {
            Some(classes) => fs::read(classes.join(name)).expect("a class file"),
            None => self.program(program).into_bytes(),
        };
        let files = self.archive.iter();
        files
            .map(|(name, program)| (*name, content(name, program)))
            .collect()
    }
}
