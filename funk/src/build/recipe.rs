//! What a folder holds, and the Dockerfile for it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::error::Error;
use crate::source::{Runtime, Source};

/// What was said about a folder.
#[derive(Debug, Default)]
pub(crate) struct Said<'a> {
    pub(crate) file: Option<&'a Path>,
    pub(crate) handler: Option<&'a str>,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) base: Option<&'a str>,
}

/// What the function needs that is not in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// What pip is to install. They name files of the folder, too, or none.
    Requirements {
        name_files: bool,
    },
    /// What npm is to install, by a lock file if there is one.
    Packages {
        lock: Option<&'static str>,
        name_files: bool,
    },
}

/// How an image of a folder is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) runtime: Runtime,
    pub(crate) handler: String,
    pub(crate) base: String,
    needs: Needs,
}

impl Recipe {
    /// The one for a folder.
    pub(crate) fn of(folder: &Path, said: &Said<'_>) -> Result<Self, Error> {
        let (runtime, handler) = function(folder, said)?;
        let needs = match runtime {
            Runtime::Python => requirements(folder)?,
            Runtime::JavaScript | Runtime::Node => packages(folder)?,
            Runtime::Java | Runtime::Lua => Needs::Nothing,
        };
        let base = said
            .base
            .map_or_else(|| format!("refunction/{runtime}"), str::to_owned);
        Ok(Self {
            runtime,
            handler,
            base,
            needs,
        })
    }

    /// True if the folder's own `node_modules` are in nobody's way.
    pub(crate) fn installs_packages(&self) -> bool {
        matches!(self.needs, Needs::Packages { .. })
    }

    /// The Dockerfile.
    pub(crate) fn dockerfile(&self) -> String {
        let base = &self.base;
        let (stage, copied) = match &self.needs {
            Needs::Nothing => (String::new(), ""),
            Needs::Requirements { name_files } => {
                let files = if *name_files { "." } else { "requirements.txt" };
                (
                    stage(
                        base,
                        "requirements",
                        "python3-pip",
                        files,
                        "mkdir /requirements \\\n && pip install --no-cache-dir --target /requirements --requirement requirements.txt",
                    ),
                    "COPY --from=requirements /requirements ${FUNCTION_ROOT}/\n",
                )
            }
            Needs::Packages { lock, name_files } => {
                let files = match lock {
                    _ if *name_files => ".".to_owned(),
                    Some(lock) => format!("package.json {lock}"),
                    None => "package.json".to_owned(),
                };
                let verb = if lock.is_some() { "ci" } else { "install" };
                let install = format!("npm {verb} --omit=dev \\\n && mkdir -p node_modules");
                (
                    stage(base, "packages", "npm", &files, &install),
                    "COPY --from=packages /src/node_modules ${FUNCTION_ROOT}/node_modules\n",
                )
            }
        };
        let handler = Value::from([self.handler.as_str()].as_slice());
        format!("{stage}FROM {base}\n{copied}COPY . ${{FUNCTION_ROOT}}/\nCMD {handler}\n")
    }
}

/// A stage of the same base, so that what is compiled in it fits, with a package manager
/// that the image itself does without.
fn stage(base: &str, name: &str, manager: &str, files: &str, install: &str) -> String {
    format!(
        "FROM {base} AS {name}
RUN apt-get update \\
 && apt-get install -y --no-install-recommends {manager} \\
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY {files} ./
RUN {install}

"
    )
}

