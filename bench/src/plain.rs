//! The same runtime and adapter in an ordinary process that nothing isolates: no template, no
//! tracer, no filter, and nothing is put back. What isolation costs a call is told by it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use refunction_adapter::channel::{Kind, read_frame};
use refunction_adapter::serve;
use serde_json::Value;

use crate::Failure;
use crate::runtime::{Origin, Runtime};
use crate::setting::Setting;
use crate::stage::Frames;

/// Starts this part.
pub const FLAG: &str = "--as-plain-process";

pub(crate) fn play(runtime: Runtime) -> Result<(), Failure> {
    let Origin::Template(boot) = runtime.origin() else {
        return Err("a program of its own has its own descriptors".into());
    };
    let mut adapter = boot()?;
    // Without buffers, as workers have their pipes.
    let requests = std::io::stdin().as_fd().try_clone_to_owned()?;
    let responses = std::io::stdout().as_fd().try_clone_to_owned()?;
    Ok(serve(
        adapter.as_mut(),
        &mut File::from(requests),
        &mut File::from(responses),
    )?)
}

/// A running one.
pub struct Plain {
    process: Child,
    requests: Option<ChildStdin>,
    responses: ChildStdout,
    frames: Frames,
}

impl Plain {
    /// Starts it, and has it load its function.
    ///
    /// # Errors
    /// It cannot be started, or the function not be loaded.
    pub fn start(setting: &Setting) -> Result<Self, Failure> {
        let mut process = setting
            .program(FLAG)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = process.stdin.take();
        let responses = process.stdout.take().ok_or("the process has no pipe")?;
        let mut plain = Self {
            process,
            requests,
            responses,
            frames: Frames::of(setting)?,
        };
        plain.ask(Kind::Loaded)?;
        Ok(plain)
    }

    /// What calls give from now on.
    ///
    /// # Errors
    /// It is too long.
    pub fn give(&mut self, argument: &Value) -> Result<(), Failure> {
        self.frames.give(argument)
    }

    /// Calls the function.
    ///
    /// # Errors
    /// It did not answer as it should.
    pub fn call(&mut self) -> Result<Duration, Failure> {
        self.ask(Kind::Value)
    }

    fn ask(&mut self, expected: Kind) -> Result<Duration, Failure> {
        let requests = self.requests.as_mut().ok_or("it was stopped")?;
        let began = Instant::now();
        requests.write_all(self.frames.of_kind(expected))?;
        // The supervisor waits like this, and so does a stage.
        let mut awaited = [PollFd::new(self.responses.as_fd(), PollFlags::POLLIN)];
        poll(&mut awaited, PollTimeout::NONE)?;
        let answer = read_frame(&mut self.responses)?;
        let took = began.elapsed();
        Frames::check(expected, answer)?;
        Ok(took)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // The end of its requests ends it.
        self.requests = None;
        let _ = self.responses.read(&mut [0]);
        let _ = self.process.wait();
    }
}
