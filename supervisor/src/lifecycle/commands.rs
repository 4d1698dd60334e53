//! What peers ask for, and the asking of the worker.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::PollFlags;
use refunction_adapter::Invocation;
use refunction_adapter::channel::Kind;
use refunction_adapter::given::is_imported;
use refunction_protocol::{
    BadCommand, Command, FailureKind, Function, Method, Report, Request, RequestId, Restored,
    Started, State, Status,
};

use super::duty::{Awaited, Call, InFlight};
use super::{Client, Fatal, Ready, Supervisor, Wanted, io_error};
use crate::cause;
use crate::container::{Footing, SlotId};
use crate::front::Extras;
use crate::peers::PeerId;
use crate::sabotage::leaves_out;

impl Supervisor {
    /// Tells everybody who has not heard it that there is a worker.
    pub(super) fn greet(&mut self) {
        let (Some((runtime, snapshot_bytes)), Some(pid)) =
            (self.container.runtime(), self.container.any_worker_pid())
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

    pub(super) fn take_messages(&mut self, ready: &Ready) {
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
        let waiting: Vec<Client> = self
            .queue
            .iter()
            .map(|wanted| wanted.client)
            .chain(self.duties.iter().filter_map(|duty| duty.restoring))
            .chain(
                self.duties
                    .iter()
                    .filter_map(|duty| Some(duty.in_flight.as_ref()?.client)),
            )
            .collect();
        self.peers
            .forget_gone(|id| waiting.contains(&Client::Peer(id)));
    }

    pub(super) fn take_command(&mut self, peer: PeerId, command: Result<Command, BadCommand>) {
        self.was_commanded = true;
        match command {
            Err(bad) => self.refuse(peer, bad.id, bad.reason),
            Ok(Command::Status) => {
                let status = self.status();
                self.peers.tell(peer, &Report::Status(status));
            }
            Ok(Command::Shutdown) => self.drain(),
            Ok(Command::Function(function)) if !self.is_for(&function) => {
                let handler = self.settings.handler.as_deref().unwrap_or_default();
                let reason = format!(
                    "this container is for {handler}, which its command names, and for no other function"
                );
                let failure = cause::failure(FailureKind::BadRequest, reason);
                self.peers.tell(peer, &Report::FunctionLoaded(Err(failure)));
            }
            Ok(Command::Request(request)) if self.draining.is_some() => {
                self.refuse(peer, request.id, "the container is stopping".into());
            }
            Ok(_) if self.draining.is_some() => {
                self.refuse(peer, None, "the container is stopping".into());
            }
            Ok(command) => self.queue.push_back(Wanted {
                client: Client::Peer(peer),
                command,
                extras: Extras::default(),
                arrived: Instant::now(),
            }),
        }
    }

    /// True if this function can be loaded here: any, or the one that the command names.
    fn is_for(&self, function: &Function) -> bool {
        let handler = self.settings.handler.as_deref();
        handler.is_none_or(|handler| is_imported(function, handler))
    }

    pub(super) fn refuse(&mut self, peer: PeerId, id: Option<RequestId>, reason: String) {
        let failure = cause::failure(FailureKind::BadRequest, reason);
        self.peers.tell(peer, &Report::Error { id, failure });
    }

    pub(super) fn status(&self) -> Status {
        let state = if self.draining.is_some() {
            State::Draining
        } else if self.is_running() {
            State::Running
        } else if self
            .container
            .slots()
            .any(|slot| self.container.is_clearing(slot))
        {
            State::Restoring
        } else if self.container.any_worker_pid().is_none() {
            State::Booting
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
                .any_worker_pid()
                .map(|pid| pid.as_raw().unsigned_abs()),
            requests: self.counts.requests,
            rewinds: self.counts.rewinds,
            reforks: self.counts.reforks,
            queued: self.queue.len() as u64,
            spares: self.container.reserves() as u64,
            layers: self.container.layers(),
        }
    }

    fn is_running(&self) -> bool {
        self.duties.iter().any(|duty| duty.in_flight.is_some())
    }

    /// Starts on the next commands, as many as there are workers for.
    pub(super) fn next_commands(&mut self) -> Result<(), Fatal> {
        while let Some(slot) = self.slot_for_next() {
            let Some(wanted) = self.queue.pop_front() else {
                return Ok(());
            };
            self.begin(slot, wanted)?;
        }
        Ok(())
    }

    fn begin(&mut self, slot: SlotId, wanted: Wanted) -> Result<(), Fatal> {
        match wanted.command {
            Command::Function(function) => {
                if self.duties[slot].is_used && !leaves_out("restore:between-functions") {
                    // One tenant's function after another's, without asking.
                    self.restore(slot)?;
                }
                if self.container.worker_pid(slot).is_none() {
                    let command = Command::Function(function);
                    self.queue.push_front(Wanted { command, ..wanted });
                    return Ok(());
                }
                if let Footing::Grows = self.container.prepare(slot, &function)? {
                    let command = Command::Function(function);
                    self.queue.push_front(Wanted { command, ..wanted });
                    return Ok(());
                }
                self.function = Some(function);
                self.load(slot, wanted.client, None)
            }
            Command::Request(request) => {
                self.call(slot, wanted.client, request, wanted.extras, wanted.arrived)
            }
            Command::Restore => {
                let restored = self.restore(slot)?;
                self.function = super::named(&self.settings);
                match restored {
                    Some(restored) => self.tell(slot, wanted.client, Report::Restored(restored)),
                    None => self.duties[slot].restoring = Some(wanted.client),
                }
                Ok(())
            }
            // Answered on arrival.
            Command::Status | Command::Shutdown => Ok(()),
        }
    }

    /// Nothing if files are still to be removed.
    pub(super) fn restore(&mut self, slot: SlotId) -> Result<Option<Restored>, Fatal> {
        let restored = self.container.restore(slot)?;
        self.touched = Instant::now();
        match restored.as_ref().map(|restored| restored.method) {
            Some(Method::Rewind) => self.counts.rewinds += 1,
            Some(Method::Refork) | None => self.counts.reforks += 1,
        }
        let duty = &mut self.duties[slot];
        duty.begin_anew();
        duty.restored = self.counts.rewinds + self.counts.reforks;
        if let Some(restored) = &restored {
            self.note_restore(slot, restored);
        }
        Ok(restored)
    }

    fn note_restore(&mut self, slot: SlotId, restored: &Restored) {
        if let Some(http) = &mut self.http {
            http.count_restore(restored);
        }
        self.report(slot, Some(restored));
    }

    /// Loads the function of the container's command while there is nothing else to do.
    pub(super) fn prime(&mut self) -> Result<(), Fatal> {
        // What waits and can begin is loaded for with the call.
        let is_idle = self.queue.is_empty() || self.are_enough_in_hand();
        if !is_idle || self.draining.is_some() || self.settings.handler.is_none() {
            return Ok(());
        }
        for slot in self.container.slots() {
            let duty = &self.duties[slot];
            if duty.is_loaded || duty.is_primed || !self.is_at_hand(slot) {
                continue;
            }
            // Once: what fails is told to who asks for it.
            self.duties[slot].is_primed = true;
            self.load(slot, Client::Nobody, None)?;
        }
        Ok(())
    }

    /// Goes on removing what the last tenants left, if there is so much of it.
    pub(super) fn go_on(&mut self) -> Result<(), Fatal> {
        for slot in self.container.slots() {
            if !self.container.is_clearing(slot) {
                continue;
            }
            let restored = self.container.go_on(slot)?;
            if let Some(restored) = restored {
                self.note_restore(slot, &restored);
                if let Some(client) = self.duties[slot].restoring.take() {
                    self.tell(slot, client, Report::Restored(restored));
                }
            }
            self.greet();
        }
        Ok(())
    }

    pub(super) fn call(
        &mut self,
        slot: SlotId,
        client: Client,
        request: Request,
        extras: Extras,
        arrived: Instant,
    ) -> Result<(), Fatal> {
        let Some(function) = &self.function else {
            self.counts.requests += 1;
            let (id, failure) = (request.id, cause::not_loaded());
            self.tell(slot, client, Report::Error { id, failure });
            return Ok(());
        };
        let limit = request
            .deadline_ms
            .or(function.limits.deadline_ms)
            .map(Duration::from_millis)
            .or(self.settings.deadline());
        let call = Box::new(Call {
            client,
            request,
            extras,
            limit: limit.map(|limit| (arrived + limit, limit)),
        });
        if self.duties[slot].is_loaded {
            self.invoke(slot, call)
        } else {
            self.load(slot, client, Some(call))
        }
    }

    pub(super) fn load(
        &mut self,
        slot: SlotId,
        client: Client,
        then: Option<Box<Call>>,
    ) -> Result<(), Fatal> {
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
        self.ask(slot, Kind::Load, &function)?;
        self.duties[slot].in_flight = Some(InFlight {
            client,
            awaited: Awaited::Load { then },
            limit,
        });
        Ok(())
    }

    pub(super) fn invoke(&mut self, slot: SlotId, call: Box<Call>) -> Result<(), Fatal> {
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
            env: call.extras.env.clone(),
            caller: call.extras.caller.clone(),
            data: call.request.data.clone(),
        };
        let payload = serde_json::to_vec(&invocation)
            .map_err(|error| io_error("writing a request")(error.into()))?;
        if let (Client::Front(id), Some(http)) = (call.client, &mut self.http) {
            http.begin(id);
        }
        self.ask(slot, Kind::Invoke, &payload)?;
        self.duties[slot].in_flight = Some(InFlight {
            client: call.client,
            limit: call.limit,
            awaited: Awaited::Value(call),
        });
        Ok(())
    }

    fn ask(&mut self, slot: SlotId, kind: Kind, payload: &[u8]) -> Result<(), Fatal> {
        self.duties[slot].is_used = true;
        self.touched = Instant::now();
        match self.container.pipes_mut(slot) {
            Some(pipes) => pipes
                .send(kind, payload)
                .map_err(io_error("writing to the worker")),
            None => Ok(()),
        }
    }
}
