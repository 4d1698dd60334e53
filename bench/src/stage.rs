//! The measuring side of an engine: a frozen template, a worker forked from it,
//! its pipes, and the timed steps of its life.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Gid, Pid, Uid, pipe2};
use refunction_adapter::channel::{Kind, read_frame, write_frame};
use refunction_snapshot::{Booting, Engine, News, Rewound, Scan, Template, Worker};

use crate::{Failure, function, guest, this_program};

/// Descriptors that a worker is given, in the order of their numbers.
const ENDS: usize = 5;

/// An engine, a template and one worker.
pub struct Stage {
    engine: Engine,
    template: Template,
    staff: Option<Staff>,
    children: SignalFd,
    load: Vec<u8>,
    call: Vec<u8>,
}

struct Staff {
    worker: Worker,
    requests: File,
    responses: File,
    _logs: [OwnedFd; 2],
}

/// One tenant's turn.
#[derive(Debug)]
pub struct Turn {
    /// Loading the function, reseeding included.
    pub load: Duration,
    /// The first call.
    pub first: Duration,
    /// Each further call.
    pub warm: Vec<Duration>,
    /// The restore.
    pub rewind: Duration,
    /// What it did.
    pub rewound: Rewound,
    /// From the first byte sent until the worker stood at its ready point again.
    pub whole: Duration,
}

/// A replacement of the worker.
#[derive(Debug, Clone, Copy)]
pub struct Refork {
    /// Killing and reaping the old one.
    pub kill: Duration,
    /// From the fork to the new one's ready point.
    pub fork: Duration,
}