/// The function of a folder: its runtime, and what the image's command names.
fn function(folder: &Path, said: &Said<'_>) -> Result<(Runtime, String), Error> {
    if let Some(handler) = java_class(folder, said) {
        return Ok((Runtime::Java, handler));
    }
    let file = match said.file {
        Some(file) => folder.join(file),
        None => candidate(folder, said)?,
    };
    let source = Source::of_file(&file, said.runtime, said.handler)?;
    let folder = folder
        .canonicalize()
        .map_err(|error| Error::file("reading", folder, &error))?;
    let below = source.root.strip_prefix(&folder).map_err(|_| {
        Error::Usage(format!(
            "{} is not in the folder {}",
            file.display(),
            folder.display()
        ))
    })?;
    let is_whole = said.handler.is_some_and(|handler| handler.contains('.'));
    let mut handler = source.handler;
    if !is_whole {
        for part in below.components().rev() {
            if let Component::Normal(part) = part {
                handler = format!("{}/{handler}", part.to_string_lossy());
            }
        }
    }
    Ok((source.runtime, handler))
}

/// A handler of Java's whose class is in the folder as it is.
fn java_class(folder: &Path, said: &Said<'_>) -> Option<String> {
    let handler = said.handler?;
    let class = handler.split("::").next()?;
    let file = format!("{}.class", class.replace('.', "/"));
    let is_there = said.file.is_none() && folder.join(file).is_file();
    is_there.then(|| handler.to_owned())
}

/// The one file that the function can be in.
fn candidate(folder: &Path, said: &Said<'_>) -> Result<PathBuf, Error> {
    let unreadable = |error| Error::file("reading", folder, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() && is_candidate(&path, said) {
            found.push(path);
        }
    }
    found.sort();
    let shown = folder.display();
    let names = |files: &[PathBuf]| {
        let names = files.iter().filter_map(|file| file.file_name());
        let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
        names.join(", ")
    };
    if let Some(main) = package_main(folder).filter(|_| !found.iter().any(|it| !is_javascript(it)))
    {
        return Ok(main);
    }
    // As Lambda's tools call it.
    let apps: Vec<&PathBuf> = found
        .iter()
        .filter(|file| file.file_stem().is_some_and(|stem| stem == "app"))
        .collect();
    match (found.as_slice(), apps.as_slice()) {
        ([one], _) => Ok(one.clone()),
        (_, [one]) => Ok((*one).clone()),
        ([], _) if folder.join("pom.xml").is_file() || folder.join("build.gradle").is_file() => {
            Err(Error::Usage(format!(
                "there is no jar in {shown}: build it first, and name the folder that it is in"
            )))
        }
        ([], _) => Err(Error::Usage(format!(
            "no function was found in {shown}: no file of it has a `handler` or a `main`; --file names the file and --handler the function"
        ))),
        (several, _) => Err(Error::Usage(format!(
            "several files of {shown} have a function: {}; --file names the one that is meant",
            names(several)
        ))),
    }
}

fn is_candidate(file: &Path, said: &Said<'_>) -> bool {
    // A file that defines something else is meant where that is named.
    let is_named = said.handler.is_some_and(|handler| {
        let module = handler.rsplit_once('.').map(|(module, _)| module);
        let stem = file.file_stem().and_then(|stem| stem.to_str());
        module.is_some() && module == stem && Source::is_known(file)
    });
    let is_meant = match said.handler {
        Some(handler) if handler.contains('.') && !handler.contains("::") => is_named,
        _ => Source::is_in(file),
    };
    is_meant
        && said
            .runtime
            .is_none_or(|runtime| Source::is_for(file, runtime))
}

fn is_javascript(file: &Path) -> bool {
    Source::is_for(file, Runtime::Node)
}

fn package(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(folder.join("package.json")).ok()?).ok()
}

/// The file that a package names, if there is one.
fn package_main(folder: &Path) -> Option<PathBuf> {
    let main = folder.join(package(folder)?["main"].as_str()?);
    Source::is_in(&main).then_some(main)
}

fn requirements(folder: &Path) -> Result<Needs, Error> {
    let path = folder.join("requirements.txt");
    if !path.is_file() {
        return Ok(Needs::Nothing);
    }
    let text = fs::read_to_string(&path).map_err(|error| Error::file("reading", &path, &error))?;
    let mut lines = text.lines().map(str::trim);
    Ok(Needs::Requirements {
        name_files: lines.any(|line| {
            line.starts_with(['.', '/', '-']) && !line.starts_with("--") || line.contains("file:")
        }),
    })
}

