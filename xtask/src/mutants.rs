//! `cargo xtask mutants`: leaves out each handler of the state table in turn, and
//! lists the tests that notice. One that nobody misses is a test that is missing, or
//! a handler that is one too many.

mod record;

use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::shell;
use crate::terminal::{seconds, step};
use crate::workspace::Workspace;

use record::Record;

/// Which handlers, and what of them.
#[derive(Args)]
pub(crate) struct Options {
    /// Only handlers whose names contain this
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,

    /// List the handlers, and run nothing
    #[arg(long)]
    list: bool,

    /// Write the table to docs/mutants.md
    #[arg(long)]
    write: bool,

    /// Go on with a run that was interrupted
    #[arg(long)]
    resume: bool,
}

/// Handlers tried at once: each waits longer than it works.
const AT_ONCE: usize = 3;

/// Failures after which a suite has shown enough.
const ENOUGH: usize = 3;

/// A suite that takes longer hangs, which somebody would notice too.
const PATIENCE: Duration = Duration::from_secs(400);

/// Names a handler to the program that is to leave it out.
const VARIABLE: &str = "REFUNCTION_SABOTAGE";

#[derive(Clone)]
struct Handler {
    /// Which part of the program it belongs to.
    part: String,
    name: String,
    row: String,
}

/// Tests that run together.
#[derive(Clone)]
struct Suite {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
    /// It starts a supervisor, which has the handler left out in the suite's place.
    starts_supervisor: bool,
    /// What it starts can be ended with it at once, and leaves nothing.
    ends_early: bool,
}

/// What a suite made of the program without the handler.
#[derive(Default)]
struct Outcome {
    failed: Vec<String>,
    hung: bool,
}

struct Tried {
    handler: Handler,
    suite: Option<&'static str>,
    outcome: Outcome,
    was_asked: bool,
}

impl Tried {
    fn is_caught(&self) -> bool {
        self.suite.is_some()
    }

    fn by(&self) -> String {
        let Some(suite) = self.suite else {
            return match self.was_asked {
                true => "**nobody**".into(),
                false => "**nobody: no test comes by it**".into(),
            };
        };
        let mut names: Vec<String> = (self.outcome.failed.iter().take(ENOUGH))
            .map(|name| format!("`{name}`"))
            .collect();
        if self.outcome.hung {
            names.push("a hang".into());
        }
        let others = self.outcome.failed.len().saturating_sub(ENOUGH);
        if others > 0 {
            names.push(format!("{others} more"));
        }
        format!("{suite}: {}", names.join(", "))
    }
}