impl Stage {
    /// Boots and freezes a template and forks a worker. SIGCHLD must be blocked in
    /// every thread (see [`refunction_snapshot::block_sigchld`]).
    ///
    /// # Errors
    /// No engine, no Python, or no root.
    pub fn set(scan: Scan) -> Result<Self, Failure> {
        let mut engine = Engine::new(scan)?;
        let mut child = SigSet::empty();
        child.add(Signal::SIGCHLD);
        let children =
            SignalFd::with_flags(&child, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let (ours, theirs) = Engine::conversation()?;
        let process = this_program(guest::FLAG)?
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let booting = engine.adopt(Pid::from_raw(process.id().cast_signed()), ours)?;
        await_boot(&mut engine, &booting, &children)?;
        let template = engine.freeze(booting)?;
        let frame = |kind, payload: &[u8]| {
            let mut frame = Vec::new();
            write_frame(&mut frame, kind, payload)?;
            Ok::<_, io::Error>(frame)
        };
        let mut stage = Self {
            engine,
            template,
            staff: None,
            children,
            load: frame(Kind::Load, &serde_json::to_vec(&function::no_op())?)?,
            call: frame(Kind::Invoke, &serde_json::to_vec(&function::call())?)?,
        };
        stage.fork()?;
        Ok(stage)
    }

    fn fork(&mut self) -> Result<(), Failure> {
        let null = File::open("/dev/null")?;
        let (request_out, request_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (response_out, response_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout_out, stdout_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_out, stderr_in) = pipe2(OFlag::O_CLOEXEC)?;
        let ends: [OwnedFd; ENDS] = [null.into(), stdout_in, stderr_in, request_out, response_in];
        let owner = (Uid::from_raw(guest::ID), Gid::from_raw(guest::ID));
        let worker = self
            .engine
            .fork(&self.template, &ends.each_ref().map(AsFd::as_fd), owner)?;
        self.staff = Some(Staff {
            worker,
            requests: request_in.into(),
            responses: response_out.into(),
            _logs: [stdout_out, stderr_out],
        });
        Ok(())
    }

    /// The worker's process.
    #[must_use]
    pub fn worker(&self) -> Option<Pid> {
        self.staff.as_ref().map(|staff| staff.worker.pid())
    }

    /// Pages that the worker had of its own at its ready point.
    #[must_use]
    pub fn overlay_pages(&self) -> usize {
        self.staff
            .as_ref()
            .map_or(0, |staff| staff.worker.overlay_pages())
    }

    /// Bytes in the template's image.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        self.template.bytes()
    }

    /// Loads the function, calls it once and then `warm` times more, and rewinds.
    ///
    /// # Errors
    /// The worker did not answer as it should, or cannot be rewound.
    pub fn turn(&mut self, warm: usize) -> Result<Turn, Failure> {
        let began = Instant::now();
        let load = self.ask(Kind::Loaded)?;
        let first = self.ask(Kind::Value)?;
        let warm = (0..warm)
            .map(|_| self.ask(Kind::Value))
            .collect::<Result<_, _>>()?;
        let staff = self.staff.as_mut().ok_or("there is no worker")?;
        let asked = Instant::now();
        let holding = self.engine.hold(&mut staff.worker)?;
        let rewound = self
            .engine
            .rewind(&self.template, &mut staff.worker, holding)?;
        Ok(Turn {
            load,
            first,
            warm,
            rewind: asked.elapsed(),
            rewound,
            whole: began.elapsed(),
        })
    }

    /// Kills the worker and forks another.
    ///
    /// # Errors
    /// Either failed.
    pub fn refork(&mut self) -> Result<Refork, Failure> {
        let began = Instant::now();
        if let Some(staff) = self.staff.take() {
            self.engine.discard(staff.worker)?;
        }
        let kill = began.elapsed();
        self.fork()?;
        Ok(Refork {
            kill,
            fork: began.elapsed() - kill,
        })
    }

    /// Ends all of it.
    ///
    /// # Errors
    /// Something would not die.
    pub fn strike(mut self) -> Result<(), Failure> {
        if let Some(staff) = self.staff.take() {
            self.engine.discard(staff.worker)?;
        }
        Ok(self.engine.discard_template(self.template)?)
    }

    /// Sends the frame that this kind answers, and waits for the answer.
    fn ask(&mut self, expected: Kind) -> Result<Duration, Failure> {
        let staff = self.staff.as_mut().ok_or("there is no worker")?;
        let began = Instant::now();
        staff.requests.write_all(match expected {
            Kind::Loaded => &self.load,
            _ => &self.call,
        })?;
        // As the supervisor waits: for the answer, and for what the worker meets on
        // its way there.
        let mut ready = false;
        while !ready {
            let mut awaited = [
                PollFd::new(staff.responses.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut awaited, PollTimeout::NONE)?;
            let [answered, changed] = awaited.map(|fd| fd.any().unwrap_or(true));
            if changed {
                clear(&self.children);
                while let Some(news) = self.engine.poll() {
                    if !matches!(news, News::Reaped { .. }) {
                        return Err(format!("instead of an answer: {news:?}").into());
                    }
                }
            }
            ready = answered;
        }
        let answer = read_frame(&mut staff.responses)?;
        let took = began.elapsed();
        match answer {
            // `null` says that nothing went wrong in loading.
            Some((kind, payload))
                if kind == expected && (kind != Kind::Loaded || payload == b"null") =>
            {
                Ok(took)
            }
            Some((kind, payload)) => Err(format!(
                "the worker answered {kind:?}: {}",
                String::from_utf8_lossy(&payload)
            )
            .into()),
            None => Err("the worker closed its channel".into()),
        }
    }
}

fn await_boot(engine: &mut Engine, booting: &Booting, children: &SignalFd) -> Result<(), Failure> {
    loop {
        clear(children);
        while engine.poll().is_some() {}
        let mut awaited = [
            PollFd::new(booting.socket(), PollFlags::POLLIN),
            PollFd::new(children.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut awaited, PollTimeout::NONE)?;
        if awaited[0].any().unwrap_or(true) {
            return Ok(());
        }
    }
}

fn clear(children: &SignalFd) {
    while matches!(children.read_signal(), Ok(Some(_))) {}
}
