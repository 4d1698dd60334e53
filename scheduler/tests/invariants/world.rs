//! A node that carries out actions, keeps its own books, and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use refunction_scheduler::{
    Action, Activity, Call, CallId, ContainerId, Event, Fault, Found, FunctionSettings, Method,
    Moment, NodeSettings, Outcome, PoolSettings, Refusal, Reuse, Scheduler, Start,
};

/// One thing that happens. Numbers choose among what there is.
#[derive(Debug, Clone)]
pub enum Op {
    Call {
        function: u8,
        patience: u8,
    },
    Finish {
        which: u8,
        how: u8,
    },
    Pass {
        by: u8,
    },
    Withdraw {
        which: u8,
    },
    SetPool {
        pool: u8,
        minimum: u8,
        maximum: u8,
        memory: u8,
    },
    RemovePool {
        pool: u8,
    },
    SetFunction {
        function: u8,
        pool: u8,
        revision: u8,
        rest: u8,
    },
    RemoveFunction {
        function: u8,
    },
    SetNode {
        containers: u8,
        memory: u8,
        queue: u8,
    },
    Adopt {
        pool: u8,
        ready: bool,
    },
    End {
        which: u8,
    },
    Lose {
        which: u8,
    },
    Trouble {
        kind: u8,
    },
    Nonsense {
        kind: u8,
        which: u8,
    },
}

/// What a worker contains.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// A function by name and revision, in which incarnation of the name.
    Function(String, u64, u64),
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Creating,
    Nothing,
    Loading,
    Running(CallId),
    Restoring,
    Removing,
}

#[derive(Debug, Clone)]
struct Container {
    pool: String,
    memory: u64,
    holds: Holds,
    doing: Doing,
    /// What it is put back from.
    from: String,
    /// It takes no part any more: it ended, but is not removed.
    dead: bool,
    /// Something was loaded in it, or nobody knows.
    used: bool,
}

#[derive(Debug, Clone)]
struct Deployed {
    settings: FunctionSettings,
    incarnation: u64,
    /// It failed once: how many may run is the scheduler's to say.
    failed: bool,
}

pub struct World {
    scheduler: Scheduler,
    now: u64,
    events: Vec<(Moment, Event)>,
    node: NodeSettings,
    pools: BTreeMap<String, PoolSettings>,
    functions: BTreeMap<String, Deployed>,
    boxes: BTreeMap<ContainerId, Container>,
    waiting: BTreeMap<CallId, (String, Moment)>,
    running: BTreeMap<CallId, ContainerId>,
    ended: BTreeSet<CallId>,
    seen: Vec<Vec<Action>>,
    wake: Option<Moment>,
    next_call: u64,
    incarnations: u64,
    draining: bool,
}

const POOLS: [&str; 3] = ["java", "node", "python"];
const FUNCTIONS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

impl World {
    pub fn new() -> Self {
        let node = NodeSettings {
            memory: 1000,
            containers: 6,
            creations: 2,
            queue: 12,
            queue_per_function: 6,
            longest_wait: Duration::from_secs(20),
        };
        let mut world = Self {
            scheduler: Scheduler::new(node.clone()),
            now: 1000,
            events: Vec::new(),
            node,
            pools: BTreeMap::new(),
            functions: BTreeMap::new(),
            boxes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            ended: BTreeSet::new(),
            seen: Vec::new(),
            wake: None,
            next_call: 0,
            incarnations: 0,
            draining: false,
        };
        for pool in 0..2 {
            world.apply(&Op::SetPool {
                pool,
                minimum: 0,
                maximum: 3,
                memory: 10,
            });
        }
        for function in 0..4 {
            world.apply(&Op::SetFunction {
                function,
                pool: function / 3,
                revision: 0,
                rest: 3,
            });
        }
        world
    }

