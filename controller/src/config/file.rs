//! Reading the file, and saying where in it something is wrong.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, Problem};

/// What is read if it exists and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/refunction/refunctiond.toml";

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or closed.
    #[error("reading the configuration {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Parts of it are wrong.
    #[error("{}", lines(problems))]
    Wrong {
        /// Each, with its place.
        problems: Vec<Placed>,
    },
}

fn lines(problems: &[Placed]) -> String {
    let lines: Vec<_> = problems.iter().map(Placed::to_string).collect();
    lines.join("\n")
}

/// A problem, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The file and, where that is known, the line.
    place: Option<(PathBuf, Option<usize>)>,
    /// What is wrong.
    message: String,
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some((path, Some(line))) => write!(f, "{}:{line}: ", path.display())?,
            Some((path, None)) => write!(f, "{}: ", path.display())?,
            None => {}
        }
        f.write_str(&self.message)
    }
}

/// A file that was read, kept to say where in it a setting is.
#[derive(Debug, Clone, Default)]
pub struct Source {
    path: Option<PathBuf>,
    text: String,
}

impl Source {
    /// Reads the named file, or the usual one if it exists.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self {
                path: Some(path.to_owned()),
                text,
            }),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    #[cfg(test)]
    pub(super) fn for_test(text: &str) -> Self {
        Self {
            path: Some("refunctiond.toml".into()),
            text: text.to_owned(),
        }
    }

    /// The file's name, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What it says, and the defaults where it says nothing.
    ///
    /// # Errors
    /// It is not TOML, or has something in it that is no setting.
    pub fn parse(&self) -> Result<Config, ConfigError> {
        toml::from_str(&self.text).map_err(|error| ConfigError::Wrong {
            problems: vec![Placed {
                place: self
                    .path
                    .clone()
                    .map(|path| (path, error.span().map(|span| self.line(&span)))),
                message: error.message().trim().replace('\n', ", "),
            }],
        })
    }

    /// The problems with their places in this file.
    #[must_use]
    pub fn place(&self, problems: Vec<Problem>) -> Vec<Placed> {
        let document = DeTable::parse(&self.text).ok();
        problems
            .into_iter()
            .map(|problem| {
                let table = document.as_ref().map(Spanned::get_ref);
                let found = table.and_then(|table| find(table, &problem.setting));
                let name = problem.setting.join(".");
                Placed {
                    // What the file does not say comes from the command line or the defaults.
                    place: found
                        .and_then(|span| Some((self.path.clone()?, Some(self.line(&span))))),
                    message: format!("{name}: {}", problem.message),
                }
            })
            .collect()
    }

    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        before.matches('\n').count() + 1
    }
}

/// The innermost part of a setting's path that the document has; of a path such as
/// pool.1.max the second table of that name.
fn find(table: &DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first)?;
    let mut span = key.span();
    let mut value = value;
    let mut rest = rest;
    if let DeValue::Array(list) = value.get_ref()
        && let Some((index, further)) = rest.split_first()
        && let Some(element) = index
            .parse::<usize>()
            .ok()
            .and_then(|index| list.get(index))
    {
        span = element.span();
        value = element;
        rest = further;
    }
    match value.get_ref() {
        DeValue::Table(table) if !rest.is_empty() => find(table, rest).or(Some(span)),
        _ => Some(span),
    }
}
