//! The life of a function container: Booting, Ready, Loaded, Running, Restoring,
//! and Ready again, until it drains.
//!
//! One thread does everything, because ptrace belongs to one thread and because a
//! restore must not race with anything. It waits in one place, for whatever comes
//! first: a message, an answer, something printed, a signal, a deadline.

mod answers;
mod commands;
mod duty;
mod front;
mod streams;
mod turns;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::time::TimeSpec;
use nix::unistd::read;
use refunction_protocol::{Command, FailureKind, Function};

use crate::cause::{self, MemoryWatch};
use crate::container::{Arrival, Container, ContainerError};
use crate::front::{CallId, Extras, Front, FrontError, Manners, Place};
use crate::init::{self, Asked, Signals};
use crate::output::Output;
use crate::peers::{PeerId, Peers};
use crate::settings::Settings;

use duty::Duty;
use front::Http;

/// Commands that wait at most; then their senders wait.
const MAX_QUEUED: usize = 256;

/// How long after the closing of its pipes a worker's end may show.
const END_FOLLOWS: Duration = Duration::from_millis(200);

/// The supervisor cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    #[error("{doing}: {cause}")]
    Io {
        doing: &'static str,
        cause: io::Error,
    },
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Front(#[from] FrontError),
    #[error("{0}")]
    Settings(&'static str),
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> Fatal {
    move |cause| Fatal::Io { doing, cause }
}

/// A command, and who wants to know of it.
struct Wanted {
    client: Client,
    command: Command,
    extras: Extras,
    arrived: Instant,
}

/// Who wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Peer(PeerId),
    /// One of the HTTP front's.
    Front(CallId),
    /// The supervisor itself.
    Nobody,
}

#[derive(Default)]
struct Counts {
    requests: u64,
    rewinds: u64,
    reforks: u64,
    /// Names calls that have no id of their own.
    calls: u64,
}

struct Supervisor {
    settings: Settings,
    started: Instant,
    container: Container,
    peers: Peers,
    /// Where the container speaks HTTP.
    http: Option<Http>,
    signals: Signals,
    memory: MemoryWatch,
    queue: VecDeque<Wanted>,
    function: Option<Box<Function>>,
    /// One for each of the container's slots.
    duties: Vec<Duty>,
    draining: Option<Instant>,
    was_commanded: bool,
    boot_us: u64,
    counts: Counts,
    /// When something was asked or answered last.
    touched: Instant,
    exit: Option<u8>,
}

/// Runs until the container is told to end; the exit status.
pub(crate) fn run(settings: Settings, started: Instant) -> Result<u8, Fatal> {
    settings.check().map_err(Fatal::Settings)?;
    // Before anything else: the template is to be on its way.
    let container = match Container::boot(settings.clone()) {
        Ok(container) => container,
        Err(error) => {
            front::tell_failed_start(&settings, &error);
            return Err(error.into());
        }
    };
    let signals = Signals::take().map_err(io_error("taking signals"))?;
    // Orphans of a tenant's processes come to us even where we are not PID 1.
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|errno| io_error("becoming a subreaper")(errno.into()))?;
    let http = http(&settings)?;
    let peers = match &settings.control {
        Some(path) => Peers::on_socket(path).map_err(io_error("listening on the control socket")),
        // They are for people then.
        None if http.is_some() => Ok(Peers::none()),
        None => Peers::on_standard_streams().map_err(io_error("opening stdin and stdout")),
    }?;
    let workers = container.slots().len();
    let mut supervisor = Supervisor {
        function: named(&settings),
        duties: container.slots().map(|_| Duty::default()).collect(),
        settings,
        started,
        container,
        peers,
        http,
        signals,
        memory: MemoryWatch::start(workers),
        queue: VecDeque::new(),
        draining: None,
        was_commanded: false,
        boot_us: 0,
        counts: Counts::default(),
        touched: Instant::now(),
        exit: None,
    };
    let status = supervisor.serve();
    // Whatever the reason: nothing that was started here outlives it.
    let dismissed = supervisor.container.dismiss_all();
    if let Some(http) = &mut supervisor.http {
        if let Err(Fatal::Container(error)) = &status {
            http.fail(error);
        }
        http.finish();
    }
    let status = status?;
    dismissed?;
    Ok(status)
}

/// The front, if there is to be one.
fn http(settings: &Settings) -> Result<Option<Http>, Fatal> {
    let place = settings.http_place();
    if place.is_none() && settings.runtime_api().is_none() {
        return Ok(None);
    }
    let front = Front::start(manners(settings, place))?;
    if let Some(address) = front.address() {
        eprintln!("refunction-supervisor: listening for HTTP on {address}");
    }
    let output = Output::open(settings.log).map_err(io_error("opening stdout and stderr"))?;
    Ok(Some(Http::new(front, output)))
}