    pub fn apply(&mut self, op: &Op) {
        match *op {
            Op::Call { function, patience } => {
                self.next_call += 1;
                let id = CallId(self.next_call);
                let name = pick(&FUNCTIONS, function);
                let deadline = Moment::from_micros(self.now + u64::from(patience) * 100_000);
                self.waiting.insert(id, (name.to_owned(), deadline));
                self.tell(Event::Called(Call {
                    id,
                    function: name.into(),
                    deadline,
                }));
            }
            Op::Finish { which, how } => self.finish(which, how),
            Op::Pass { by } => {
                self.now += 1 + (1 << (by % 26));
                self.tell(Event::Tick);
            }
            Op::Withdraw { which } => {
                let all: Vec<_> = self.waiting.keys().chain(self.running.keys()).collect();
                if let Some(&&call) = choose(&all, which) {
                    if self.waiting.remove(&call).is_some() {
                        assert!(self.ended.insert(call), "{call} ended twice");
                    }
                    self.tell(Event::Withdrawn { call });
                }
            }
            Op::SetPool {
                pool,
                minimum,
                maximum,
                memory,
            } => {
                let settings = PoolSettings {
                    minimum: u32::from(minimum % 3),
                    maximum: u32::from(maximum % 6),
                    memory: u64::from(memory) * 3,
                    spare: u32::from(maximum % 7 % 3),
                    reuse: if memory % 3 == 0 {
                        Reuse::Never
                    } else {
                        Reuse::Always
                    },
                    shrink_after: Duration::from_secs(5),
                    grow_after: Duration::from_millis(u64::from(memory % 20)),
                };
                let pool = pick(&POOLS, pool);
                self.pools.insert(pool.to_owned(), settings.clone());
                self.tell(Event::PoolSet {
                    pool: pool.into(),
                    settings,
                });
            }
            Op::RemovePool { pool } => {
                let pool = pick(&POOLS, pool);
                self.pools.remove(pool);
                self.tell(Event::PoolRemoved { pool: pool.into() });
            }
            Op::SetFunction {
                function,
                pool,
                revision,
                rest,
            } => {
                let settings = FunctionSettings {
                    pool: pick(&POOLS, pool).into(),
                    revision: u64::from(revision % 3),
                    keep_warm: Duration::from_secs(u64::from(rest % 4)),
                    at_once: (rest % 5 == 0).then_some(u32::from(rest % 3)),
                    weight: u32::from(rest % 3),
                };
                let name = pick(&FUNCTIONS, function);
                self.incarnations += 1;
                let incarnation = self.incarnations;
                let deployed = self
                    .functions
                    .entry(name.to_owned())
                    .or_insert_with(|| Deployed {
                        settings: settings.clone(),
                        incarnation,
                        failed: false,
                    });
                if deployed.settings.revision != settings.revision
                    || deployed.settings.pool != settings.pool
                {
                    deployed.incarnation = incarnation;
                }
                deployed.settings = settings.clone();
                self.tell(Event::FunctionSet {
                    function: name.into(),
                    settings,
                });
            }
            Op::RemoveFunction { function } => {
                let name = pick(&FUNCTIONS, function);
                self.functions.remove(name);
                self.tell(Event::FunctionRemoved {
                    function: name.into(),
                });
            }
            Op::SetNode {
                containers,
                memory,
                queue,
            } => {
                self.node.containers = u32::from(containers % 8);
                self.node.memory = u64::from(memory) * 8;
                self.node.queue = u32::from(queue % 16);
                self.node.queue_per_function = u32::from(queue % 5);
                self.tell(Event::NodeSet(self.node.clone()));
            }
            Op::Adopt { pool, ready } => {
                let id = self.scheduler.number();
                let pool = pick(&POOLS, pool);
                let (found, holds, doing) = if ready {
                    (Found::Ready, Holds::Nothing, Doing::Nothing)
                } else {
                    (Found::Unknown, Holds::Unknown, Doing::Nothing)
                };
                self.boxes.insert(
                    id,
                    Container {
                        pool: pool.to_owned(),
                        memory: 50,
                        holds,
                        doing,
                        from: String::new(),
                        dead: false,
                        used: !ready,
                    },
                );
                self.tell(Event::Adopted {
                    container: id,
                    pool: pool.into(),
                    memory: 50,
                    found,
                });
            }
            Op::End { which } => {
                let alive: Vec<_> = self
                    .boxes
                    .iter()
                    .filter(|(_, it)| !it.dead && it.doing != Doing::Removing)
                    .map(|(id, _)| *id)
                    .collect();
                if let Some(&id) = choose(&alive, which) {
                    self.lose(id);
                    if let Some(it) = self.boxes.get_mut(&id) {
                        it.dead = true;
                        it.doing = Doing::Nothing;
                    }
                    self.tell(Event::Ended {
                        container: id,
                        cause: "it was killed".into(),
                    });
                }
            }
            Op::Lose { which } => {
                let all: Vec<_> = self.boxes.keys().copied().collect();
                if let Some(&id) = choose(&all, which) {
                    self.lose(id);
                    self.boxes.remove(&id);
                    self.tell(Event::Removed { container: id });
                }
            }
            Op::Trouble { kind } => self.tell(match kind % 3 {
                0 => Event::MemoryPressure,
                1 => Event::CreationPossible,
                _ => Event::CreationImpossible {
                    cause: "the disk is full".into(),
                    retry_after: Duration::from_millis(u64::from(kind) * 20),
                },
            }),
            Op::Nonsense { kind, which } => self.nonsense(kind, which),
        }
    }

