//! What others offer for the same purpose, as far as this host has it: each gives
//! the times of some runs, or the reason why there are none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Times, or why not.
pub type Outcome = Result<Vec<Duration>, String>;

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self, String> {
        let path =
            std::env::temp_dir().join(format!("refunction-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left is in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a command to its end, silently; what it said if it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The first complaint is the cause; what follows is its consequences.
    let first = said.trim().lines().next().unwrap_or_default();
    Err(format!("{program}: {}: {first}", output.status))
}

fn timed(times: usize, mut step: impl FnMut(usize) -> Result<Duration, String>) -> Outcome {
    (0..times).map(&mut step).collect()
}

/// `runc run` of a program of this host's, in a bundle that shows its programs.
pub fn runc(times: usize, arguments: &[&str]) -> Outcome {
    let scratch = Scratch::new("runc")?;
    run(Command::new("runc").arg("spec").current_dir(&scratch.0))?;
    let path = scratch.0.join("config.json");
    let failed = |error: std::io::Error| error.to_string();
    let mut bundle: Value = serde_json::from_slice(&fs::read(&path).map_err(failed)?)
        .map_err(|error| error.to_string())?;
    fs::create_dir(scratch.0.join("root")).map_err(failed)?;
    bundle["root"] = json!({"path": "root", "readonly": false});
    if let Some(mounts) = bundle["mounts"].as_array_mut() {
        // The host may have another hierarchy than runc takes for granted.
        mounts.retain(|mount| mount["type"] != "cgroup");
        mounts.extend(
            ["/bin", "/lib", "/lib64", "/usr", "/etc"]
                .iter()
                .filter(|directory| Path::new(directory).is_dir())
                .map(|directory| {
                    json!({
                        "destination": directory,
                        "type": "bind",
                        "source": directory,
                        "options": ["rbind", "ro"],
                    })
                }),
        );
    }
    bundle["process"]["terminal"] = json!(false);
    bundle["process"]["args"] = json!(arguments);
    fs::write(&path, bundle.to_string()).map_err(failed)?;
    timed(times, |number| {
        let name = format!("refunction-bench-{}-{number}", std::process::id());
        let began = Instant::now();
        run(Command::new("runc")
            .args(["run", "--bundle"])
            .arg(&scratch.0)
            .arg(name))?;
        Ok(began.elapsed())
    })
}

/// Half a minute for what takes less than one second.
fn patiently(mut done: impl FnMut() -> bool) -> bool {
    (0..3000).any(|_| {
        done() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }
    })
}

/// Making a function container through refunctiond and containerd until it is
/// ready, as `funk create` does. `REFUNCTIOND` and `FUNK` name the programs,
/// `REFUNCTION_IMAGE_TAR` an image.
pub fn container(times: usize) -> Outcome {
    let variable = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .ok_or_else(|| format!("{name} is not set"))
    };
    let (refunctiond, funk, image) = (
        variable("REFUNCTIOND")?,
        variable("FUNK")?,
        variable("REFUNCTION_IMAGE_TAR")?,
    );
    let scratch = Scratch::new("host")?;
    let socket = scratch.0.join("funk.sock");
    let log = fs::File::create(scratch.0.join("log")).map_err(|error| error.to_string())?;
    let mut daemon = Command::new(refunctiond)
        .arg("--private-containerd")
        .arg("--state-dir")
        .arg(scratch.0.join("state"))
        .arg("--root-dir")
        .arg(scratch.0.join("root"))
        .arg("--socket")
        .arg(&socket)
        .args([
            "--namespace",
            &format!("refunction-bench-{}", std::process::id()),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("refunctiond: {error}"))?;
    let funk = |arguments: &[&str]| {
        run(Command::new(&funk)
            .arg("--target")
            .arg(format!("unix://{}", socket.display()))
            .args(["--output", "json"])
            .args(arguments))
    };
    let outcome = patiently(|| socket.exists())
        .then_some(())
        .ok_or_else(|| "refunctiond did not open its socket".to_owned())
        .and_then(|()| funk(&["info"]))
        .and_then(|_| funk(&["image", "import", &image.to_string_lossy()]))
        .and_then(|imported| {
            let name = image_name(&imported).ok_or("the import named no image")?;
            timed(times, |number| {
                let id = format!("bench-{number}");
                let began = Instant::now();
                funk(&["create", "--image", &name, "--name", &id])?;
                let took = began.elapsed();
                funk(&["rm", &id])?;
                Ok(took)
            })
        });
    // It is told to end, and takes its containerd and the containers along.
    let _ = kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM);
    daemon.wait().map_err(|error| error.to_string())?;
    outcome
}

/// The first image that `funk image import --output json` names.
fn image_name(imported: &str) -> Option<String> {
    fn first_name(value: &Value) -> Option<&str> {
        match value {
            Value::String(text) => Some(text),
            Value::Array(all) => all.iter().find_map(first_name),
            Value::Object(all) => ["images", "name", "image"]
                .iter()
                .find_map(|key| first_name(all.get(*key)?)),
            _ => None,
        }
    }
    first_name(&serde_json::from_str(imported).ok()?).map(str::to_owned)
}
