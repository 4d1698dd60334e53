//! `cargo xtask mutants`: leaves out each handler of the state table in turn, and
//! lists the tests that notice. One that nobody misses is a test that is missing, or
//! a handler that is one too many.

mod java;
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
    arguments: Vec<&'static str>,
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
    /// Those of the adapters that are libraries.
    of_adapters: Vec<OfAdapter>,
    end_to_end: Vec<(EndToEnd, PathBuf)>,
}

/// Tests of an adapter in one process.
struct OfAdapter {
    part: &'static str,
    name: &'static str,
    program: PathBuf,
}

/// Which of them know what an adapter does for isolation: whose they are, the target, and
/// what they are called here.
const OF_ADAPTERS: [(&str, &str, &str); 7] = [
    ("python", "workers", "workers of Python"),
    ("python", "template", "templates of Python"),
    ("javascript", "workers", "workers of JavaScript"),
    ("javascript", "functions", "functions of JavaScript"),
    ("javascript", "builtins", "builtins of JavaScript"),
    ("lua", "process", "workers of Lua"),
    ("lua", "functions", "functions of Lua"),
];

/// Tests that start a supervisor.
struct EndToEnd {
    name: &'static str,
    target: &'static str,
    /// Which of them.
    filter: &'static [&'static str],
    /// Whose handlers they may notice.
    parts: &'static [&'static str],
}

const END_TO_END: [EndToEnd; 10] = {
    const fn suite(
        name: &'static str,
        target: &'static str,
        filter: &'static [&'static str],
        parts: &'static [&'static str],
    ) -> EndToEnd {
        EndToEnd {
            name,
            target,
            filter,
            parts,
        }
    }
    const ALL: &[&str] = &["engine", "supervisor", "python"];
    const OTHERS: &[&str] = &["javascript", "lua", "node", "java"];
    [
        suite("isolation", "isolation", &[], ALL),
        suite("supervisor", "supervisor", &[], ALL),
        suite("JavaScript", "javascript", &[], &["javascript"]),
        suite("Lua", "lua", &[], &["lua"]),
        suite("Node.js", "node", &[], &["node"]),
        suite("Java", "java", &[], &["java"]),
        suite("environments", "conformance", &["environment"], OTHERS),
        suite("requests", "http", &["no_"], OTHERS),
        suite("requests beside others", "http", &["beside"], &[BESIDE]),
        suite("what others may write to", "http", &["others"], &[BESIDE]),
    ]
};

/// Of the supervisor's handlers those that concern workers beside one another, which only
/// suites know in which there are several.
const BESIDE: &str = "beside";

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
    let sabotaged = |arguments: &[&str]| -> Result<Vec<Executable>> {
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
        "--package=refunction-javascript",
        "--package=refunction-lua",
        "--features=refunction-supervisor/sabotage",
    ])?;
    let programs = sabotaged(&[
        "build",
        "--release",
        "--package=refunction-supervisor",
        "--package=refunction-node-addon",
        "--features=refunction-supervisor/sabotage",
    ])?;
    let mut command = shell::cargo(workspace.root());
    command.args(["test", "--no-run", "--package=refunction-tests", "--locked"]);
    command.arg("--message-format=json-render-diagnostics");
    let end_to_end = executables(&shell::output(&mut command)?)?;
    let find = |all: &[Executable], package: &str, name: &str| {
        let found = (all.iter()).find(|it| it.package == package && it.target == name);
        found
            .map(|it| it.path.clone())
            .with_context(|| format!("cargo built no {name} of {package}"))
    };
    let own = |name| find(&tests, "refunction-snapshot", name);
    Ok(Built {
        supervisor: find(&programs, "refunction-supervisor", "refunction-supervisor")?,
        engine: own("engine")?,
        verdicts: own("verdicts")?,
        of_supervisor: find(&tests, "refunction-supervisor", "refunction-supervisor")?,
        of_adapters: OF_ADAPTERS
            .into_iter()
            .map(|(part, target, name)| {
                let program = find(&tests, &format!("refunction-{part}"), target)?;
                Ok(OfAdapter {
                    part,
                    name,
                    program,
                })
            })
            .collect::<Result<_>>()?,
        end_to_end: END_TO_END
            .into_iter()
            .map(|suite| {
                let program = find(&end_to_end, "refunction-tests", suite.target)?;
                Ok((suite, program))
            })
            .collect::<Result<_>>()?,
    })
}