    /// The call that a container ran ends with it.
    fn lose(&mut self, id: ContainerId) {
        if let Some(Container {
            doing: Doing::Running(call),
            holds: Holds::Function(name, ..),
            ..
        }) = self.boxes.get(&id)
        {
            if let Some(function) = self.functions.get_mut(name) {
                function.failed = true;
            }
            let call = *call;
            assert!(self.running.remove(&call).is_some());
            assert!(self.ended.insert(call), "{call} ended twice");
        }
    }

    /// Something that was asked for ends, mostly well.
    fn finish(&mut self, which: u8, how: u8) {
        let busy: Vec<_> = self
            .boxes
            .iter()
            .filter(|(_, it)| it.doing != Doing::Nothing)
            .map(|(id, _)| *id)
            .collect();
        let Some(&id) = choose(&busy, which) else {
            return;
        };
        self.now += u64::from(how) * 10;
        let bad = how % 8;
        let cause = "it did not work";
        let it = self.boxes.get_mut(&id).unwrap();
        let event = match it.doing.clone() {
            Doing::Nothing => unreachable!(),
            Doing::Creating if bad == 0 => {
                self.boxes.remove(&id);
                Event::CreationFailed {
                    container: id,
                    cause: cause.into(),
                }
            }
            Doing::Creating => {
                it.doing = Doing::Nothing;
                Event::Created { container: id }
            }
            Doing::Loading => {
                it.doing = Doing::Nothing;
                match bad {
                    0 => {
                        if let Holds::Function(name, ..) = &it.holds
                            && let Some(function) = self.functions.get_mut(name)
                        {
                            function.failed = true;
                        }
                        it.holds = Holds::Unknown;
                        Event::LoadFailed {
                            container: id,
                            cause: cause.into(),
                        }
                    }
                    1 => {
                        it.dead = true;
                        Event::LoadRefused {
                            container: id,
                            cause: cause.into(),
                        }
                    }
                    _ => Event::Loaded { container: id },
                }
            }
            Doing::Running(call) => {
                it.doing = Doing::Nothing;
                assert_eq!(self.running.remove(&call), Some(id));
                assert!(self.ended.insert(call), "{call} ended twice");
                let outcome = match bad {
                    0 | 1 => {
                        if let Holds::Function(name, ..) = &it.holds
                            && let Some(function) = self.functions.get_mut(name)
                        {
                            function.failed = true;
                        }
                        it.holds = Holds::Nothing;
                        Outcome::Fault {
                            fault: Fault::Crash,
                            cause: cause.into(),
                        }
                    }
                    2 => Outcome::Exception,
                    _ => Outcome::Ok,
                };
                Event::Answered {
                    container: id,
                    call,
                    outcome,
                }
            }
            Doing::Restoring => {
                it.doing = Doing::Nothing;
                if bad == 0 {
                    it.dead = true;
                    Event::RestoreFailed {
                        container: id,
                        cause: cause.into(),
                    }
                } else {
                    it.holds = Holds::Nothing;
                    if bad == 1
                        && let Some(function) = self.functions.get_mut(&it.from)
                    {
                        function.failed = true;
                    }
                    Event::Restored {
                        container: id,
                        method: if bad == 1 {
                            Method::Refork
                        } else {
                            Method::Rewind
                        },
                    }
                }
            }
            Doing::Removing => {
                self.boxes.remove(&id);
                Event::Removed { container: id }
            }
        };
        self.tell(event);
    }

