//! Carrying out what the scheduler decided: each thing in a task of its own, its end told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::{Array, KeyValue, StringValue, Value};
use refunction_protocol::{FailureKind, Method, Restored};
use refunction_scheduler::{
    Action, Cause, ContainerId, Event, Fault, FunctionName, Method as Way, Outcome,
    Refusal as Decided, Start as Begun,
};
use tracing::{debug, info, warn};

use super::metrics::{self, Failed, Ran};
use super::state::{Pending, State};
use super::{Answer, Asked, Node, PoolKey, Refusal, Start};
use crate::channel::{ChannelError, failure};
use crate::container::{Container, ContainerError, Recipe, create};
use crate::store::Function;
use crate::traces::{Ended, How, Step};

/// How long a creation may take before containerd is asked whether it is there at all, and how
/// long that may take.
const SLOW_CREATION: Duration = Duration::from_secs(1);
const PROBE: Duration = Duration::from_secs(2);

/// How long the connection to an adopted container's supervisor may take.
const CONNECTION: Duration = Duration::from_secs(5);

/// How long a removal that failed is left alone, at first and at most.
const REMOVAL_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// What containers of pools are told unless their pool's settings say otherwise: tenants
/// follow one another there, and none is to wait for what can be made ready before.
const MADE_READY: [(&str, &str); 2] = [("REFUNCTION_SPARE", "1"), ("REFUNCTION_LAYERS_MIB", "256")];

impl Node {
    pub(super) fn carry_out(self: &Arc<Self>, state: &mut State, action: Action) {
        match action {
            Action::Wake { at } => drop(self.alarm.send_replace(Some(at))),
            Action::Refuse { call, refusal } => {
                if let Some(pending) = state.calls.remove(&call) {
                    let (request, function) = (&pending.call.id, &pending.call.function);
                    let reason = metrics::reason(&refusal);
                    debug!(request, function, reason, "refused");
                    self.metrics.refused(function, reason);
                    let refusal = refused(state, &pending, refusal);
                    self.traces.ended(|| Ended {
                        parent: pending.call.parent.as_ref(),
                        request,
                        function,
                        arrived: pending.arrived,
                        how: How::Refused {
                            reason,
                            error: refusal.to_string(),
                        },
                    });
                    // Its caller may have left.
                    let _ = pending.sender.send(Err(refusal));
                }
            }
            Action::Run {
                container,
                call,
                start,
            } => {
                let there = state.containers.get(&container).cloned();
                match (there, state.calls.remove(&call)) {
                    (Some(there), Some(pending)) => {
                        let function = state.functions.get(pending.call.function.as_str());
                        let limit = function.and_then(|it| it.definition.deadline_ms);
                        let node = Arc::clone(self);
                        tokio::spawn(async move {
                            let ended = node.run(container, &there, pending, start, limit).await;
                            node.tell(match ended {
                                Ok(outcome) => Event::Answered {
                                    container,
                                    call,
                                    outcome,
                                },
                                Err(cause) => Event::Ended { container, cause },
                            });
                        });
                    }
                    // Its caller left at this moment: the container holds what it held.
                    _ => self.later(Event::Answered {
                        container,
                        call,
                        outcome: Outcome::Ok,
                    }),
                }
            }
            Action::Load {
                container,
                function,
                revision,
            } => {
                let there = state.containers.get(&container).cloned();
                let known = state.functions.get(&function).cloned();
                let node = Arc::clone(self);
                tokio::spawn(async move {
                    let event = match (there, known.filter(|it| it.revision == revision)) {
                        (Some(there), Some(known)) => {
                            node.load(container, &there, &function, &known).await
                        }
                        (None, _) => Event::LoadRefused {
                            container,
                            cause: "the container is gone".into(),
                        },
                        (_, None) => Event::LoadFailed {
                            container,
                            cause: "the function was changed at this moment; try again".into(),
                        },
                    };
                    node.tell(event);
                });
            }
            Action::Restore { container } => {
                let there = state.containers.get(&container).cloned();
                let held = state.scheduler.container(container);
                let function = held.and_then(|it| it.function);
                let node = Arc::clone(self);
                tokio::spawn(async move {
                    let event = match there {
                        Some(there) => {
                            let function = function.as_ref().map(FunctionName::as_str);
                            node.restore(container, &there, function).await
                        }
                        None => Event::RestoreFailed {
                            container,
                            cause: "the container is gone".into(),
                        },
                    };
                    node.tell(event);
                });
            }
            Action::Create { container, pool } => {
                let pool = PoolKey::parse(pool.as_str());
                let node = Arc::clone(self);
                tokio::spawn(async move { node.create(container, pool).await });
            }
            Action::Remove { container, why } => {
                let there = state.containers.remove(&container);
                let node = Arc::clone(self);
                tokio::spawn(async move {
                    if let Some(there) = there {
                        info!(container = there.id, ?why, "removing");
                        node.remove(&there).await;
                    }
                    node.metrics.container_gone(container);
                    node.traces.gone(container);
                    node.tell(Event::Removed { container });
                });
            }
        }
    }

