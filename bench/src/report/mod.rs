//! What all benchmarks of a run found, as one file for programs and one page for people.

mod number;
mod page;
mod plot;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::figure::{Figure, Quoted};
use crate::table::{Name, Promise, Report, Row};

/// The file for programs, in the directory of the reports.
pub const RESULTS: &str = "results.json";
/// The page.
pub const PAGE: &str = "report.html";

/// Something of a report, with the report's name.
#[derive(Debug, Serialize, Deserialize)]
pub struct Of<T> {
    /// The report.
    pub part: String,
    /// The thing.
    #[serde(flatten)]
    pub it: T,
}

/// All reports of a run in one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Run {
    /// Of each report, where and on what.
    pub conditions: BTreeMap<String, BTreeMap<Name, String>>,
    /// What was measured.
    pub results: Vec<Of<Row>>,
    /// What is promised of it.
    pub promises: Vec<Of<Promise>>,
    /// Of each report, what was not measured, and why.
    pub not_run: BTreeMap<String, BTreeMap<Name, String>>,
    /// The figures that the rows name.
    pub figures: Vec<Figure>,
    /// What others published, measured on hardware of theirs.
    pub quoted: Vec<Quoted>,
}

impl Run {
    /// Reads every report of a directory.
    ///
    /// # Errors
    /// One cannot be read, or is none.
    pub fn read(directory: &Path) -> Result<Self, Failure> {
        let mut run = Self::default();
        let paths = fs::read_dir(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>, Failure>>()?;
        let mut parts: Vec<_> = paths
            .into_iter()
            .filter(|path| path.extension().is_some_and(|it| it == "json"))
            .filter(|path| path.file_name().is_some_and(|name| name != RESULTS))
            .collect();
        parts.sort();
        for path in parts {
            let part = path.file_stem().unwrap_or_default().to_string_lossy();
            let report = fs::read(&path)
                .map_err(Failure::from)
                .and_then(|text| Ok(serde_json::from_slice(&text)?))
                .map_err(|error| format!("reading {}: {error}", path.display()))?;
            run.add(&part, report);
        }
        Ok(run)
    }

    fn add(&mut self, part: &str, report: Report) {
        let of = || part.to_owned();
        self.conditions.insert(of(), report.conditions);
        self.results
            .extend(report.results.into_iter().map(|it| Of { part: of(), it }));
        self.promises
            .extend(report.promises.into_iter().map(|it| Of { part: of(), it }));
        if !report.not_run.is_empty() {
            self.not_run.insert(of(), report.not_run);
        }
        for figure in report.figures {
            // Several reports may have rows of one figure.
            if !self.figures.iter().any(|it| it.id == figure.id) {
                self.figures.push(figure);
            }
        }
        self.figures.sort_by_key(|figure| number_of(&figure.id));
        self.quoted.extend(report.quoted);
    }

    /// Writes both files.
    ///
    /// # Errors
    /// They cannot be written, or a figure not be drawn.
    pub fn write(&self, directory: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(directory.join(RESULTS), text)?;
        fs::write(directory.join(PAGE), page::of(self)?)?;
        Ok(())
    }
}

/// The paper's figures come first, in their order.
fn number_of(id: &str) -> u32 {
    let digits: String = id.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(u32::MAX)
}
