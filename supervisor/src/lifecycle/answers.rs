//! What comes back from the worker: its answers, what it printed, and its end.

use std::time::Instant;

use nix::poll::PollFlags;
use refunction_adapter::Exception;
use refunction_adapter::channel::Kind;
use refunction_protocol::{Failure, FailureKind, Log, Report, Stream};
use refunction_snapshot::News;
use serde_json::value::RawValue;

use super::{Awaited, Call, Client, END_FOLLOWS, Fatal, InFlight, Ready, Supervisor, io_error};
use crate::cause;
use crate::logs::Line;
use crate::pipes::BadFrame;

impl Supervisor {
    pub(super) fn take_answers(&mut self, ready: &Ready) -> Result<(), Fatal> {
        let awaiting = self.has_room_for_answers();
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
            Some(Ok(Some((kind, payload)))) => {
                self.take_frame(kind, &payload)?;
                self.take_rest()
            }
            Some(Err(bad)) => self.take_bad(&bad),
        }
    }

    pub(super) fn take_bad(&mut self, bad: &BadFrame) -> Result<(), Fatal> {
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
            self.give_up(cause::broken_channel(bad))?;
        }
        Ok(())
    }

    pub(super) fn take_logs(&mut self) {
        let mut lines = Vec::new();
        if let Some(pipes) = self.container.pipes_mut() {
            pipes.read_logs(&mut lines);
        }
        self.tell_logs(lines);
    }

    pub(super) fn tell_logs(&mut self, lines: Vec<(Stream, Line)>) {
        let to = self
            .in_flight
            .as_ref()
            .map(|in_flight| (in_flight.client, in_flight.request_id()));
        let call = self.front_call();
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

    pub(super) fn end_lines(&mut self) {
        let mut lines = Vec::new();
        if let Some(pipes) = self.container.pipes_mut() {
            pipes.end_lines(&mut lines);
        }
        self.tell_logs(lines);
    }

    /// Takes an answer, if it answers what was asked and is what it says it is.
    pub(super) fn take_frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Fatal> {
        if matches!(kind, Kind::Head | Kind::Piece | Kind::End) {
            return self.take_part(kind, payload);
        }
        self.end_lines();
        let Some(in_flight) = self.in_flight.take() else {
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
                        self.is_loaded = true;
                        match then {
                            Some(call) => return self.invoke(call),
                            None => self.tell(client, Report::FunctionLoaded(Ok(()))),
                        }
                    }
                    Ok(Some(exception)) => self.fail_load(client, then, cause::raised(exception)),
                    Err(_) => {
                        let awaited = Awaited::Load { then };
                        self.in_flight = Some(InFlight {
                            client,
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
                self.tell(client, Report::Response { id, data });
                self.is_restore_due = self.restores_each();
            }
            (Awaited::Value(call) | Awaited::Rest { call, .. }, Kind::Exception) => {
                match serde_json::from_slice::<Exception>(payload) {
                    Ok(exception) => {
                        let awaited = Awaited::Value(call);
                        self.fail(
                            InFlight {
                                client,
                                awaited,
                                limit,
                            },
                            cause::raised(exception),
                        );
                        self.is_restore_due = self.restores_each();
                    }
                    Err(_) => {
                        let awaited = Awaited::Value(call);
                        self.in_flight = Some(InFlight {
                            client,
                            awaited,
                            limit,
                        });
                        return self.give_up(broken("its exception is not one"));
                    }
                }
            }
            (awaited, _) => {
                self.in_flight = Some(InFlight {
                    client,
                    awaited,
                    limit,
                });
                return self.give_up(broken("it sent something else than the answer"));
            }
        }
        Ok(())
    }

    pub(super) fn fail_load(&mut self, client: Client, then: Option<Box<Call>>, failure: Failure) {
        match then {
            Some(call) => {
                self.counts.requests += 1;
                let id = call.request.id;
                self.tell(client, Report::Error { id, failure });
                // It ran, and may have left anything.
                self.is_restore_due = self.restores_each();
            }
            None => {
                // Nothing to call: a later request is told so.
                self.function = super::named(&self.settings);
                self.tell(client, Report::FunctionLoaded(Err(failure)));
            }
        }
    }

    pub(super) fn fail(&mut self, in_flight: InFlight, failure: Failure) {
        match in_flight.awaited {
            Awaited::Load { then } => self.fail_load(in_flight.client, then, failure),
            Awaited::Value(call) | Awaited::Rest { call, .. } => {
                self.counts.requests += 1;
                let id = call.request.id;
                self.tell(in_flight.client, Report::Error { id, failure });
            }
        }
    }

    /// Answers what is in flight with a failure, and replaces the worker.
    pub(super) fn give_up(&mut self, failure: Failure) -> Result<(), Fatal> {
        self.take_logs();
        self.end_lines();
        if let Some(in_flight) = self.in_flight.take() {
            self.fail(in_flight, failure);
        }
        self.replace()
    }

    /// A fresh worker; the function that was loaded is loaded again with the next
    /// request.
    pub(super) fn replace(&mut self) -> Result<(), Fatal> {
        self.is_loaded = false;
        self.is_used = false;
        self.is_primed = false;
        self.is_restore_due = false;
        self.counts.reforks += 1;
        if let Some(http) = &mut self.http {
            http.report(None);
        }
        Ok(self.container.refork()?)
    }

    pub(super) fn take_deadline(&mut self) -> Result<(), Fatal> {
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
    pub(super) fn take_news(&mut self) -> Result<(), Fatal> {
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
                News::WorkerEnded { worker, .. } if self.container.is_spare(worker) => {
                    self.container.lose_spare()?;
                }
                // It has said why, if it could: that is read like its readiness.
                News::TemplateEnded { template, .. } if self.container.is_booting(template) => {
                    self.take_template()?;
                }
                News::TemplateEnded { template, end } if self.container.is_serving(template) => {
                    if let Some(in_flight) = self.in_flight.take() {
                        let failure = cause::ended(end, &mut self.memory);
                        self.fail(in_flight, failure);
                    }
                    self.is_loaded = false;
                    self.is_used = false;
                    self.is_primed = false;
                    self.is_restore_due = false;
                    self.container.reboot()?;
                }
                News::TemplateEnded { .. }
                | News::WorkerEnded { .. }
                | News::WorkerStopped { .. }
                | News::WorkerExecuted { .. }
                | News::Reaped { .. } => {}
            }
        }
        Ok(())
    }

    pub(super) fn is_mine(&self, worker: nix::unistd::Pid) -> bool {
        self.container.worker_pid() == Some(worker)
    }
}

/// The payload as one JSON value, or nothing if it is not that: a tenant could
/// write anything.
fn one_value(payload: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(payload).ok()
}
