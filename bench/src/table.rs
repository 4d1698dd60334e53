//! What was measured, as a table for people and as JSON for programs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::figure::{Figure, Quoted};

/// What a row is called.
pub type Name = Cow<'static, str>;

/// The unit of durations.
pub const MICROSECONDS: &str = "us";

/// Durations by name, in the order in which the names first came.
#[derive(Default)]
pub struct Samples {
    order: Vec<String>,
    taken: BTreeMap<String, Vec<Duration>>,
}

impl Samples {
    /// Adds one.
    pub fn add(&mut self, name: &str, took: Duration) {
        if let Some(taken) = self.taken.get_mut(name) {
            taken.push(took);
        } else {
            self.order.push(name.to_owned());
            self.taken.insert(name.to_owned(), vec![took]);
        }
    }

    /// One row a name. `against` names what a row's median is compared with.
    #[must_use]
    pub fn rows(&mut self, against: impl Fn(&str) -> Option<Name>) -> Vec<Row> {
        for taken in self.taken.values_mut() {
            taken.sort_unstable();
        }
        let micros = |took: &Duration| took.as_secs_f64() * 1e6;
        let median = |name: &str| Some(quantile(self.taken.get(name)?, 50, micros));
        self.order
            .iter()
            .map(|name| {
                let taken = &self.taken[name];
                let against = against(name);
                let ratio = against
                    .as_deref()
                    .and_then(median)
                    .filter(|other| *other > 0.0)
                    .map(|other| quantile(taken, 50, micros) / other);
                Row {
                    ratio,
                    against: against.filter(|_| ratio.is_some()),
                    ..Row::of_sorted(name.clone(), MICROSECONDS, taken, micros)
                }
            })
            .collect()
    }
}

/// The nearest-rank quantile of an ascending list.
fn quantile<T>(ascending: &[T], percent: usize, number: impl Fn(&T) -> f64) -> f64 {
    let rank = (ascending.len() * percent).div_ceil(100).max(1);
    ascending.get(rank - 1).map_or(f64::NAN, number)
}

/// One measured thing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Of the numbers.
    pub unit: Name,
    /// Half took no longer.
    pub median: f64,
    /// Nine in ten took no longer.
    pub p90: f64,
    /// Ninety-nine in a hundred took no longer.
    pub p99: f64,
    /// How often it was measured.
    pub samples: usize,
    /// Its median by the other's.
    pub ratio: Option<f64>,
    /// The other.
    pub against: Option<Name>,
    /// Its median by that of the floor (see [`floor`](crate::floor)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floors: Option<f64>,
    /// The [`Figure`] that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figure: Option<Name>,
    /// There, the line or the bars that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Name>,
    /// There, where on the axis it stands; bars stand at their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<f64>,
}

impl Row {
    /// Of numbers that are no durations.
    #[must_use]
    pub fn of(name: impl Into<String>, unit: impl Into<Name>, mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        Self::of_sorted(name.into(), unit, &numbers, |number| *number)
    }

    fn of_sorted<T>(
        name: String,
        unit: impl Into<Name>,
        ascending: &[T],
        number: impl Fn(&T) -> f64,
    ) -> Self {
        Self {
            name,
            unit: unit.into(),
            median: quantile(ascending, 50, &number),
            p90: quantile(ascending, 90, &number),
            p99: quantile(ascending, 99, &number),
            samples: ascending.len(),
            ..Self::default()
        }
    }

    /// Gives it a place in a figure: on a line, at `x`, or, without, as a bar.
    #[must_use]
    pub fn on(
        mut self,
        figure: impl Into<Name>,
        series: impl Into<Name>,
        x: impl Into<Option<f64>>,
    ) -> Self {
        self.figure = Some(figure.into());
        self.series = Some(series.into());
        self.x = x.into();
        self
    }
}

/// Has each row say how many times its floor it is. `floor` names the floor's row.
pub fn in_floors(rows: &mut [Row], floor: impl Fn(&str) -> Name) {
    let medians: BTreeMap<String, f64> = (rows.iter())
        .map(|row| (row.name.clone(), row.median))
        .collect();
    for row in rows {
        row.floors = medians
            .get(floor(&row.name).as_ref())
            .map(|floor| row.median / floor);
    }
}

/// A promise, and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Promise {
    /// What is promised.
    pub what: Name,
    /// The greatest ratio that keeps it.
    pub at_most: f64,
    /// The ratio that was measured.
    pub measured: f64,
    /// Whether it was kept.
    pub kept: bool,
}

impl Promise {
    /// That the median of `row` is at most `at_most` times that of `other`.
    #[must_use]
    pub fn of(
        what: impl Into<Name>,
        rows: &[Row],
        row: &str,
        other: &str,
        at_most: f64,
    ) -> Option<Self> {
        let median = |name: &str| {
            rows.iter()
                .find(|row| row.name == name)
                .map(|row| row.median)
        };
        let measured = median(row)? / median(other)?;
        Some(Self {
            what: what.into(),
            at_most,
            measured,
            kept: measured <= at_most,
        })
    }
}