struct Executable {
    package: String,
    target: String,
    path: PathBuf,
}

/// The programs in cargo's messages.
fn executables(messages: &str) -> Result<Vec<Executable>> {
    let mut found = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("a message of cargo's")?;
        if let (Some(path), Some(name), Some(id)) = (
            message["executable"].as_str(),
            message["target"]["name"].as_str(),
            message["package_id"].as_str(),
        ) {
            found.push(Executable {
                package: package(id).to_owned(),
                target: name.to_owned(),
                path: path.into(),
            });
        }
    }
    Ok(found)
}

/// The name in a package's id, `path+file:///…/directory#name@version`.
fn package(id: &str) -> &str {
    let (_, name) = id.rsplit_once('#').unwrap_or(("", id));
    name.split('@').next().unwrap_or(name)
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
    let by_itself = |name, program: &Path, arguments: &[&'static str]| Suite {
        name,
        program: program.to_owned(),
        arguments: arguments.to_vec(),
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
    let of_adapters = |part: Option<&str>| {
        let chosen =
            (built.of_adapters.iter()).filter(|it| part.is_none_or(|part| it.part == part));
        chosen
            .map(|it| by_itself(it.name, &it.program, &[]))
            .collect::<Vec<_>>()
    };
    let part = handler.map(|it| it.part.as_str());
    let topic = handler.and_then(|it| it.name.split_once(':'));
    let asked = match topic {
        Some((BESIDE, _)) => Some(BESIDE),
        _ => part,
    };
    let end_to_end = (built.end_to_end.iter())
        .filter(|(suite, _)| asked.is_none_or(|asked| suite.parts.contains(&asked)));
    let end_to_end = end_to_end.map(|(suite, program)| Suite {
        name: suite.name,
        program: program.clone(),
        // No image has what is tried here.
        arguments: [&["--test-threads=2", "--skip=container"], suite.filter]
            .concat()
            .into_iter()
            // As above, and a refork has no use for it.
            .chain((part == Some("engine")).then_some("--skip=refork"))
            .chain((part == Some("engine")).then_some("--skip=with_the_file"))
            .collect(),
        starts_supervisor: true,
        ends_early: false,
    });
    let first = match part {
        Some("engine") if handler.is_some_and(|it| is_of_table(&it.name)) => {
            vec![verdicts, engine, random]
        }
        None => {
            let others = vec![verdicts, engine, random, of_supervisor];
            others.into_iter().chain(of_adapters(None)).collect()
        }
        Some("engine") => vec![engine, random],
        Some("supervisor") => vec![of_supervisor],
        Some(adapter) => of_adapters(Some(adapter)),
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
    command.args(&suite.arguments);
    if suite.starts_supervisor {
        let instead = notes.join(&format!("{name}.sh"));
        let script = format!(
            "#!/bin/sh\nexec '{}' --sabotage '{choice}' \"$@\"\n",
            built.supervisor.display()
        );
        fs::write(&instead, script).context("a program that names the handler")?;
        fs::set_permissions(&instead, Permissions::from_mode(0o755))?;
        command.env("REFUNCTION_SUPERVISOR", &instead);
        if let Some(handler) = handler.filter(|it| it.part == "java") {
            let jar = java::jar(notes, &handler.name)?;
            command.env("FUNCTION_JAVA_ADAPTER", jar);
        }
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
