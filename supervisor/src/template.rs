//! The same program as the template: it loads the runtime, is frozen, and its
//! forks go on here as workers.
//!
//! It is a program of its own, not a bare fork of the supervisor, so that it has
//! an address-space layout and canaries of its own, and nothing of the
//! supervisor's memory for a tenant to read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::process::ExitCode;

use nix::sys::signal::SigSet;
use nix::unistd::setsid;
use refunction_adapter::channel::REQUEST_FD;
use refunction_adapter::{Adapter, BootError, Exception, Runtime, serve};
use refunction_snapshot::inside::{self, Born, Newborn};

use serde::{Deserialize, Serialize};

use crate::launch;
use crate::runtime::Origin;
use crate::sandbox::Sandbox;
use crate::settings::Settings;

/// A worker's exit status when its channel to the supervisor broke.
pub(crate) const CHANNEL_BROKE: u8 = 70;

/// Libraries that it tells of, at most.
const MOST_INSTALLED: usize = 1000;

/// What the template says of itself when it is ready.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    /// A runtime that is a program of its own says so later.
    pub(crate) runtime: Option<Runtime>,
    /// See [`Sandbox`].
    pub(crate) closes_proc: bool,
    /// See [`Sandbox`].
    pub(crate) leaves_open: Vec<String>,
    /// Libraries that layers can be grown with.
    #[serde(default)]
    pub(crate) installed: Vec<String>,
}

