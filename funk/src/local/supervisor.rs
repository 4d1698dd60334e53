//! A supervisor of this command's own, and everything that goes with it.

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use refunction_protocol::host::Failure;
use refunction_protocol::{Report, Started};
use tempfile::TempDir;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::channel::{Channel, Expected};
use super::errors::pass_on;
use crate::error::Error;
use crate::source::Source;

const PROGRAM: &str = "refunction-supervisor";

/// How long one that was told twice to end may take, before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes that a socket's path may have, less its name.
const LONGEST_DIRECTORY: usize = 80;

/// Finds the supervisor's program: the one that was named, the one beside this program, or
/// one in the path.
pub(crate) fn find(named: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(path) = named {
        let found = path
            .canonicalize()
            .map_err(|error| Error::file("finding the supervisor,", path, &error))?;
        return Ok(found);
    }
    let beside = std::env::current_exe().map(|path| path.with_file_name(PROGRAM));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join(PROGRAM));
    beside
        .into_iter()
        .chain(in_path)
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::Usage(format!(
                "there is no {PROGRAM} beside funk or in PATH: `cargo build --release --package refunction-supervisor` makes it, and --supervisor names it"
            ))
        })
}

/// Where what the function prints on standard output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// There, too.
    Same,
    /// To standard error: standard output is the result's.
    Errors,
}

/// What is to be started.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) supervisor: &'a Path,
    pub(crate) source: &'a Source,
    pub(crate) env: &'a [(String, String)],
    pub(crate) output: Output,
}

/// A supervisor that holds a function. Dropping it kills it, and everything that it started.
pub(crate) struct Local {
    child: Child,
    pid: Pid,
    channel: Channel,
    words: JoinHandle<String>,
    /// It ends with this, too.
    _input: Option<ChildStdin>,
    /// Of its sockets, and for its temporary files where it is not root.
    directory: TempDir,
    /// What it said of itself.
    pub(crate) started: Started,
}

impl Local {
    /// Starts one, and waits until its function is imported.
    ///
    /// # Errors
    /// It cannot be started, or the function cannot be imported.
    pub(crate) async fn start(plan: &Plan<'_>) -> Result<Self, Error> {
        let here = |doing: &'static str| move |error| Error::Here(format!("{doing}: {error}"));
        let directory = directory().map_err(here("making a directory for sockets"))?;
        let control = directory.path().join("control");
        let expected =
            Expected::new(directory.path()).map_err(here("waiting for the supervisor"))?;
        let mut command = command(plan, &directory);
        let mut child = command
            .spawn()
            .map_err(|error| Error::file("starting", plan.supervisor, &error))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        // Waiting for it would close it.
        let input = child.stdin.take();
        let (Some(pid), Some(errors)) = (pid, child.stderr.take()) else {
            return Err(Error::Here("the supervisor ended before it began".into()));
        };
        let (is_started, starting) = watch::channel(false);
        let words = tokio::spawn(pass_on(errors, starting));
        let begun = async {
            let mut channel = expected.connect(&control).await?;
            loop {
                match channel.next().await? {
                    Some(Report::Started(started)) => return Ok(Some((channel, started))),
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
        };
        let begun = tokio::select! {
            begun = begun => begun.map_err(|error: io::Error| here("talking to the supervisor")(error))?,
            _ = child.wait() => None,
        };
        let Some((channel, started)) = begun else {
            let status = child
                .wait()
                .await
                .map_err(here("waiting for the supervisor"))?;
            let words = words.await.unwrap_or_default();
            return Err(not_started(status, words));
        };
        is_started.send_replace(true);
        Ok(Self {
            child,
            pid: Pid::from_raw(pid),
            channel,
            words,
            _input: input,
            directory,
            started,
        })
    }

    /// Where it speaks HTTP.
    pub(crate) fn http(&self) -> PathBuf {
        self.directory.path().join("http")
    }

    /// Calls the function; what it prints goes to standard error.
    pub(crate) async fn call(
        &mut self,
        id: &str,
        json: &str,
        deadline_ms: Option<u64>,
    ) -> Result<String, Error> {
        let broken = |error| Error::Here(format!("talking to the supervisor: {error}"));
        self.channel
            .request(id, json, deadline_ms)
            .await
            .map_err(broken)?;
        loop {
            match self.channel.next().await.map_err(broken)? {
                Some(Report::Response { data, .. }) => return Ok(data.get().to_owned()),
                Some(Report::Error { failure, .. }) => return Err(of_protocol(failure).into()),
                Some(Report::Log(log)) => {
                    let cut = if log.truncated { " [cut]" } else { "" };
                    let _ = writeln!(io::stderr(), "{}{cut}", log.line);
                }
                Some(_) => {}
                None => {
                    let status = self.child.wait().await.map_err(broken)?;
                    return Err(ended(status));
                }
            }
        }
    }

    /// Waits for its end, which nobody asked for.
    pub(crate) async fn ended(&mut self) -> Error {
        // Nothing but what it is asked for comes on the channel.
        while let Ok(Some(_)) = self.channel.next().await {}
        match self.child.wait().await {
            Ok(status) => ended(status),
            Err(error) => Error::Here(format!("waiting for the supervisor: {error}")),
        }
    }

    /// Has it answer what is in hand, and end.
    pub(crate) async fn drain(&mut self) {
        self.signal(Signal::SIGTERM);
        let _ = self.child.wait().await;
    }

    /// Has it end at once, with everything that it started.
    pub(crate) async fn stop(mut self) {
        // The second ends what the first would wait for.
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGINT);
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            // It is killed when it is dropped, and has left its word for nobody.
            let _ = self.child.kill().await;
        }
        let _ = timeout(PATIENCE, self.words).await;
    }

