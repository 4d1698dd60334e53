//! Commands run, and ended when somebody interrupts this program.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Commands under way; each entry's owner has not reaped it yet.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// From now on an interrupt ends the command under way and fails its caller, so
/// that everything started is taken down in order instead of left behind.
pub(crate) fn watch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("watching for signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            for pid in RUNNING.lock().expect("no holder panics").iter() {
                // It may have ended by itself: then there is nothing to end.
                let _ = signal(*pid, Signal::SIGTERM);
            }
        }
    });
    Ok(())
}

/// Fails once somebody has interrupted this program.
pub(crate) fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

/// The cargo that this was started by, in that directory.
pub(crate) fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(directory);
    command
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) -> nix::Result<()> {
    kill(Pid::from_raw(pid.cast_signed()), signal)
}

/// Runs a command to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    command.stdin(Stdio::null());
    let (status, ..) = wait(command)?;
    check(command, status, "")
}

/// Runs a command and takes what it printed; its errors go where ours go.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let (status, stdout, _) = wait(command)?;
    check(command, status, "")?;
    String::from_utf8(stdout).with_context(|| format!("reading what {} printed", name(command)))
}

/// Runs a command whose words matter only if it fails; then they are the error.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (status, stdout, stderr) = wait(command)?;
    check(command, status, &String::from_utf8_lossy(&stderr))?;
    String::from_utf8(stdout).with_context(|| format!("reading what {} printed", name(command)))
}

/// [`quiet`], for taking things down: an interrupt does not stop it.
pub(crate) fn cleanup(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", name(command)))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    check(command, output.status, &stderr)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The absolute path of a program in PATH.
pub(crate) fn which(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        // Daemons are kept where an ordinary user's PATH may not look.
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

fn wait(command: &mut Command) -> Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let child = {
        let mut running = RUNNING.lock().expect("no holder panics");
        // Under the lock: an interrupt finds the child in the list, or is seen here.
        check_interrupt()?;
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", name(command)))?;
        running.push(child.id());
        child
    };
    let pid = child.id();
    let output = child.wait_with_output();
    RUNNING
        .lock()
        .expect("no holder panics")
        .retain(|running| *running != pid);
    let output = output.with_context(|| format!("waiting for {}", name(command)))?;
    Ok((output.status, output.stdout, output.stderr))
}

fn check(command: &Command, status: ExitStatus, stderr: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    check_interrupt()?;
    let name = name(command);
    match stderr.trim() {
        "" => bail!("{name} failed: {status}"),
        // Most programs put their own name there already.
        words => bail!(
            "{name} failed: {}",
            words.trim_start_matches(&format!("{name}: "))
        ),
    }
}

/// The command's name for an error message.
fn name(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    name.display().to_string()
}
