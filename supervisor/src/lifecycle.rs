//! The life of a function container: Booting, Ready, Loaded, Running, Restoring,
//! and Ready again, until it drains.
//!
//! One thread does everything, because ptrace belongs to one thread and because a
//! restore must not race with anything. It waits in one place, for whatever comes
//! first: a message, an answer, something printed, a signal, a deadline.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use refunction_adapter::channel::Kind;
use refunction_adapter::{Exception, Invocation};
use refunction_protocol::{
    BadCommand, Command, Failure, FailureKind, Function, Log, Method, Report, Request, RequestId,
    Started, State, Status, Stream,
};
use refunction_snapshot::News;
use serde_json::value::RawValue;

use crate::cause::{self, MemoryWatch};
use crate::container::{Container, ContainerError};
use crate::init::{self, Asked, Signals};
use crate::logs::Line;
use crate::peers::{PeerId, Peers};
use crate::pipes::BadFrame;
use crate::settings::Settings;

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
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> Fatal {
    move |cause| Fatal::Io { doing, cause }
}

/// A command, and who wants to know of it.
struct Wanted {
    peer: PeerId,
    command: Command,
    arrived: Instant,
}

/// What the worker was asked and has not answered.
enum Awaited {
    /// The loading of the function; for itself, or so that a call can follow.
    Load { then: Option<Box<Call>> },
    /// The call.
    Value(Box<Call>),
}

struct Call {
    peer: PeerId,
    request: Request,
    /// When it is given up, and the limit that says so.
    limit: Option<(Instant, Duration)>,
}

struct InFlight {
    peer: PeerId,
    awaited: Awaited,
    limit: Option<(Instant, Duration)>,
}

impl InFlight {
    fn request_id(&self) -> Option<RequestId> {
        match &self.awaited {
            Awaited::Load { then } => then.as_ref()?.request.id.clone(),
            Awaited::Value(call) => call.request.id.clone(),
        }
    }
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
    signals: Signals,
    memory: MemoryWatch,
    queue: VecDeque<Wanted>,
    function: Option<Box<Function>>,
    /// The worker holds `function`.
    is_loaded: bool,
    /// A tenant's code ran in the worker.
    is_used: bool,
    in_flight: Option<InFlight>,
    draining: Option<Instant>,
    was_commanded: bool,
    boot_us: u64,
    counts: Counts,
    exit: Option<u8>,
}

