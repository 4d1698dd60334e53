//! The engine: templates in, workers out, and workers put back.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::unistd::{Gid, Pid, Uid};

use crate::birth::{BirthError, Candidate, create_table};
use crate::gifts::Gifts;
use crate::image::{Image, ImageError, StoppedCalls};
use crate::inside::STANDARD_STREAMS;
use crate::message::{
    self, FAILED, FORK, GIVEN, GROW, IMAGE, MAX_ASKED, MAX_DESCRIPTORS, MAX_MESSAGE, READY,
};
use crate::pagemap::{PageScanner, Scan};
use crate::process::Process;
use crate::report::{Refused, Rewound, Stopwatch};
use crate::row::{Row, Taint};
use crate::sibling::Sibling;
use crate::span::{PAGE, Span};
use crate::tracer::{News, TraceError, Tracer};
use crate::worker::Worker;

/// Something could not be done to a template or to a newborn worker.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The process that was to become a template says that it cannot.
    #[error("the template did not start: {0}")]
    Template(String),
    /// Its memory could not be frozen.
    #[error("freezing the template: {0}")]
    Freeze(String),
    /// It could not be forked, or its child did not reach its ready point.
    #[error("forking a worker: {0}")]
    Fork(String),
    /// A call to the kernel failed.
    #[error("{doing}: {cause}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
}

pub(crate) fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |cause| EngineError::Io { doing, cause }
}

impl From<ImageError> for EngineError {
    fn from(error: ImageError) -> Self {
        Self::Freeze(error.to_string())
    }
}

impl From<BirthError> for EngineError {
    fn from(error: BirthError) -> Self {
        Self::Fork(error.to_string())
    }
}

/// Follows, freezes, forks, and puts back. Belongs to one thread, and must be made
/// before the process has others: SIGCHLD is to be blocked in all of them.
pub struct Engine {
    pub(crate) tracer: Tracer,
    pub(crate) scanner: PageScanner,
    verifies: bool,
}

/// A process that is loading its runtime and will become a template.
pub struct Booting {
    pid: Pid,
    socket: OwnedFd,
    gifts: Gifts,
    image: File,
    /// The engine's mappings in the template that it was forked from, if it was.
    outgrown: Vec<Span>,
}

/// A frozen template.
pub struct Template {
    pid: Pid,
    socket: OwnedFd,
    gifts: Gifts,
    image: Image,
    sibling: Sibling,
    /// What the process said of itself when it was ready.
    pub description: Vec<u8>,
}

impl Engine {
    /// An engine that finds written pages as `scan` says.
    ///
    /// # Errors
    /// SIGCHLD cannot be blocked, or the kernel has no such scan.
    pub fn new(scan: Scan) -> Result<Self, EngineError> {
        Ok(Self {
            tracer: Tracer::new().map_err(io_error("blocking SIGCHLD"))?,
            scanner: PageScanner::new(scan).map_err(io_error("probing PAGEMAP_SCAN"))?,
            verifies: false,
        })
    }

    /// Has every rewind verified: all that can be read of the worker is compared
    /// with its ready point, and a difference refuses the rewind.
    #[must_use]
    pub fn verifying(mut self, verifies: bool) -> Self {
        self.verifies = verifies;
        self
    }

    /// A conversation: the engine's end, and the one that the process to come must
    /// have as descriptor 0 (see [`Template::adopt`](crate::inside::Template::adopt)).
    ///
    /// # Errors
    /// No socket could be made.
    pub fn conversation() -> Result<(OwnedFd, OwnedFd), EngineError> {
        message::conversation().map_err(io_error("opening a socket pair"))
    }

    /// Attaches to a child that was started with the other end of `socket`.
    ///
    /// # Errors
    /// It cannot be traced, or is gone.
    pub fn adopt(&mut self, pid: Pid, socket: OwnedFd) -> Result<Booting, EngineError> {
        self.tracer
            .adopt_template(pid)
            .map_err(|error| EngineError::Template(error.to_string()))?;
        let image = Image::create().map_err(io_error("creating the image"))?;
        let gifts = Gifts::new().map_err(io_error("opening a socket pair"))?;
        let numbers = [image.as_raw_fd(), gifts.workers.as_raw_fd()];
        message::send(socket.as_fd(), &[&[IMAGE]], &numbers)
            .map_err(io_error("handing the image to the template"))?;
        Ok(Booting {
            pid,
            socket,
            gifts,
            image,
            outgrown: Vec::new(),
        })
    }