fn manners(settings: &Settings, place: Option<Place>) -> Manners {
    Manners {
        place,
        runtime_api: settings.runtime_api().map(str::to_owned),
        queue: settings.queue,
        concurrency: settings.concurrency(),
        patience: Duration::from_millis(settings.http_patience_ms),
        handler: settings.handler.clone(),
        runtime: settings.runtime.name(),
        is_application: settings.is_application(),
    }
}

/// The function that the container's command names, which is in the snapshot.
fn named(settings: &Settings) -> Option<Box<Function>> {
    let handler = settings.handler.clone()?;
    Some(Box::new(Function {
        handler: Some(handler),
        ..Function::default()
    }))
}

/// Which descriptors are ready.
struct Ready(Vec<(RawFd, PollFlags)>);

impl Ready {
    fn has(&self, fd: BorrowedFd<'_>, wanted: PollFlags) -> bool {
        let wanted = wanted | PollFlags::POLLHUP | PollFlags::POLLERR;
        self.0
            .iter()
            .any(|(ready, flags)| *ready == fd.as_raw_fd() && flags.intersects(wanted))
    }
}

impl Supervisor {
    fn serve(&mut self) -> Result<u8, Fatal> {
        loop {
            self.take_news()?;
            self.go_on()?;
            self.take_turns()?;
            if let Some(status) = self.end_if_due() {
                return Ok(status);
            }
            self.container.remind();
            let ready = self.wait()?;
            self.take_signals(&ready);
            self.take_input(&ready);
            self.take_boot(&ready)?;
            self.take_answers(&ready)?;
            self.take_deadlines()?;
            self.take_messages(&ready);
            self.take_rests()?;
            self.take_front(&ready)?;
        }
    }

    /// Waits for whatever comes first.
    fn wait(&mut self) -> Result<Ready, Fatal> {
        let timeout = self.time_left();
        let reading = self.queue.len() < MAX_QUEUED;
        let mut fds = vec![
            PollFd::new(self.signals.arrivals(), PollFlags::POLLIN),
            PollFd::new(self.signals.children(), PollFlags::POLLIN),
        ];
        let input = io::stdin();
        if self.awaits_end_of_input() {
            fds.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        if let Some(listener) = self.peers.listener() {
            fds.push(PollFd::new(listener, PollFlags::POLLIN));
        }
        if let Some(booting) = self.container.booting() {
            fds.push(PollFd::new(booting, PollFlags::POLLIN));
        }
        if let Some(growing) = self.container.growing() {
            fds.push(PollFd::new(growing, PollFlags::POLLIN));
        }
        let boot_output = self.container.boot_output();
        fds.extend(boot_output.map(|log| PollFd::new(log, PollFlags::POLLIN)));
        for (_, peer) in self.peers.iter() {
            if reading && peer.wants_reading() {
                fds.push(PollFd::new(peer.input(), PollFlags::POLLIN));
            }
            if peer.wants_writing() {
                fds.push(PollFd::new(peer.output(), PollFlags::POLLOUT));
            }
        }
        if let Some(http) = &self.http {
            fds.push(PollFd::new(http.arrivals(), PollFlags::POLLIN));
            let wanting = http.output.wanting();
            fds.extend(wanting.map(|stream| PollFd::new(stream, PollFlags::POLLOUT)));
        }
        for slot in self.container.slots() {
            let Some(pipes) = self.container.pipes(slot) else {
                continue;
            };
            if pipes.is_sending() {
                fds.push(PollFd::new(pipes.request(), PollFlags::POLLOUT));
            }
            if self.has_room_for_answers(slot) {
                fds.push(PollFd::new(pipes.response(), PollFlags::POLLIN));
            }
            fds.extend(pipes.logs().map(|log| PollFd::new(log, PollFlags::POLLIN)));
        }
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(io_error("waiting for events")(errno.into())),
        }
        Ok(Ready(
            fds.iter()
                .filter_map(|fd| {
                    let flags = fd.revents().filter(|flags| !flags.is_empty())?;
                    Some((fd.as_fd().as_raw_fd(), flags))
                })
                .collect(),
        ))
    }

    /// How long there is nothing to do that nobody asks for; nothing if for good.
    fn time_left(&self) -> Option<TimeSpec> {
        let container = &self.container;
        let goes_on = |slot| {
            let waits = container.awaits_spare(slot) || container.awaits_user(slot);
            container.is_clearing(slot) && !waits
        };
        if container.slots().any(goes_on) {
            return Some(TimeSpec::new(0, 0));
        }
        let limits = self.duties.iter().flat_map(|duty| {
            let limit = duty.in_flight.as_ref().and_then(|it| it.limit);
            let broken = duty.broken.as_ref();
            [limit.map(|(at, _)| at), broken.map(|(until, _)| *until)]
        });
        let next = limits
            .chain([
                self.draining,
                self.next_turn(),
                self.container.grows_until(),
                self.next_chores(),
            ])
            .flatten()
            .min()?;
        Some(next.saturating_duration_since(Instant::now()).into())
    }

