//! A supervisor that speaks HTTP as its images have it: without what tests add, which takes
//! time.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use refunction_tests::environment;
use refunction_tests::http::Connection;
use serde_json::Value;

use crate::Failure;

/// One that runs; dropped, it ends.
pub struct Server {
    process: Child,
    /// Where it listens.
    port: u16,
}

impl Server {
    /// Starts one for this function in this directory, and waits until it is ready. Its
    /// workers have this user, and those that follow it.
    ///
    /// # Errors
    /// It ended, or cannot be started.
    pub fn start(
        root: &Path,
        handler: &str,
        user: u32,
        arguments: &[&str],
    ) -> Result<Self, Failure> {
        // The host's own directories may be full, and the time to list them is no restore's.
        const APART: &str =
            "mount -t tmpfs none /tmp && mount -t tmpfs none /var/tmp && exec \"$@\"";
        let mut process = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                APART,
                "sh",
            ])
            .arg(environment::supervisor())
            .args(["--worker-uid", &user.to_string()])
            .args(arguments)
            .arg(handler)
            .env("FUNCTION_ROOT", root)
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = process.stderr.take().ok_or("its errors are no pipe")?;
        let mut lines = BufReader::new(said).lines();
        let port = loop {
            let Some(line) = lines.next() else {
                return Err(format!("the supervisor ended: {}", process.wait()?).into());
            };
            let line = line?;
            let address = line.split_once("listening for HTTP on ");
            if let Some(port) = address.and_then(|(_, it)| it.rsplit_once(':')?.1.parse().ok()) {
                break port;
            }
        };
        // What it says later is for whoever looks at the benchmark.
        thread::spawn(move || lines.map_while(Result::ok).for_each(|it| eprintln!("{it}")));
        let server = Self { process, port };
        while server.connect().ask("GET", "/_/ready", &[], b"").status != 200 {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// A connection to it.
    #[must_use]
    pub fn connect(&self) -> Connection {
        Connection::to(self.port)
    }

    /// Has so many clients call it, each again as soon as it has an answer, for this long:
    /// how long each call took.
    ///
    /// # Panics
    /// A call failed.
    #[must_use]
    pub fn load(&self, clients: usize, event: &Value, time: Duration) -> Vec<Duration> {
        let until = Instant::now() + time;
        thread::scope(|scope| {
            let clients: Vec<_> = (0..clients)
                .map(|_| {
                    scope.spawn(|| {
                        let mut connection = self.connect();
                        let mut times = Vec::new();
                        while Instant::now() < until {
                            let began = Instant::now();
                            let _ = connection.call(event);
                            times.push(began.elapsed());
                        }
                        times
                    })
                })
                .collect();
            let times = clients.into_iter().map(|client| client.join());
            times.flat_map(|times| times.expect("its calls")).collect()
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill(
            Pid::from_raw(self.process.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _ = self.process.wait();
    }
}
