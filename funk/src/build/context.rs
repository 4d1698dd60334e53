//! What of a folder goes into an image: a copy, without what should be in none.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::Error;

/// Where what a builder leaves out of a copy is written.
const IGNORE: &str = ".dockerignore";

/// Keys, whatever they are called before that.
const KEYS: [&str; 5] = [".pem", ".key", ".p12", ".pfx", ".jks"];

/// What is made anew, and caches.
const MADE: [&str; 2] = ["__pycache__", "venv"];

const PACKAGES: &str = "node_modules";

/// A copy of a folder, which is gone with it.
pub(crate) struct Context {
    directory: TempDir,
    /// Names that were left out.
    pub(crate) left_out: BTreeSet<String>,
}

impl Context {
    /// Copies what is to be in the image, `node_modules` if nobody installs them.
    pub(crate) fn of(folder: &Path, installs_packages: bool) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::file("copying", folder, &error);
        let directory = tempfile::Builder::new()
            .prefix("funk-build-")
            .tempdir()
            .map_err(failed)?;
        let wanted = fs::read_to_string(folder.join(IGNORE)).unwrap_or_default();
        let mut copy = Copy {
            wanted: wanted
                .lines()
                .filter_map(|it| it.trim().strip_prefix('!'))
                .collect(),
            installs_packages,
            left_out: BTreeSet::new(),
        };
        let to = directory.path().join("context");
        copy.folder(folder, &to, Path::new("")).map_err(failed)?;
        let left_out = copy.left_out;
        Ok(Self {
            directory,
            left_out,
        })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    /// Writes the Dockerfile beside it: it belongs into no image.
    pub(crate) fn write_dockerfile(&self, text: &str) -> io::Result<PathBuf> {
        let path = self.directory.path().join("Dockerfile");
        fs::write(&path, text)?;
        Ok(path)
    }
}

struct Copy<'a> {
    /// What the folder's `.dockerignore` has all the same, by `!`.
    wanted: BTreeSet<&'a str>,
    installs_packages: bool,
    left_out: BTreeSet<String>,
}

impl Copy<'_> {
    fn folder(&mut self, from: &Path, to: &Path, below: &Path) -> io::Result<()> {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            let place = below.join(&name);
            if self.leaves_out(&name, &place) {
                self.left_out.insert(place.display().to_string());
                continue;
            }
            let (source, copy) = (entry.path(), to.join(&name));
            if kind.is_dir() {
                self.folder(&source, &copy, &place)?;
            } else if kind.is_symlink() {
                symlink(fs::read_link(&source)?, &copy)?;
            } else if kind.is_file() {
                fs::copy(&source, &copy)?;
                everybody_reads(&copy)?;
            }
        }
        everybody_reads(to)
    }

    fn leaves_out(&self, name: &OsStr, place: &Path) -> bool {
        let name = name.to_string_lossy();
        if name == IGNORE {
            // The builder goes by it.
            return false;
        }
        let is_hidden = name.starts_with('.');
        let is_key = KEYS.iter().any(|end| name.ends_with(end));
        let is_made = MADE.contains(&name.as_ref())
            || name.ends_with(".pyc")
            || self.installs_packages && name == PACKAGES;
        let is_wanted = || {
            let place = place.to_string_lossy();
            [name.as_ref(), place.as_ref()]
                .iter()
                .any(|it| self.wanted.contains(it))
        };
        (is_hidden || is_key || is_made) && !is_wanted()
    }
}

/// Functions are called as another user than the one who owns an image's files.
fn everybody_reads(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let mode = metadata.permissions().mode() & 0o7777;
    let is_entered = metadata.is_dir() || mode & 0o100 != 0;
    let mode = mode | if is_entered { 0o555 } else { 0o444 };
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, below: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                names(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    fn copied(ignore: Option<&str>, installs_packages: bool) -> (BTreeSet<String>, Context) {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "app.py",
            ".env",
            ".env.local",
            ".git/config",
            "lib/.npmrc",
            "lib/server.key",
            "lib/code.py",
            "lib/__pycache__/code.pyc",
            "node_modules/a/index.js",
            "venv/bin/python",
        ] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }
        symlink("app.py", directory.path().join("link.py")).unwrap();
        if let Some(ignore) = ignore {
            fs::write(directory.path().join(IGNORE), ignore).unwrap();
        }
        let context = Context::of(directory.path(), installs_packages).unwrap();
        let mut found = BTreeSet::new();
        names(&context.path(), "", &mut found);
        (found, context)
    }

    #[test]
    fn secrets_and_what_is_made_anew_stay_where_they_are() {
        let (found, context) = copied(None, true);
        let expected = ["app.py", "lib/code.py", "link.py"].map(str::to_owned);
        assert_eq!(found, BTreeSet::from(expected));
        let left = &context.left_out;
        for name in [
            ".env",
            ".git",
            "lib/.npmrc",
            "lib/server.key",
            "node_modules",
        ] {
            assert!(left.contains(name), "{name}: {left:?}");
        }
        let mode = fs::metadata(context.path().join("app.py")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o644);
        let (found, _) = copied(None, false);
        assert!(found.contains("node_modules/a/index.js"), "{found:?}");
    }

    #[test]
    fn what_is_wanted_by_name_is_copied() {
        let (found, _) = copied(Some("*.md\n!.env.local\n!lib/server.key\n"), true);
        for name in [".env.local", "lib/server.key", IGNORE] {
            assert!(found.contains(name), "{name}: {found:?}");
        }
        assert!(!found.contains(".env"), "{found:?}");
    }
}
