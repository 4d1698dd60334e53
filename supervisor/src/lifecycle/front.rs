//! What comes over HTTP, and what becomes of it.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use refunction_protocol::{Command, Failure, FailureKind, Head, Report, Restored, State, Stream};
use serde_json::json;
use tokio::sync::oneshot;

use super::duty::Duty;
use super::streams::Pieces;
use super::{Client, Fatal, Ready, Supervisor, Wanted, manners};
use crate::cause;
use crate::container::{ContainerError, SlotId};
use crate::front::{
    CallId, Contract, Counts, Extras, Front, FrontError, Message, ONCE, Outcome, Picture, SENTINEL,
    Streamed,
};
use crate::logs::Line;
use crate::memory;
use crate::output::Output;
use crate::settings::Settings;

/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The front, what it waits for, and where what functions print goes.
pub(super) struct Http {
    front: Front,
    pub(super) output: Output,
    waiting: HashMap<CallId, Waiting>,
    counts: Counts,
}

/// Whom an answer is for.
enum Waiting {
    Call {
        answer: oneshot::Sender<Outcome>,
        /// Where an answer in pieces begins, until it does.
        stream: Option<oneshot::Sender<Streamed>>,
        /// Where its pieces go, once it has.
        pieces: Option<Pieces>,
        name: String,
        contract: Contract,
        /// When the function had it.
        since: Option<Instant>,
    },
    Init(oneshot::Sender<Result<(), Failure>>),
}

/// What Lambda's report says of a call.
pub(super) struct Ended {
    name: String,
    spent: Duration,
    peak_bytes: Option<u64>,
    outcome: &'static str,
}

impl Http {
    pub(super) fn new(front: Front, output: Output) -> Self {
        Self {
            front,
            output,
            waiting: HashMap::new(),
            counts: Counts::default(),
        }
    }

    /// There is a worker from now on.
    pub(super) fn open(&self) {
        self.front.open();
    }

    /// Nothing more is taken up.
    pub(super) fn drain(&self) {
        self.front.drain();
    }

    /// There will be no worker, or none any more, for this reason.
    pub(super) fn fail(&mut self, error: &ContainerError) {
        self.front.fail(error.as_failure());
    }

    /// Ends it: what was answered goes out, and who waits hears that there is no answer.
    pub(super) fn finish(&mut self) {
        for waiting in self.waiting.values() {
            // Of the others those hear it who wait.
            if let Waiting::Call {
                name,
                contract: Contract::LambdaEvent,
                ..
            } = waiting
            {
                let message = "the container was stopped before its turn had come";
                self.output.note(
                    &format!("RequestId: {name} Error: {message}"),
                    "platform.fault",
                    &json!({"requestId": name, "kind": "crashed", "message": message}),
                );
            }
        }
        self.output.flush(Instant::now() + LAST_LINES);
        self.waiting.clear();
        self.front.finish();
    }

    /// A line that was printed during this call, or outside one.
    pub(super) fn print(&mut self, call: Option<CallId>, stream: Stream, line: &Line) {
        let name = call.and_then(|id| match self.waiting.get(&id) {
            Some(Waiting::Call { name, .. }) => Some(name.as_str()),
            _ => None,
        });
        self.output.print(name, stream, line);
    }

    /// The function has it now.
    pub(super) fn begin(&mut self, id: CallId) {
        let Some(Waiting::Call {
            name,
            contract,
            since,
            ..
        }) = self.waiting.get_mut(&id)
        else {
            return;
        };
        *since = Some(Instant::now());
        if contract.tells_stages() {
            let words = format!("START RequestId: {name} Version: $LATEST");
            let record = json!({"requestId": name, "version": "$LATEST"});
            self.output.note(&words, "platform.start", &record);
        }
    }

