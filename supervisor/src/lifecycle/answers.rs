//! What comes back from the worker: its answers, what it printed, and its end.

use std::time::Instant;

use nix::poll::PollFlags;
use refunction_adapter::Exception;
use refunction_adapter::channel::Kind;
use refunction_protocol::{Failure, FailureKind, Log, Report, Stream};
use refunction_snapshot::News;
use serde_json::value::RawValue;

use super::duty::{Awaited, Call, InFlight};
use super::{Client, END_FOLLOWS, Fatal, Ready, Supervisor, io_error};
use crate::cause;
use crate::container::SlotId;
use crate::logs::Line;
use crate::pipes::BadFrame;

impl Supervisor {
    pub(super) fn take_answers(&mut self, ready: &Ready) -> Result<(), Fatal> {
        for slot in self.container.slots() {
            self.take_answer(slot, ready)?;
        }
        Ok(())
    }

    fn take_answer(&mut self, slot: SlotId, ready: &Ready) -> Result<(), Fatal> {
        let is_awaited = self.has_room_for_answers(slot);
        let Some(pipes) = self.container.pipes_mut(slot) else {
            return Ok(());
        };
        if pipes.is_sending() && ready.has(pipes.request(), PollFlags::POLLOUT) {
            pipes
                .send_more()
                .map_err(io_error("writing to the worker"))?;
        }
        let answered = is_awaited && ready.has(pipes.response(), PollFlags::POLLIN);
        let frame = answered.then(|| pipes.receive());
        // What was printed before the answer was seen with it: they are waited for together, and
        // looked at in this order.
        if pipes.logs().any(|log| ready.has(log, PollFlags::POLLIN)) {
            self.take_logs(slot);
        }
        match frame {
            None | Some(Ok(None)) => Ok(()),
            Some(Ok(Some((kind, payload)))) => {
                self.take_frame(slot, kind, &payload)?;
                self.take_rest(slot)
            }
            Some(Err(bad)) => self.take_bad(slot, &bad),
        }
    }

    pub(super) fn take_bad(&mut self, slot: SlotId, bad: &BadFrame) -> Result<(), Fatal> {
        self.take_news()?;
        if self.duties[slot].in_flight.is_none() {
            return Ok(());
        }
        if matches!(bad, BadFrame::Closed) {
            // A worker that is ending closes its pipes a moment before its end
            // can be seen, and its end says more.
            let message = format!("the worker broke its channel: {bad}");
            self.duties[slot].broken = Some((Instant::now() + END_FOLLOWS, message));
            return Ok(());
        }
        self.give_up(slot, cause::broken_channel(bad))
    }

    pub(super) fn take_logs(&mut self, slot: SlotId) {
        let mut lines = Vec::new();
        if let Some(pipes) = self.container.pipes_mut(slot) {
            pipes.read_logs(&mut lines);
        }
        self.tell_logs(slot, lines);
    }

    pub(super) fn tell_logs(&mut self, slot: SlotId, lines: Vec<(Stream, Line)>) {
        if lines.is_empty() {
            return;
        }
        let duty = &self.duties[slot];
        let to = duty
            .in_flight
            .as_ref()
            .map(|in_flight| (in_flight.client, in_flight.request_id()));
        let call = duty.front_call();
        for (stream, line) in lines {
            let is_peers = matches!(to, Some((Client::Peer(_), _)));
            if let (Some(http), false) = (&mut self.http, is_peers) {
                http.print(call, stream, &line);
                if call.is_some() {
                    continue;
                }
            }
            let report = Report::Log(Log {
                id: to.as_ref().and_then(|(_, id)| id.clone()),
                stream,
                line: line.text,
                truncated: line.truncated,
            });
            match &to {
                Some((Client::Peer(peer), _)) => self.peers.tell(*peer, &report),
                _ => self
                    .peers
                    .iter_mut()
                    .for_each(|(_, peer)| peer.tell(&report)),
            }
        }
    }

