//! The obvious policies.

use std::collections::{BTreeMap, VecDeque};

use super::costs::{CREATE, LOAD, Load, Outcome, RESTORE};
use super::queue::Queue;
use super::trace::{Arrival, SECOND};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Arrives(usize),
    /// A container is done with a call.
    Answered(usize, usize),
}

/// What keeps calls and containers, whatever the policy.
struct Node<'a, L> {
    load: &'a mut L,
    calls: Vec<Arrival>,
    queue: Queue<Next>,
    outcome: Outcome,
    now: u64,
}

impl<'a, L: Load> Node<'a, L> {
    fn new(load: &'a mut L) -> Self {
        let calls = load.first();
        let mut queue = Queue::new();
        for (n, call) in calls.iter().enumerate() {
            queue.plan(call.at, Next::Arrives(n));
        }
        Self {
            load,
            calls,
            queue,
            outcome: Outcome::default(),
            now: 0,
        }
    }

    fn next(&mut self) -> Option<Next> {
        let (at, next) = self.queue.next()?;
        self.now = at;
        if let Next::Answered(_, n) = next {
            self.outcome.responses.push(self.now - self.calls[n].at);
            if let Some(call) = self.load.next(n, self.now) {
                self.queue.plan(call.at, Next::Arrives(self.calls.len()));
                self.calls.push(call);
            }
        }
        Some(next)
    }

    /// A call runs in a container that needs so long before.
    fn run(&mut self, container: usize, n: usize, before: u64) {
        let call = self.calls[n];
        let delay = self.now + before - call.at;
        self.outcome.delays.push((call.function, delay));
        self.outcome.starts.push(self.now + before);
        self.queue
            .plan(self.now + before + call.run, Next::Answered(container, n));
    }
}

/// How long a container is kept for its function.
const KEEP_ALIVE: u64 = 600 * SECOND;

/// A container per function: made when a call finds none idle, kept for ten minutes after its
/// last call, the longest unused removed when a place is needed; calls that find none wait in
/// the order of their arrival. Removing costs nothing, which is more than fair.
pub fn cold_starting(slots: usize, load: &mut impl Load) -> Outcome {
    let mut node = Node::new(load);
    // By container: its function, and since when it is idle.
    let mut idle: BTreeMap<usize, (usize, u64)> = BTreeMap::new();
    let mut holds: BTreeMap<usize, usize> = BTreeMap::new();
    let mut waiting = VecDeque::new();
    let mut made = 0;
    while let Some(next) = node.next() {
        match next {
            Next::Arrives(n) => waiting.push_back(n),
            Next::Answered(container, _) => {
                idle.insert(container, (holds[&container], node.now));
            }
        }
        let now = node.now;
        let over: Vec<_> = idle
            .iter()
            .filter(|(_, (_, since))| now - since > KEEP_ALIVE)
            .map(|(container, _)| *container)
            .collect();
        for container in over {
            idle.remove(&container);
            holds.remove(&container);
        }
        while let Some(&n) = waiting.front() {
            let function = node.calls[n].function;
            let warm = idle
                .iter()
                .filter(|(_, (f, _))| *f == function)
                .max_by_key(|(_, (_, since))| *since)
                .map(|(container, _)| *container);
            if let Some(container) = warm {
                idle.remove(&container);
                node.outcome.warm += 1;
                node.run(container, n, 0);
            } else {
                if holds.len() >= slots {
                    let oldest = idle.iter().min_by_key(|(_, (_, since))| *since);
                    let Some(oldest) = oldest.map(|(container, _)| *container) else {
                        break;
                    };
                    idle.remove(&oldest);
                    holds.remove(&oldest);
                }
                made += 1;
                holds.insert(made, function);
                node.outcome.created += 1;
                node.outcome.cold += 1;
                node.run(made, n, CREATE + LOAD);
            }
            waiting.pop_front();
        }
    }
    node.outcome
}

/// So many containers that are restored after every call, and one queue for all.
pub fn first_come(slots: usize, load: &mut impl Load) -> Outcome {
    let mut node = Node::new(load);
    let mut free: Vec<(usize, u64)> = (0..slots).map(|container| (container, 0)).collect();
    let mut waiting = VecDeque::new();
    while let Some(next) = node.next() {
        match next {
            Next::Arrives(n) => waiting.push_back(n),
            // Ready once it is restored; whoever takes it before waits for that.
            Next::Answered(container, _) => free.push((container, node.now + RESTORE)),
        }
        while !free.is_empty() {
            let Some(n) = waiting.pop_front() else {
                break;
            };
            let (container, ready) = free.remove(0);
            node.outcome.restored += 1;
            let before = ready.saturating_sub(node.now) + LOAD;
            node.run(container, n, before);
        }
    }
    node.outcome
}
