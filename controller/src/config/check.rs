//! Whether settings make sense: with each other, and on this host.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Config, NetworkMode, Pool};
use crate::container::{MIN_MEMORY_BYTES, MIN_PIDS};
use crate::network::{self, NetworkError};

/// Something that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting, by its names from the outside in.
    pub(super) setting: Vec<String>,
    /// What is wrong with it.
    pub(super) message: String,
}

fn problem(setting: &str, message: impl Into<String>) -> Problem {
    Problem {
        setting: setting.split('.').map(str::to_owned).collect(),
        message: message.into(),
    }
}

impl Config {
    /// What contradicts itself, wherever the daemon runs.
    #[must_use]
    pub fn contradictions(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for (name, path) in [
            ("state_dir", &self.state_dir),
            ("root_dir", &self.root_dir),
            ("socket", &self.socket),
        ] {
            if path.as_os_str().is_empty() {
                found.push(problem(name, "it is empty"));
            }
        }
        if self.containerd.namespace.is_empty() {
            found.push(problem("containerd.namespace", "it is empty"));
        }
        if self.network.mode == NetworkMode::Cni && self.network.bin_dirs.is_empty() {
            found.push(problem(
                "network.bin_dirs",
                "it is empty, and CNI needs its plugins",
            ));
        }
        self.check_node(&mut found);
        for (index, pool) in self.pools.iter().enumerate() {
            self.check_pool(index, pool, &mut found);
        }
        if self.gateway.token_file.is_none() {
            for (index, place) in self.gateway.listen.iter().enumerate() {
                if !place.is_local() {
                    found.push(problem(
                        &format!("gateway.listen.{index}"),
                        format!("{place} can be reached from other hosts: set gateway.token_file, or listen at a loopback address or a Unix socket"),
                    ));
                }
            }
        }
        if let Some(endpoint) = &self.traces.endpoint {
            let address = endpoint.parse::<axum::http::Uri>().ok();
            let is_one = address.is_some_and(|it| {
                it.scheme_str() == Some("http") && it.host().is_some_and(|it| !it.is_empty())
            });
            if !is_one {
                found.push(problem(
                    "traces.endpoint",
                    format!("{endpoint:?} is no collector's address; expected one such as http://127.0.0.1:4317, without TLS: to a collector on another host one on this host passes on"),
                ));
            }
        }
        if self.cri.socket.is_some() && self.containerd.private {
            found.push(problem(
                "cri.socket",
                "pods are the node's containerd's, and containerd.private is true",
            ));
        }
        if self.cri.socket.as_ref() == Some(&self.socket) {
            found.push(problem("cri.socket", "it is the control socket, too"));
        }
        found
    }

    fn check_node(&self, found: &mut Vec<Problem>) {
        let node = &self.node;
        for (name, number) in [
            ("node.max_containers", node.max_containers),
            ("node.max_creations", node.max_creations),
            ("node.queue", node.queue),
            ("node.queue_per_function", node.queue_per_function),
        ] {
            if number == 0 {
                found.push(problem(name, "it is 0, and no function would ever run"));
            }
        }
        let kept: u64 = self.pools.iter().map(|pool| u64::from(pool.min)).sum();
        if kept > u64::from(node.max_containers) {
            found.push(problem(
                "node.max_containers",
                format!(
                    "it is {}, and the pools keep {kept} containers ready",
                    node.max_containers
                ),
            ));
        }
        let kept: u64 = self
            .pools
            .iter()
            .map(|pool| pool.memory.0.saturating_mul(u64::from(pool.min)))
            .fold(0, u64::saturating_add);
        if let Some(memory) = node.memory.filter(|memory| memory.0 < kept) {
            found.push(problem(
                "node.memory",
                format!(
                    "it is {memory}, and the containers that the pools keep ready have {} MiB",
                    kept >> 20
                ),
            ));
        }
    }

    fn check_pool(&self, index: usize, pool: &Pool, found: &mut Vec<Problem>) {
        let mut wrong = |setting: &str, message: String| {
            found.push(problem(&format!("pool.{index}.{setting}"), message));
        };
        if pool.image.is_empty() {
            wrong("image", "a pool needs an image".into());
        }
        if self.pools[..index].iter().any(|it| it.image == pool.image) {
            wrong("image", format!("{:?} has a pool already", pool.image));
        }
        if pool.max == 0 {
            wrong("max", "it is 0, and no function would ever run".into());
        } else if pool.min > pool.max {
            wrong(
                "min",
                format!("it is {}, more than max, which is {}", pool.min, pool.max),
            );
        }
        if pool.memory.0 < MIN_MEMORY_BYTES {
            wrong(
                "memory",
                format!(
                    "{} is too little: a container needs at least {} MiB",
                    pool.memory,
                    MIN_MEMORY_BYTES >> 20
                ),
            );
        }
        if pool.pids < MIN_PIDS {
            wrong(
                "pids",
                format!(
                    "{} are too few: a container needs at least {MIN_PIDS}",
                    pool.pids
                ),
            );
        }
        for name in pool.env.keys() {
            if name.is_empty() || name.contains(['=', '\0']) {
                wrong("env", format!("{name:?} cannot be an environment variable"));
            }
        }
    }

    /// What is not as the settings say on this host, now.
    #[must_use]
    pub fn absences(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        if !self.containerd.private && !self.containerd.address.exists() {
            found.push(problem(
                "containerd.address",
                format!("{} does not exist", self.containerd.address.display()),
            ));
        }
        if self.network.mode == NetworkMode::Cni {
            self.look_for_network(&mut found);
        }
        if let Some(path) = &self.gateway.token_file {
            check_token(path, &mut found);
        }
        found
    }

    fn look_for_network(&self, found: &mut Vec<Problem>) {
        let Err(error) = network::find(&self.network) else {
            return;
        };
        let setting = match error {
            NetworkError::Plugin { .. } => "network.bin_dirs",
            _ if self.network.name.is_some() => "network.name",
            _ => "network.conf_dir",
        };
        found.push(problem(setting, error.to_string()));
    }
}

fn check_token(path: &Path, found: &mut Vec<Problem>) {
    let mut wrong = |message: String| found.push(problem("gateway.token_file", message));
    match fs::metadata(path) {
        Err(error) => wrong(format!("{}: {error}", path.display())),
        Ok(file) if file.permissions().mode() & 0o077 != 0 => wrong(format!(
            "{} can be read by others than its owner; chmod 600 it",
            path.display()
        )),
        Ok(_) => match fs::read_to_string(path) {
            Err(error) => wrong(format!("{}: {error}", path.display())),
            Ok(token) if token.trim().is_empty() => wrong(format!("{} is empty", path.display())),
            Ok(_) => {}
        },
    }
}
