//! The measuring side of an engine: a worker, forked from a frozen template or frozen
//! where it stands, its pipes, and the timed steps of its life.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Gid, Pid, Uid, pipe2};
use refunction_adapter::Invocation;
use refunction_adapter::channel::{Kind, REQUEST_FD, read_frame, write_frame};
use refunction_snapshot::{
    Engine, InPlace, News, PAGE, PageScanner, Rewound, Scan, Span, Template, Worker, unread_bytes,
};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::to_raw_value;

use crate::runtime::{self, Origin, Runtime};
use crate::setting::Setting;
use crate::{Failure, guest};

/// Descriptors that a worker is given, in the order of their numbers.
const ENDS: usize = 5;

/// An engine, a template if there is one, and one worker.
pub struct Stage {
    setting: Setting,
    engine: Engine,
    template: Option<Template>,
    staff: Option<Staff>,
    children: SignalFd,
    frames: Frames,
}

/// What is sent.
pub(crate) struct Frames {
    load: Vec<u8>,
    call: Vec<u8>,
}

impl Frames {
    pub(crate) fn of(setting: &Setting) -> Result<Self, Failure> {
        Ok(Self {
            load: frame(Kind::Load, &setting.function)?,
            call: frame(Kind::Invoke, &runtime::call())?,
        })
    }

    /// What calls give from now on.
    pub(crate) fn give(&mut self, argument: &Value) -> Result<(), Failure> {
        let invocation = Invocation {
            data: to_raw_value(argument)?,
            ..runtime::call()
        };
        self.call = frame(Kind::Invoke, &invocation)?;
        Ok(())
    }

    /// The frame that this kind answers.
    pub(crate) fn of_kind(&self, answer: Kind) -> &[u8] {
        match answer {
            Kind::Loaded => &self.load,
            _ => &self.call,
        }
    }

