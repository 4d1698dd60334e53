//! The runtimes that are measured, each with a function that gives back what it is given.

use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use refunction_adapter::{Adapter, BootError, Invocation};
use refunction_protocol::Function;
use refunction_tests::java;
use serde_json::value::RawValue;

use crate::{Failure, embedded};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// CPython, embedded.
    Python,
    /// QuickJS, embedded.
    JavaScript,
    /// Lua, embedded.
    Lua,
    /// Node.js, a program of its own.
    Node,
    /// The JVM, a program of its own.
    Java,
}

/// How its workers come about.
pub enum Origin {
    /// They are forked from what this has booted.
    Template(fn() -> Result<Box<dyn Adapter>, BootError>),
    /// Each is this program.
    Program(fn(&[String], Option<&str>) -> io::Result<Command>),
}

impl Runtime {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Python,
        Self::JavaScript,
        Self::Lua,
        Self::Node,
        Self::Java,
    ];

    /// True if this program was built with it, or it is a program of its own.
    #[must_use]
    pub fn is_here(self) -> bool {
        match self {
            Self::Python => cfg!(feature = "python"),
            Self::JavaScript => cfg!(feature = "javascript"),
            Self::Lua => cfg!(feature = "lua"),
            Self::Node | Self::Java => true,
        }
    }

    /// As the supervisor calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::Lua => "lua",
            Self::Node => "node",
            Self::Java => "java",
        }
    }

    /// Where its workers come from.
    #[must_use]
    pub fn origin(self) -> Origin {
        match self {
            Self::Python => Origin::Template(embedded::python),
            Self::JavaScript => Origin::Template(embedded::javascript),
            Self::Lua => Origin::Template(embedded::lua),
            Self::Node => Origin::Program(refunction_node::command),
            Self::Java => Origin::Program(refunction_java::command),
        }
    }

    /// The function.
    ///
    /// # Errors
    /// There is no Java compiler.
    pub fn no_op(self) -> Result<Function, Failure> {
        Ok(Function::from_source(match self {
            Self::Python => "def main(args):\n    return args\n",
            Self::JavaScript | Self::Node => "function main(args) { return args; }",
            Self::Lua => "function main(args) return args end",
            Self::Java => {
                let class = fs::read(java_classes()?.join("Main.class"))?;
                return Ok(Function {
                    binary: true,
                    handler: Some("Main::handle".into()),
                    ..Function::from_source(STANDARD.encode(class))
                });
            }
        }))
    }

    /// The plainest start of this runtime to its first answer: a program that prints a
    /// word and knows nothing of functions. An embedded one has no such program.
    ///
    /// # Errors
    /// There is no Java compiler.
    pub fn start(self) -> Result<Option<Command>, Failure> {
        let mut command;
        match self {
            Self::JavaScript | Self::Lua => return Ok(None),
            Self::Python => {
                command = Command::new("python3");
                command.args(["-c", "print('there')"]);
            }
            Self::Node => {
                command = Command::new("node");
                command.args(["--eval", "console.log('there')"]);
            }
            Self::Java => {
                command = Command::new("java");
                command.arg("-classpath");
                command.arg(java_classes()?);
                command.arg("Main");
            }
        }
        Ok(Some(command))
    }
}

impl FromStr for Runtime {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Self, Failure> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        let runtime = found.ok_or_else(|| format!("no runtime is called {name:?}"))?;
        if !runtime.is_here() {
            return Err(format!("this program was built without {name}").into());
        }
        Ok(runtime)
    }
}

const JAVA_NO_OP: &str = "
public class Main {
    public static java.util.Map<String, Object> handle(java.util.Map<String, Object> event) {
        return event;
    }

    public static void main(String[] arguments) {
        System.out.println(\"there\");
    }
}
";

fn java_classes() -> Result<PathBuf, Failure> {
    if let Err(error) = Command::new("javac").arg("-version").output() {
        return Err(format!("javac: {error}").into());
    }
    Ok(java::classes_of(JAVA_NO_OP).ok_or("javac refuses the function")?)
}

/// A time that no call lives to see: the beginning of the year 2100.
const DEADLINE_UNIX_MS: u64 = 4_102_444_800_000;

/// One call of the function, as a supervisor sends it that has a time limit.
///
/// # Panics
/// Never: the argument is JSON.
#[must_use]
pub fn call() -> Invocation {
    Invocation {
        id: "1".into(),
        deadline_unix_ms: Some(DEADLINE_UNIX_MS),
        data: RawValue::from_string(r#"{"name":"x"}"#.into()).expect("the argument is JSON"),
        ..Invocation::default()
    }
}