    /// Of no call, whatever is in hand.
    pub(super) fn tell_logs_of_nobody(&mut self, lines: Vec<(Stream, Line)>) {
        if let Some(http) = &mut self.http {
            for (stream, line) in lines {
                http.print(None, stream, &line);
            }
        }
    }

    pub(super) fn end_lines(&mut self, slot: SlotId) {
        let mut lines = Vec::new();
        if let Some(pipes) = self.container.pipes_mut(slot) {
            pipes.end_lines(&mut lines);
        }
        self.tell_logs(slot, lines);
    }

    /// Takes an answer, if it answers what was asked and is what it says it is.
    pub(super) fn take_frame(
        &mut self,
        slot: SlotId,
        kind: Kind,
        payload: &[u8],
    ) -> Result<(), Fatal> {
        if matches!(kind, Kind::Head | Kind::Piece | Kind::End) {
            return self.take_part(slot, kind, payload);
        }
        self.end_lines(slot);
        self.touched = Instant::now();
        let Some(in_flight) = self.duties[slot].in_flight.take() else {
            return Ok(());
        };
        let broken = cause::broken_channel::<&str>;
        let InFlight {
            client,
            awaited,
            limit,
        } = in_flight;
        match (awaited, kind) {
            (Awaited::Load { then }, Kind::Loaded) => {
                match serde_json::from_slice::<Option<Exception>>(payload) {
                    Ok(None) => {
                        self.duties[slot].is_loaded = true;
                        match then {
                            Some(call) => return self.invoke(slot, call),
                            None => {
                                let told = self.container.told();
                                self.tell(slot, client, Report::FunctionLoaded(Ok(told)));
                            }
                        }
                    }
                    Ok(Some(exception)) => {
                        self.fail_load(slot, client, then, cause::raised(exception));
                    }
                    Err(_) => {
                        let awaited = Awaited::Load { then };
                        self.duties[slot].in_flight = Some(InFlight {
                            client,
                            awaited,
                            limit,
                        });
                        return self.give_up(slot, broken("its answer to the load is not one"));
                    }
                }
            }
            (Awaited::Value(call), Kind::Value) if one_value(payload).is_some() => {
                let data = one_value(payload).unwrap_or_else(|| RawValue::NULL.to_owned());
                self.counts.requests += 1;
                let id = call.request.id;
                self.tell(slot, client, Report::Response { id, data });
                self.call_is_over(slot);
            }
            (Awaited::Value(call) | Awaited::Rest { call, .. }, Kind::Exception) => {
                match serde_json::from_slice::<Exception>(payload) {
                    Ok(exception) => {
                        let awaited = Awaited::Value(call);
                        self.fail(
                            slot,
                            InFlight {
                                client,
                                awaited,
                                limit,
                            },
                            cause::raised(exception),
                        );
                        self.call_is_over(slot);
                    }
                    Err(_) => {
                        let awaited = Awaited::Value(call);
                        self.duties[slot].in_flight = Some(InFlight {
                            client,
                            awaited,
                            limit,
                        });
                        return self.give_up(slot, broken("its exception is not one"));
                    }
                }
            }
            (awaited, _) => {
                self.duties[slot].in_flight = Some(InFlight {
                    client,
                    awaited,
                    limit,
                });
                return self.give_up(slot, broken("it sent something else than the answer"));
            }
        }
        Ok(())
    }

    pub(super) fn fail_load(
        &mut self,
        slot: SlotId,
        client: Client,
        then: Option<Box<Call>>,
        failure: Failure,
    ) {
        match then {
            Some(call) => {
                self.counts.requests += 1;
                let id = call.request.id;
                self.tell(slot, client, Report::Error { id, failure });
                // It ran, and may have left anything.
                self.call_is_over(slot);
            }
            None => {
                // Nothing to call: a later request is told so.
                self.function = super::named(&self.settings);
                self.tell(slot, client, Report::FunctionLoaded(Err(failure)));
            }
        }
    }

