//! A function's file: which runtime it is for, and what its folder calls it.

mod entry;

use std::fmt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::error::Error;

/// What functions are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Runtime {
    Python,
    /// On QuickJS.
    #[value(name = "javascript")]
    JavaScript,
    Node,
    Java,
    Lua,
}

impl Runtime {
    /// As the supervisor and the base images call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::Node => "node",
            Self::Java => "java",
            Self::Lua => "lua",
        }
    }

    /// The one that a file by this name is for. What is JavaScript is Node.js's where a
    /// `package.json` stands beside it.
    pub(crate) fn of(file: &Path) -> Option<Self> {
        Some(match file.extension()?.to_str()? {
            "py" => Self::Python,
            "lua" => Self::Lua,
            "jar" | "class" => Self::Java,
            "js" | "mjs" | "cjs" if file.with_file_name("package.json").is_file() => Self::Node,
            "js" | "mjs" | "cjs" => Self::JavaScript,
            _ => return None,
        })
    }

    fn is_javascript(self) -> bool {
        matches!(self, Self::JavaScript | Self::Node)
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.name())
    }
}

/// A function in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) runtime: Runtime,
    /// The folder that stands for `$FUNCTION_ROOT`.
    pub(crate) root: PathBuf,
    /// As an image's command names it.
    pub(crate) handler: String,
}

impl Source {
    /// The function of a file.
    pub(crate) fn of_file(
        file: &Path,
        runtime: Option<Runtime>,
        handler: Option<&str>,
    ) -> Result<Self, Error> {
        let file = file
            .canonicalize()
            .map_err(|error| Error::file("reading", file, &error))?;
        let shown = file.display();
        if file.is_dir() {
            return Err(Error::Usage(format!(
                "{shown} is a folder: name the file that the function is in"
            )));
        }
        let meant = Runtime::of(&file).ok_or_else(|| unknown(&file))?;
        let runtime = match runtime {
            Some(said) if said == meant || said.is_javascript() && meant.is_javascript() => said,
            Some(said) => {
                return Err(Error::Usage(format!(
                    "{shown} is not for {said}: it is {meant}"
                )));
            }
            None => meant,
        };
        if runtime == Runtime::Java {
            return java(&file, handler);
        }
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        let stem = stem.ok_or_else(|| Error::Usage(format!("{shown} is no name of a module")))?;
        let handler = match handler {
            Some(named) if named.contains('.') => named.to_owned(),
            Some(function) => format!("{stem}.{function}"),
            None => {
                let text = std::fs::read_to_string(&file)
                    .map_err(|error| Error::file("reading", &file, &error))?;
                // Where it has neither the runtime says what it has.
                let name = entry::defined(runtime, &text).unwrap_or(entry::NAMES[0]);
                format!("{stem}.{name}")
            }
        };
        Ok(Self {
            runtime,
            root: folder(&file),
            handler,
        })
    }

    /// True if this is a file of some runtime's.
    pub(crate) fn is_known(file: &Path) -> bool {
        Runtime::of(file).is_some()
    }

    /// True if this file can be for this runtime.
    pub(crate) fn is_for(file: &Path, runtime: Runtime) -> bool {
        Runtime::of(file)
            .is_some_and(|it| it == runtime || it.is_javascript() && runtime.is_javascript())
    }

    /// True if this file holds a function that can be found without being told.
    pub(crate) fn is_in(file: &Path) -> bool {
        match Runtime::of(file) {
            None => false,
            // Which of its methods is the function nobody can tell.
            Some(Runtime::Java) => file.extension().is_some_and(|it| it == "jar"),
            Some(runtime) => std::fs::read_to_string(file)
                .is_ok_and(|text| entry::defined(runtime, &text).is_some()),
        }
    }
}

fn folder(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).to_owned()
}

