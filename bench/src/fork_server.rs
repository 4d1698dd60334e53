//! What a restore is measured against: a plain fork server. The same runtime,
//! booted and settled in the same way, in an ordinary process; each request is a
//! fork that loads the function, calls it, ends, and is reaped.
//!
//! It measures itself, so its numbers hold no pipe and no wake-up of a client's:
//! the comparison leans to its side. It gives up no rights and reseeds nothing
//! beyond what the runtime's own fork handlers do.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use refunction_snapshot::yardstick::Forker;

use crate::Failure;
use crate::runtime::{self, Origin, Runtime};
use crate::setting::Setting;

/// Starts this part.
pub const FLAG: &str = "--as-fork-server";

/// What each fork does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Request {
    /// Loads the function and calls it.
    Call = b'c',
    /// Ends at once.
    Nothing = b'n',
}

pub(crate) fn play(runtime: Runtime) -> Result<(), Failure> {
    let Origin::Template(boot) = runtime.origin() else {
        return Err("a program with threads cannot be forked".into());
    };
    let mut adapter = boot()?;
    let (no_op, call) = (runtime.no_op()?, runtime::call());
    let (mut requests, mut answers) = (io::stdin().lock(), io::stdout().lock());
    // The adapter's `settle` left no other thread.
    let forker = Forker::of_this_process()?;
    answers.write_all(&[0; 8])?;
    answers.flush()?;
    let mut request = [0];
    while requests.read(&mut request)? == 1 {
        let began = Instant::now();
        let is_done = forker.does(|| {
            if request[0] == Request::Nothing as u8 {
                return true;
            }
            adapter.after_fork();
            adapter.load(&no_op).is_ok() && adapter.invoke(&call).is_ok()
        })?;
        if !is_done {
            return Err("a fork of the server failed".into());
        }
        let took = u64::try_from(began.elapsed().as_nanos())?;
        answers.write_all(&took.to_le_bytes())?;
        answers.flush()?;
    }
    Ok(())
}

/// A running fork server.
pub struct ForkServer {
    process: Child,
    requests: Option<ChildStdin>,
    answers: ChildStdout,
}

impl ForkServer {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// It cannot be started, or did not get that far.
    pub fn start(runtime: Runtime) -> Result<Self, Failure> {
        Self::with(&Setting::no_op(runtime)?)
    }

    /// As [`start`](Self::start), with libraries, for example. Its function does nothing,
    /// whatever the setting's is.
    ///
    /// # Errors
    /// The same.
    pub fn with(setting: &Setting) -> Result<Self, Failure> {
        let mut process = (setting.program(FLAG)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take();
        let answers = process.stdout.take().ok_or("the fork server has no pipe")?;
        let mut server = Self {
            process,
            requests,
            answers,
        };
        server.answer()?;
        Ok(server)
    }

    /// How long one request took, from before the fork until it was reaped.
    ///
    /// # Errors
    /// The server ended.
    pub fn serve(&mut self, request: Request) -> Result<Duration, Failure> {
        self.requests
            .as_mut()
            .ok_or("the fork server was stopped")?
            .write_all(&[request as u8])?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Duration, Failure> {
        let mut took = [0; 8];
        self.answers.read_exact(&mut took)?;
        Ok(Duration::from_nanos(u64::from_le_bytes(took)))
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        // The end of its requests ends it.
        self.requests = None;
        let _ = self.process.wait();
    }
}
