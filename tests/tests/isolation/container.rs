//! Something that loads a function, calls it and is restored: a supervisor by hand,
//! or a container of refunctiond's.

use std::process::Command;

use refunction_tests::host::Host;
use refunction_tests::peer::Restored;
use refunction_tests::process;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

/// How a call failed.
#[derive(Debug)]
pub struct Failure {
    pub kind: String,
    pub text: String,
}

pub trait Container: Send {
    fn load(&mut self, source: &str) -> Result<(), String>;
    fn call(&mut self, data: &Value, deadline_ms: u64) -> Result<Value, Failure>;
    fn restore(&mut self) -> Restored;
    /// The supervisor's process, as this host numbers it.
    fn supervisor(&self) -> u32;
    /// The workers' user, as this host numbers it.
    fn uid(&self) -> u32;
    /// Ends it, and asserts that nothing is left of it.
    fn end(self: Box<Self>);

    /// The worker's process, as this host numbers it: the only one of its user's, for
    /// as long as no function runs.
    fn worker(&self) -> Result<u32, String> {
        let below = process::descendants(self.supervisor());
        let mut of_user = below.into_iter().filter(|pid| is_of(*pid, self.uid()));
        match (of_user.next(), of_user.next()) {
            (Some(worker), None) => Ok(worker),
            (None, _) => Err("there is no worker".into()),
            (Some(one), Some(other)) => Err(format!(
                "beside the worker there is another process: {} and {}",
                described(one),
                described(other)
            )),
        }
    }

    /// The template's process: the supervisor's only child that is not a worker.
    fn template(&self) -> Option<u32> {
        process::descendants(self.supervisor())
            .into_iter()
            .find(|pid| !is_of(*pid, self.uid()))
    }
}

fn is_of(pid: u32, uid: u32) -> bool {
    process::status(pid, "Uid").and_then(|ids| ids.split_whitespace().next()?.parse::<u32>().ok())
        == Some(uid)
}

fn described(pid: u32) -> String {
    let of = |name| process::status(pid, name).unwrap_or_default();
    format!("{pid} {} {}", of("Name"), of("State"))
}

impl Container for Supervisor {
    fn load(&mut self, source: &str) -> Result<(), String> {
        let loaded = self.try_load(&json!(source));
        match loaded["data"] {
            Value::Bool(true) => Ok(()),
            _ => Err(format!("not loaded: {loaded}")),
        }
    }

    fn call(&mut self, data: &Value, deadline_ms: u64) -> Result<Value, Failure> {
        self.send(&json!({
            "type": "request", "id": "the-call", "data": data, "deadline_ms": deadline_ms,
        }));
        let mut answer = self.receive();
        if answer["type"] == "response" && answer["id"] == "the-call" {
            return Ok(answer["data"].take());
        }
        Err(Failure {
            kind: answer["data"]["kind"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            text: answer.to_string(),
        })
    }

    fn restore(&mut self) -> Restored {
        (**self).restore()
    }

    fn supervisor(&self) -> u32 {
        self.pid()
    }

    fn uid(&self) -> u32 {
        self.uid
    }

    fn end(mut self: Box<Self>) {
        self.send(&json!({"type": "shutdown"}));
        assert_eq!(self.wait(), 0);
        self.assert_nothing_left();
    }
}

/// Capabilities that containerd and Kubernetes give a container, and the one that the
/// engine makes use of where it has it.
const DEFAULT_CAPABILITIES: &str = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,\
                                    +setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,\
                                    +mknod,+audit_write,+setfcap,+sys_ptrace";

/// A supervisor by hand that may do no more than one in a container may.
pub fn with_default_capabilities(arguments: &[&str]) -> Supervisor {
    Supervisor::start_with(arguments, |command| {
        let mut reduced = Command::new("setpriv");
        reduced
            .arg(format!("--bounding-set={DEFAULT_CAPABILITIES}"))
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => reduced.env(name, value),
                None => reduced.env_remove(name),
            };
        }
        *command = reduced;
    })
}

/// One container of a daemon that has no other.
pub struct InContainer {
    host: Host,
    id: String,
    init: u32,
}

/// The workers' user where nobody says otherwise, as in every image.
const WORKER_UID: u32 = 64_533;

impl InContainer {
    pub fn start() -> Self {
        let host = Host::with_image();
        let id = host.create("isolation", &["--memory", "512M"]);
        let listed = host.ctr(&["tasks", "ls"]).text;
        let init = listed
            .lines()
            .filter_map(|line| line.strip_prefix(&id))
            .find_map(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("{id} is not in {listed}"));
        Self { host, id, init }
    }
}

impl Container for InContainer {
    fn load(&mut self, source: &str) -> Result<(), String> {
        let arguments = ["function", "-c", &self.id, "-f", "-"];
        let answer = self.host.funk_reading(&arguments, source.as_bytes());
        match answer.json["loaded"] {
            Value::Bool(true) => Ok(()),
            _ => Err(format!("not loaded: {answer:?}")),
        }
    }

    fn call(&mut self, data: &Value, deadline_ms: u64) -> Result<Value, Failure> {
        let deadline = deadline_ms.to_string();
        let arguments = [
            "request",
            "-c",
            &self.id,
            "-r",
            "-",
            "--deadline-ms",
            &deadline,
        ];
        let mut answer = self
            .host
            .funk_reading(&arguments, data.to_string().as_bytes());
        if answer.code == 0 {
            return Ok(answer.json["value"].take());
        }
        Err(Failure {
            kind: answer.json["error"]["kind"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            text: format!("{answer:?}"),
        })
    }

    fn restore(&mut self) -> Restored {
        let report = self.host.funk(&["restore", "-c", &self.id]).ok();
        Restored::from_report(report)
    }

    fn supervisor(&self) -> u32 {
        self.init
    }

    fn uid(&self) -> u32 {
        WORKER_UID
    }

    fn end(mut self: Box<Self>) {
        self.host.funk(&["rm", &self.id]).ok();
        self.host.assert_no_container_left();
        assert_eq!(self.host.stop(), Some(0));
        self.host.assert_ended();
    }
}
