//! A daemon with a containerd of its own and a gateway, and functions on it: what an operator
//! has, and nothing that is measured taken out.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use refunction_tests::environment;
use refunction_tests::eventually;
use refunction_tests::host::Host;
use refunction_tests::process;
use serde_json::{Value, json};

use crate::Failure;
use crate::caller::{Caller, Place, call, request};

/// A function that gives back what it is given.
pub const ECHO: &str = "def main(args): return args\n";

/// A function that sleeps as long as it is told.
pub const SLEEPER: &str = "import time\ndef main(args):\n    time.sleep(args)\n    return args\n";

/// A running node. Dropped, it and all its containers end.
pub struct Node {
    host: Host,
    config: PathBuf,
    port: u16,
    socket: PathBuf,
}

/// What is missing to start one, if anything is.
#[must_use]
pub fn missing(runtime: &str) -> Option<String> {
    ["REFUNCTIOND", "FUNK", "REFUNCTION_IMAGE_TAR"]
        .into_iter()
        .find_map(|name| {
            let value = std::env::var_os(name).map(PathBuf::from);
            match value {
                None => Some(format!("{name} is not set")),
                Some(path) if !path.is_file() => {
                    Some(format!("{name} is {}, and no file", path.display()))
                }
                Some(path) if name == "REFUNCTION_IMAGE_TAR" => {
                    let image = path.with_file_name(format!("{runtime}.tar"));
                    (!image.is_file()).then(|| format!("{} was not built", image.display()))
                }
                Some(_) => None,
            }
        })
}

impl Node {
    /// Starts one with these settings, which are those of a configuration file, and the images
    /// of these runtimes.
    ///
    /// # Errors
    /// Its configuration cannot be written.
    ///
    /// # Panics
    /// It does not serve.
    pub fn start(settings: &str, runtimes: &[&str]) -> Result<Self, Failure> {
        let place = |what: &str| {
            std::env::temp_dir().join(format!("refunction-bench-{}.{what}", std::process::id()))
        };
        let (config, socket) = (place("toml"), place("sock"));
        let gateway = format!(
            "[gateway]\nlisten = [\"127.0.0.1:0\", \"unix:{}\"]\n",
            socket.display()
        );
        fs::write(&config, &gateway)?;
        let path = config.to_str().ok_or("a path that is no text")?;
        let mut host = Host::start_with(&["--config", path]);
        host.import(runtimes);
        // Only now are there images that pools could be made of.
        fs::write(&config, format!("{settings}\n{gateway}"))?;
        host.restart_killed(|_| {});
        let port = port_of(&host);
        Ok(Self {
            host,
            config,
            port,
            socket,
        })
    }

    /// The daemon.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its gateway over TCP.
    #[must_use]
    pub fn address(&self) -> Place {
        Place::Port(self.port)
    }

    /// Its gateway over a Unix socket.
    #[must_use]
    pub fn socket(&self) -> Place {
        Place::Socket(self.socket.clone())
    }

    /// A connection to its gateway.
    ///
    /// # Errors
    /// It cannot be reached.
    pub fn connect(&self) -> Result<Caller, Failure> {
        Caller::to(&self.address())
    }

    /// Deploys a function.
    ///
    /// # Errors
    /// It is not taken.
    pub fn deploy(&self, name: &str, image: &str, code: &str, more: &Value) -> Result<(), Failure> {
        let mut function = json!({"image": image, "code": code});
        if let (Some(function), Some(more)) = (function.as_object_mut(), more.as_object()) {
            function.extend(more.clone());
        }
        let body = function.to_string();
        let path = format!("/functions/{name}");
        let put = request("PUT", &path, body.as_bytes());
        let answer = self.connect()?.exchange(&put)?;
        if matches!(answer.status, 200 | 201) {
            return Ok(());
        }
        Err(format!("{name} was not deployed: {}", answer.text()).into())
    }

    /// Calls a function on a connection of its own.
    ///
    /// # Errors
    /// It failed.
    pub fn call(&self, name: &str, argument: &str) -> Result<(), Failure> {
        self.connect()?.exchange(&call(name, argument))?.ok()?;
        Ok(())
    }

    /// Containers of its pools, by what the scheduler says that they do.
    ///
    /// # Errors
    /// It does not say it.
    pub fn containers(&self) -> Result<BTreeMap<String, usize>, Failure> {
        let answer = self.connect()?.exchange(&request("GET", "/metrics", b""))?;
        let text = answer.ok()?.text();
        let counted = text.lines().filter_map(|line| {
            let (name, number) = line.rsplit_once(' ')?;
            let labels = name.strip_prefix("refunction_containers{")?;
            let (_, activity) = labels.split_once("activity=\"")?;
            let number: usize = number.parse().ok()?;
            Some((activity.split('"').next()?.to_owned(), number))
        });
        let mut all = BTreeMap::new();
        for (activity, number) in counted {
            *all.entry(activity).or_default() += number;
        }
        Ok(all)
    }

    /// Waits until so many containers stand ready, and no other is there.
    ///
    /// # Panics
    /// It does not come to that.
    pub fn await_containers(&self, count: usize) {
        eventually("the pool has its containers", || {
            let there = self.containers().unwrap_or_default();
            let all: usize = there.values().sum();
            let ready = there.get("ready").copied().unwrap_or_default();
            (all, ready) == (count, count)
        });
    }

    /// Kilobytes that the daemon has in memory.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn resident_kib(&self) -> Result<f64, Failure> {
        let said = process::status(self.host.daemon().pid, "VmRSS").ok_or("the daemon ended")?;
        let number = said.split_whitespace().next().unwrap_or_default();
        Ok(number.parse()?)
    }

    /// Ends it, and sees to it that nothing is left.
    ///
    /// # Panics
    /// Something is.
    pub fn end(mut self) {
        assert_eq!(self.host.stop(), Some(0), "how refunctiond ended");
        self.host.assert_ended();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The socket is the daemon's to remove.
        let _ = fs::remove_file(&self.config);
    }
}

/// Where the gateway listens, as its log says.
fn port_of(host: &Host) -> u16 {
    let mut port = None;
    eventually("the gateway says where it listens", || {
        let log = host.log();
        let said = log.lines().rfind(|line| {
            line.contains("serving functions over HTTP") && line.contains("127.0.0.1:")
        });
        port = said.and_then(|line| {
            let (_, rest) = line.split_once("127.0.0.1:")?;
            let digits = rest.split(|it: char| !it.is_ascii_digit()).next()?;
            digits.parse().ok()
        });
        port.is_some()
    });
    port.unwrap_or_default()
}

/// The archive of a runtime's image.
#[must_use]
pub fn image(runtime: &str) -> PathBuf {
    environment::image(runtime)
}