/// Runs until the container is told to end; the exit status.
pub(crate) fn run(settings: Settings, started: Instant) -> Result<u8, Fatal> {
    // Before anything else: the template is to be on its way.
    let container = Container::boot(settings.clone())?;
    let signals = Signals::take().map_err(io_error("taking signals"))?;
    // Orphans of a tenant's processes come to us even where we are not PID 1.
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(|errno| io_error("becoming a subreaper")(errno.into()))?;
    let peers = match &settings.control {
        Some(path) => Peers::on_socket(path).map_err(io_error("listening on the control socket")),
        None => Peers::on_standard_streams().map_err(io_error("opening stdin and stdout")),
    }?;
    let mut supervisor = Supervisor {
        settings,
        started,
        container,
        peers,
        signals,
        memory: MemoryWatch::start(),
        queue: VecDeque::new(),
        function: None,
        is_loaded: false,
        is_used: false,
        in_flight: None,
        draining: None,
        was_commanded: false,
        boot_us: 0,
        counts: Counts::default(),
        exit: None,
    };
    let status = supervisor.serve();
    // Whatever the reason: nothing that was started here outlives it.
    let dismissed = supervisor.container.dismiss();
    let status = status?;
    dismissed?;
    Ok(status)
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
            self.next_command()?;
            if let Some(status) = self.end_if_due() {
                return Ok(status);
            }
            let ready = self.wait()?;
            self.take_signals(&ready);
            self.take_boot(&ready)?;
            self.take_answers(&ready)?;
            self.take_deadline()?;
            self.take_messages(&ready);
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
        if let Some(listener) = self.peers.listener() {
            fds.push(PollFd::new(listener, PollFlags::POLLIN));
        }
        if let Some(booting) = self.container.booting() {
            fds.push(PollFd::new(booting, PollFlags::POLLIN));
        }
        for (_, peer) in self.peers.iter() {
            if reading && peer.wants_reading() {
                fds.push(PollFd::new(peer.input(), PollFlags::POLLIN));
            }
            if peer.wants_writing() {
                fds.push(PollFd::new(peer.output(), PollFlags::POLLOUT));
            }
        }
        let awaiting = self.in_flight.is_some();
        if let Some(pipes) = self.container.pipes() {
            if pipes.is_sending() {
                fds.push(PollFd::new(pipes.request(), PollFlags::POLLOUT));
            }
            if awaiting {
                fds.push(PollFd::new(pipes.response(), PollFlags::POLLIN));
            }
            for (log, _) in &pipes.logs {
                fds.push(PollFd::new(log.as_fd(), PollFlags::POLLIN));
            }
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
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

    fn time_left(&self) -> PollTimeout {
        let call = self
            .in_flight
            .as_ref()
            .and_then(|in_flight| in_flight.limit)
            .map(|(at, _)| at);
        let Some(next) = [call, self.draining].into_iter().flatten().min() else {
            return PollTimeout::NONE;
        };
        // A millisecond more: poll counts in whole ones and would come early.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
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
                    // Without a function in it the worker is ours, not a tenant's.
                    if let (true, Some(worker)) = (self.is_used, self.container.worker_pid()) {
                        init::forward(signal, worker);
                    }
                }
            }
        }
    }

    fn drain(&mut self) {
        let grace = Duration::from_millis(self.settings.grace_ms);
        self.draining = Some(Instant::now() + grace);
    }

    fn end_if_due(&mut self) -> Option<u8> {
        let nothing_left = self.in_flight.is_none() && self.queue.is_empty();
        if nothing_left && self.peers.is_over() && self.was_commanded {
            // The one peer there was has said goodbye.
            self.exit.get_or_insert(0);
        }
        if let Some(deadline) = self.draining
            && (nothing_left || Instant::now() >= deadline)
        {
            if let Some(in_flight) = self.in_flight.take() {
                let failure = cause::failure(
                    FailureKind::Crashed,
                    format!(
                        "the container was stopped, and the call did not end within its grace time of {} ms",
                        self.settings.grace_ms
                    ),
                );
                self.fail(in_flight, failure);
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
        Some(status)
    }

    fn take_boot(&mut self, ready: &Ready) -> Result<(), Fatal> {
        let Some(booting) = self.container.booting() else {
            return Ok(());
        };
        if !ready.has(booting, PollFlags::POLLIN) {
            return Ok(());
        }
        self.container.freeze()?;
        self.boot_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.greet();
        Ok(())
    }

    /// Tells everybody who has not heard it that there is a worker.
    fn greet(&mut self) {
        let (Some((runtime, snapshot_bytes)), Some(pid)) =
            (self.container.runtime(), self.container.worker_pid())
        else {
            return;
        };
        let started = Started {
            runtime: runtime.name.clone(),
            version: runtime.version.clone(),
            pid: pid.as_raw().unsigned_abs(),
            snapshot_bytes,
            boot_us: self.boot_us,
        };
        for (_, peer) in self.peers.iter_mut() {
            if !std::mem::replace(&mut peer.greeted, true) {
                peer.tell(&Report::Started(started.clone()));
            }
        }
    }

    fn take_messages(&mut self, ready: &Ready) {
        if self
            .peers
            .listener()
            .is_some_and(|listener| ready.has(listener, PollFlags::POLLIN))
        {
            self.peers.accept();
            self.greet();
        }
        let mut heard = Vec::new();
        for (id, peer) in self.peers.iter_mut() {
            if peer.wants_writing() && ready.has(peer.output(), PollFlags::POLLOUT) {
                peer.write();
            }
            if peer.wants_reading() && ready.has(peer.input(), PollFlags::POLLIN) {
                peer.read();
                while let Some(line) = peer.next_line() {
                    heard.push((id, line));
                }
            }
        }
        for (peer, line) in heard {
            match line {
                Ok(line) if line.trim_ascii().is_empty() => {}
                Ok(line) => self.take_command(peer, Command::parse(&line)),
                Err(error) => self.refuse(peer, None, error.to_string()),
            }
        }
        let waiting: Vec<PeerId> = self
            .queue
            .iter()
            .map(|wanted| wanted.peer)
            .chain(self.in_flight.as_ref().map(|in_flight| in_flight.peer))
            .collect();
        self.peers.forget_gone(|id| waiting.contains(&id));
    }

    fn take_command(&mut self, peer: PeerId, command: Result<Command, BadCommand>) {
        self.was_commanded = true;
        match command {
            Err(bad) => self.refuse(peer, bad.id, bad.reason),
            Ok(Command::Status) => {
                let status = self.status();
                self.peers.tell(peer, &Report::Status(status));
            }
            Ok(Command::Shutdown) => self.drain(),
            Ok(Command::Request(request)) if self.draining.is_some() => {
                self.refuse(peer, request.id, "the container is stopping".into());
            }
            Ok(_) if self.draining.is_some() => {
                self.refuse(peer, None, "the container is stopping".into());
            }
            Ok(command) => self.queue.push_back(Wanted {
                peer,
                command,
                arrived: Instant::now(),
            }),
        }
    }

    fn refuse(&mut self, peer: PeerId, id: Option<RequestId>, reason: String) {
        let failure = cause::failure(FailureKind::BadRequest, reason);
        self.peers.tell(peer, &Report::Error { id, failure });
    }

    fn status(&self) -> Status {
        let state = if self.draining.is_some() {
            State::Draining
        } else if self.container.booting().is_some() {
            State::Booting
        } else if self.in_flight.is_some() {
            State::Running
        } else if self.function.is_some() {
            State::Loaded
        } else {
            State::Ready
        };
        Status {
            state,
            runtime: self
                .container
                .runtime()
                .map_or_else(String::new, |(runtime, _)| runtime.name.clone()),
            worker_pid: self
                .container
                .worker_pid()
                .map(|pid| pid.as_raw().unsigned_abs()),
            requests: self.counts.requests,
            rewinds: self.counts.rewinds,
            reforks: self.counts.reforks,
            queued: self.queue.len() as u64,
        }
    }

    /// Starts on the next command if nothing is in hand.
    fn next_command(&mut self) -> Result<(), Fatal> {
        while self.in_flight.is_none() && self.container.worker_pid().is_some() {
            let Some(wanted) = self.queue.pop_front() else {
                return Ok(());
            };
            match wanted.command {
                Command::Function(function) => {
                    if self.is_used {
                        // One tenant's function after another's, without asking.
                        self.restore()?;
                    }
                    self.function = Some(function);
                    self.load(wanted.peer, None)?;
                }
                Command::Request(request) => self.call(wanted.peer, request, wanted.arrived)?,
                Command::Restore => {
                    let restored = self.restore()?;
                    self.peers.tell(wanted.peer, &Report::Restored(restored));
                }
                // Answered on arrival.
                Command::Status | Command::Shutdown => {}
            }
        }
        Ok(())
    }

    fn restore(&mut self) -> Result<refunction_protocol::Restored, Fatal> {
        let restored = self.container.restore()?;
        match restored.method {
            Method::Rewind => self.counts.rewinds += 1,
            Method::Refork => self.counts.reforks += 1,
        }
        self.function = None;
        self.is_loaded = false;
        self.is_used = false;
        Ok(restored)
    }

    fn call(&mut self, peer: PeerId, request: Request, arrived: Instant) -> Result<(), Fatal> {
        let Some(function) = &self.function else {
            self.counts.requests += 1;
            self.peers.tell(
                peer,
                &Report::Error {
                    id: request.id,
                    failure: cause::not_loaded(),
                },
            );
            return Ok(());
        };
        let limit = request
            .deadline_ms
            .or(function.limits.deadline_ms)
            .map(Duration::from_millis)
            .or(self.settings.deadline());
        let call = Box::new(Call {
            peer,
            request,
            limit: limit.map(|limit| (arrived + limit, limit)),
        });
        if self.is_loaded {
            self.invoke(call)
        } else {
            self.load(peer, Some(call))
        }
    }

    fn load(&mut self, peer: PeerId, then: Option<Box<Call>>) -> Result<(), Fatal> {
        let function = self
            .function
            .as_deref()
            .map(serde_json::to_vec)
            .transpose()
            .map_err(|error| io_error("writing a function")(error.into()))?
            .unwrap_or_default();
        let limit = match &then {
            Some(call) => call.limit,
            None => self
                .settings
                .deadline()
                .map(|limit| (Instant::now() + limit, limit)),
        };
        self.ask(Kind::Load, &function)?;
        self.in_flight = Some(InFlight {
            peer,
            awaited: Awaited::Load { then },
            limit,
        });
        Ok(())
    }

    fn invoke(&mut self, call: Box<Call>) -> Result<(), Fatal> {
        self.counts.calls += 1;
        let id = match &call.request.id {
            Some(id) => {
                serde_json::from_str::<String>(id.get()).unwrap_or_else(|_| id.get().to_string())
            }
            None => self.counts.calls.to_string(),
        };
        let invocation = Invocation {
            id,
            deadline_unix_ms: call.limit.map(|(at, _)| {
                let left = at.saturating_duration_since(Instant::now());
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                u64::try_from((now + left).as_millis()).unwrap_or(u64::MAX)
            }),
            data: call.request.data.clone(),
        };
        let payload = serde_json::to_vec(&invocation)
            .map_err(|error| io_error("writing a request")(error.into()))?;
        self.ask(Kind::Invoke, &payload)?;
        self.in_flight = Some(InFlight {
            peer: call.peer,
            limit: call.limit,
            awaited: Awaited::Value(call),
        });
        Ok(())
    }

    fn ask(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Fatal> {
        self.is_used = true;
        match self.container.pipes_mut() {
            Some(pipes) => pipes
                .send(kind, payload)
                .map_err(io_error("writing to the worker")),
            None => Ok(()),
        }
    }

    fn take_answers(&mut self, ready: &Ready) -> Result<(), Fatal> {
        let awaiting = self.in_flight.is_some();
        let Some(pipes) = self.container.pipes_mut() else {
            return Ok(());
        };
        if pipes.is_sending() && ready.has(pipes.request(), PollFlags::POLLOUT) {
            pipes
                .send_more()
                .map_err(io_error("writing to the worker"))?;
        }
        let answered = awaiting && ready.has(pipes.response(), PollFlags::POLLIN);
        let frame = answered.then(|| pipes.receive());
        // After the answer: all that was printed before it is in the pipe by now.
        self.take_logs();
        match frame {
            None | Some(Ok(None)) => Ok(()),
            Some(Ok(Some((kind, payload)))) => self.take_frame(kind, &payload),
            Some(Err(bad)) => {
                self.take_news()?;
                // A worker that is ending closes its pipes a moment before its end
                // can be seen, and its end says more.
                let until = Instant::now() + END_FOLLOWS;
                while matches!(bad, BadFrame::Closed)
                    && self.in_flight.is_some()
                    && self.signals.wait_for_child(until)
                {
                    self.take_news()?;
                }
                if self.in_flight.is_some() {
                    let failure = cause::failure(
                        FailureKind::Crashed,
                        format!("the worker broke its channel: {bad}"),
                    );
                    self.give_up(failure)?;
                }
                Ok(())
            }
        }
    }

    fn take_logs(&mut self) {
        let mut lines = Vec::new();
        if let Some(pipes) = self.container.pipes_mut() {
            pipes.read_logs(&mut lines);
        }
        self.tell_logs(lines);
    }

    fn tell_logs(&mut self, lines: Vec<(Stream, Line)>) {
        let to = self
            .in_flight
            .as_ref()
            .map(|in_flight| (in_flight.peer, in_flight.request_id()));
        for (stream, line) in lines {
            let report = Report::Log(Log {
                id: to.as_ref().and_then(|(_, id)| id.clone()),
                stream,
                line: line.text,
                truncated: line.truncated,
            });
            match &to {
                Some((peer, _)) => self.peers.tell(*peer, &report),
                None => self
                    .peers
                    .iter_mut()
                    .for_each(|(_, peer)| peer.tell(&report)),
            }
        }
    }

    fn end_lines(&mut self) {
        let mut lines = Vec::new();
        if let Some(pipes) = self.container.pipes_mut() {
            pipes.end_lines(&mut lines);
        }
        self.tell_logs(lines);
    }

    /// Takes an answer, if it answers what was asked and is what it says it is.
    fn take_frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Fatal> {
        self.end_lines();
        let Some(in_flight) = self.in_flight.take() else {
            return Ok(());
        };
        let broken = |what: &str| {
            cause::failure(
                FailureKind::Crashed,
                format!("the worker broke its channel: {what}"),
            )
        };
        let InFlight {
            peer,
            awaited,
            limit,
        } = in_flight;
        match (awaited, kind) {
            (Awaited::Load { then }, Kind::Loaded) => {
                match serde_json::from_slice::<Option<Exception>>(payload) {
                    Ok(None) => {
                        self.is_loaded = true;
                        match then {
                            Some(call) => return self.invoke(call),
                            None => self.peers.tell(peer, &Report::FunctionLoaded(Ok(()))),
                        }
                    }
                    Ok(Some(exception)) => self.fail_load(peer, then, raised(exception)),
                    Err(_) => {
                        let awaited = Awaited::Load { then };
                        self.in_flight = Some(InFlight {
                            peer,
                            awaited,
                            limit,
                        });
                        return self.give_up(broken("its answer to the load is not one"));
                    }
                }
            }
            (Awaited::Value(call), Kind::Value) if one_value(payload).is_some() => {
                let data = one_value(payload).unwrap_or_else(|| RawValue::NULL.to_owned());
                self.counts.requests += 1;
                let id = call.request.id;
                self.peers.tell(peer, &Report::Response { id, data });
            }
            (Awaited::Value(call), Kind::Exception) => {
                match serde_json::from_slice::<Exception>(payload) {
                    Ok(exception) => {
                        let awaited = Awaited::Value(call);
                        self.fail(
                            InFlight {
                                peer,
                                awaited,
                                limit,
                            },
                            raised(exception),
                        );
                    }
                    Err(_) => {
                        let awaited = Awaited::Value(call);
                        self.in_flight = Some(InFlight {
                            peer,
                            awaited,
                            limit,
                        });
                        return self.give_up(broken("its exception is not one"));
                    }
                }
            }
            (awaited, _) => {
                self.in_flight = Some(InFlight {
                    peer,
                    awaited,
                    limit,
                });
                return self.give_up(broken("it sent something else than the answer"));
            }
        }
        Ok(())
    }

    fn fail_load(&mut self, peer: PeerId, then: Option<Box<Call>>, failure: Failure) {
        match then {
            Some(call) => {
                self.counts.requests += 1;
                let id = call.request.id;
                self.peers.tell(peer, &Report::Error { id, failure });
            }
            None => {
                // Nothing to call: a later request is told so.
                self.function = None;
                self.peers.tell(peer, &Report::FunctionLoaded(Err(failure)));
            }
        }
    }

    fn fail(&mut self, in_flight: InFlight, failure: Failure) {
        match in_flight.awaited {
            Awaited::Load { then } => self.fail_load(in_flight.peer, then, failure),
            Awaited::Value(call) => {
                self.counts.requests += 1;
                let id = call.request.id;
                self.peers
                    .tell(in_flight.peer, &Report::Error { id, failure });
            }
        }
    }

    /// Answers what is in flight with a failure, and replaces the worker.
    fn give_up(&mut self, failure: Failure) -> Result<(), Fatal> {
        self.take_logs();
        self.end_lines();
        if let Some(in_flight) = self.in_flight.take() {
            self.fail(in_flight, failure);
        }
        self.replace()
    }

    /// A fresh worker; the function that was loaded is loaded again with the next
    /// request.
    fn replace(&mut self) -> Result<(), Fatal> {
        self.is_loaded = false;
        self.is_used = false;
        self.counts.reforks += 1;
        Ok(self.container.refork()?)
    }

    fn take_deadline(&mut self) -> Result<(), Fatal> {
        let Some(limit) = self
            .in_flight
            .as_ref()
            .and_then(|in_flight| in_flight.limit)
        else {
            return Ok(());
        };
        if Instant::now() < limit.0 {
            return Ok(());
        }
        self.give_up(cause::timed_out(limit.1))
    }

    /// Hears what happened to the worker, the template, and everybody else's
    /// orphans.
    fn take_news(&mut self) -> Result<(), Fatal> {
        while let Some(news) = self.container.poll() {
            match news {
                News::WorkerEnded { worker, end } if self.is_mine(worker) => {
                    let failure = cause::ended(end, &mut self.memory);
                    self.give_up(failure)?;
                }
                News::WorkerStopped { worker, signal } if self.is_mine(worker) => {
                    self.give_up(cause::stopped(signal))?;
                }
                News::WorkerExecuted { worker } if self.is_mine(worker) => {
                    self.give_up(cause::failure(
                        FailureKind::Crashed,
                        "the function replaced its process by another program (exec)",
                    ))?;
                }
                News::TemplateEnded { end, .. } => {
                    if let Some(in_flight) = self.in_flight.take() {
                        let failure = cause::ended(end, &mut self.memory);
                        self.fail(in_flight, failure);
                    }
                    self.is_loaded = false;
                    self.is_used = false;
                    self.container.reboot()?;
                }
                News::WorkerEnded { .. }
                | News::WorkerStopped { .. }
                | News::WorkerExecuted { .. }
                | News::Reaped { .. } => {}
            }
        }
        Ok(())
    }

    fn is_mine(&self, worker: nix::unistd::Pid) -> bool {
        self.container.worker_pid() == Some(worker)
    }
}

fn raised(exception: Exception) -> Failure {
    Failure {
        kind: FailureKind::Exception,
        message: exception.message,
        error_type: Some(exception.error_type),
        stack: (!exception.stack.is_empty()).then_some(exception.stack),
    }
}

/// The payload as one JSON value, or nothing if it is not that: a tenant could
/// write anything.
fn one_value(payload: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(payload).ok()
}