/// What was built to leave handlers out.
struct Built {
    supervisor: PathBuf,
    engine: PathBuf,
    verdicts: PathBuf,
    of_supervisor: PathBuf,
    of_python: [(&'static str, PathBuf); 2],
    end_to_end: Vec<(&'static str, PathBuf)>,
}

/// Tries them.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let (built, _) = step("programs that can leave a handler out", || build(workspace))?;
    let mut handlers = list(&built)?;
    if let Some(pattern) = &options.only {
        handlers.retain(|handler| handler.name.contains(pattern));
        ensure!(
            !handlers.is_empty(),
            "no handler has {pattern:?} in its name"
        );
    }
    check_rows(workspace, &handlers)?;
    if options.list {
        for handler in &handlers {
            println!("{}\t{}\t{}", handler.part, handler.name, handler.row);
        }
        return Ok(());
    }
    let notes = &Notes::create()?;
    let programs = [&built.supervisor, &built.engine].map(PathBuf::as_path);
    let record = workspace.mutants().join("tried.jsonl");
    let record = match options.resume {
        true => Record::resume(record, &programs)?,
        false => {
            all_hold(&built, notes)?;
            Record::begin(record, &programs)?
        }
    };
    let began = Instant::now();
    let tried = try_all(handlers, &built, notes, &record)?;
    let table = table(&tried);
    println!("{table}");
    let took = began.elapsed();
    let uncaught = tried.iter().filter(|it| !it.is_caught()).count();
    let summary = format!(
        "{} handlers left out in turn, {} noticed, in {}{}.",
        tried.len(),
        tried.len() - uncaught,
        seconds(took),
        if options.resume {
            " for the last of them"
        } else {
            ""
        }
    );
    println!("{summary}");
    if options.write {
        write(workspace, &format!("{summary}\n\n{table}"))?;
    }
    ensure!(uncaught == 0, "{uncaught} handlers that nobody would miss");
    Ok(())
}

/// True of an entry of the table of system calls.
fn is_of_table(name: &str) -> bool {
    ["denied", "recorded", "noted"]
        .iter()
        .any(|class| name.starts_with(class))
}

/// What fails anyway shows nothing.
fn all_hold(built: &Built, notes: &Notes) -> Result<()> {
    let ((), _) = step("every suite with nothing left out", || {
        for suite in suites(built, None) {
            let outcome = try_suite(&suite, built, None, notes)?;
            ensure!(
                outcome.failed.is_empty() && !outcome.hung,
                "{} fails as it is: {:?}",
                suite.name,
                outcome.failed
            );
        }
        Ok(())
    })?;
    Ok(())
}

/// Where it is noted that a handler was asked for: a worker must get there, which may
/// not look into the source tree.
struct Notes(PathBuf);

impl Notes {
    fn create() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("mutants-{}", std::process::id()));
        fs::create_dir(&directory).context("a directory for notes")?;
        Ok(Self(directory))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn build(workspace: &Workspace) -> Result<Built> {
    // In a directory of their own: nobody is to take them for the real ones.
    let directory = workspace.mutants();
    let sabotaged = |arguments: &[&str]| -> Result<Vec<(String, PathBuf)>> {
        let mut command = shell::cargo(workspace.root());
        command
            .args(arguments)
            .args(["--locked", "--message-format=json-render-diagnostics"])
            .arg("--target-dir")
            .arg(&directory);
        executables(&shell::output(&mut command)?)
    };
    let tests = sabotaged(&[
        "test",
        "--no-run",
        "--package=refunction-snapshot",
        "--package=refunction-supervisor",
        "--package=refunction-python",
        "--features=refunction-supervisor/sabotage",
    ])?;
    let programs = sabotaged(&[
        "build",
        "--release",
        "--package=refunction-supervisor",
        "--features=refunction-supervisor/sabotage",
    ])?;
    let mut command = shell::cargo(workspace.root());
    command.args(["test", "--no-run", "--package=refunction-tests", "--locked"]);
    command.arg("--message-format=json-render-diagnostics");
    let end_to_end = executables(&shell::output(&mut command)?)?;
    let find = |all: &[(String, PathBuf)], name: &str| {
        let found = all.iter().find(|(it, _)| it == name);
        found
            .map(|(_, path)| path.clone())
            .with_context(|| format!("cargo built no {name}"))
    };
    Ok(Built {
        supervisor: find(&programs, "refunction-supervisor")?,
        engine: find(&tests, "engine")?,
        verdicts: find(&tests, "verdicts")?,
        of_supervisor: find(&tests, "refunction-supervisor")?,
        of_python: [
            ("workers of Python", find(&tests, "workers")?),
            ("templates of Python", find(&tests, "template")?),
        ],
        end_to_end: ["isolation", "supervisor"]
            .into_iter()
            .map(|name| Ok((name, find(&end_to_end, name)?)))
            .collect::<Result<_>>()?,
    })
}

/// The programs in cargo's messages, by their targets' names.
fn executables(messages: &str) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("a message of cargo's")?;
        if let (Some(path), Some(name)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
        ) {
            found.push((name.to_owned(), path.into()));
        }
    }
    Ok(found)
}

fn list(built: &Built) -> Result<Vec<Handler>> {
    let text = shell::output(Command::new(&built.supervisor).arg("--handlers"))?;
    text.lines()
        .map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            let mut next = || fields.next().context("a handler's line is short");
            Ok(Handler {
                part: next()?,
                name: next()?,
                row: next()?,
            })
        })
        .collect()
}

/// Each handler's row is one of docs/restore.md.
fn check_rows(workspace: &Workspace, handlers: &[Handler]) -> Result<()> {
    let table = fs::read_to_string(workspace.root().join("docs/restore.md"))?;
    for handler in handlers {
        let row = format!("| {}", handler.row);
        ensure!(
            table.lines().any(|line| line.starts_with(&row)),
            "{}: docs/restore.md has no row that begins with {:?}",
            handler.name,
            handler.row
        );
    }
    Ok(())
}

