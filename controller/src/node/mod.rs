//! The node: named functions, called through containers that are scheduled.
//!
//! [`Node`] is the driver of [`refunction_scheduler`]: it tells what happened, and carries out
//! what was decided. Deciding is cheap and done by whoever brings the news, under one lock;
//! carrying out begins under it too, so that what was decided first begins first, and goes on
//! in tasks of its own ([`carry`]).

mod call;
mod carry;
mod logs;
pub mod metrics;
mod pool;
mod pressure;
mod state;
pub mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use refunction_scheduler::{Event, Found, FunctionName, FunctionSettings, Moment};
use tokio::sync::{oneshot, watch};
use tracing::debug;

use crate::gateway::Invoke;
use crate::logs::LogRing;
use crate::registry::Registry;
use crate::store::{Store, StoreError};
use crate::traces::{Ended, How, Traces};

pub use call::{Answer, Asked, Call, Pieces, Refusal, Start};
use logs::Logs;
use metrics::Metrics;
pub use pool::{PoolKey, Settings};
use state::{Pending, State};

/// Functions that are read from the store at a time.
const PAGE: usize = 256;

/// What is asked of the node.
#[derive(Debug)]
pub struct Node {
    registry: Arc<Registry>,
    store: Store,
    settings: Settings,
    /// The origin of the scheduler's time.
    begun: Instant,
    state: Mutex<State>,
    /// When the scheduler wants to be told the time.
    alarm: watch::Sender<Option<Moment>>,
    /// Held from reading a function in the store until the scheduler knows of it: of two
    /// changes of one name the later must be the last that is told.
    changing: tokio::sync::Mutex<()>,
    metrics: Metrics,
    traces: Traces,
    logs: Logs,
}

impl Node {
    /// Takes over the pools' containers that the registry has adopted, and tells the scheduler
    /// of all functions.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn start(
        registry: Arc<Registry>,
        store: Store,
        settings: Settings,
        traces: Traces,
    ) -> Result<Arc<Self>, StoreError> {
        let node = Arc::new(Self {
            registry,
            store,
            begun: Instant::now(),
            state: Mutex::new(State::new(settings.node.clone())),
            settings,
            alarm: watch::Sender::new(None),
            changing: tokio::sync::Mutex::default(),
            metrics: Metrics::default(),
            traces,
            logs: Logs::default(),
        });
        node.adopt();
        node.set_pools();
        let mut after: Option<String> = None;
        loop {
            let page = node.store.list(after.as_deref(), PAGE).await?;
            for function in page.functions {
                node.set_function(function);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        node.give_up_unknown_pools();
        let alarm = node.alarm.subscribe();
        tokio::spawn(ring(Arc::downgrade(&node), alarm));
        tokio::spawn(follow_images(Arc::downgrade(&node), node.registry.images()));
        let least = node.settings.min_available;
        tokio::spawn(pressure::watch(Arc::downgrade(&node), least));
        Ok(node)
    }

    fn now(&self) -> Moment {
        let micros = self.begun.elapsed().as_micros();
        Moment::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the scheduler, and begins what it decides.
    fn tell(self: &Arc<Self>, event: Event) {
        let mut state = self.lock();
        self.tell_locked(&mut state, event);
    }

    fn tell_locked(self: &Arc<Self>, state: &mut State, event: Event) {
        let now = self.now();
        for action in state.scheduler.step(now, event) {
            self.carry_out(state, action);
        }
        state.say_if_quiet();
    }

    /// The containers of pools that an earlier daemon made. What they hold, if anything, nobody
    /// knows.
    fn adopt(self: &Arc<Self>) {
        let mut state = self.lock();
        for container in self.registry.all() {
            let Some(pool) = container.pool.as_deref().map(PoolKey::parse) else {
                continue;
            };
            let number = state.scheduler.number();
            let event = Event::Adopted {
                container: number,
                pool: pool.name(),
                memory: container.memory_bytes,
                found: Found::Unknown,
            };
            self.metrics.pool_set(&pool.name());
            state.pools.entry(pool.name()).or_insert(pool);
            self.metrics.container_there(number);
            state.containers.insert(number, Arc::clone(&container));
            self.attend(number, container);
            self.tell_locked(&mut state, event);
        }
    }

    fn set_pools(self: &Arc<Self>) {
        let mut state = self.lock();
        for named in &self.settings.pools {
            let pool = PoolKey::new(named.image.as_str());
            self.metrics.pool_set(&pool.name());
            let event = Event::PoolSet {
                pool: pool.name(),
                settings: self.settings.scheduled(&pool),
            };
            state.pools.insert(pool.name(), pool);
            self.tell_locked(&mut state, event);
        }
    }

    /// An earlier life's, whose image no function wants any more.
    fn give_up_unknown_pools(self: &Arc<Self>) {
        let mut state = self.lock();
        for pool in state.pools_in_no_use(&self.settings) {
            self.metrics.pool_given_up(&pool);
            self.tell_locked(&mut state, Event::PoolRemoved { pool });
        }
    }

    /// Tells of a function as it is stored now.
    fn set_function(self: &Arc<Self>, function: crate::store::Function) {
        let mut state = self.lock();
        let definition = &function.definition;
        let pool = PoolKey::of(definition);
        let settings = FunctionSettings {
            revision: function.revision,
            keep_warm: definition
                .keep_warm_s
                .map_or(self.settings.keep_warm, Duration::from_secs),
            at_once: definition.max_concurrency,
            ..FunctionSettings::new(pool.name())
        };
        self.metrics.pool_set(&pool.name());
        state.pools.insert(pool.name(), pool.clone());
        let event = Event::PoolSet {
            pool: pool.name(),
            settings: self.settings.scheduled(&pool),
        };
        self.tell_locked(&mut state, event);
        let name = FunctionName::from(function.name.as_str());
        self.metrics.deployed(&name, &pool.name());
        state.functions.insert(name.clone(), Arc::new(function));
        let event = Event::FunctionSet {
            function: name,
            settings,
        };
        self.tell_locked(&mut state, event);
    }

    /// To be told after a function was put or deleted in the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn changed(self: &Arc<Self>, name: &str) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        if let Some(function) = self.store.get(name).await? {
            self.set_function(function);
        } else {
            let mut state = self.lock();
            let function = FunctionName::from(name);
            state.functions.remove(&function);
            state.failures.remove(&function);
            self.metrics.deleted(&function);
            self.logs.forget(&function);
            self.tell_locked(&mut state, Event::FunctionRemoved { function });
        }
        self.give_up_unknown_pools();
        Ok(())
    }

    /// What a deployed function prints, wherever it runs; None if there is no such function.
    #[must_use]
    pub fn logs(&self, function: &str) -> Option<Arc<LogRing>> {
        let state = self.lock();
        let (name, _) = state.functions.get_key_value(function)?;
        Some(self.logs.of(name))
    }

    /// Where its functions are kept.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Calls a function. Dropping this while the call waits takes it back; one that runs
    /// already is run to its end, and its answer is lost.
    ///
    /// # Errors
    /// See [`Refusal`]. What the function did wrong is an outcome, not an error.
    pub async fn invoke(self: &Arc<Self>, call: Call) -> Result<Answer, Refusal> {
        let arrived = Instant::now();
        let (sender, answer) = oneshot::channel();
        let function = FunctionName::from(call.function.as_str());
        let id;
        {
            let mut state = self.lock();
            id = state.next_call();
            let deadline = call.deadline_ms.map(Duration::from_millis);
            let wait = deadline.unwrap_or(self.settings.node.longest_wait);
            let until = self.now() + wait;
            state.calls.insert(
                id,
                Pending {
                    call,
                    arrived,
                    deadline: deadline.and_then(|it| arrived.checked_add(it)),
                    sender,
                },
            );
            let event = Event::Called(refunction_scheduler::Call {
                id,
                function,
                deadline: until,
            });
            self.tell_locked(&mut state, event);
        }
        let waiting = Waiting {
            node: self,
            id: Some(id),
        };
        let outcome = answer.await.map_err(|_| Refusal::Ending)?;
        waiting.over();
        outcome
    }

    /// Takes nothing new, and waits until what is in hand has ended.
    pub async fn drain(self: &Arc<Self>) {
        self.lock().is_draining = true;
        self.tell(Event::Drain);
        let mut quiet = {
            let state = self.lock();
            let quiet = state.quiet.subscribe();
            state.say_if_quiet();
            quiet
        };
        // The sender lives in the state, as long as this does.
        let _ = quiet.wait_for(|is_quiet| *is_quiet).await;
    }
}