    /// For news that come up under the lock.
    fn later(self: &Arc<Self>, event: Event) {
        let node = Arc::clone(self);
        tokio::spawn(async move { node.tell(event) });
    }

    /// Tells when a container ends by itself, or somebody else removes it.
    pub(super) fn attend(self: &Arc<Self>, number: ContainerId, container: Arc<Container>) {
        let node = Arc::downgrade(self);
        tokio::spawn(async move {
            let ended = container.gone().await;
            if let Some(node) = node.upgrade() {
                node.tell(Event::Ended {
                    container: number,
                    cause: ended.to_string().into(),
                });
            }
        });
    }

    async fn create(self: &Arc<Self>, number: ContainerId, pool: PoolKey) {
        let settings = self.settings.of(&pool);
        let mut env = settings.env;
        for (name, value) in MADE_READY {
            env.entry(name.into()).or_insert_with(|| value.into());
        }
        let recipe = Recipe {
            image: pool.image.clone(),
            name: None,
            memory_bytes: Some(settings.memory.0),
            pids: Some(settings.pids),
            env,
            pool: Some(pool.name().to_string()),
        };
        let name = pool.name();
        let begun = Instant::now();
        let making = create(&self.registry, recipe, std::future::pending());
        let mut making = std::pin::pin!(making);
        let made = loop {
            tokio::select! {
                made = &mut making => break made,
                () = self.silence() => {}
            }
        };
        self.traces.step(number, || Step {
            what: "creation",
            began: begun,
            ended: Instant::now(),
            attributes: vec![KeyValue::new("pool", name.to_string())],
            error: made.as_ref().err().map(ToString::to_string),
        });
        match made {
            Ok(container) => {
                info!(container = container.id, pool = %name, "made");
                self.metrics.created(name.as_str(), begun.elapsed());
                let mut state = self.lock();
                self.metrics.container_there(number);
                state.containers.insert(number, Arc::clone(&container));
                self.attend(number, container);
                self.tell_locked(&mut state, Event::Created { container: number });
            }
            Err(error) => {
                warn!(image = pool.image, %error, "no container was made");
                self.metrics.failed(name.as_str(), Failed::Creation);
                self.traces.gone(number);
                self.tell(Event::CreationFailed {
                    container: number,
                    cause: error.to_string().into(),
                });
            }
        }
    }

    /// While a creation takes long: a containerd that hangs says nothing, and those who wait
    /// for the container are to learn why.
    async fn silence(self: &Arc<Self>) {
        tokio::time::sleep(SLOW_CREATION).await;
        if let Err(error) = self.registry.containerd().answers(PROBE).await {
            warn!(%error, "containers cannot be made now");
            self.tell(Event::CreationImpossible {
                cause: error.to_string().into(),
                retry_after: SLOW_CREATION + PROBE,
            });
        }
    }

