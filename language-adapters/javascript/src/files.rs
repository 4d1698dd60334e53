//! Where modules come from: the function's own text or archive, and below it the files
//! that the image has in its function root. The first have names without a leading `/`,
//! the others their paths, so that one never stands for the other.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::archive::Archive;

const EXTENSIONS: [&str; 4] = [".js", ".mjs", ".cjs", ".json"];
const INDEX: [&str; 4] = ["index.js", "index.mjs", "index.cjs", "index.json"];

/// What a function brought with it.
#[derive(Default)]
pub(crate) enum Own {
    #[default]
    Nothing,
    Source {
        name: String,
        text: String,
    },
    Archive(Archive),
}

/// Who asks for a module, as far as packages distinguish it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    Import,
    Require,
}

pub(crate) struct Files {
    root: Option<PathBuf>,
    own: Own,
}

impl Files {
    pub(crate) fn new(root: Option<PathBuf>) -> Self {
        Self {
            root,
            own: Own::Nothing,
        }
    }

    /// Has this be what the function brought.
    pub(crate) fn set(&mut self, own: Own) {
        self.own = own;
    }

    /// Names of files that came with the function.
    pub(crate) fn own_names(&self) -> Vec<&str> {
        match &self.own {
            Own::Nothing => Vec::new(),
            Own::Source { name, .. } => vec![name],
            Own::Archive(archive) => archive.names().collect(),
        }
    }

    /// The path that a module is told it has.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match &self.root {
            Some(root) => root.join(name),
            None => Path::new("/").join(name),
        }
    }

    /// A module's text; `None` if it is not there.
    ///
    /// # Errors
    /// It is there and cannot be read; a phrase that says why.
    pub(crate) fn read(&self, name: &str) -> Option<Result<String, String>> {
        let bytes = if name.starts_with('/') {
            std::fs::read(name)
                .map_err(|error| format!("reading {name}: {error}"))
                .into()
        } else {
            match &self.own {
                Own::Source { name: own, text } => {
                    (own == name).then(|| Ok(text.clone().into_bytes()))
                }
                Own::Archive(archive) => archive.read(name),
                Own::Nothing => None,
            }
        }?;
        Some(bytes.and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| format!("the file {name} is not UTF-8"))
        }))
    }

    fn is_file(&self, name: &str) -> bool {
        if name.starts_with('/') {
            return Path::new(name).is_file();
        }
        match &self.own {
            Own::Nothing => false,
            Own::Source { name: own, .. } => own == name,
            Own::Archive(archive) => archive.has(name),
        }
    }

    fn json(&self, name: &str) -> Option<Value> {
        serde_json::from_str(&self.read(name)?.ok()?).ok()
    }

    /// The module that a specifier names in a module, as Node.js finds it.
    pub(crate) fn resolve(&self, base: &str, specifier: &str, asker: Asker) -> Option<String> {
        let is_relative = matches!(specifier, "." | "..")
            || specifier.starts_with("./")
            || specifier.starts_with("../");
        if is_relative {
            return self.find(&join(directory(base), specifier)?);
        }
        if specifier.starts_with('/') {
            return self.find(&join("/", specifier)?);
        }
        self.find_package(base, specifier, asker)
    }

    /// The file that a handler's module part means.
    pub(crate) fn resolve_entry(&self, module: &str) -> Option<String> {
        // A module in a directory may be written with dots, as in other languages.
        [module.to_owned(), module.replace('.', "/")]
            .iter()
            .find_map(|name| self.find(&join("", name)?))
    }

    /// The module that an archive begins with.
    pub(crate) fn main(&self) -> Option<String> {
        self.directory_main("")
    }

    /// A file or directory: what came with the function goes first.
    fn find(&self, name: &str) -> Option<String> {
        if name.starts_with('/') {
            let root = self.root.as_ref()?;
            return if Path::new(name).starts_with(root) {
                self.find_exactly(name)
            } else {
                None
            };
        }
        self.find_exactly(name)
            .or_else(|| self.find_exactly(self.root.as_ref()?.join(name).to_str()?))
    }

    fn find_exactly(&self, name: &str) -> Option<String> {
        if !name.is_empty() && self.is_file(name) {
            return Some(name.to_owned());
        }
        EXTENSIONS
            .iter()
            .map(|extension| format!("{name}{extension}"))
            .find(|name| self.is_file(name))
            .or_else(|| self.directory_main(name))
    }

    fn directory_main(&self, directory: &str) -> Option<String> {
        let main = self
            .json(&below(directory, "package.json"))
            .and_then(|package| Some(package.get("main")?.as_str()?.to_owned()))
            .and_then(|main| join(directory, &main));
        if let Some(main) = main {
            let found = std::iter::once(String::new())
                .chain(EXTENSIONS.map(str::to_owned))
                .chain(INDEX.map(|index| format!("/{index}")))
                .map(|end| format!("{main}{end}"))
                .find(|name| self.is_file(name));
            if found.is_some() {
                return found;
            }
        }
        INDEX
            .iter()
            .map(|index| below(directory, index))
            .find(|name| self.is_file(name))
    }

    fn find_package(&self, base: &str, specifier: &str, asker: Asker) -> Option<String> {
        let (package, inside) = split_package(specifier);
        let own = directories_above(directory(base));
        let image = self.root.as_ref().and_then(|root| root.to_str());
        own.into_iter()
            .chain(image.filter(|_| !base.starts_with('/')).map(str::to_owned))
            .filter(|directory| !directory.ends_with("node_modules"))
            .map(|directory| below(&directory, &format!("node_modules/{package}")))
            .find_map(|directory| self.find_in_package(&directory, inside, asker))
    }

    fn find_in_package(&self, directory: &str, inside: &str, asker: Asker) -> Option<String> {
        let package = self.json(&below(directory, "package.json"));
        if let Some(exports) = package.as_ref().and_then(|package| package.get("exports")) {
            let wanted = if inside.is_empty() {
                ".".to_owned()
            } else {
                format!("./{inside}")
            };
            let target = exported(exports, &wanted, asker)?;
            let name = join(directory, &target)?;
            return self.is_file(&name).then_some(name);
        }
        if inside.is_empty() {
            self.directory_main(directory)
        } else {
            self.find_exactly(&join(directory, inside)?)
        }
    }

    /// What the nearest `package.json` says of plain `.js` files: whether they are
    /// ECMAScript modules; `None` if none says anything.
    pub(crate) fn is_module_by_package(&self, name: &str) -> Option<bool> {
        for directory in directories_above(directory(name)) {
            let Some(package) = self.json(&below(&directory, "package.json")) else {
                continue;
            };
            return match package.get("type")?.as_str()? {
                "module" => Some(true),
                "commonjs" => Some(false),
                _ => None,
            };
        }
        None
    }
}