/// Runs as what `--as-template` is for with this runtime.
pub(crate) fn run(settings: &Settings) -> ExitCode {
    // A terminal that the supervisor was started from is no tenant's, and a Ctrl-C in it
    // is for the supervisor to act on.
    if let Err(errno) = setsid() {
        eprintln!("refunction-supervisor: starting a session: {errno}");
        return ExitCode::FAILURE;
    }
    // Inherited from the supervisor, which has its own way of hearing of children.
    if let Err(errno) = SigSet::empty().thread_set_mask() {
        eprintln!("refunction-supervisor: unblocking signals: {errno}");
        return ExitCode::FAILURE;
    }
    let mut adapter = match settings.runtime.origin() {
        Origin::Template(adapter) => adapter,
        Origin::Program(program) => return launch::run(settings, program),
    };
    let template = match inside::Template::adopt() {
        Ok(template) => template,
        Err(error) => {
            eprintln!(
                "refunction-supervisor: --as-template is for the supervisor's own use: {error}"
            );
            return ExitCode::FAILURE;
        }
    };
    let sandbox = match boot(adapter.as_mut(), settings) {
        Ok(sandbox) => sandbox,
        Err(reason) => {
            template.fail(&reason);
            return ExitCode::FAILURE;
        }
    };
    let mut description = Description {
        runtime: Some(adapter.runtime()),
        closes_proc: sandbox.closes_proc,
        leaves_open: sandbox.leaves_open.clone(),
        installed: adapter.installed(),
    };
    // A message of the conversation has bounds.
    description.installed.truncate(MOST_INSTALLED);
    let description = match serde_json::to_vec(&description) {
        Ok(description) => description,
        Err(error) => {
            template.fail(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    match serve_as_template(template, &description, adapter.as_mut(), &sandbox) {
        Ok(()) => ExitCode::SUCCESS,
        // The supervisor ended first, and says why itself.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => ExitCode::SUCCESS,
        Err(error) => {
            // Into the worker's own log: a tenant that broke its channel reads why.
            eprintln!("{error}");
            ExitCode::from(CHANNEL_BROKE)
        }
    }
}

/// Is the template; returns in each of its workers when that has lived, and in a fork that
/// did not become a layer.
fn serve_as_template(
    mut template: inside::Template,
    description: &[u8],
    adapter: &mut dyn Adapter,
    sandbox: &Sandbox,
) -> io::Result<()> {
    loop {
        let layer = match template.serve(description)? {
            Born::Worker(newborn) => return live(newborn, adapter, sandbox),
            Born::Layer(layer) => layer,
        };
        if let Err(reason) = grow(adapter, &layer.asked) {
            layer.template.fail(&reason);
            return Ok(());
        }
        template = layer.template;
    }
}

/// Imports what a layer is to have more than the template that it was forked from.
fn grow(adapter: &mut dyn Adapter, asked: &[u8]) -> Result<(), String> {
    let say = |error: BootError| error.to_string();
    let libraries: Vec<String> = serde_json::from_slice(asked).map_err(|it| it.to_string())?;
    let before = open_descriptors();
    adapter.grow(&libraries).map_err(say)?;
    nothing_more_is_open(&before).map_err(|reason| {
        let names = libraries.join(", ");
        format!("importing {names}: {reason}")
    })?;
    adapter.settle().map_err(say)
}

fn boot(adapter: &mut dyn Adapter, settings: &Settings) -> Result<Sandbox, String> {
    let say = |error: BootError| error.to_string();
    adapter.boot().map_err(say)?;
    let libraries = settings.libraries();
    let before = open_descriptors();
    adapter.preload(&libraries).map_err(say)?;
    nothing_more_is_open(&before)
        .map_err(|reason| format!("{} cannot be preloaded: {reason}", libraries.join(", ")))?;
    if let Some(handler) = &settings.handler {
        adapter.import(handler).map_err(|it| in_words(&it))?;
        nothing_more_is_open(&before)
            .map_err(|reason| format!("{handler} cannot be imported: {reason}"))?;
    }
    adapter.settle().map_err(say)?;
    Sandbox::close(settings).map_err(|error| error.to_string())
}

/// What the function of the command raised, to be read by [`raised`].
fn in_words(exception: &Exception) -> String {
    // More than that may be cut on its way.
    const MOST: usize = 60 * 1024;
    serde_json::to_string(exception)
        .ok()
        .filter(|words| words.len() < MOST)
        .unwrap_or_else(|| exception.told())
}

/// What the function of the command raised, if that is what a template said.
pub(crate) fn raised(words: &str) -> Option<Exception> {
    serde_json::from_str(words).ok()
}

/// Refuses what was opened since: a fork has other files under those numbers.
fn nothing_more_is_open(before: &BTreeMap<OsString, String>) -> Result<(), String> {
    let mut left = open_descriptors();
    left.retain(|number, _| !before.contains_key(number));
    if left.is_empty() {
        return Ok(());
    }
    let left: Vec<String> = left.into_values().collect();
    Err(format!(
        "it left open what no fork would have: {}. Open files and connections in a call, or at the first use",
        left.join(", ")
    ))
}

/// The descriptors of this process, and what they are open on.
fn open_descriptors() -> BTreeMap<OsString, String> {
    const DIRECTORY: &str = "/proc/self/fd";
    let Ok(entries) = std::fs::read_dir(DIRECTORY) else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            // The one through which they are listed.
            let is_listing = target.starts_with("/proc") && target.ends_with("fd");
            (!is_listing).then(|| (entry.file_name(), target.display().to_string()))
        })
        .collect()
}

/// A worker's life.
fn live(newborn: Newborn, adapter: &mut dyn Adapter, sandbox: &Sandbox) -> io::Result<()> {
    let mut descriptors = newborn.descriptors;
    let channel = descriptors.split_off(REQUEST_FD as usize);
    // The standard streams are the runtime's for good.
    descriptors
        .into_iter()
        .map(IntoRawFd::into_raw_fd)
        .for_each(drop);
    let Ok([requests, responses]) = <[OwnedFd; 2]>::try_from(channel) else {
        return Err(io::Error::other("the supervisor gave no channel"));
    };
    sandbox.enter(newborn.owner).map_err(io::Error::other)?;
    adapter.after_fork();
    let mut requests = FromReadyPoint {
        requests: requests.into(),
        is_there: false,
    };
    let mut responses = File::from(responses);
    serve(adapter, &mut requests, &mut responses)
}

/// The request pipe, with the ready point in front of its first read: as close to
/// the first request as can be.
struct FromReadyPoint {
    requests: File,
    is_there: bool,
}

impl Read for FromReadyPoint {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_there {
            self.is_there = true;
            inside::ready_point();
        }
        self.requests.read(buffer)
    }
}
