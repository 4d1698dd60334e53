//! What was tried already: a run takes most of an hour, and may be interrupted.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Handler, Outcome, Tried};

/// A line for each handler that was tried, behind one that says with which programs.
pub(super) struct Record {
    path: PathBuf,
    file: Mutex<File>,
}

impl Record {
    /// Begins anew for these programs.
    pub(super) fn begin(path: PathBuf, programs: &[&Path]) -> Result<Self> {
        let built = json!({"programs": built(programs)?});
        fs::write(&path, format!("{built}\n")).with_context(|| path.display().to_string())?;
        Self::open(path)
    }

    /// Goes on with the record of these programs; it must be theirs.
    pub(super) fn resume(path: PathBuf, programs: &[&Path]) -> Result<Self> {
        let text = fs::read_to_string(&path).context("there is no run to go on with")?;
        let first: Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
        ensure!(
            first["programs"] == built(programs)?,
            "the programs are others than those of the run to go on with: begin anew"
        );
        Self::open(path)
    }

    fn open(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().append(true).open(&path)?;
        Ok(Self {
            path,
            file: Mutex::new(file),
        })
    }

    /// Notes one that was tried.
    pub(super) fn add(&self, tried: &Tried) -> Result<()> {
        let line = json!({
            "handler": tried.handler.name,
            "suite": tried.suite,
            "failed": tried.outcome.failed,
            "hung": tried.outcome.hung,
            "asked": tried.was_asked,
        });
        let mut file = self.file.lock().expect("no holder panics");
        writeln!(file, "{line}").context("noting what was tried")
    }

    /// What became of this handler, if it was tried; that it was noticed by nobody is to be
    /// tried again.
    pub(super) fn find(&self, handler: &Handler, suites: &[&'static str]) -> Result<Option<Tried>> {
        let text = fs::read_to_string(&self.path)?;
        for line in text.lines().skip(1) {
            let line: Value = serde_json::from_str(line)?;
            let suite = (suites.iter()).find(|suite| line["suite"] == **suite);
            let (true, Some(suite)) = (line["handler"] == handler.name.as_str(), suite) else {
                continue;
            };
            let failed = line["failed"].as_array().into_iter().flatten();
            return Ok(Some(Tried {
                handler: handler.clone(),
                suite: Some(suite),
                outcome: Outcome {
                    failed: failed.filter_map(Value::as_str).map(Into::into).collect(),
                    hung: line["hung"] == true,
                },
                was_asked: line["asked"] == true,
            }));
        }
        Ok(None)
    }
}

/// When each was built.
fn built(programs: &[&Path]) -> Result<Value> {
    let built = |program: &&Path| -> Result<Value> {
        let modified = fs::metadata(program)?.modified()?;
        let since = modified.duration_since(UNIX_EPOCH)?.as_nanos().to_string();
        Ok(json!([program, since]))
    };
    programs.iter().map(built).collect()
}
