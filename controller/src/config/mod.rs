//! What an operator decides: the configuration file, and the command line over it.

mod check;
mod duration;
mod file;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use refunction_protocol::Size;
use serde::{Deserialize, Serialize};

use crate::gateway::Place;

pub use check::Problem;
pub use file::{ConfigError, DEFAULT_FILE, Source};

/// Every setting. What the file leaves out is as [`Default`] has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The directory for what lives as long as the containers do.
    pub state_dir: PathBuf,
    /// The directory for what lives longer.
    pub root_dir: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// How the daemon's log is written.
    pub log_format: LogFormat,
    /// Threads that carry calls, one for each eight processors if nothing is said: a call takes
    /// some tens of microseconds of theirs, and more of them wake one another.
    pub threads: Option<NonZeroU32>,
    /// Who makes containers.
    pub containerd: Containerd,
    /// What containers can reach.
    pub network: Network,
    /// What all pools share.
    pub node: Node,
    /// Functions over HTTP.
    pub gateway: Gateway,
    /// The socket for kubelet.
    pub cri: Cri,
    /// Traces of calls.
    pub traces: Traces,
    /// Containers that are kept ready.
    #[serde(rename = "pool")]
    pub pools: Vec<Pool>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/run/refunction".into(),
            root_dir: "/var/lib/refunction".into(),
            socket: "/run/refunction/refunction.sock".into(),
            log_format: LogFormat::Text,
            threads: None,
            containerd: Containerd::default(),
            network: Network::default(),
            node: Node::default(),
            gateway: Gateway::default(),
            cri: Cri::default(),
            traces: Traces::default(),
            pools: Vec::new(),
        }
    }
}

/// How the daemon's log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// An object a line.
    Json,
}

/// Who makes containers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containerd {
    /// The socket of a running containerd.
    pub address: PathBuf,
    /// Start one of the daemon's own instead, which ends with it.
    pub private: bool,
    /// containerd's namespace in which everything is done.
    pub namespace: String,
}

impl Default for Containerd {
    fn default() -> Self {
        Self {
            address: "/run/containerd/containerd.sock".into(),
            private: false,
            namespace: "refunction".into(),
        }
    }
}

/// How containers that the daemon makes itself are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Not at all: loopback only.
    None,
    /// As the host's CNI plugins are told.
    Cni,
}

/// What containers that the daemon makes itself can reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// How.
    pub mode: NetworkMode,
    /// Where networks are described.
    pub conf_dir: PathBuf,
    /// Where the plugins are.
    pub bin_dirs: Vec<PathBuf>,
    /// Which network; without a name that of the first file.
    pub name: Option<String>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            mode: NetworkMode::None,
            conf_dir: "/etc/cni/net.d".into(),
            // The second is Debian's.
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            name: None,
        }
    }
}

/// What all pools share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Bytes that the pools' containers may have together; without it, only the
    /// number of containers counts.
    pub memory: Option<Size>,
    /// Containers at most, over all pools.
    pub max_containers: u32,
    /// Creations under way at once.
    pub max_creations: u32,
    /// Calls that wait at most, over all functions.
    pub queue: u32,
    /// Calls of one function that wait at most.
    pub queue_per_function: u32,
    /// No call waits longer, whatever its deadline.
    #[serde(with = "duration")]
    pub longest_wait: Duration,
    /// How long an idle container goes on holding a function, unless the function's
    /// own settings say otherwise.
    #[serde(with = "duration")]
    pub keep_warm: Duration,
    /// Bytes of the host's memory that stay available: with less no container is made, and
    /// idle ones are removed. A twentieth of the host's memory if absent; 0 is never.
    pub min_available: Option<Size>,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            memory: None,
            max_containers: 24,
            max_creations: 4,
            queue: 10_000,
            queue_per_function: 1_000,
            longest_wait: Duration::from_secs(60),
            keep_warm: Duration::from_secs(60),
            min_available: None,
        }
    }
}

/// The containers of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// The image.
    pub image: String,
    /// Containers that are kept, also with nothing to do.
    pub min: u32,
    /// Containers at most.
    pub max: u32,
    /// Bytes that each may have.
    pub memory: Size,
    /// Processes and threads that each may have.
    pub pids: u32,
    /// Variables of each.
    pub env: BTreeMap<String, String>,
    /// One above `min` that was not used for so long is removed.
    #[serde(with = "duration")]
    pub shrink_after: Duration,
    /// The pool grows when calls would wait longer than this.
    #[serde(with = "duration")]
    pub grow_after: Duration,
    /// Containers kept free beyond those in use, as long as any is.
    pub spare: u32,
    /// Whether a container runs one function after another.
    pub reuse: Reuse,
}

/// What becomes of a container that held a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reuse {
    /// It is restored, and whatever function comes next runs in it.
    Always,
    /// It is removed, and another made.
    Never,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            image: String::new(),
            min: 1,
            max: 24,
            memory: Size(DEFAULT_MEMORY_BYTES),
            pids: DEFAULT_PIDS,
            env: BTreeMap::new(),
            shrink_after: Duration::from_secs(300),
            grow_after: Duration::from_millis(10),
            spare: 1,
            reuse: Reuse::Always,
        }
    }
}

/// Bytes that a container may hold unless its creator says otherwise.
pub(crate) const DEFAULT_MEMORY_BYTES: u64 = 512 * 1024 * 1024;

/// Processes and threads unless its creator says otherwise; what Lambda allows.
pub(crate) const DEFAULT_PIDS: u32 = 1024;

/// Functions over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Where; nowhere if empty.
    pub listen: Vec<Place>,
    /// The file with the token that callers show; needed beyond the host itself.
    pub token_file: Option<PathBuf>,
    /// The image for each runtime that can be named in an image's place.
    pub images: BTreeMap<String, String>,
    /// What a client gets to send a request, or to go on taking an answer.
    #[serde(with = "duration")]
    pub patience: Duration,
    /// How long calls may go on when the daemon ends.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Calls that nobody waits for: under way and kept outcomes, together.
    pub max_results: usize,
    /// Bytes of all kept outcomes.
    pub results_memory: Size,
    /// How long an outcome is kept.
    #[serde(with = "duration")]
    pub keep_results: Duration,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            token_file: None,
            images: BTreeMap::new(),
            patience: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            max_results: 1_000,
            results_memory: Size(64 << 20),
            keep_results: Duration::from_secs(600),
        }
    }
}

/// The socket for kubelet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cri {
    /// Where it is; without it there is none.
    pub socket: Option<PathBuf>,
}

/// Traces of calls, in OpenTelemetry's form.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// The collector that takes them by OTLP over gRPC; without it there are none.
    pub endpoint: Option<String>,
}

#[cfg(test)]
mod tests;