/// What a package's `exports` says of a name in it.
fn exported(exports: &Value, wanted: &str, asker: Asker) -> Option<String> {
    let names_paths = exports
        .as_object()
        .is_some_and(|it| it.keys().any(|key| key.starts_with('.')));
    if !names_paths {
        return (wanted == ".").then(|| target(exports, asker, ""))?;
    }
    let paths = exports.as_object()?;
    if let Some(found) = paths.get(wanted) {
        return target(found, asker, "");
    }
    paths.iter().find_map(|(pattern, found)| {
        let (start, end) = pattern.split_once('*')?;
        let star = wanted.strip_prefix(start)?.strip_suffix(end)?;
        target(found, asker, star)
    })
}

/// The first condition that holds here.
fn target(found: &Value, asker: Asker, star: &str) -> Option<String> {
    match found {
        Value::String(path) => Some(path.replace('*', star)),
        Value::Array(choices) => choices.iter().find_map(|it| target(it, asker, star)),
        Value::Object(conditions) => conditions
            .iter()
            .filter(|(condition, _)| match condition.as_str() {
                "import" | "module" => asker == Asker::Import,
                "require" => asker == Asker::Require,
                "default" | "quickjs" => true,
                _ => false,
            })
            .find_map(|(_, it)| target(it, asker, star)),
        _ => None,
    }
}

/// `@scope/name/inside` at the name's end.
fn split_package(specifier: &str) -> (&str, &str) {
    let skipped = if specifier.starts_with('@') {
        specifier.find('/').map_or(0, |at| at + 1)
    } else {
        0
    };
    match specifier[skipped..].find('/') {
        Some(at) => (&specifier[..skipped + at], &specifier[skipped + at + 1..]),
        None => (specifier, ""),
    }
}

/// The directory that a module lies in, without a `/` at its end.
fn directory(name: &str) -> &str {
    match name.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((directory, _)) => directory,
        None => "",
    }
}

fn below(directory: &str, name: &str) -> String {
    if directory.is_empty() || directory.ends_with('/') {
        format!("{directory}{name}")
    } else {
        format!("{directory}/{name}")
    }
}

/// A directory and those above it.
fn directories_above(mut directory: &str) -> Vec<String> {
    let mut all = vec![directory.to_owned()];
    while !matches!(directory, "" | "/") {
        directory = self::directory(directory);
        all.push(directory.to_owned());
    }
    all
}

/// A path made plain; `None` if it leads out of where it starts.
fn join(directory: &str, specifier: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let whole = below(directory, specifier);
    for component in Path::new(&whole).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    let start = if whole.starts_with('/') { "/" } else { "" };
    Some(format!("{start}{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain() {
        for (directory, specifier, expected) in [
            ("", "./a.js", Some("a.js")),
            ("lib", "../a.js", Some("a.js")),
            ("lib", "..//b/./c.js", Some("b/c.js")),
            ("lib", "../../a.js", None),
            ("/var/task", "./a.js", Some("/var/task/a.js")),
            ("/", "/a.js", Some("/a.js")),
        ] {
            assert_eq!(join(directory, specifier).as_deref(), expected);
        }
    }

    #[test]
    fn packages_have_scopes() {
        assert_eq!(split_package("lodash"), ("lodash", ""));
        assert_eq!(split_package("lodash/fp/map"), ("lodash", "fp/map"));
        assert_eq!(split_package("@scope/name"), ("@scope/name", ""));
        assert_eq!(split_package("@scope/name/in"), ("@scope/name", "in"));
        assert_eq!(split_package("@scope"), ("@scope", ""));
    }

    #[test]
    fn exports_are_read_as_node_reads_them() {
        let exports = serde_json::json!({
            ".": {"import": "./a.mjs", "require": "./a.cjs"},
            "./part": "./b.js",
            "./deep/*": {"node": "./no.js", "default": "./d/*.js"},
        });
        for (wanted, asker, expected) in [
            (".", Asker::Import, Some("./a.mjs")),
            (".", Asker::Require, Some("./a.cjs")),
            ("./part", Asker::Import, Some("./b.js")),
            ("./deep/x", Asker::Import, Some("./d/x.js")),
            ("./other", Asker::Import, None),
        ] {
            assert_eq!(exported(&exports, wanted, asker).as_deref(), expected);
        }
        let one = serde_json::json!("./only.js");
        assert_eq!(
            exported(&one, ".", Asker::Import).as_deref(),
            Some("./only.js")
        );
        assert_eq!(exported(&one, "./x", Asker::Import), None);
    }
}