    /// Answers what this report answers; `peak_bytes` is the worker's. What is still to
    /// be reported of it when its restore is over, if anything is.
    fn tell(
        &mut self,
        id: CallId,
        report: Report,
        peak_bytes: impl Fn() -> Option<u64>,
    ) -> Option<Ended> {
        let waiting = self.waiting.remove(&id)?;
        let (answer, pieces, name, contract, since) = match waiting {
            Waiting::Init(answer) => {
                if let Report::FunctionLoaded(loaded) = report {
                    // Its client may have left.
                    let _ = answer.send(loaded.map(drop));
                }
                return None;
            }
            Waiting::Call {
                answer,
                pieces,
                name,
                contract,
                since,
                ..
            } => (answer, pieces, name, contract, since),
        };
        let result = match report {
            Report::Response { data, .. } => Ok(data),
            Report::Error { failure, .. } => Err(failure),
            _ => return None,
        };
        let spent = since.map_or(Duration::ZERO, |since| since.elapsed());
        let outcome = match &result {
            Ok(_) => "success",
            Err(failure) => failure.kind.as_str(),
        };
        *self.counts.outcomes.entry(outcome).or_default() += 1;
        self.counts.seconds += spent.as_secs_f64();
        // An exception is told to the client, and by the function's own lines or by nobody;
        // unless the client has an answer that says nothing of it, or wants none.
        let has_words = ![Contract::Application, Contract::LambdaEvent].contains(&contract);
        let is_told = pieces.is_none() && has_words;
        if let Err(failure) = &result
            && (failure.kind != FailureKind::Exception || !is_told)
        {
            let stack = failure.stack.as_deref();
            let what = stack.filter(|_| contract != Contract::LambdaEvent);
            let what = what.unwrap_or(&failure.message);
            self.output.note(
                &format!("RequestId: {name} Error: {}", what.trim_end()),
                "platform.fault",
                &json!({"requestId": name, "kind": outcome, "message": failure.message}),
            );
        }
        if contract == Contract::OpenWhisk {
            self.output.end_activation(SENTINEL);
        }
        let is_reported = contract.tells_stages() && since.is_some();
        let ended = is_reported.then(|| {
            let words = format!("END RequestId: {name}");
            let record = json!({"requestId": name});
            self.output.note(&words, "platform.end", &record);
            Ended {
                name,
                spent,
                peak_bytes: peak_bytes(),
                outcome,
            }
        });
        // After its last piece.
        drop(pieces);
        // Its client may have left.
        let _ = answer.send(Outcome { result, spent });
        ended
    }

    /// Begins an answer in pieces; false if its client does not take them.
    pub(super) fn begin_pieces(&mut self, id: CallId, head: Head) -> bool {
        let Some(Waiting::Call { stream, pieces, .. }) = self.waiting.get_mut(&id) else {
            return false;
        };
        let Some(stream) = stream.take() else {
            return false;
        };
        let (begun, given) = Pieces::begin(head);
        // Its client may have left.
        let _ = stream.send(given);
        *pieces = Some(begun);
        true
    }

    /// Where the pieces of this answer go, if it has any.
    pub(super) fn pieces(&mut self, id: CallId) -> Option<&mut Pieces> {
        match self.waiting.get_mut(&id) {
            Some(Waiting::Call { pieces, .. }) => pieces.as_mut(),
            _ => None,
        }
    }

    /// False while more of this answer waits for its client than should.
    pub(super) fn has_room(&self, id: CallId) -> bool {
        match self.waiting.get(&id) {
            Some(Waiting::Call {
                pieces: Some(pieces),
                ..
            }) => pieces.have_room(),
            _ => true,
        }
    }

    /// Says what is to be said of a call, now that its restore is over, if there was to be
    /// one.
    fn report(&mut self, ended: &Ended, restored: Option<&Restored>) {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let spent = millis(ended.spent);
        let size: u64 = std::env::var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
            .ok()
            .and_then(|size| size.parse().ok())
            .unwrap_or(128);
        let name = &ended.name;
        let mut words = format!(
            "REPORT RequestId: {name}\tDuration: {spent:.2} ms\tBilled Duration: {} ms\tMemory Size: {size} MB",
            spent.ceil()
        );
        let mut metrics = json!({
            "durationMs": spent,
            "billedDurationMs": spent.ceil(),
            "memorySizeMB": size,
        });
        if let Some(bytes) = ended.peak_bytes {
            let peak = bytes.div_ceil(1024 * 1024);
            words += &format!("\tMax Memory Used: {peak} MB");
            metrics["maxMemoryUsedMB"] = peak.into();
        }
        if let Some(restored) = restored {
            let restore = millis(Duration::from_micros(restored.total_us));
            words += &format!("\tRestore Duration: {restore:.2} ms");
            metrics["restoreDurationMs"] = restore.into();
        }
        if ended.outcome != "success" {
            words += &format!("\tStatus: {}", ended.outcome);
        }
        let record = json!({"requestId": name, "status": ended.outcome, "metrics": metrics});
        self.output.note(&words, "platform.report", &record);
    }

    /// Readable once something came over HTTP.
    pub(super) fn arrivals(&self) -> BorrowedFd<'_> {
        self.front.inbox().arrivals()
    }

    /// Counts a restore.
    pub(super) fn count_restore(&mut self, restored: &Restored) {
        self.counts.restore_seconds += Duration::from_micros(restored.total_us).as_secs_f64();
    }
}

impl Supervisor {
    /// Answers whoever this is for, about what this slot's worker did.
    pub(super) fn tell(&mut self, slot: SlotId, client: Client, report: Report) {
        match (client, &mut self.http) {
            (Client::Peer(peer), _) => self.peers.tell(peer, &report),
            (Client::Front(id), Some(http)) => {
                let worker = self.container.worker_pid(slot);
                let ended = http.tell(id, report, || memory::peak(worker?));
                if ended.is_some() {
                    self.duties[slot].unreported = ended;
                }
            }
            (Client::Front(_), None) | (Client::Nobody, _) => {}
        }
    }

    /// Says what is still to be said of the slot's last call.
    pub(super) fn report(&mut self, slot: SlotId, restored: Option<&Restored>) {
        if let (Some(http), Some(ended)) = (&mut self.http, self.duties[slot].unreported.take()) {
            http.report(&ended, restored);
        }
    }