/// The suites that could notice, those that know most of it first; all for nothing.
fn suites(built: &Built, handler: Option<&Handler>) -> Vec<Suite> {
    let by_itself = |name, program: &Path, arguments| Suite {
        name,
        program: program.to_owned(),
        arguments,
        starts_supervisor: false,
        ends_early: true,
    };
    let engine = by_itself(
        "engine",
        &built.engine,
        // What fails among random programs is shrunk, which takes long; and what a
        // rewind misses is missed with both ways of scanning.
        &[
            "--test-threads=1",
            "--skip=random_programs",
            "--skip=_by_file",
        ],
    );
    let random = by_itself("engine", &built.engine, &["random_programs"]);
    let verdicts = by_itself("verdicts", &built.verdicts, &[]);
    let of_supervisor = by_itself("units of the supervisor", &built.of_supervisor, &[]);
    let of_python = built
        .of_python
        .each_ref()
        .map(|(name, program)| by_itself(name, program, &[]));
    let end_to_end = built.end_to_end.iter().map(|(name, program)| Suite {
        name,
        program: program.clone(),
        arguments: match handler.map(|it| it.part.as_str()) {
            // As above, and a refork has no use for it.
            Some("engine") => &[
                "--test-threads=2",
                "--skip=refork",
                "--skip=with_the_file",
                "--skip=container",
            ],
            // No image has what is tried here.
            _ => &["--test-threads=2", "--skip=container"],
        },
        starts_supervisor: true,
        ends_early: false,
    });
    let first = match handler.map(|it| it.part.as_str()) {
        Some("engine") if handler.is_some_and(|it| is_of_table(&it.name)) => {
            vec![verdicts, engine, random]
        }
        None => {
            let others = vec![verdicts, engine, random, of_supervisor];
            others.into_iter().chain(of_python).collect()
        }
        Some("engine") => vec![engine, random],
        Some("supervisor") => vec![of_supervisor],
        Some(_) => of_python.into(),
    };
    first.into_iter().chain(end_to_end).collect()
}

fn try_all(
    handlers: Vec<Handler>,
    built: &Built,
    notes: &Notes,
    record: &Record,
) -> Result<Vec<Tried>> {
    let count = handlers.len();
    let mut waiting: VecDeque<_> = handlers.into_iter().enumerate().collect();
    // Those that one look decides, so that most of it is known soon.
    let takes_long = |(_, handler): &(usize, Handler)| !is_of_table(&handler.name);
    waiting.make_contiguous().sort_by_key(takes_long);
    let waiting = Mutex::new(waiting);
    let tried = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let next = waiting.lock().expect("no holder panics").pop_front();
                        let Some((index, handler)) = next else {
                            return Ok(());
                        };
                        let suites: Vec<_> = suites(built, Some(&handler))
                            .iter()
                            .map(|suite| suite.name)
                            .collect();
                        let it = match record.find(&handler, &suites)? {
                            Some(tried) => tried,
                            None => {
                                let tried = try_one(handler, built, notes)?;
                                record.add(&tried)?;
                                tried
                            }
                        };
                        eprintln!("[{}/{count}] {}: {}", index + 1, it.handler.name, it.by());
                        tried.lock().expect("no holder panics").push((index, it));
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(_) => bail!("trying a handler panicked"),
            })
    })?;
    let mut tried = tried.into_inner().expect("no holder panics");
    tried.sort_by_key(|(index, _)| *index);
    Ok(tried.into_iter().map(|(_, it)| it).collect())
}

fn try_one(handler: Handler, built: &Built, notes: &Notes) -> Result<Tried> {
    let note = notes.join(&handler.name);
    for suite in suites(built, Some(&handler)) {
        let outcome = try_suite(&suite, built, Some(&handler), notes)?;
        if !outcome.failed.is_empty() || outcome.hung {
            return Ok(Tried {
                handler,
                suite: Some(suite.name),
                outcome,
                was_asked: true,
            });
        }
    }
    Ok(Tried {
        was_asked: fs::metadata(&note).is_ok_and(|note| note.len() > 0),
        handler,
        suite: None,
        outcome: Outcome::default(),
    })
}