    fn signal(&mut self, signal: Signal) {
        // A number that nobody waited for is still its own.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill(self.pid, signal);
        }
    }
}

/// A directory that nobody else can enter.
fn directory() -> io::Result<TempDir> {
    let place = std::env::temp_dir();
    let place = match place.as_os_str().len() {
        0..=LONGEST_DIRECTORY => place,
        _ => "/tmp".into(),
    };
    tempfile::Builder::new()
        .prefix("funk-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(place)
}

fn command(plan: &Plan<'_>, directory: &TempDir) -> Command {
    let source = plan.source;
    let mut command = Command::new(plan.supervisor);
    command
        .arg("--control")
        .arg(directory.path().join("control"))
        .arg("--http-socket")
        .arg(directory.path().join("http"))
        // It is never written to, and ends with this process, however that ends.
        .arg("--end-with-input")
        .args(["--runtime", source.runtime.name(), "--", &source.handler])
        .envs(plan.env.iter().map(|(name, value)| (name, value)))
        .env("FUNCTION_ROOT", &source.root)
        .env("LAMBDA_TASK_ROOT", &source.root)
        // They say where others ask for functions.
        .env_remove("PORT")
        .env_remove("AWS_LAMBDA_RUNTIME_API")
        .stdin(Stdio::piped())
        .stdout(output(plan.output))
        .stderr(Stdio::piped())
        // A Ctrl-C is for this program to act on.
        .process_group(0)
        .kill_on_drop(true);
    if !geteuid().is_root() {
        // Workers are of the same user then, and what they make goes with the directory.
        command.env("TMPDIR", directory.path());
    }
    command
}

fn output(output: Output) -> Stdio {
    let errors = || io::stderr().as_fd().try_clone_to_owned();
    match output {
        Output::Same => Stdio::inherit(),
        Output::Errors => errors().map_or_else(|_| Stdio::null(), Stdio::from),
    }
}

fn not_started(status: ExitStatus, words: String) -> Error {
    if words.is_empty() {
        return ended(status);
    }
    Error::from(Failure {
        kind: "exception".into(),
        message: words,
        error_type: None,
        stack: None,
    })
}

fn ended(status: ExitStatus) -> Error {
    Error::from(Failure {
        kind: "crashed".into(),
        message: format!("the supervisor ended: {status}"),
        error_type: None,
        stack: None,
    })
}

fn of_protocol(failure: refunction_protocol::Failure) -> Failure {
    Failure {
        kind: failure.kind.as_str().to_owned(),
        message: failure.message,
        error_type: failure.error_type,
        stack: failure.stack,
    }
}
