//! What two processes take to say one byte to each other and back: the measure of everything
//! that is handed on between processes.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::Failure;

/// The argument that makes this program the other side.
pub const FLAG: &str = "--echo-bytes";

/// Gives back each byte, until there are no more.
///
/// # Errors
/// A pipe broke.
pub fn play() -> Result<(), Failure> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut byte = [0];
    while input.read(&mut byte)? > 0 {
        output.write_all(&byte)?;
        output.flush()?;
    }
    Ok(())
}

/// The other side, as a process of its own.
pub struct Echo {
    process: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Echo {
    /// Starts it, on this processor if one is given.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(on: Option<usize>) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(FLAG)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (to, from) = (process.stdin.take(), process.stdout.take());
        let (to, from) = (to.ok_or("no pipe")?, from.ok_or("no pipe")?);
        if let Some(processor) = on {
            pin(Pid::from_raw(process.id().cast_signed()), processor)?;
        }
        Ok(Self { process, to, from })
    }

    /// A byte there and back.
    ///
    /// # Errors
    /// It ended.
    pub fn round_trip(&mut self) -> Result<Duration, Failure> {
        let mut byte = [1];
        let began = Instant::now();
        self.to.write_all(&byte)?;
        self.from.read_exact(&mut byte)?;
        Ok(began.elapsed())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps a thread, and those that it starts from then on, on one processor; `Pid` 0 is this
/// thread.
///
/// # Errors
/// It may not be there.
pub fn pin(thread: Pid, processor: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    Ok(sched_setaffinity(thread, &set)?)
}