#[tonic::async_trait]
impl Invoke for Arc<Node> {
    async fn invoke(&self, call: Call) -> Result<Answer, Refusal> {
        Node::invoke(self, call).await
    }

    async fn changed(&self, name: &str) -> Result<(), StoreError> {
        Node::changed(self, name).await
    }

    fn ready(&self) -> Result<(), String> {
        if self.lock().is_draining {
            return Err(Refusal::Ending.to_string());
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        Node::metrics(self)
    }
}

/// Takes a call back that nobody waits for any more.
struct Waiting<'a> {
    node: &'a Arc<Node>,
    id: Option<refunction_scheduler::CallId>,
}

impl Waiting<'_> {
    fn over(mut self) {
        self.id = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.id {
            let mut state = self.node.lock();
            if let Some(Pending { call, arrived, .. }) = state.calls.remove(&call) {
                let (request, function) = (call.id, call.function);
                debug!(request, function, "its caller left");
                self.node.metrics.refused(&function, "withdrawn");
                self.node.traces.ended(|| Ended {
                    parent: call.parent.as_ref(),
                    request: &request,
                    function: &function,
                    arrived,
                    how: How::Refused {
                        reason: "withdrawn",
                        error: "its caller left".into(),
                    },
                });
            }
            self.node.tell_locked(&mut state, Event::Withdrawn { call });
        }
    }
}

/// Tells when an image came: pools may have waited for it.
async fn follow_images(node: std::sync::Weak<Node>, mut images: watch::Receiver<u64>) {
    while images.changed().await.is_ok() {
        let Some(node) = node.upgrade() else { return };
        node.tell(Event::CreationPossible);
    }
}

/// Tells the time when the scheduler wants to know it, until the node is gone.
async fn ring(node: std::sync::Weak<Node>, mut alarm: watch::Receiver<Option<Moment>>) {
    loop {
        let at = *alarm.borrow_and_update();
        let Some(pause) = node.upgrade().map(|node| at.map(|at| at.since(node.now()))) else {
            return;
        };
        let due = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {
                let Some(node) = node.upgrade() else { return };
                // Another may have been set meanwhile; it is not to be lost.
                node.alarm.send_if_modified(|it| {
                    let is_same = *it == at;
                    if is_same {
                        *it = None;
                    }
                    is_same
                });
                node.tell(Event::Tick);
            }
            changed = alarm.changed() => if changed.is_err() { return },
        }
    }
}