    /// News that fit nothing, or come late or twice. Nothing may follow from them.
    fn nonsense(&mut self, kind: u8, which: u8) {
        let ids: Vec<_> = self.boxes.keys().copied().collect();
        let Some(&id) = choose(&ids, which) else {
            return;
        };
        let doing = self.boxes[&id].doing.clone();
        let cause = "nonsense";
        let event = match kind % 9 {
            0 if doing != Doing::Creating => Event::Created { container: id },
            1 if doing != Doing::Creating => Event::CreationFailed {
                container: id,
                cause: cause.into(),
            },
            2 if doing != Doing::Loading => Event::Loaded { container: id },
            3 if doing != Doing::Loading => Event::LoadFailed {
                container: id,
                cause: cause.into(),
            },
            4 if doing != Doing::Restoring => Event::Restored {
                container: id,
                method: Method::Rewind,
            },
            5 if doing != Doing::Restoring => Event::RestoreFailed {
                container: id,
                cause: cause.into(),
            },
            6 => Event::Answered {
                container: id,
                call: CallId(u64::MAX),
                outcome: Outcome::Ok,
            },
            7 => Event::Withdrawn {
                call: CallId(u64::MAX),
            },
            8 => match self.waiting.iter().next() {
                Some((id, (function, deadline))) => Event::Called(Call {
                    id: *id,
                    function: function.as_str().into(),
                    deadline: *deadline,
                }),
                None => return,
            },
            _ => return,
        };
        self.tell(event);
    }

    fn tell(&mut self, event: Event) {
        let now = Moment::from_micros(self.now);
        if self.wake.is_some_and(|at| at <= now) {
            self.wake = None;
        }
        self.events.push((now, event.clone()));
        let actions = self.scheduler.step(now, event);
        for action in &actions {
            self.carry_out(action, now);
        }
        self.seen.push(actions);
        self.check(now);
    }

    fn carry_out(&mut self, action: &Action, now: Moment) {
        match action {
            Action::Create { container, pool } => {
                assert!(!self.draining, "created while draining");
                let settings = &self.pools[pool.as_str()];
                let of_pool = self.boxes.values().filter(|it| it.pool == pool.as_str());
                assert!(of_pool.count() < settings.maximum as usize, "pool maximum");
                assert!(
                    self.boxes.len() < self.node.containers as usize,
                    "node maximum"
                );
                let memory: u64 = self.boxes.values().map(|it| it.memory).sum();
                assert!(memory + settings.memory <= self.node.memory, "node memory");
                let creating = self.boxes.values().filter(|it| it.doing == Doing::Creating);
                assert!(creating.count() < self.node.creations as usize, "creations");
                let before = self.boxes.insert(
                    *container,
                    Container {
                        pool: pool.to_string(),
                        memory: settings.memory,
                        holds: Holds::Nothing,
                        doing: Doing::Creating,
                        from: String::new(),
                        dead: false,
                        used: false,
                    },
                );
                assert!(before.is_none(), "{container} was given before");
            }
            Action::Load {
                container,
                function,
                revision,
            } => {
                let deployed = &self.functions[function.as_str()];
                assert_eq!(deployed.settings.revision, *revision);
                let it = self.free(*container);
                assert_eq!(it.holds, Holds::Nothing, "loaded over something");
                assert_eq!(it.pool, deployed.settings.pool.as_str());
                let holds = Holds::Function(function.to_string(), *revision, deployed.incarnation);
                let idle = |it: &Container| it.doing == Doing::Nothing && it.holds == holds;
                assert!(!self.boxes.values().any(idle), "loaded beside an idle one");
                if self.pools[&it.pool].reuse == Reuse::Never {
                    assert!(!it.used, "a second function in a container for one");
                }
                let it = self.boxes.get_mut(container).unwrap();
                it.used = true;
                it.doing = Doing::Loading;
                it.holds = holds;
            }
            Action::Run {
                container,
                call,
                start,
            } => {
                let (name, deadline) = self.waiting.remove(call).expect("it waited");
                assert!(deadline > now, "run after its deadline");
                let deployed = &self.functions[&name];
                let it = self.free(*container);
                let right = Holds::Function(
                    name.clone(),
                    deployed.settings.revision,
                    deployed.incarnation,
                );
                assert_eq!(it.holds, right, "run in what holds something else");
                assert!(
                    *start != Start::Swapped || self.ran_before(*container),
                    "swapped, but held nothing before"
                );
                self.boxes.get_mut(container).unwrap().doing = Doing::Running(*call);
                self.running.insert(*call, *container);
                let most = self.functions[&name].settings.at_once;
                assert!(
                    most.is_none_or(|most| self.running_of(&name) <= most.max(1) as usize),
                    "more at once than may"
                );
            }
            Action::Restore { container } => {
                let it = self.free(*container);
                assert_ne!(it.holds, Holds::Nothing, "restored for nothing");
                let it = self.boxes.get_mut(container).unwrap();
                if let Holds::Function(name, ..) = &it.holds {
                    it.from = name.clone();
                }
                it.doing = Doing::Restoring;
                it.holds = Holds::Unknown;
            }
            Action::Remove { container, .. } => {
                let it = &self.boxes[container];
                assert_eq!(it.doing, Doing::Nothing, "removed under way");
                self.boxes.get_mut(container).unwrap().doing = Doing::Removing;
            }
            Action::Refuse { call, refusal } => {
                assert!(self.waiting.remove(call).is_some(), "refused, not waiting");
                assert!(self.ended.insert(*call), "{call} ended twice");
                if let Refusal::Busy { retry_after, .. } = refusal {
                    assert!(*retry_after > Duration::ZERO);
                }
                if let Refusal::BackingOff { retry_after, .. } = refusal {
                    assert!(*retry_after > Duration::ZERO && retry_after.as_secs() <= 60);
                }
            }
            Action::Wake { at } => {
                assert!(*at > now, "woken in the past");
                self.wake = Some(*at);
            }
        }
    }