    /// Goes on until nothing is left: a container that is there and that nobody counts would be
    /// one too many.
    async fn remove(&self, container: &Container) {
        let [mut pause, most] = REMOVAL_PAUSES;
        while let Err(error) = self.registry.remove(&container.id).await {
            warn!(container = container.id, %error, "something is left; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    async fn load(
        &self,
        number: ContainerId,
        container: &Container,
        name: &FunctionName,
        function: &Function,
    ) -> Event {
        let failed = |cause: String| Event::LoadFailed {
            container: number,
            cause: cause.into(),
        };
        let code = match self.store.code(function.code).await {
            Ok(Some(code)) => code,
            Ok(None) => {
                return failed("the function was changed at this moment; try again".into());
            }
            Err(error) => return failed(error.to_string()),
        };
        container.logs.copy_to(Some(self.logs.of(name)));
        let begun = Instant::now();
        let loaded = container.load(function.definition.to_load(&code)).await;
        let (id, pool) = (&container.id, container.pool.as_deref().unwrap_or_default());
        self.traces.step(number, || Step {
            what: "load",
            began: begun,
            ended: Instant::now(),
            attributes: vec![
                KeyValue::new("container", id.clone()),
                KeyValue::new("function", name.to_string()),
            ],
            error: match &loaded {
                Ok(Ok(())) => None,
                Ok(Err(failure)) => Some(failure.message.clone()),
                Err(error) => Some(error.to_string()),
            },
        });
        match loaded {
            Ok(Ok(())) => {
                debug!(container = id, function = %name, took_us = micros(begun.elapsed()), "loaded");
                self.metrics.loaded(pool, begun.elapsed());
                self.lock().failures.remove(name);
                Event::Loaded { container: number }
            }
            Ok(Err(failure)) => {
                let cause = failure.message.clone();
                info!(container = id, function = %name, cause, "it does not load");
                self.metrics.failed(pool, Failed::Load);
                self.lock().failures.insert(name.clone(), failure);
                failed(cause)
            }
            Err(ContainerError::Channel(error @ ChannelError::TooLong { .. })) => {
                self.metrics.failed(pool, Failed::Load);
                failed(error.to_string())
            }
            Err(error) => {
                warn!(container = id, function = %name, %error, "it was not loaded");
                self.metrics.failed(pool, Failed::LoadRefused);
                Event::LoadRefused {
                    container: number,
                    cause: error.to_string().into(),
                }
            }
        }
    }
}

impl Node {
    /// Runs a call, and answers it. Returns how it ended, or why its container did.
    async fn run(
        &self,
        number: ContainerId,
        container: &Container,
        pending: Pending,
        start: Begun,
        limit_ms: Option<u64>,
    ) -> Result<Outcome, Cause> {
        let Pending {
            call,
            arrived,
            deadline,
            sender,
        } = pending;
        let begun = Instant::now();
        let left = deadline.map(|it| {
            // Zero would be no deadline that anybody can keep.
            let left = it.saturating_duration_since(begun).as_millis().max(1);
            u64::try_from(left).unwrap_or(u64::MAX)
        });
        let deadline_ms = left.into_iter().chain(limit_ms).min();
        let asked = Asked {
            container: container.id.clone(),
            start: match start {
                Begun::Warm => Start::Warm,
                Begun::Restored => Start::Restored,
                Begun::Swapped => Start::Swapped,
                Begun::Created => Start::Created,
            },
            waited: begun.duration_since(arrived),
        };
        let parts = call.pieces.map(|pieces| {
            // Its caller may have left.
            let _ = pieces.asked.send(asked.clone());
            pieces.parts
        });
        let answered = container.request(&call.id, call.payload, deadline_ms, parts);
        let outcome = match answered.await {
            Ok(outcome) => outcome,
            Err(ContainerError::Channel(error @ ChannelError::TooLong { .. })) => {
                Err(failure(FailureKind::BadRequest, error.to_string()))
            }
            Err(error) => {
                let cause: Cause = error.to_string().into();
                let (request, function) = (call.id, call.function);
                warn!(request, function, container = container.id, %error, "the call was not run");
                self.metrics.refused(&function, "container_lost");
                self.traces.ended(|| Ended {
                    parent: call.parent.as_ref(),
                    request: &request,
                    function: &function,
                    arrived,
                    how: How::Refused {
                        reason: "container_lost",
                        error: cause.to_string(),
                    },
                });
                let _ = sender.send(Err(Refusal::NoContainer {
                    image: container.image.clone(),
                    cause: cause.to_string(),
                }));
                return Err(cause);
            }
        };
        let ended = match &outcome {
            Ok(_) => Outcome::Ok,
            Err(failure) => outcome_of(failure.kind, &failure.message),
        };
        let kind = outcome.as_ref().err().map(|failure| failure.kind);
        let answer = Answer {
            outcome,
            asked,
            ran: begun.elapsed(),
        };
        let ran = Ran {
            function: &call.function,
            container: number,
            outcome: kind.map_or("ok", FailureKind::as_str),
            start: answer.asked.start,
            waited: answer.asked.waited,
            ran: answer.ran,
        };
        let request = call.id;
        let told = match (self.traces.are_wanted(), &answer.outcome) {
            (true, Err(failure)) => Some(failure.message.clone()),
            _ => None,
        };
        // The answer first: the restore that may follow is nothing to its caller.
        let _ = sender.send(Ok(answer));
        self.metrics.ran(&ran);
        self.traces.ended(|| Ended {
            parent: call.parent.as_ref(),
            request: &request,
            function: ran.function,
            arrived,
            how: How::Ran {
                number,
                container: &container.id,
                pool: container.pool.as_deref().unwrap_or_default(),
                start: ran.start.as_str(),
                outcome: ran.outcome,
                began: begun,
                ended: begun + ran.ran,
                error: told,
            },
        });
        let (function, outcome, start) = (ran.function, ran.outcome, ran.start.as_str());
        debug!(
            request,
            function,
            container = container.id,
            outcome,
            start,
            waited_us = micros(ran.waited),
            ran_us = micros(ran.ran),
            "answered"
        );
        if let Outcome::Fault { cause, .. } = &ended {
            info!(request, function, container = container.id, outcome, %cause, "its worker is lost");
        }
        match container.ended() {
            Some(ended) => Err(ended.to_string().into()),
            None => Ok(ended),
        }
    }

    /// `function` is what it held, if that is known.
    async fn restore(
        &self,
        number: ContainerId,
        container: &Container,
        function: Option<&str>,
    ) -> Event {
        let pool = container.pool.as_deref().unwrap_or_default();
        // One of an earlier daemon's is perhaps not connected yet.
        let _ = tokio::time::timeout(CONNECTION, container.ready()).await;
        let begun = Instant::now();
        let restored = container.restore().await;
        self.traces.step(number, || Step {
            what: "restore",
            began: begun,
            ended: Instant::now(),
            attributes: restore_attributes(container, function, restored.as_ref().ok()),
            error: restored.as_ref().err().map(ToString::to_string),
        });
        match restored {
            Ok(restored) => {
                container.logs.copy_to(None);
                self.metrics
                    .restored(pool, function, begun.elapsed(), &restored);
                if restored.method == Method::Refork {
                    info!(container = container.id, function, taints = ?restored.taints, "reforked");
                }
                Event::Restored {
                    container: number,
                    method: match restored.method {
                        Method::Rewind => Way::Rewind,
                        Method::Refork => Way::Refork,
                    },
                }
            }
            Err(error) => {
                warn!(container = container.id, function, %error, "it was not restored");
                self.metrics.failed(pool, Failed::Restore);
                Event::RestoreFailed {
                    container: number,
                    cause: error.to_string().into(),
                }
            }
        }
    }
}

fn restore_attributes(
    container: &Container,
    function: Option<&str>,
    restored: Option<&Restored>,
) -> Vec<KeyValue> {
    let mut attributes = vec![KeyValue::new("container", container.id.clone())];
    attributes.extend(function.map(|it| KeyValue::new("function", it.to_owned())));
    if let Some(restored) = restored {
        let method = match restored.method {
            Method::Rewind => "rewind",
            Method::Refork => "refork",
        };
        attributes.push(KeyValue::new("method", method));
        if !restored.taints.is_empty() {
            let taints = restored
                .taints
                .iter()
                .map(|it| StringValue::from(it.row.clone()));
            let taints = Value::Array(Array::String(taints.collect()));
            attributes.push(KeyValue::new("taints", taints));
        }
    }
    attributes
}

/// For the log, where a unit that changes is none to compare.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn outcome_of(kind: FailureKind, message: &str) -> Outcome {
    let fault = match kind {
        FailureKind::Exception | FailureKind::BadRequest => return Outcome::Exception,
        FailureKind::Timeout => Fault::Timeout,
        FailureKind::OutOfMemory => Fault::OutOfMemory,
        FailureKind::Crashed => Fault::Crash,
        FailureKind::NotLoaded => Fault::Protocol,
    };
    Outcome::Fault {
        fault,
        cause: message.into(),
    }
}

/// In the words of whoever called.
fn refused(state: &State, pending: &Pending, decided: Decided) -> Refusal {
    let function = pending.call.function.clone();
    match decided {
        Decided::Unknown => Refusal::Unknown(function),
        Decided::Busy { busy, retry_after } => Refusal::Busy {
            reason: busy.to_string(),
            retry_after,
        },
        Decided::BackingOff { cause, retry_after } => Refusal::BackingOff {
            function,
            cause: cause.to_string(),
            retry_after,
        },
        Decided::NotLoaded { cause } => {
            let told = state.failures.get(function.as_str()).cloned();
            Refusal::NotLoaded {
                failure: told
                    .filter(|failure| *failure.message == *cause)
                    .unwrap_or_else(|| failure(FailureKind::NotLoaded, cause.to_string())),
                function,
            }
        }
        Decided::NoContainer { cause, .. } => Refusal::NoContainer {
            image: state
                .functions
                .get(function.as_str())
                .map_or_else(String::new, |it| it.definition.image.clone()),
            cause: cause.to_string(),
        },
        Decided::Draining => Refusal::Ending,
    }
}