    /// Forks a process from a template that is to become one itself, once it has done what
    /// is `asked` of it (see [`Layer`](crate::inside::Layer)): to be [frozen](Self::freeze) when its socket
    /// is readable. It has an image of its own, and does not need its parent any more.
    ///
    /// # Errors
    /// The template is gone, or more is asked than it takes.
    pub fn grow(&mut self, template: &Template, asked: &[u8]) -> Result<Booting, EngineError> {
        let failed = |error: &dyn std::fmt::Display| EngineError::Template(error.to_string());
        if asked.len() > MAX_ASKED {
            let most = format!(
                "{} bytes are more than the {MAX_ASKED} that can be asked of it",
                asked.len()
            );
            return Err(failed(&most));
        }
        let (socket, theirs) = Self::conversation()?;
        let gifts = Gifts::new().map_err(io_error("opening a socket pair"))?;
        let image = Image::create().map_err(io_error("creating the image"))?;
        let workers = gifts.workers.as_raw_fd();
        let numbers = [theirs.as_raw_fd(), image.as_raw_fd(), workers];
        message::send(template.socket.as_fd(), &[&[GROW], asked], &[])
            .and_then(|()| message::send(template.socket.as_fd(), &[&[GIVEN]], &numbers))
            .map_err(io_error("telling the template to fork"))?;
        let pid = self
            .tracer
            .wait_for_birth(template.pid)
            .map_err(|error| failed(&error))?;
        self.tracer.boots(pid).map_err(|error| failed(&error))?;
        let annex = &template.image.annex;
        let code = Span::new(annex.code, annex.code + PAGE);
        Ok(Booting {
            pid,
            socket,
            gifts,
            image,
            outgrown: vec![code, annex.view, annex.table, annex.scratch],
        })
    }

    /// Freezes the process. To be called when its socket is readable: it is ready
    /// then, or it failed. Until then [`poll`](Self::poll) lets it live.
    ///
    /// # Errors
    /// The process said that it failed, or ended, or cannot be frozen. It is killed.
    pub fn freeze(&mut self, booting: Booting) -> Result<Template, EngineError> {
        let pid = booting.pid;
        self.try_freeze(booting).inspect_err(|_| {
            // The error at hand says more than that it would not die either.
            let _ = self.tracer.discard(pid);
        })
    }

    fn try_freeze(&mut self, booting: Booting) -> Result<Template, EngineError> {
        let Booting {
            pid,
            socket,
            gifts,
            image,
            outgrown,
        } = booting;
        let mut message = vec![0; MAX_MESSAGE];
        let (length, _) = message::receive(socket.as_fd(), &mut message)
            .map_err(io_error("hearing from the template"))?;
        let (number, description) = match &message[..length] {
            [] => return Err(EngineError::Template("it ended".into())),
            [FAILED, reason @ ..] => {
                return Err(EngineError::Template(
                    String::from_utf8_lossy(reason).into_owned(),
                ));
            }
            [READY, a, b, c, d, description @ ..] => {
                (RawFd::from_le_bytes([*a, *b, *c, *d]), description.to_vec())
            }
            _ => return Err(EngineError::Template("it sent no known message".into())),
        };
        self.tracer
            .wait_for_trap(pid, "waiting for the template to park")
            .map_err(|error| EngineError::Template(error.to_string()))?;
        let process = Process::open(pid).map_err(io_error("opening the template's /proc files"))?;
        let mut calls = StoppedCalls::parked(&mut self.tracer, pid)?;
        for span in outgrown {
            let args = [span.start, span.len(), 0, 0, 0, 0];
            calls.call(
                "unmapping its parent's part of the engine",
                libc::SYS_munmap,
                args,
            )?;
        }
        let image = Image::freeze(image, &process, &mut self.scanner, calls, number)?;
        self.tracer.is_frozen(pid);
        self.tracer
            .release(pid)
            .map_err(|error| EngineError::Freeze(error.to_string()))?;
        Ok(Template {
            pid,
            socket,
            gifts,
            image,
            sibling: Sibling::default(),
            description,
        })
    }