    pub(super) fn fail(&mut self, slot: SlotId, in_flight: InFlight, failure: Failure) {
        match in_flight.awaited {
            Awaited::Load { then } => self.fail_load(slot, in_flight.client, then, failure),
            Awaited::Value(call) | Awaited::Rest { call, .. } => {
                self.counts.requests += 1;
                let id = call.request.id;
                self.tell(slot, in_flight.client, Report::Error { id, failure });
            }
        }
    }

    /// Has what a call left put back, where that is to be.
    pub(super) fn call_is_over(&mut self, slot: SlotId) {
        self.duties[slot].restore_due = self.restores_each().then(Instant::now);
    }

    /// Answers what is in flight with a failure, and replaces the worker.
    pub(super) fn give_up(&mut self, slot: SlotId, failure: Failure) -> Result<(), Fatal> {
        self.take_logs(slot);
        self.end_lines(slot);
        if let Some(in_flight) = self.duties[slot].in_flight.take() {
            self.fail(slot, in_flight, failure);
        }
        self.replace(slot)
    }

    /// A fresh worker; the function that was loaded is loaded again with the next
    /// request.
    pub(super) fn replace(&mut self, slot: SlotId) -> Result<(), Fatal> {
        self.duties[slot].begin_anew();
        self.counts.reforks += 1;
        self.report(slot, None);
        Ok(self.container.refork(slot)?)
    }

    pub(super) fn take_deadlines(&mut self) -> Result<(), Fatal> {
        for slot in self.container.slots() {
            let duty = &mut self.duties[slot];
            let Some(in_flight) = &duty.in_flight else {
                continue;
            };
            let now = Instant::now();
            if let Some((_, limit)) = in_flight.limit.filter(|(at, _)| now >= *at) {
                self.give_up(slot, cause::timed_out(limit))?;
            } else if let Some((_, message)) = duty.broken.take_if(|(until, _)| now >= *until) {
                self.give_up(slot, cause::failure(FailureKind::Crashed, message))?;
            }
        }
        Ok(())
    }

    /// Hears what happened to the workers, the template, and everybody else's
    /// orphans.
    pub(super) fn take_news(&mut self) -> Result<(), Fatal> {
        while let Some(news) = self.container.poll() {
            match news {
                News::WorkerEnded { worker, end } => {
                    if let Some(slot) = self.container.slot_of(worker) {
                        let failure = cause::ended(end, &mut self.memory);
                        self.give_up(slot, failure)?;
                    } else if self.container.is_spare(worker) {
                        self.container.lose_spare()?;
                    } else {
                        self.container.lose_reserve(worker);
                    }
                }
                News::WorkerStopped { worker, signal } => {
                    if let Some(slot) = self.container.slot_of(worker) {
                        self.give_up(slot, cause::stopped(signal))?;
                    }
                }
                News::WorkerExecuted { worker } => {
                    if let Some(slot) = self.container.slot_of(worker) {
                        let message = "the function replaced its process by another program (exec)";
                        self.give_up(slot, cause::failure(FailureKind::Crashed, message))?;
                    }
                }
                // It has said why, if it could: that is read like its readiness.
                News::TemplateEnded { template, .. } if self.container.is_booting(template) => {
                    self.take_template()?;
                }
                News::TemplateEnded { template, .. } if self.container.is_growing(template) => {
                    self.container.finish_growth()?;
                }
                News::TemplateEnded { template, end } if self.container.is_serving(template) => {
                    for slot in self.container.slots() {
                        if let Some(in_flight) = self.duties[slot].in_flight.take() {
                            let failure = cause::ended(end, &mut self.memory);
                            self.fail(slot, in_flight, failure);
                        }
                        self.duties[slot].begin_anew();
                    }
                    self.container.reboot()?;
                }
                News::TemplateEnded { template, .. } => self.container.lose_layer(template)?,
                News::Reaped { .. } => {}
            }
        }
        Ok(())
    }
}

/// The payload as one JSON value, or nothing if it is not that: a tenant could
/// write anything.
fn one_value(payload: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(payload).ok()
}