/// A method of a class has a name that no file says.
fn java(file: &Path, handler: Option<&str>) -> Result<Source, Error> {
    let shown = file.display();
    let Some(handler) = handler else {
        return Err(Error::Usage(format!(
            "nothing says which method of {shown} is the function: name it with --handler package.Class::method"
        )));
    };
    let source = |root| Source {
        runtime: Runtime::Java,
        root,
        handler: handler.to_owned(),
    };
    if file.extension().is_some_and(|it| it == "jar") {
        return Ok(source(folder(file)));
    }
    // A class is below a folder for each part of its package.
    let class = handler.split("::").next().unwrap_or(handler);
    let below = format!("{}.class", class.replace('.', "/"));
    let depth = Path::new(&below).components().count();
    match file.ancestors().nth(depth) {
        Some(root) if file.ends_with(&below) => Ok(source(root.to_owned())),
        _ => Err(Error::Usage(format!(
            "{shown} is not the class of the handler {handler}, which would be {below} below some folder"
        ))),
    }
}

fn unknown(file: &Path) -> Error {
    let shown = file.display();
    let hint = match file.extension().and_then(|it| it.to_str()) {
        Some("java") => {
            "a runtime takes classes: compile it with javac, and name the .class file or a .jar"
        }
        Some("ts" | "tsx" | "mts") => {
            "a runtime takes JavaScript: compile it, and name the .js file"
        }
        _ => {
            "there is Python (.py), JavaScript (.js, .mjs, .cjs), Lua (.lua) and Java (.jar, .class)"
        }
    };
    Error::Usage(format!("no runtime is known for {shown}: {hint}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found(name: &str, text: &str, handler: Option<&str>) -> Result<Source, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let source = Source::of_file(&file, None, handler).map_err(|error| error.to_string())?;
        let canonical = directory.path().canonicalize().unwrap();
        assert!(source.root.starts_with(canonical), "{source:?}");
        Ok(source)
    }

    fn named(name: &str, text: &str, handler: Option<&str>) -> (Runtime, String) {
        let source = found(name, text, handler).unwrap();
        (source.runtime, source.handler)
    }

    #[test]
    fn a_file_says_its_runtime_and_its_function() {
        use Runtime::{JavaScript, Lua, Python};
        let both = "def main(a): pass\ndef handler(e, c): pass\n";
        for (name, text, handler, expected) in [
            ("app.py", both, None, (Python, "app.handler")),
            ("x.py", "def main(a): pass", None, (Python, "x.main")),
            ("x.py", both, Some("run"), (Python, "x.run")),
            ("x.py", both, Some("pkg.mod.run"), (Python, "pkg.mod.run")),
            ("empty.py", "", None, (Python, "empty.handler")),
            (
                "a.mjs",
                "export const handler = 1",
                None,
                (JavaScript, "a.handler"),
            ),
            ("a.lua", "function main(x) end", None, (Lua, "a.main")),
        ] {
            let (runtime, handler) = named(name, text, handler);
            assert_eq!((runtime, handler.as_str()), expected, "{name}: {text}");
        }
    }

    #[test]
    fn a_package_is_for_node() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("app.js");
        fs::write(&file, "exports.handler = 1").unwrap();
        let runtime = |said| Source::of_file(&file, said, None).map(|it| it.runtime);
        assert_eq!(runtime(None).unwrap(), Runtime::JavaScript);
        assert_eq!(runtime(Some(Runtime::Node)).unwrap(), Runtime::Node);
        fs::write(directory.path().join("package.json"), "{}").unwrap();
        assert_eq!(runtime(None).unwrap(), Runtime::Node);
        assert_eq!(
            runtime(Some(Runtime::JavaScript)).unwrap(),
            Runtime::JavaScript
        );
        assert!(runtime(Some(Runtime::Lua)).is_err());
    }

    #[test]
    fn a_class_is_found_below_its_packages() {
        let source = found("shop/in/Basket.class", "", Some("shop.in.Basket::handle")).unwrap();
        assert!(!source.root.ends_with("in"), "{source:?}");
        assert_eq!(source.handler, "shop.in.Basket::handle");
        assert!(found("Basket.class", "", Some("shop.Basket::handle")).is_err());
        let refused = found("Basket.class", "", None).unwrap_err();
        assert!(refused.contains("--handler"), "{refused}");
    }

    #[test]
    fn what_no_runtime_takes_is_said() {
        for (name, word) in [
            ("App.java", "javac"),
            ("app.ts", "compile"),
            ("app.rb", "Python (.py)"),
        ] {
            let refused = found(name, "", None).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