    /// A container that may be given something to do.
    fn free(&self, id: ContainerId) -> &Container {
        let it = &self.boxes[&id];
        assert!(!it.dead, "{id} is dead");
        assert_eq!(it.doing, Doing::Nothing, "{id} is busy");
        it
    }

    fn running_of(&self, name: &str) -> usize {
        self.running
            .values()
            .filter(|id| matches!(&self.boxes[id].holds, Holds::Function(f, ..) if f == name))
            .count()
    }

    fn ran_before(&self, id: ContainerId) -> bool {
        self.seen
            .iter()
            .flatten()
            .any(|action| matches!(action, Action::Load { container, .. } if *container == id))
    }

    /// What holds between any two steps.
    fn check(&self, now: Moment) {
        assert_eq!(self.scheduler.waiting(), self.waiting.len() as u64);
        let known: Vec<_> = self.scheduler.containers().collect();
        assert_eq!(known.len(), self.boxes.len(), "containers");
        for status in &known {
            let it = &self.boxes[&status.id];
            let right = match (&it.doing, &it.holds) {
                (Doing::Creating, _) => Activity::Creating,
                (Doing::Loading, _) => Activity::Loading,
                (Doing::Running(_), _) => Activity::Running,
                (Doing::Restoring, _) => Activity::Restoring,
                (Doing::Removing, _) => Activity::Removing,
                (Doing::Nothing, Holds::Nothing) => Activity::Ready,
                (Doing::Nothing, _) => Activity::Idle,
            };
            assert_eq!(status.activity, right, "{}", status.id);
        }
        for (call, (_, deadline)) in &self.waiting {
            assert!(*deadline > now, "{call} waits past its deadline");
        }
        if !self.waiting.is_empty() {
            let at = self.wake.expect("calls wait, and nothing wakes the driver");
            assert!(at > now);
        }
        for name in self.functions.keys() {
            self.check_work(name);
        }
        for (name, pool) in &self.pools {
            let alive = |it: &&Container| it.pool == *name && it.doing != Doing::Removing;
            let free = self
                .boxes
                .values()
                .filter(alive)
                .filter(|it| it.doing == Doing::Nothing)
                .count();
            let alive = self.boxes.values().filter(alive).count();
            assert!(
                free == 0 || alive <= pool.maximum as usize,
                "keeps more than the maximum"
            );
        }
    }