    /// Takes what came over HTTP, and writes what can be written.
    pub(super) fn take_front(&mut self, ready: &Ready) -> Result<(), Fatal> {
        let Some(http) = &mut self.http else {
            return Ok(());
        };
        http.output
            .write(|stream| ready.has(stream, PollFlags::POLLOUT));
        let inbox = http.front.inbox();
        if !ready.has(http.arrivals(), PollFlags::POLLIN) {
            return Ok(());
        }
        for message in inbox.take() {
            self.take_message(message)?;
        }
        Ok(())
    }

    fn take_message(&mut self, message: Message) -> Result<(), Fatal> {
        let arrived = Instant::now();
        match message {
            Message::Look(answer) => {
                // Who asked may have lost patience.
                let _ = answer.send(self.picture());
            }
            Message::GaveUp(id) => self.cancel(id)?,
            Message::Took(id, bytes) => {
                if let Some(pieces) = self.http.as_mut().and_then(|http| http.pieces(id)) {
                    pieces.took(bytes);
                }
                // Of what was read already nothing else would tell.
                let is_its = |duty: &Duty| duty.front_call() == Some(id);
                if let Some(slot) = self.duties.iter().position(is_its) {
                    self.take_rest(slot)?;
                }
            }
            // Dropping what the answer is to go through says that the container ends.
            Message::Call { .. } | Message::Init { .. } if self.draining.is_some() => {}
            Message::Call {
                id,
                request,
                extras,
                queued,
                answer,
                stream,
            } => {
                let given = request.id.as_ref();
                let name = given.and_then(|id| serde_json::from_str(id.get()).ok());
                let waiting = Waiting::Call {
                    answer,
                    stream,
                    pieces: None,
                    name: name.unwrap_or_default(),
                    contract: extras.contract,
                    since: None,
                };
                self.await_front(id, waiting);
                self.queue.push_back(Wanted {
                    client: Client::Front(id),
                    command: Command::Request(request),
                    extras,
                    arrived,
                });
                // Its client may have left, which says so itself.
                let _ = queued.send(());
            }
            Message::Lost(error) => return Err(FrontError::from(error).into()),
            Message::Init {
                id,
                function,
                answer,
            } => {
                let is_second = self.function.is_some()
                    || self
                        .queue
                        .iter()
                        .any(|wanted| matches!(wanted.command, Command::Function(_)));
                if is_second {
                    if let Some(http) = &mut self.http {
                        let said = Line {
                            text: ONCE.into(),
                            truncated: false,
                        };
                        http.print(None, Stream::Stdout, &said);
                    }
                    let failure = cause::failure(FailureKind::BadRequest, ONCE);
                    // Its client may have left.
                    let _ = answer.send(Err(failure));
                    return Ok(());
                }
                self.await_front(id, Waiting::Init(answer));
                self.queue.push_back(Wanted {
                    client: Client::Front(id),
                    command: Command::Function(function),
                    extras: Extras::default(),
                    arrived,
                });
            }
        }
        Ok(())
    }

    fn await_front(&mut self, id: CallId, waiting: Waiting) {
        if let Some(http) = &mut self.http {
            http.waiting.insert(id, waiting);
        }
    }

    /// Nobody waits for it any more: what has not begun does not, and what has is ended
    /// with its worker.
    fn cancel(&mut self, id: CallId) -> Result<(), Fatal> {
        let client = Client::Front(id);
        self.queue.retain(|wanted| wanted.client != client);
        let is_its = |duty: &Duty| {
            let in_flight = duty.in_flight.as_ref();
            in_flight.is_some_and(|in_flight| in_flight.client == client)
        };
        if let Some(slot) = self.duties.iter().position(is_its) {
            let message = "the client left before there was an answer, and the call was ended";
            self.give_up(slot, cause::failure(FailureKind::Crashed, message))?;
        }
        if let Some(http) = &mut self.http {
            http.waiting.remove(&id);
        }
        Ok(())
    }

    fn picture(&self) -> Picture {
        let status = self.status();
        let mut counts = self
            .http
            .as_ref()
            .map(|http| http.counts.clone())
            .unwrap_or_default();
        counts.rewinds = self.counts.rewinds;
        counts.reforks = self.counts.reforks;
        Picture {
            is_ready: !matches!(status.state, State::Booting),
            is_draining: self.draining.is_some(),
            queued: status.queued,
            in_flight: self.calls_in_hand() as u64,
            runtime: status.runtime,
            counts,
        }
    }
}

/// Tells Lambda that there is nothing that could be started, if it is Lambda that waits.
pub(super) fn tell_failed_start(settings: &Settings, error: &ContainerError) {
    if settings.runtime_api().is_none() {
        return;
    }
    match Front::start(manners(settings, None)) {
        Ok(mut front) => {
            front.fail(error.as_failure());
            front.finish();
        }
        Err(error) => eprintln!("refunction-supervisor: {error}"),
    }
}