fn packages(folder: &Path) -> Result<Needs, Error> {
    let path = folder.join("package.json");
    if !path.is_file() {
        return Ok(Needs::Nothing);
    }
    let Some(package) = package(folder) else {
        return Err(Error::Usage(format!("{} is not JSON", path.display())));
    };
    let dependencies = package["dependencies"].as_object();
    if dependencies.is_none_or(|it| it.is_empty()) {
        return Ok(Needs::Nothing);
    }
    let lock = ["package-lock.json", "npm-shrinkwrap.json"]
        .into_iter()
        .find(|name| folder.join(name).is_file());
    let name_files = dependencies.is_some_and(|it| {
        it.values()
            .filter_map(Value::as_str)
            .any(|version| version.starts_with("file:") || version.starts_with(['.', '/']))
    });
    Ok(Needs::Packages { lock, name_files })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn dockerfile(files: &[(&str, &str)], said: &Said<'_>) -> Result<String, String> {
        Recipe::of(folder(files).path(), said)
            .map(|recipe| recipe.dockerfile())
            .map_err(|error| error.to_string())
    }

    const PYTHON: (&str, &str) = ("app.py", "def handler(event, context): pass");
    const NODE: (&str, &str) = ("index.mjs", "export const handler = async () => 1;");

    #[test]
    fn a_file_is_enough() {
        let text = dockerfile(&[PYTHON, ("prices.json", "{}")], &Said::default()).unwrap();
        assert_eq!(
            text,
            "FROM refunction/python\nCOPY . ${FUNCTION_ROOT}/\nCMD [\"app.handler\"]\n"
        );
    }

    #[test]
    fn requirements_are_installed_by_a_stage_of_the_same_base() {
        let files = [PYTHON, ("requirements.txt", "requests==2.32\n# -e .\n")];
        let text = dockerfile(&files, &Said::default()).unwrap();
        assert_eq!(
            text,
            "FROM refunction/python AS requirements
RUN apt-get update \\
 && apt-get install -y --no-install-recommends python3-pip \\
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.txt ./
RUN mkdir /requirements \\
 && pip install --no-cache-dir --target /requirements --requirement requirements.txt

FROM refunction/python
COPY --from=requirements /requirements ${FUNCTION_ROOT}/
COPY . ${FUNCTION_ROOT}/
CMD [\"app.handler\"]
"
        );
        for line in [
            "./vendor/x.whl",
            "-e .",
            "-r more.txt",
            "x @ file:///src/x.whl",
        ] {
            let text = dockerfile(&[PYTHON, ("requirements.txt", line)], &Said::default());
            assert!(text.unwrap().contains("COPY . ./\nRUN"), "{line}");
        }
    }

    #[test]
    fn packages_are_installed_by_npm_if_there_are_any() {
        let package = r#"{"dependencies": {"left-pad": "1"}}"#;
        let text = dockerfile(&[NODE, ("package.json", package)], &Said::default()).unwrap();
        assert!(
            text.contains("COPY package.json ./\nRUN npm install --omit=dev"),
            "{text}"
        );
        assert!(
            text.contains("FROM refunction/node\nCOPY --from=packages"),
            "{text}"
        );
        let files = [NODE, ("package.json", package), ("package-lock.json", "{}")];
        let text = dockerfile(&files, &Said::default()).unwrap();
        assert!(
            text.contains("COPY package.json package-lock.json ./\nRUN npm ci"),
            "{text}"
        );
        let none = r#"{"devDependencies": {"left-pad": "1"}}"#;
        let text = dockerfile(&[NODE, ("package.json", none)], &Said::default()).unwrap();
        assert!(!text.contains("npm"), "{text}");
        let near = r#"{"dependencies": {"near": "file:near"}}"#;
        let text = dockerfile(&[NODE, ("package.json", near)], &Said::default()).unwrap();
        assert!(text.contains("COPY . ./\nRUN npm install"), "{text}");
        let broken = dockerfile(&[NODE, ("package.json", "{")], &Said::default());
        assert!(broken.unwrap_err().contains("not JSON"));
    }

    #[test]
    fn the_function_is_found_or_the_reason_is_said() {
        let said = Said::default();
        let command = |files: &[(&str, &str)], said: &Said<'_>| -> Result<String, String> {
            let text = dockerfile(files, said)?;
            Ok(text.lines().last().unwrap_or_default().to_owned())
        };
        let handlers = |files: &[(&str, &str)]| command(files, &said);
        let other = ("other.py", "def main(args): pass");
        let app = r#"CMD ["app.handler"]"#.to_owned();
        assert_eq!(handlers(&[PYTHON, other]), Ok(app.clone()));
        assert_eq!(
            handlers(&[PYTHON, ("library.py", "x = 1")]),
            Ok(app.clone())
        );
        assert_eq!(handlers(&[other]), Ok(r#"CMD ["other.main"]"#.into()));
        let several = handlers(&[("a.py", PYTHON.1), other]).unwrap_err();
        assert!(several.contains("a.py, other.py"), "{several}");
        let both = handlers(&[PYTHON, ("app.lua", "function main() end")]).unwrap_err();
        assert!(both.contains("app.lua, app.py"), "{both}");
        assert!(
            handlers(&[("x.py", "")])
                .unwrap_err()
                .contains("no function was found")
        );
        assert!(
            handlers(&[("pom.xml", "")])
                .unwrap_err()
                .contains("build it first")
        );
        let package = ("package.json", r#"{"main": "src/it.js"}"#);
        let main = ("src/it.js", "exports.handler = 1");
        let found = handlers(&[package, main, NODE]);
        assert_eq!(found, Ok(r#"CMD ["src/it.handler"]"#.into()));
        let file = Said {
            file: Some(Path::new("other.py")),
            ..Said::default()
        };
        let found = command(&[PYTHON, other], &file);
        assert_eq!(found, Ok(r#"CMD ["other.main"]"#.into()));
        let outside = Said {
            file: Some(Path::new("/etc/hostname.py")),
            ..Said::default()
        };
        assert!(command(&[PYTHON], &outside).is_err());
        let handler = Said {
            handler: Some("other.third"),
            ..Said::default()
        };
        let found = command(&[PYTHON, other], &handler);
        assert_eq!(found, Ok(r#"CMD ["other.third"]"#.into()));
        let lua = Said {
            runtime: Some(Runtime::Lua),
            ..Said::default()
        };
        let found = command(&[PYTHON, ("f.lua", "function main() end")], &lua);
        assert_eq!(found, Ok(r#"CMD ["f.main"]"#.into()));
    }

    #[test]
    fn java_is_a_jar_or_classes() {
        let handler = |named| Said {
            handler: Some(named),
            ..Said::default()
        };
        let said = handler("shop.Basket::handle");
        let expected =
            "FROM refunction/java\nCOPY . ${FUNCTION_ROOT}/\nCMD [\"shop.Basket::handle\"]\n";
        for file in ["shop.jar", "shop/Basket.class"] {
            assert_eq!(
                dockerfile(&[(file, "")], &said).as_deref(),
                Ok(expected),
                "{file}"
            );
        }
        let unnamed = dockerfile(&[("shop.jar", "")], &Said::default()).unwrap_err();
        assert!(unnamed.contains("--handler"), "{unnamed}");
    }

    #[test]
    fn another_base_is_every_stages() {
        let said = Said {
            base: Some("my/python:1"),
            ..Said::default()
        };
        let text = dockerfile(&[PYTHON, ("requirements.txt", "x")], &said).unwrap();
        assert_eq!(text.matches("FROM my/python:1").count(), 2, "{text}");
        assert!(!text.contains("refunction/"), "{text}");
    }
}
