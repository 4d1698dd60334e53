//! Calling a network's plugins: programs that are told in the environment what to do,
//! and on standard input how.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::NetworkError;
use super::attachment::Attachment;

/// How long a plugin may take. They take milliseconds, or a while for a lease of DHCP.
const PATIENCE: Duration = Duration::from_secs(30);

/// The interface in the container.
const INTERFACE: &str = "eth0";

/// Since this version a plugin is told at the end what it answered at the beginning.
const TOLD_AT_DEL: (u32, u32) = (0, 4);

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
        }
    }
}

/// What a plugin did instead of what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It is not installed.
    #[error("the plugin {plugin:?} is not there; looked in {}", places(search))]
    Absent {
        /// Its name.
        plugin: String,
        /// Where it was looked for.
        search: Vec<PathBuf>,
    },
    /// It cannot be run.
    #[error("running {}: {source}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It said what is wrong.
    #[error("the plugin {plugin:?} failed at {verb} (code {code}): {message}")]
    Failed {
        /// Its name.
        plugin: String,
        /// What it was asked to do.
        verb: &'static str,
        /// Its own or the specification's number.
        code: u64,
        /// Its words.
        message: String,
    },
    /// It said nothing that could be read.
    #[error("the plugin {plugin:?} ended at {verb} with {status}: {said}")]
    Died {
        /// Its name.
        plugin: String,
        /// What it was asked to do.
        verb: &'static str,
        /// How.
        status: ExitStatus,
        /// What it printed.
        said: String,
    },
    /// It did not end, and was killed.
    #[error("the plugin {plugin:?} did not end at {verb} within {} s, and was killed", after.as_secs_f32())]
    Late {
        /// Its name.
        plugin: String,
        /// What it was asked to do.
        verb: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// It ended well with something that is no result.
    #[error("the plugin {plugin:?} answered ADD with what is no result: {said}")]
    NoResult {
        /// Its name.
        plugin: String,
        /// What it printed.
        said: String,
    },
}

fn places(search: &[PathBuf]) -> String {
    let places: Vec<_> = search.iter().map(|it| it.display().to_string()).collect();
    places.join(", ")
}

/// An error as the specification has plugins print it.
#[derive(Deserialize)]
struct Told {
    code: u64,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// The plugins of one attachment.
#[derive(Debug)]
pub(super) struct Plugins<'a> {
    attachment: &'a Attachment,
    patience: Duration,
}

impl<'a> Plugins<'a> {
    pub(super) fn new(attachment: &'a Attachment) -> Self {
        Self {
            attachment,
            patience: PATIENCE,
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Calls one after the other, each with the result of the one before: the last
    /// one's result.
    pub(super) async fn add(&self) -> Result<Value, NetworkError> {
        let mut result = None;
        for plugin in &self.attachment.network.plugins {
            let printed = self.call(Verb::Add, plugin, result.as_ref()).await?;
            let read = serde_json::from_slice(&printed)
                .ok()
                .filter(Value::is_object)
                .ok_or_else(|| {
                    self.named(PluginError::NoResult {
                        plugin: name(plugin),
                        said: shortened(&printed),
                    })
                })?;
            result = Some(read);
        }
        Ok(result.unwrap_or_default())
    }

    /// Calls them in the opposite order. Goes on after a failure and returns the first:
    /// less is left that way.
    pub(super) async fn del(&self) -> Result<(), NetworkError> {
        let network = &self.attachment.network;
        let result = self
            .attachment
            .result
            .as_ref()
            .filter(|_| is_told_at_del(&network.version));
        let mut first = Ok(());
        for plugin in network.plugins.iter().rev() {
            let called = self.call(Verb::Del, plugin, result).await.map(drop);
            if first.is_ok() {
                first = called;
            }
        }
        first
    }

    fn named(&self, source: PluginError) -> NetworkError {
        NetworkError::Plugin {
            network: self.attachment.network.name.clone(),
            source,
        }
    }

    async fn call(
        &self,
        verb: Verb,
        plugin: &Map<String, Value>,
        result: Option<&Value>,
    ) -> Result<Vec<u8>, NetworkError> {
        let network = &self.attachment.network;
        let mut input = plugin.clone();
        input.insert("name".into(), network.name.clone().into());
        input.insert("cniVersion".into(), network.version.clone().into());
        if let Some(result) = result {
            input.insert("prevResult".into(), result.clone());
        }
        let name = name(plugin);
        self.run(verb, &name, Value::Object(input).to_string())
            .await
            .map_err(|source| self.named(source))
    }

    async fn run(&self, verb: Verb, plugin: &str, input: String) -> Result<Vec<u8>, PluginError> {
        let search = &self.attachment.search;
        let program = locate(plugin, search)?;
        let failed = |source| PluginError::Run {
            program: program.clone(),
            source,
        };
        let mut child = Command::new(&program)
            .env("CNI_COMMAND", verb.word())
            .env("CNI_CONTAINERID", &self.attachment.unique)
            .env("CNI_NETNS", self.netns())
            .env("CNI_IFNAME", INTERFACE)
            .env("CNI_PATH", std::env::join_paths(search).unwrap_or_default())
            .env_remove("CNI_ARGS")
            // The daemon's own, not for what it starts.
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // With those that it calls in turn, so that all can be killed.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let group = child.id().and_then(|pid| i32::try_from(pid).ok());
        let stdin = child.stdin.take();
        let talk = async {
            let write = async {
                if let Some(mut stdin) = stdin {
                    // One that does not read it has its reasons, and tells them.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
            };
            tokio::join!(write, child.wait_with_output()).1
        };
        let Ok(ended) = timeout(self.patience, talk).await else {
            if let Some(group) = group {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            return Err(PluginError::Late {
                plugin: plugin.to_owned(),
                verb: verb.word(),
                after: self.patience,
            });
        };
        let output = ended.map_err(failed)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let plugin = plugin.to_owned();
        let verb = verb.word();
        Err(match serde_json::from_slice::<Told>(&output.stdout) {
            Ok(told) => PluginError::Failed {
                plugin,
                verb,
                code: told.code,
                message: [told.msg, told.details]
                    .into_iter()
                    .filter(|part| !part.is_empty())
                    .collect::<Vec<_>>()
                    .join("; "),
            },
            Err(_) => PluginError::Died {
                plugin,
                verb,
                status: output.status,
                said: shortened(&[output.stderr, output.stdout].concat()),
            },
        })
    }

    /// Nothing if the namespace is not there any more, as after a restart of the host:
    /// then plugins undo what they did elsewhere.
    fn netns(&self) -> &Path {
        let path = &self.attachment.netns;
        if path.exists() { path } else { Path::new("") }
    }
}

/// The program that a plugin is.
pub(super) fn locate(plugin: &str, search: &[PathBuf]) -> Result<PathBuf, PluginError> {
    search
        .iter()
        .map(|directory| directory.join(plugin))
        .find(|program| program.is_file())
        .ok_or_else(|| PluginError::Absent {
            plugin: plugin.to_owned(),
            search: search.to_vec(),
        })
}

fn name(plugin: &Map<String, Value>) -> String {
    plugin
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn is_told_at_del(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= TOLD_AT_DEL,
        _ => false,
    }
}

/// The beginning of what a program printed, on one line.
fn shortened(printed: &[u8]) -> String {
    const MOST: usize = 300;
    let text = String::from_utf8_lossy(printed);
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(MOST) {
        words.truncate(end);
        words.push('…');
    }
    if words.is_empty() {
        "it printed nothing".into()
    } else {
        words
    }
}