fn try_suite(
    suite: &Suite,
    built: &Built,
    handler: Option<&Handler>,
    notes: &Notes,
) -> Result<Outcome> {
    shell::check_interrupt()?;
    let name = handler.map_or("nothing", |handler| handler.name.as_str());
    let note = notes.join(name);
    if !note.exists() {
        File::create(&note).context("a note")?;
        // A worker with a user of its own may be the one to ask.
        fs::set_permissions(&note, Permissions::from_mode(0o666)).context("a note")?;
    }
    let choice = match handler {
        Some(handler) => format!("{}@{}", handler.name, note.display()),
        None => String::new(),
    };
    let mut command = Command::new(&suite.program);
    command.args(suite.arguments);
    if suite.starts_supervisor {
        let instead = notes.join(&format!("{name}.sh"));
        let script = format!(
            "#!/bin/sh\nexec '{}' --sabotage '{choice}' \"$@\"\n",
            built.supervisor.display()
        );
        fs::write(&instead, script).context("a program that names the handler")?;
        fs::set_permissions(&instead, Permissions::from_mode(0o755))?;
        command.env("REFUNCTION_SUPERVISOR", &instead);
    } else {
        command.env(VARIABLE, &choice);
    }
    watch(&mut command, suite.ends_early)
}

/// Runs a suite until it ends, has failed often enough, or hangs.
fn watch(command: &mut Command, ends_early: bool) -> Result<Outcome> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // To be ended with all that it started.
        .process_group(0);
    let mut child = command.spawn().context("starting a suite")?;
    let group = -child.id().cast_signed();
    let output = child.stdout.take().context("its output is a pipe")?;
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // The other side may have heard enough.
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut outcome = Outcome::default();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left.min(Duration::from_secs(1))) {
            Ok(line) => outcome.failed.extend(failed_test(&line)),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
        }
        outcome.hung = Instant::now() >= deadline;
        let is_enough = ends_early && outcome.failed.len() >= ENOUGH;
        if outcome.hung || is_enough || shell::check_interrupt().is_err() {
            // Gone already: then there is nothing to end.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
            break;
        }
    }
    let status = child.wait().context("waiting for a suite")?;
    drop(lines);
    let _ = reader.join();
    shell::check_interrupt()?;
    if !status.success() && outcome.failed.is_empty() && !outcome.hung {
        outcome.failed.push(format!("all: {status}"));
    }
    Ok(outcome)
}

/// The test that this line of a harness says has failed.
fn failed_test(line: &str) -> Option<String> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    verdict
        .starts_with("FAILED")
        .then(|| name.trim().to_owned())
}

/// One line for handlers of one topic that serve one row and are noticed by the same.
fn table(tried: &[Tried]) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    for it in tried {
        let rest = format!("{} | {}", it.handler.row, it.by());
        let (topic, name) = (it.handler.name.split_once(':')).unwrap_or(("", &it.handler.name));
        match lines.last_mut() {
            Some((names, last)) if *last == rest && names.starts_with(topic) => {
                *names += &format!(", {name}");
            }
            _ => lines.push((it.handler.name.clone(), rest)),
        }
    }
    let mut text = String::from("| handler | row | noticed by |\n|---|---|---|\n");
    for (names, rest) in lines {
        text += &format!("| {names} | {rest} |\n");
    }
    text
}

/// What stands in docs/mutants.md before the last run's table.
const BEFORE_TABLE: &str = "## The last run\n";

fn write(workspace: &Workspace, text: &str) -> Result<()> {
    let path = workspace.root().join("docs/mutants.md");
    let page = fs::read_to_string(&path).context("docs/mutants.md")?;
    let (before, _) = page
        .split_once(BEFORE_TABLE)
        .context("docs/mutants.md has no place for the table")?;
    fs::write(&path, format!("{before}{BEFORE_TABLE}\n{text}")).context("docs/mutants.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_is_told_from_one_that_passed() {
        let failed = |line| failed_test(line);
        assert_eq!(failed("test a::b   ... FAILED"), Some("a::b".into()));
        assert_eq!(failed("test a::b ... ok"), None);
        assert_eq!(failed("test result: FAILED. 1 passed"), None);
    }
}