/// Everything of one run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Where and on what.
    pub conditions: BTreeMap<Name, String>,
    /// What was measured.
    pub results: Vec<Row>,
    /// What is promised of it.
    pub promises: Vec<Promise>,
    /// What was not measured, and why.
    pub not_run: BTreeMap<Name, String>,
    /// The figures that its rows name.
    #[serde(default)]
    pub figures: Vec<Figure>,
    /// What others published of the same.
    #[serde(default)]
    pub quoted: Vec<Quoted>,
}

impl Report {
    /// Prints it, and writes it as JSON to the target directory, which is the parent of
    /// the one that cargo gives to benchmarks.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn publish(&self, temporary: &str, name: &str) -> Result<(), Failure> {
        let target = Path::new(temporary).parent().ok_or("no target directory")?;
        let directory = target.join("bench");
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(name).with_extension("json");
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(&path, text)?;
        println!("\n{self}\nwritten to {}", path.display());
        Ok(())
    }
}

/// What a run was made on.
#[must_use]
pub fn conditions() -> BTreeMap<Name, String> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':'))
            .map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    BTreeMap::from([
        (
            "kernel".into(),
            read("/proc/sys/kernel/osrelease").trim().to_owned(),
        ),
        (
            "processor".into(),
            field(&read("/proc/cpuinfo"), "model name"),
        ),
        (
            "processors allowed".into(),
            field(&read("/proc/self/status"), "Cpus_allowed_list"),
        ),
    ])
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.conditions {
            writeln!(to, "{name}: {value}")?;
        }
        writeln!(
            to,
            "\n{:<34}{:>11}{:>11}{:>11} {:<7}{:>8}{:>9}  ratio of medians",
            "", "median", "p90", "p99", "", "samples", "floors"
        )?;
        for row in &self.results {
            write!(
                to,
                "{:<34}{:>11.1}{:>11.1}{:>11.1} {:<7}{:>8}",
                row.name, row.median, row.p90, row.p99, row.unit, row.samples
            )?;
            match row.floors {
                Some(floors) => write!(to, "{floors:>9.2}")?,
                None => write!(to, "{:>9}", "")?,
            }
            match (row.ratio, &row.against) {
                (Some(ratio), Some(against)) => writeln!(to, "  {ratio:.3} of {against}")?,
                _ => writeln!(to)?,
            }
        }
        for (name, reason) in &self.not_run {
            writeln!(to, "{name}: not run, because {reason}")?;
        }
        writeln!(to)?;
        for promise in &self.promises {
            writeln!(
                to,
                "{}: {:.3}, at most {:.3}: {}",
                promise.what,
                promise.measured,
                promise.at_most,
                if promise.kept { "kept" } else { "BROKEN" }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = Samples::default();
        for micros in (1..=100).rev() {
            samples.add("a", Duration::from_micros(micros));
            samples.add("b", Duration::from_micros(2 * micros));
        }
        let rows = samples.rows(|name| (name == "a").then_some("b".into()));
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[0].median, rows[0].p90, rows[0].p99),
            (50.0, 90.0, 99.0)
        );
        assert_eq!(rows[0].ratio, Some(0.5));
        assert_eq!(rows[0].against.as_deref(), Some("b"));
        assert_eq!((rows[1].ratio, &rows[1].against), (None, &None));
    }

    #[test]
    fn rows_are_said_in_floors() {
        let mut samples = Samples::default();
        samples.add("floor", Duration::from_micros(2));
        samples.add("a", Duration::from_micros(5));
        let mut rows = samples.rows(|_| None);
        in_floors(&mut rows, |_| "floor".into());
        assert_eq!((rows[0].floors, rows[1].floors), (Some(1.0), Some(2.5)));
        in_floors(&mut rows, |_| "another".into());
        assert_eq!(rows[1].floors, None);
    }

    #[test]
    fn one_sample_is_every_quantile() {
        let mut samples = Samples::default();
        samples.add("a", Duration::from_micros(7));
        let rows = samples.rows(|_| None);
        assert_eq!((rows[0].median, rows[0].p99), (7.0, 7.0));
    }

    #[test]
    fn a_promise_compares_medians() {
        let mut samples = Samples::default();
        samples.add("a", Duration::from_micros(1));
        samples.add("b", Duration::from_micros(4));
        let rows = samples.rows(|_| None);
        let kept = |at_most| {
            Promise::of("a by b", &rows, "a", "b", at_most)
                .expect("both were measured")
                .kept
        };
        assert!(kept(0.25) && !kept(0.24));
        assert!(Promise::of("a by c", &rows, "a", "c", 1.0).is_none());
    }
}