    /// No call waits that something could serve which does nothing.
    fn check_work(&self, name: &str) {
        let function = &self.functions[name];
        let waiting = self.waiting.values().filter(|(f, _)| f == name).count();
        let running = self.running_of(name);
        let most = if function.failed {
            1
        } else {
            function
                .settings
                .at_once
                .map_or(usize::MAX, |n| n.max(1) as usize)
        };
        if waiting == 0 || running >= most {
            return;
        }
        let of_pool: Vec<_> = self
            .boxes
            .values()
            .filter(|it| it.pool == function.settings.pool.as_str())
            .collect();
        let right = Holds::Function(
            name.to_owned(),
            function.settings.revision,
            function.incarnation,
        );
        let idle = of_pool.iter().filter(|it| it.doing == Doing::Nothing);
        assert!(
            !idle.clone().any(|it| it.holds == right),
            "{name} waits beside an idle container that holds it"
        );
        let loading = of_pool
            .iter()
            .filter(|it| it.doing == Doing::Loading && it.holds == right)
            .count();
        if waiting.min(most - running) <= loading {
            return;
        }
        assert!(
            !idle.clone().any(|it| it.holds == Holds::Nothing),
            "{name} waits beside a container at its snapshot"
        );
        let restoring = of_pool.iter().any(|it| it.doing == Doing::Restoring);
        let pool = self.pools.get(function.settings.pool.as_str());
        if pool.is_some_and(|pool| pool.reuse == Reuse::Never) {
            let making_way = |it: &&Container| {
                matches!(
                    it.doing,
                    Doing::Removing | Doing::Creating | Doing::Restoring
                ) || !it.used
            };
            let is_full = pool.is_some_and(|pool| of_pool.len() >= pool.maximum as usize);
            assert!(
                !is_full || of_pool.iter().copied().any(|it| making_way(&it)) || idle.count() == 0,
                "{name} waits in a full pool, and none makes way for it"
            );
            return;
        }
        assert!(
            restoring || idle.count() == 0,
            "{name} waits beside an idle container"
        );
    }

    /// Everything that was asked for ends well from here on: every call ends, and when all is
    /// taken away, nothing is left.
    pub fn end(mut self, drains: bool) {
        if drains {
            self.draining = true;
            self.tell(Event::Drain);
            let refused = self.ended.len();
            self.apply(&Op::Call {
                function: 0,
                patience: 200,
            });
            assert_eq!(self.ended.len(), refused + 1, "taken while draining");
        }
        let mut steps = 0;
        while !(self.waiting.is_empty() && self.running.is_empty() && self.scheduler.is_quiet()) {
            steps += 1;
            assert!(steps < 2_000, "it never ends: {:?}", self.latest());
            if self.boxes.values().any(|it| it.doing != Doing::Nothing) {
                self.finish(0, 7);
            } else {
                let at = self
                    .wake
                    .expect("nothing under way, and nothing to wait for");
                self.now = at.as_micros();
                self.tell(Event::Tick);
            }
        }
        assert_eq!(
            self.ended.len() as u64,
            self.next_call,
            "a call was forgotten"
        );
        if !drains {
            self.take_away();
        }
        self.replay();
    }

    fn latest(&self) -> Vec<(&(Moment, Event), &Vec<Action>)> {
        let all: Vec<_> = self.events.iter().zip(&self.seen).collect();
        all[all.len().saturating_sub(12)..].to_vec()
    }

    fn take_away(&mut self) {
        for function in 0..6 {
            self.apply(&Op::RemoveFunction { function });
        }
        for pool in 0..3 {
            // One that was only adopted for has to be known to be removed.
            self.apply(&Op::RemovePool { pool });
        }
        let mut steps = 0;
        while self.boxes.values().any(|it| it.doing != Doing::Nothing) {
            self.finish(0, 7);
            steps += 1;
            assert!(steps < 1_000);
        }
        assert!(self.boxes.is_empty(), "containers are left");
        // Creations may still be held back for a while.
        assert!(
            self.scheduler.entries() <= 1,
            "something waits for its time"
        );
        self.now += 3_600_000_000;
        self.tell(Event::Tick);
        assert_eq!(self.scheduler.entries(), 0, "something is left");
    }

    /// The same again gives the same.
    fn replay(&self) {
        let mut scheduler = Scheduler::new(NodeSettings {
            memory: 1000,
            containers: 6,
            creations: 2,
            queue: 12,
            queue_per_function: 6,
            longest_wait: Duration::from_secs(20),
        });
        for ((now, event), seen) in self.events.iter().zip(&self.seen) {
            if let Event::Adopted { container, .. } = event {
                while scheduler.number() < *container {}
            }
            assert_eq!(scheduler.step(*now, event.clone()), *seen);
        }
    }
}

fn pick(names: &[&'static str], which: u8) -> &'static str {
    names[usize::from(which) % names.len()]
}

fn choose<T>(all: &[T], which: u8) -> Option<&T> {
    all.get(usize::from(which) % all.len().max(1))
}
