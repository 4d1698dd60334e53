//! A node driven by the scheduler.

use std::collections::BTreeMap;

use refunction_scheduler::{
    Action, Call, CallId, ContainerId, Event, FunctionSettings, Method, Moment, NodeSettings,
    Outcome as Ended, PoolSettings, Scheduler, Start,
};

use super::costs::{CREATE, LOAD, Load, Outcome, REFORK, REMOVE, RESTORE};
use super::queue::Queue;
use super::trace::{Arrival, SECOND};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Arrives(usize),
    Created(ContainerId),
    Loaded(ContainerId),
    Answered(ContainerId, usize),
    Restored(ContainerId),
    Removed(ContainerId),
    Wake,
}

/// Every so many functions taint their workers.
const TAINTING: usize = 20;

pub fn run(
    node: NodeSettings,
    pool: PoolSettings,
    functions: usize,
    function: &FunctionSettings,
    load: &mut impl Load,
) -> Outcome {
    let mut scheduler = Scheduler::new(node);
    let mut outcome = Outcome::default();
    let mut queue = Queue::new();
    let mut calls: Vec<Arrival> = load.first();
    let mut holds: BTreeMap<ContainerId, usize> = BTreeMap::new();
    // Containers of the minimum are there before the first call.
    let started = SECOND;
    let mut events = vec![Event::PoolSet {
        pool: function.pool.clone(),
        settings: pool,
    }];
    for n in 0..functions {
        events.push(Event::FunctionSet {
            function: name(n).as_str().into(),
            settings: function.clone(),
        });
    }
    for (n, call) in calls.iter().enumerate() {
        queue.plan(started + call.at, Next::Arrives(n));
    }
    let mut now = 0;
    loop {
        for event in std::mem::take(&mut events) {
            for action in scheduler.step(Moment::from_micros(now), event) {
                match action {
                    Action::Create { container, .. } => {
                        outcome.created += 1;
                        queue.plan(now + CREATE, Next::Created(container));
                    }
                    Action::Load {
                        container,
                        function,
                        ..
                    } => {
                        holds.insert(container, function.as_str()[1..].parse().unwrap());
                        queue.plan(now + LOAD, Next::Loaded(container));
                    }
                    Action::Run {
                        container,
                        call,
                        start,
                    } => {
                        let n = call.0 as usize;
                        let delay = now - (started + calls[n].at);
                        outcome.delays.push((calls[n].function, delay));
                        outcome.starts.push(now - started);
                        match start {
                            Start::Warm => outcome.warm += 1,
                            Start::Restored => outcome.restored += 1,
                            Start::Swapped => outcome.swapped += 1,
                            Start::Created => outcome.cold += 1,
                        }
                        queue.plan(now + calls[n].run, Next::Answered(container, n));
                    }
                    Action::Restore { container } => {
                        let cost = if taints(holds[&container]) {
                            REFORK
                        } else {
                            RESTORE
                        };
                        queue.plan(now + cost, Next::Restored(container));
                    }
                    Action::Remove { container, .. } => {
                        queue.plan(now + REMOVE, Next::Removed(container));
                    }
                    Action::Refuse { call, .. } => {
                        outcome.refused += 1;
                        follow(load, &mut calls, &mut queue, call.0 as usize, now, started);
                    }
                    Action::Wake { at } => queue.plan(at.as_micros(), Next::Wake),
                }
            }
        }
        let Some((at, next)) = queue.next() else {
            return outcome;
        };
        now = at;
        events.push(match next {
            Next::Arrives(n) => Event::Called(Call {
                id: CallId(n as u64),
                function: name(calls[n].function).as_str().into(),
                deadline: Moment::from_micros(now + 600 * SECOND),
            }),
            Next::Created(container) => Event::Created { container },
            Next::Loaded(container) => Event::Loaded { container },
            Next::Restored(container) => Event::Restored {
                container,
                method: if taints(holds[&container]) {
                    Method::Refork
                } else {
                    Method::Rewind
                },
            },
            Next::Removed(container) => Event::Removed { container },
            Next::Wake => Event::Tick,
            Next::Answered(container, n) => {
                outcome.responses.push(now - (started + calls[n].at));
                follow(load, &mut calls, &mut queue, n, now, started);
                Event::Answered {
                    container,
                    call: CallId(n as u64),
                    outcome: Ended::Ok,
                }
            }
        });
    }
}

fn follow(
    load: &mut impl Load,
    calls: &mut Vec<Arrival>,
    queue: &mut Queue<Next>,
    n: usize,
    now: u64,
    started: u64,
) {
    if let Some(call) = load.next(n, now - started) {
        queue.plan(started + call.at, Next::Arrives(calls.len()));
        calls.push(call);
    }
}

fn taints(function: usize) -> bool {
    function % TAINTING == TAINTING - 1
}

fn name(function: usize) -> String {
    format!("f{function}")
}