    /// Forks a worker, which gets these descriptors from 0 on and will run as
    /// `owner`, and lets it go at its ready point.
    ///
    /// # Errors
    /// The template is gone, or the newborn did not get there. What was forked is
    /// killed.
    pub fn fork(
        &mut self,
        template: &Template,
        descriptors: &[BorrowedFd<'_>],
        owner: (Uid, Gid),
    ) -> Result<Worker, EngineError> {
        if descriptors.len() > MAX_DESCRIPTORS {
            return Err(EngineError::Fork(format!(
                "{} descriptors are more than the {MAX_DESCRIPTORS} that a worker may have",
                descriptors.len()
            )));
        }
        let (table, for_worker) = create_table().map_err(io_error("creating a worker's table"))?;
        let image = template
            .image
            .open_for_worker()
            .map_err(io_error("opening the image for a worker"))?;
        let numbers: Vec<RawFd> = (descriptors.iter().map(AsRawFd::as_raw_fd))
            .chain([image.as_raw_fd(), for_worker.as_raw_fd()])
            .collect();
        let (streams, others) = numbers.split_at(descriptors.len().min(STANDARD_STREAMS));
        (template.sibling.announce(&table, &template.image.annex))
            .map_err(io_error("writing to a worker's table"))?;
        let address = template.image.annex.table.start.to_le_bytes();
        let (uid, gid) = (
            owner.0.as_raw().to_le_bytes(),
            owner.1.as_raw().to_le_bytes(),
        );
        let parts: [&[u8]; 4] = [&[FORK], &address, &uid, &gid];
        let image_number = descriptors.len() as RawFd;
        (template.gifts.give(&[streams, others]))
            .map_err(io_error("giving a worker its descriptors"))?;
        self.bear(template, &parts, table, image_number, owner)
            .inspect_err(|_| template.gifts.take_back())
    }

    /// Has the template fork, and brings what comes of it to its ready point.
    fn bear(
        &mut self,
        template: &Template,
        told: &[&[u8]],
        table: File,
        image_number: RawFd,
        owner: (Uid, Gid),
    ) -> Result<Worker, EngineError> {
        message::send(template.socket.as_fd(), told, &[])
            .map_err(io_error("telling the template to fork"))?;
        let pid = self
            .tracer
            .wait_for_birth(template.pid)
            .map_err(|error| EngineError::Fork(error.to_string()))?;
        self.raise(pid, template, table, image_number, owner)
            .inspect_err(|_| {
                // As above.
                let _ = self.tracer.discard(pid);
            })
    }

    fn raise(
        &mut self,
        pid: Pid,
        template: &Template,
        table: File,
        image_number: RawFd,
        owner: (Uid, Gid),
    ) -> Result<Worker, EngineError> {
        let failed = |error: TraceError| EngineError::Fork(error.to_string());
        let process = Process::open(pid).map_err(io_error("opening a worker's /proc files"))?;
        self.tracer
            .run_until_trap(pid, "bringing a worker to its ready point")
            .map_err(failed)?;
        self.tracer.is_of_user(pid, owner.0);
        let candidate = Candidate {
            process,
            owner,
            table,
            image_number,
            threads: Vec::new(),
        };
        let mut worker = Worker::at_ready_point(
            candidate,
            &template.image,
            &template.sibling,
            &mut self.tracer,
            &mut self.scanner,
        )?;
        self.prepare_to_verify(&mut worker)?;
        self.tracer.take_evidence(pid);
        self.tracer.release(pid).map_err(failed)?;
        Ok(worker)
    }

    pub(crate) fn prepare_to_verify(&self, worker: &mut Worker) -> Result<(), EngineError> {
        if !self.verifies {
            return Ok(());
        }
        (worker.descriptors.keep_infos(&worker.process))
            .map_err(io_error("reading the worker's descriptors"))
    }

    /// True if this worker may have let others write to files that it owns, since its last
    /// restore: told of workers with the filter that is for several beside one another.
    #[must_use]
    pub fn has_opened(&self, worker: Pid) -> bool {
        self.tracer.has_opened(worker)
    }

    /// Stops a worker and kills everything that it started. Whatever is to be
    /// cleared up outside its process is cleared up between this and
    /// [`rewind`](Self::rewind).
    ///
    /// # Errors
    /// It cannot be stopped; it must be [discarded](Self::discard).
    pub fn hold(&mut self, worker: &mut Worker) -> Result<Holding, Refused> {
        let mut watch = Stopwatch::start();
        let held = worker.hold(&mut self.tracer);
        watch.lap("stop");
        match held {
            Ok(()) => Ok(Holding(watch)),
            Err(taint) => Err((vec![taint], watch).into()),
        }
    }

    /// Brings a held worker back to its ready point, and lets it go.
    ///
    /// # Errors
    /// It is not as it was, and must be [discarded](Self::discard).
    pub fn rewind(
        &mut self,
        template: &Template,
        worker: &mut Worker,
        holding: Holding,
    ) -> Result<Rewound, Refused> {
        self.put_back(&template.image, worker, holding)
    }

    pub(crate) fn put_back(
        &mut self,
        image: &Image,
        worker: &mut Worker,
        holding: Holding,
    ) -> Result<Rewound, Refused> {
        let mut watch = holding.0;
        let rewound = worker
            .rewind(image, &mut self.tracer, &mut self.scanner, &mut watch)
            .and_then(|mut rewound| {
                if self.verifies {
                    let different = worker.differences(image, &mut self.tracer, &mut self.scanner);
                    watch.lap("verify");
                    if !different.is_empty() {
                        return Err(different);
                    }
                }
                self.tracer
                    .release(worker.pid())
                    .map_err(|error| vec![Taint::new(Row::Worker, error.to_string())])?;
                watch.lap("resume");
                rewound.phases = watch.phases.clone();
                Ok(rewound)
            });
        rewound.map_err(|taints| (taints, watch).into())
    }

    /// True if nothing of this worker executes anything any more unless it is let go: it is
    /// held, or it ended and nothing that it started is there.
    #[must_use]
    pub fn is_still(&self, worker: &Worker) -> bool {
        self.tracer.is_still(worker.pid())
    }

    /// Has a worker end, and does not wait for it; it is still to be
    /// [discarded](Self::discard), before anything else is forked: its number is its own
    /// until then.
    pub fn kill(&mut self, worker: &Worker) {
        self.tracer.kill(worker.pid());
    }

    /// Kills a worker and all that it started, and reaps it.
    ///
    /// # Errors
    /// It does not die (a process in uninterruptible sleep).
    pub fn discard(&mut self, worker: Worker) -> Result<(), EngineError> {
        self.tracer
            .discard(worker.pid())
            .map_err(|error| EngineError::Fork(error.to_string()))
    }

    /// Kills a template; its workers live on.
    ///
    /// # Errors
    /// As [`discard`](Self::discard).
    pub fn discard_template(&mut self, template: Template) -> Result<(), EngineError> {
        self.tracer
            .discard(template.pid)
            .map_err(|error| EngineError::Template(error.to_string()))
    }

    /// Kills a process that was to become a template.
    ///
    /// # Errors
    /// As [`discard`](Self::discard).
    pub fn discard_booting(&mut self, booting: Booting) -> Result<(), EngineError> {
        self.tracer
            .discard(booting.pid)
            .map_err(|error| EngineError::Template(error.to_string()))
    }

    /// Takes in what happened to all that is followed, and to every other child;
    /// one piece of news a call. To be called until `None` whenever SIGCHLD came
    /// and after every other call, of which [`remind`](Self::remind) makes a SIGCHLD.
    pub fn poll(&mut self) -> Option<News> {
        self.tracer.poll()
    }

    /// To be called before waiting for SIGCHLD: where a call waited for one process since
    /// then, it used up the signals of others, and one is sent in their place.
    pub fn remind(&mut self) {
        self.tracer.remind();
    }
}

/// A worker is stopped; the clock of its restore runs.
pub struct Holding(Stopwatch);

impl Holding {
    /// Names what the caller did meanwhile.
    pub fn lap(&mut self, name: &'static str) {
        self.0.lap(name);
    }
}

impl Booting {
    /// Becomes readable when the process is ready or has failed.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }
}

impl Template {
    /// The process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Bytes of memory in the image.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.image.bytes()
    }

    /// Bytes that the image takes: its pages of zeros take none.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.image.held()
    }
}