    fn take_signals(&mut self, ready: &Ready) {
        if ready.has(self.signals.children(), PollFlags::POLLIN) {
            self.signals.clear_children();
        }
        if !ready.has(self.signals.arrivals(), PollFlags::POLLIN) {
            return;
        }
        for asked in self.signals.pending() {
            match asked {
                Asked::Drain(signal) if self.draining.is_some() => {
                    self.exit = Some(128u8.saturating_add(signal.unsigned_abs() as u8));
                }
                Asked::Drain(_) => self.drain(),
                Asked::Forward(signal) => {
                    for slot in self.container.slots() {
                        // Without a function in it the worker is ours, not a tenant's.
                        let is_tenants = self.duties[slot].is_used;
                        if let (true, Some(worker)) = (is_tenants, self.container.worker_pid(slot))
                        {
                            init::forward(signal, worker);
                        }
                    }
                }
            }
        }
    }

    fn awaits_end_of_input(&self) -> bool {
        self.settings.end_with_input && self.draining.is_none()
    }

    /// Nothing is said there: it is there for its end.
    fn take_input(&mut self, ready: &Ready) {
        let input = io::stdin();
        if self.awaits_end_of_input()
            && ready.has(input.as_fd(), PollFlags::POLLIN)
            && !matches!(read(&input, &mut [0; 512]), Ok(1..) | Err(Errno::EINTR))
        {
            self.drain();
        }
    }

    fn drain(&mut self) {
        let grace = Duration::from_millis(self.settings.grace_ms);
        self.draining = Some(Instant::now() + grace);
        if let Some(http) = &self.http {
            http.drain();
        }
    }

    fn end_if_due(&mut self) -> Option<u8> {
        let is_over = |duty: &Duty| duty.in_flight.is_none() && duty.restoring.is_none();
        let nothing_left = self.duties.iter().all(is_over) && self.queue.is_empty();
        if nothing_left && self.peers.is_over() && self.was_commanded {
            // The one peer there was has said goodbye.
            self.exit.get_or_insert(0);
        }
        if let Some(deadline) = self.draining
            && (nothing_left || Instant::now() >= deadline)
        {
            for slot in self.container.slots() {
                let Some(in_flight) = self.duties[slot].in_flight.take() else {
                    continue;
                };
                let failure = cause::failure(
                    FailureKind::Crashed,
                    format!(
                        "the container was stopped, and the call did not end within its grace time of {} ms",
                        self.settings.grace_ms
                    ),
                );
                self.fail(slot, in_flight, failure);
            }
            self.exit.get_or_insert(0);
        }
        let status = self.exit?;
        let until = Instant::now() + Duration::from_secs(1);
        self.peers.flush(|peers| {
            let mut fds: Vec<PollFd<'_>> = peers
                .iter()
                .filter(|(_, peer)| peer.wants_writing())
                .map(|(_, peer)| PollFd::new(peer.output(), PollFlags::POLLOUT))
                .collect();
            let left = until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            matches!(poll(&mut fds, timeout), Ok(ready) if ready > 0)
        });
        for slot in self.container.slots() {
            self.report(slot, None);
        }
        if let Some(http) = &mut self.http {
            http.output.flush(until);
        }
        Some(status)
    }

    fn take_boot(&mut self, ready: &Ready) -> Result<(), Fatal> {
        let growing = self.container.growing();
        if growing.is_some_and(|it| ready.has(it, PollFlags::POLLIN)) {
            self.container.finish_growth()?;
        } else if self.container.grows_until() <= Some(Instant::now())
            && self.container.growing().is_some()
        {
            self.container.give_up_growth()?;
        }
        self.container.listen();
        let Some(booting) = self.container.booting() else {
            return Ok(());
        };
        if !ready.has(booting, PollFlags::POLLIN) {
            return Ok(());
        }
        self.take_template()
    }

    /// Takes up a template that is ready, or hears why it is not.
    fn take_template(&mut self) -> Result<(), Fatal> {
        let can_do_without = self.container.can_do_without();
        let frozen = self.container.freeze();
        let printed = self.container.take_printed();
        self.tell_logs_of_nobody(printed);
        match frozen {
            Ok(Arrival::First) => {
                let boot = self.started.elapsed().as_micros();
                if self.boot_us == 0 {
                    self.boot_us = u64::try_from(boot).unwrap_or(u64::MAX);
                }
                self.greet();
                if let Some(http) = &self.http {
                    http.open();
                }
            }
            Ok(Arrival::Successor) => {
                for slot in self.container.slots() {
                    // A worker that no tenant has used yet can go at once.
                    if !self.duties[slot].is_used && !self.container.is_clearing(slot) {
                        self.container.refork(slot)?;
                    }
                }
            }
            Ok(Arrival::Spare | Arrival::NotYet) => {}
            Err(error) if !can_do_without => return Err(error.into()),
            Err(error) => {
                eprintln!("refunction-supervisor: the template stays: {error}");
                self.container.stay();
            }
        }
        Ok(())
    }
}