    /// Fails unless this answers as it should.
    pub(crate) fn check(expected: Kind, answer: Option<(Kind, Vec<u8>)>) -> Result<(), Failure> {
        match answer {
            // `null` says that nothing went wrong in loading.
            Some((kind, payload))
                if kind == expected && (kind != Kind::Loaded || payload == b"null") =>
            {
                Ok(())
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

fn frame(kind: Kind, payload: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut frame = Vec::new();
    write_frame(&mut frame, kind, &serde_json::to_vec(payload)?)?;
    Ok(frame)
}

struct Staff {
    worker: Standing,
    pipes: Pipes,
}

enum Standing {
    Forked(Box<Worker>),
    InPlace(Box<InPlace>),
}

struct Pipes {
    requests: File,
    responses: File,
    /// What the worker prints.
    logs: [File; 2],
}

impl Pipes {
    /// With the ends that are the worker's.
    fn new() -> Result<(Self, [OwnedFd; ENDS]), Failure> {
        let null = File::open("/dev/null")?;
        let (request_out, request_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (response_out, response_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout_out, stdout_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_out, stderr_in) = pipe2(OFlag::O_CLOEXEC)?;
        let pipes = Self {
            requests: request_in.into(),
            responses: response_out.into(),
            logs: [stdout_out.into(), stderr_out.into()],
        };
        let ends = [null.into(), stdout_in, stderr_in, request_out, response_in];
        Ok((pipes, ends))
    }
}

fn owner() -> (Uid, Gid) {
    (Uid::from_raw(guest::ID), Gid::from_raw(guest::ID))
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
    /// Has a worker of this runtime come about, by way of a template or at once. SIGCHLD
    /// must be blocked in every thread (see [`refunction_snapshot::block_sigchld`]).
    ///
    /// # Errors
    /// No engine, no such runtime, or no root.
    pub fn set(scan: Scan, runtime: Runtime) -> Result<Self, Failure> {
        Self::with(scan, Setting::no_op(runtime)?)
    }

    /// As [`set`](Self::set), with a function of one's own.
    ///
    /// # Errors
    /// The same.
    pub fn with(scan: Scan, setting: Setting) -> Result<Self, Failure> {
        let engine = Engine::new(scan)?;
        let mut child = SigSet::empty();
        child.add(Signal::SIGCHLD);
        let children =
            SignalFd::with_flags(&child, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let mut stage = Self {
            engine,
            template: None,
            staff: None,
            children,
            frames: Frames::of(&setting)?,
            setting,
        };
        if let Origin::Template(_) = stage.setting.runtime.origin() {
            let (pid, ours) = stage.spawn()?;
            let booting = stage.engine.adopt(pid, ours)?;
            await_word(&mut stage.engine, booting.socket(), &stage.children)?;
            stage.template = Some(stage.engine.freeze(booting)?);
        }
        stage.replace()?;
        Ok(stage)
    }

    fn spawn(&self) -> Result<(Pid, OwnedFd), Failure> {
        let (ours, theirs) = Engine::conversation()?;
        let process = (self.setting.program(guest::FLAG)?)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok((Pid::from_raw(process.id().cast_signed()), ours))
    }

    /// Has a worker come about.
    fn replace(&mut self) -> Result<(), Failure> {
        let (mut pipes, ends) = Pipes::new()?;
        let given = ends.each_ref().map(AsFd::as_fd);
        if let Some(template) = &self.template {
            let worker = self.engine.fork(template, &given, owner())?;
            let worker = Standing::Forked(Box::new(worker));
            self.staff = Some(Staff { worker, pipes });
            return Ok(());
        }
        let (pid, ours) = self.spawn()?;
        let starting = self.engine.adopt_runtime(pid, ours, &given)?;
        drop(ends);
        await_word(&mut self.engine, pipes.responses.as_fd(), &self.children)?;
        match read_frame(&mut pipes.responses)? {
            Some((Kind::Ready, _)) => {}
            other => {
                let mut said = vec![0; 4096];
                let [_, errors] = &mut pipes.logs;
                let length = if unread_bytes(errors.as_fd())? > 0 {
                    errors.read(&mut said)?
                } else {
                    0
                };
                let said = String::from_utf8_lossy(&said[..length]);
                return Err(format!("instead of being ready it said {other:?}: {said}").into());
            }
        }
        let mut worker = self.engine.freeze_in_place(starting, REQUEST_FD, owner())?;
        let holding = self.engine.hold(worker.worker())?;
        self.engine.rewind_in_place(&mut worker, holding)?;
        let worker = Standing::InPlace(Box::new(worker));
        self.staff = Some(Staff { worker, pipes });
        Ok(())
    }

    /// The worker's process.
    #[must_use]
    pub fn worker(&self) -> Option<Pid> {
        Some(match &self.staff.as_ref()?.worker {
            Standing::Forked(worker) => worker.pid(),
            Standing::InPlace(worker) => worker.pid(),
        })
    }

    /// Pages that a forked worker had of its own at its ready point.
    #[must_use]
    pub fn overlay_pages(&self) -> usize {
        match self.staff.as_ref().map(|staff| &staff.worker) {
            Some(Standing::Forked(worker)) => worker.overlay_pages(),
            _ => 0,
        }
    }

    /// Bytes in the snapshot.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        match (
            &self.template,
            self.staff.as_ref().map(|staff| &staff.worker),
        ) {
            (Some(template), _) => template.bytes(),
            (None, Some(Standing::InPlace(worker))) => worker.bytes(),
            _ => 0,
        }
    }

    /// Threads of the snapshot.
    #[must_use]
    pub fn threads(&self) -> usize {
        match self.staff.as_ref().map(|staff| &staff.worker) {
            Some(Standing::InPlace(worker)) => worker.threads(),
            _ => 1,
        }
    }

    /// Loads the function, calls it once and then `warm` times more, and rewinds.
    ///
    /// # Errors
    /// The worker did not answer as it should, or cannot be rewound.
    pub fn turn(&mut self, warm: usize) -> Result<Turn, Failure> {
        let began = Instant::now();
        let load = self.load()?;
        let first = self.call()?;
        let warm = (0..warm).map(|_| self.call()).collect::<Result<_, _>>()?;
        let asked = Instant::now();
        let rewound = self.rewind()?;
        Ok(Turn {
            load,
            first,
            warm,
            rewind: asked.elapsed(),
            rewound,
            whole: began.elapsed(),
        })
    }

    /// Does a turn, and looks at the worker before and after the rewind: the pages of
    /// these ranges whose contents that changed.
    ///
    /// # Errors
    /// As [`turn`](Self::turn); or the worker's memory cannot be read.
    pub fn changed_pages(&mut self, ranges: &[Span]) -> Result<Vec<u64>, Failure> {
        self.load()?;
        self.call()?;
        let worker = self.worker().ok_or("there is no worker")?;
        let memory = File::open(format!("/proc/{worker}/mem"))?;
        let pagemap = File::open(format!("/proc/{worker}/pagemap"))?;
        let mut scanner = PageScanner::new(Scan::Auto)?;
        let mut own = Vec::new();
        for range in ranges {
            scanner.scan(&pagemap, *range, &mut own)?;
        }
        let read = |page: u64| {
            let mut bytes = vec![0; PAGE as usize];
            // One that the function itself mapped or unmapped is not copied back.
            memory.read_exact_at(&mut bytes, page).ok().map(|()| bytes)
        };
        let pages = own.into_iter().flat_map(Span::page_addresses);
        let then: Vec<_> = pages.map(|page| (page, read(page))).collect();
        self.rewind()?;
        let changed = then.into_iter().filter(|(page, then)| *then != read(*page));
        Ok(changed.map(|(page, _)| page).collect())
    }

    /// What calls give from now on.
    ///
    /// # Errors
    /// It is too long.
    pub fn give(&mut self, argument: &Value) -> Result<(), Failure> {
        self.frames.give(argument)
    }

    /// Loads the function: the worker stands at its ready point.
    ///
    /// # Errors
    /// The worker did not answer as it should.
    pub fn load(&mut self) -> Result<Duration, Failure> {
        self.ask(Kind::Loaded)
    }

    /// Calls the function, which is loaded.
    ///
    /// # Errors
    /// The worker did not answer as it should.
    pub fn call(&mut self) -> Result<Duration, Failure> {
        self.ask(Kind::Value)
    }

    /// Puts the worker back to its ready point.
    ///
    /// # Errors
    /// It cannot be put back.
    pub fn rewind(&mut self) -> Result<Rewound, Failure> {
        let staff = self.staff.as_mut().ok_or("there is no worker")?;
        Ok(match (&mut staff.worker, &self.template) {
            (Standing::Forked(worker), Some(template)) => {
                let holding = self.engine.hold(worker)?;
                self.engine.rewind(template, worker, holding)?
            }
            (Standing::InPlace(worker), _) => {
                let holding = self.engine.hold(worker.worker())?;
                self.engine.rewind_in_place(worker, holding)?
            }
            (Standing::Forked(_), None) => return Err("there is no template".into()),
        })
    }

    /// Kills the worker and has another come.
    ///
    /// # Errors
    /// Either failed.
    pub fn refork(&mut self) -> Result<Refork, Failure> {
        let began = Instant::now();
        self.dismiss()?;
        let kill = began.elapsed();
        self.replace()?;
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
        self.dismiss()?;
        if let Some(template) = self.template {
            self.engine.discard_template(template)?;
        }
        Ok(())
    }

    fn dismiss(&mut self) -> Result<(), Failure> {
        match self.staff.take().map(|staff| staff.worker) {
            Some(Standing::Forked(worker)) => self.engine.discard(*worker)?,
            Some(Standing::InPlace(worker)) => self.engine.discard_in_place(*worker)?,
            None => {}
        }
        Ok(())
    }

    /// Sends the frame that this kind answers, and waits for the answer.
    fn ask(&mut self, expected: Kind) -> Result<Duration, Failure> {
        let staff = self.staff.as_mut().ok_or("there is no worker")?;
        let pipes = &mut staff.pipes;
        let began = Instant::now();
        pipes.requests.write_all(self.frames.of_kind(expected))?;
        await_word(&mut self.engine, pipes.responses.as_fd(), &self.children)?;
        let answer = read_frame(&mut pipes.responses)?;
        let took = began.elapsed();
        Frames::check(expected, answer)?;
        Ok(took)
    }
}

/// Waits as the supervisor does: for a word, and for what its sender meets on the way
/// there.
fn await_word(
    engine: &mut Engine,
    from: BorrowedFd<'_>,
    children: &SignalFd,
) -> Result<(), Failure> {
    loop {
        let mut awaited = [
            PollFd::new(from, PollFlags::POLLIN),
            PollFd::new(children.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut awaited, PollTimeout::NONE)?;
        let [spoke, changed] = awaited.map(|fd| fd.any().unwrap_or(true));
        if changed {
            clear(children);
            while let Some(news) = engine.poll() {
                if !matches!(news, News::Reaped { .. }) {
                    return Err(format!("instead of an answer: {news:?}").into());
                }
            }
        }
        if spoke {
            return Ok(());
        }
    }
}

fn clear(children: &SignalFd) {
    while matches!(children.read_signal(), Ok(Some(_))) {}
}
