//! Where the daemon listens: said, remembered, or the usual place.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where refunctiond listens unless it is told otherwise.
const DEFAULT: &str = "unix:///run/refunction/refunction.sock";

/// An address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its socket.
    pub(crate) path: PathBuf,
}

impl Target {
    /// Reads an address.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let path = match url.split_once("://") {
            Some(("unix", path)) => Path::new(path),
            Some((scheme, _)) => {
                return Err(Error::Usage(format!(
                    "the target {url:?} begins with {scheme}://, and refunctiond listens on Unix sockets only; write it as unix:///PATH"
                )));
            }
            None => Path::new(url),
        };
        if !path.is_absolute() {
            return Err(Error::Usage(format!(
                "the target {url:?} is not an address; write it as unix:///PATH"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// The one that was said on the command line or in the environment, otherwise
    /// the remembered one, otherwise the usual one.
    pub(crate) fn find(said: Option<&str>) -> Result<Self, Error> {
        // An empty variable counts as none, as everywhere.
        if let Some(url) = said.filter(|url| !url.is_empty()) {
            return Self::parse(url);
        }
        match remembered(&file()?)? {
            Some(url) => Self::parse(&url),
            None => Self::parse(DEFAULT),
        }
    }

    /// Remembers it for later calls.
    pub(crate) fn remember(&self) -> Result<PathBuf, Error> {
        let file = file()?;
        remember(&file, &self.url())?;
        Ok(file)
    }
}

fn file() -> Result<PathBuf, Error> {
    place(std::env::var_os("XDG_CONFIG_HOME"), std::env::var_os("HOME"))
        .ok_or_else(|| Error::Usage("neither HOME nor XDG_CONFIG_HOME is set, so there is no place for the target; say it with --target".into()))
}

/// The specification of these variables: a relative path counts as unset.
fn place(config: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|it| it.is_absolute());
    let directory = absolute(config).or_else(|| absolute(home).map(|home| home.join(".config")))?;
    Some(directory.join("refunction/target"))
}

fn remembered(file: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|url| !url.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("reading", file, &error)),
    }
}

fn remember(file: &Path, url: &str) -> Result<(), Error> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)
            .map_err(|error| Error::file("making", directory, &error))?;
    }
    std::fs::write(file, format!("{url}\n")).map_err(|error| Error::file("writing", file, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_sockets_path() {
        let path = |url: &str| Target::parse(url).map(|it| it.path);
        assert_eq!(
            path("unix:///run/x.sock").unwrap(),
            Path::new("/run/x.sock")
        );
        assert_eq!(path("/run/x.sock").unwrap(), Path::new("/run/x.sock"));
        for wrong in ["http://localhost:1", "unix://relative", "x", ""] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_place_follows_xdg() {
        let os = |text: &str| Some(OsString::from(text));
        let expect = |path: &str| Some(PathBuf::from(path));
        assert_eq!(place(os("/c"), os("/h")), expect("/c/refunction/target"));
        assert_eq!(
            place(None, os("/h")),
            expect("/h/.config/refunction/target")
        );
        assert_eq!(
            place(os("rel"), os("/h")),
            expect("/h/.config/refunction/target")
        );
        assert_eq!(place(os(""), None), None);
    }

    #[test]
    fn what_is_remembered_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a/b/target");
        assert_eq!(remembered(&file).unwrap(), None);
        remember(&file, "unix:///x").unwrap();
        assert_eq!(remembered(&file).unwrap().as_deref(), Some("unix:///x"));
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(remembered(&file).unwrap(), None);
    }
}
