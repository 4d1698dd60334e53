//! The rules one by one, told as events and actions.

use std::time::Duration;

use refunction_scheduler::{
    Action, Busy, Call, CallId, ContainerId, Event, Fault, Found, FunctionSettings, Method, Moment,
    NodeSettings, Outcome, PoolSettings, Refusal, Removal, Reuse, Scheduler, Start,
};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000_000;

struct Node {
    scheduler: Scheduler,
    now: u64,
    calls: u64,
    wake: Option<Moment>,
}

impl Node {
    fn new(settings: NodeSettings) -> Self {
        Self {
            scheduler: Scheduler::new(settings),
            now: SECOND,
            calls: 0,
            wake: None,
        }
    }

    /// A pool of so many containers, all there, and functions for it.
    fn with(containers: u32, functions: &[&str]) -> Self {
        let mut node = Self::new(NodeSettings {
            creations: 100,
            ..NodeSettings::default()
        });
        let created = node.tell(Event::PoolSet {
            pool: "python".into(),
            settings: pool(containers, containers),
        });
        assert_eq!(created.len(), containers as usize);
        for container in created.iter().map(container) {
            assert_eq!(node.tell(Event::Created { container }), []);
        }
        for function in functions {
            node.deploy(function, 1);
        }
        node
    }

    fn deploy(&mut self, function: &str, revision: u64) -> Vec<Action> {
        self.tell(Event::FunctionSet {
            function: function.into(),
            settings: FunctionSettings {
                revision,
                ..FunctionSettings::new("python")
            },
        })
    }

    /// The driver's alarm apart.
    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.now += 1;
        let mut actions = self.scheduler.step(Moment::from_micros(self.now), event);
        actions.retain(|action| match action {
            Action::Wake { at } => {
                self.wake = Some(*at);
                false
            }
            _ => true,
        });
        actions
    }

    fn pass(&mut self, micros: u64) -> Vec<Action> {
        self.now += micros;
        self.tell(Event::Tick)
    }

    fn call(&mut self, function: &str) -> Vec<Action> {
        self.calls += 1;
        self.tell(Event::Called(Call {
            id: CallId(self.calls),
            function: function.into(),
            deadline: Moment::from_micros(self.now + 30 * SECOND),
        }))
    }

    fn answer(&mut self, container: ContainerId, call: u64, outcome: Outcome) -> Vec<Action> {
        self.tell(Event::Answered {
            container,
            call: CallId(call),
            outcome,
        })
    }

    /// A call that is not answered, in a container at its snapshot.
    fn start(&mut self, function: &str) -> (ContainerId, u64) {
        let container = container(&self.call(function)[0]);
        let run = self.tell(Event::Loaded { container });
        assert!(matches!(run[..], [Action::Run { .. }]), "{run:?}");
        (container, self.calls)
    }

    /// A whole call, after which its container holds the function.
    fn hold(&mut self, function: &str) -> ContainerId {
        let (container, call) = self.start(function);
        assert_eq!(self.answer(container, call, Outcome::Ok), []);
        container
    }
}

fn pool(minimum: u32, maximum: u32) -> PoolSettings {
    PoolSettings {
        minimum,
        maximum,
        spare: 0,
        ..PoolSettings::default()
    }
}

fn remove(container: ContainerId, why: Removal) -> Action {
    Action::Remove { container, why }
}

fn container(action: &Action) -> ContainerId {
    match action {
        Action::Create { container, .. }
        | Action::Load { container, .. }
        | Action::Run { container, .. }
        | Action::Restore { container }
        | Action::Remove { container, .. } => *container,
        other => panic!("{other:?}"),
    }
}

fn crash() -> Outcome {
    Outcome::Fault {
        fault: Fault::Crash,
        cause: "signal 11".into(),
    }
}

fn run(container: ContainerId, call: u64, start: Start) -> Action {
    Action::Run {
        container,
        call: CallId(call),
        start,
    }
}

#[test]
fn warm_then_ready_then_swapped_then_created() {
    let mut node = Node::with(2, &["a", "b", "c", "d"]);
    node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: pool(2, 3),
    });
    // At its snapshot.
    let first = container(&node.call("a")[0]);
    assert_eq!(
        node.tell(Event::Loaded { container: first }),
        [run(first, 1, Start::Restored)]
    );
    assert_eq!(node.answer(first, 1, Outcome::Ok), []);
    // Warm, though another is at its snapshot.
    assert_eq!(node.call("a"), [run(first, 2, Start::Warm)]);
    node.answer(first, 2, Outcome::Ok);
    let second = node.hold("b");
    assert_ne!(first, second);
    // Nothing at its snapshot: what was used longest ago is put back.
    assert_eq!(node.call("c"), [Action::Restore { container: first }]);
    let loaded = node.tell(Event::Restored {
        container: first,
        method: Method::Rewind,
    });
    assert_eq!(container(&loaded[0]), first);
    assert_eq!(
        node.tell(Event::Loaded { container: first }),
        [run(first, 4, Start::Swapped)]
    );
    assert_eq!(node.call("b"), [run(second, 5, Start::Warm)]);
    // Nothing idle: one is made once the call has waited for longer than swaps take.
    assert_eq!(node.call("d"), []);
    let created = node.pass(10 * MS);
    let third = container(&created[0]);
    assert!(
        matches!(created[..], [Action::Create { .. }]),
        "{created:?}"
    );
    node.now += 120 * MS;
    let loaded = node.tell(Event::Created { container: third });
    assert_eq!(container(&loaded[0]), third);
    assert_eq!(
        node.tell(Event::Loaded { container: third }),
        [run(third, 6, Start::Created)]
    );
}

#[test]
fn a_call_takes_whatever_is_free_first() {
    let mut node = Node::with(1, &["a"]);
    node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: pool(1, 2),
    });
    let (first, call) = node.start("a");
    let second = container(&node.call("a")[0]);
    // The creation was for the second call, but the first container is free before.
    assert_eq!(
        node.answer(first, call, Outcome::Ok),
        [run(first, 2, Start::Warm)]
    );
    assert_eq!(node.tell(Event::Created { container: second }), []);
}

#[test]
fn the_keep_warm_time_is_a_wish() {
    let mut node = Node::with(2, &["a", "b", "c"]);
    node.tell(Event::FunctionSet {
        function: "a".into(),
        settings: FunctionSettings {
            keep_warm: Duration::from_secs(3600),
            ..FunctionSettings::new("python")
        },
    });
    node.hold("a");
    let short = node.hold("b");
    // Used later, but not to be kept for so long.
    assert_eq!(node.call("c"), [Action::Restore { container: short }]);
    let mut node = Node::with(1, &["a", "b"]);
    let only = node.hold("a");
    assert_eq!(node.call("b"), [Action::Restore { container: only }]);
}

#[test]
fn what_was_kept_warm_long_enough_is_put_back() {
    let mut node = Node::with(1, &["a"]);
    let only = node.hold("a");
    assert_eq!(node.pass(59 * SECOND), []);
    let at = node.wake.expect("somebody has to say when").as_micros();
    assert!(at > node.now && at <= node.now + SECOND);
    assert_eq!(
        node.pass(at - node.now),
        [Action::Restore { container: only }]
    );
}

#[test]
fn what_was_used_last_is_used_first_and_the_rest_grows_old() {
    let mut node = Node::with(3, &["a", "b"]);
    let used = node.hold("a");
    node.pass(60 * SECOND);
    node.tell(Event::Restored {
        container: used,
        method: Method::Rewind,
    });
    assert_eq!(node.hold("b"), used);
    // Those that were not used go, though they were made later.
    node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: pool(1, 3),
    });
    let gone = node.pass(241 * SECOND);
    assert!(gone.contains(&Action::Restore { container: used }));
    assert_eq!(gone.len(), 3, "{gone:?}");
}

#[test]
fn every_use_begins_the_keep_warm_time_anew() {
    let mut node = Node::with(1, &["a"]);
    let only = node.hold("a");
    node.pass(40 * SECOND);
    assert_eq!(node.call("a"), [run(only, 2, Start::Warm)]);
    assert_eq!(node.answer(only, 2, Outcome::Ok), []);
    assert_eq!(node.pass(40 * SECOND), []);
    assert_eq!(node.call("a"), [run(only, 3, Start::Warm)]);
}

#[test]
fn another_revision_is_another_function() {
    let mut node = Node::with(1, &["a"]);
    let only = node.hold("a");
    assert_eq!(node.deploy("a", 2), [Action::Restore { container: only }]);
    node.tell(Event::Restored {
        container: only,
        method: Method::Rewind,
    });
    assert_eq!(
        node.call("a"),
        [Action::Load {
            container: only,
            function: "a".into(),
            revision: 2
        }]
    );
    // Deployed again while it loads: what was loaded is not run.
    assert_eq!(node.deploy("a", 3), []);
    assert_eq!(
        node.tell(Event::Loaded { container: only }),
        [Action::Restore { container: only }]
    );
}

#[test]
fn what_ran_an_old_revision_is_put_back_after_it() {
    let mut node = Node::with(1, &["a"]);
    let (container, call) = node.start("a");
    assert_eq!(node.deploy("a", 2), []);
    assert_eq!(
        node.answer(container, call, Outcome::Ok),
        [Action::Restore { container }]
    );
}

#[test]
fn crashes_are_tolerated_twice() {
    let mut node = Node::with(2, &["a", "b"]);
    for strike in 1..=3 {
        let (container, call) = node.start("a");
        assert_eq!(call, strike);
        node.answer(container, call, crash());
    }
    let refused = node.call("a");
    let [
        Action::Refuse {
            refusal: Refusal::BackingOff { cause, retry_after },
            ..
        },
    ] = &refused[..]
    else {
        panic!("{refused:?}");
    };
    assert_eq!(&**cause, "signal 11");
    assert!(*retry_after > Duration::from_millis(990), "{retry_after:?}");
    // The others are not concerned.
    node.hold("b");
    // Then one call at a time, until one succeeds.
    node.pass(SECOND);
    let (container, call) = node.start("a");
    assert_eq!(node.call("a"), []);
    assert_eq!(
        node.answer(container, call, Outcome::Ok),
        [run(container, call + 1, Start::Warm)]
    );
}

#[test]
fn exceptions_are_no_faults() {
    let mut node = Node::with(1, &["a"]);
    let (container, call) = node.start("a");
    node.answer(container, call, Outcome::Exception);
    for _ in 0..100 {
        assert!(matches!(node.call("a")[..], [Action::Run { .. }]));
        let call = node.calls;
        node.answer(container, call, Outcome::Exception);
    }
}

#[test]
fn code_that_does_not_load_is_told_to_all_who_wait() {
    let mut node = Node::with(1, &["a"]);
    let container = container(&node.call("a")[0]);
    node.call("a");
    let actions = node.tell(Event::LoadFailed {
        container,
        cause: "SyntaxError".into(),
    });
    let refusal = |call| Action::Refuse {
        call: CallId(call),
        refusal: Refusal::NotLoaded {
            cause: "SyntaxError".into(),
        },
    };
    assert_eq!(
        actions,
        [refusal(1), refusal(2), Action::Restore { container }]
    );
}

#[test]
fn a_container_that_refuses_is_replaced_and_its_call_waits() {
    let mut node = Node::with(1, &["a"]);
    let first = container(&node.call("a")[0]);
    let cause = "no answer";
    assert_eq!(
        node.tell(Event::LoadRefused {
            container: first,
            cause: cause.into()
        }),
        [Action::Remove {
            container: first,
            why: Removal::Failed
        }]
    );
    let created = node.tell(Event::Removed { container: first });
    let second = container(&created[0]);
    assert!(matches!(created[..], [Action::Create { .. }]));
    let loaded = node.tell(Event::Created { container: second });
    assert!(matches!(loaded[..], [Action::Load { .. }]));
}

#[test]
fn without_any_container_the_cause_is_said() {
    let mut node = Node::new(NodeSettings::default());
    node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: pool(0, 4),
    });
    node.deploy("a", 1);
    let container = container(&node.call("a")[0]);
    let refused = node.tell(Event::CreationFailed {
        container,
        cause: "no space left on device".into(),
    });
    let again = node.call("a");
    for refused in [refused, again] {
        let [
            Action::Refuse {
                refusal: Refusal::NoContainer { cause, retry_after },
                ..
            },
        ] = &refused[..]
        else {
            panic!("{refused:?}");
        };
        assert_eq!(&**cause, "no space left on device");
        assert!(*retry_after > Duration::from_millis(490));
    }
    // It is tried again when that time is over.
    node.pass(500 * MS);
    assert!(matches!(node.call("a")[..], [Action::Create { .. }]));
}

#[test]
fn a_full_node_makes_room_for_another_pool() {
    let mut node = Node::new(NodeSettings {
        containers: 2,
        ..NodeSettings::default()
    });
    node.tell(Event::PoolSet {
        pool: "java".into(),
        settings: pool(0, 2),
    });
    let created = node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: PoolSettings {
            spare: 1,
            ..pool(1, 2)
        },
    });
    node.tell(Event::Created {
        container: container(&created[0]),
    });
    node.deploy("a", 1);
    node.tell(Event::FunctionSet {
        function: "b".into(),
        settings: FunctionSettings::new("java"),
    });
    let (busy, call) = node.start("a");
    let spare = container(&node.pass(10 * MS)[0]);
    node.tell(Event::Created { container: spare });
    assert_eq!(
        node.call("b"),
        [Action::Remove {
            container: spare,
            why: Removal::Room
        }]
    );
    let created = node.tell(Event::Removed { container: spare });
    assert!(
        matches!(&created[..], [Action::Create { pool, .. }] if pool.as_str() == "java"),
        "{created:?}"
    );
    // What it has as its minimum, nobody takes.
    node.answer(busy, call, Outcome::Ok);
    assert_eq!(node.call("b"), []);
    assert_eq!(node.pass(2 * SECOND), []);
}

/// A node of so many containers that "a" in the pool "python" keeps busy, with calls waiting,
/// and a call of "b" in the pool "java".
fn crowded(containers: u32) -> (Node, ContainerId) {
    let mut node = Node::new(NodeSettings {
        containers,
        ..NodeSettings::default()
    });
    for name in ["python", "java"] {
        node.tell(Event::PoolSet {
            pool: name.into(),
            settings: pool(0, containers),
        });
    }
    node.deploy("a", 1);
    node.tell(Event::FunctionSet {
        function: "b".into(),
        settings: FunctionSettings::new("java"),
    });
    let mut last = None;
    for _ in 0..containers {
        let container = container(&node.call("a")[0]);
        node.tell(Event::Created { container });
        node.tell(Event::Loaded { container });
        last = Some(container);
    }
    node.call("a");
    node.call("a");
    assert_eq!(node.call("b"), []);
    (node, last.unwrap())
}

#[test]
fn a_pool_with_more_gives_one_up_to_a_pool_with_none() {
    let (mut node, last) = crowded(2);
    assert_eq!(
        node.answer(last, 2, Outcome::Ok),
        [Action::Remove {
            container: last,
            why: Removal::Room
        }]
    );
}

#[test]
fn a_pool_with_one_gives_it_up_after_a_second() {
    let (mut node, only) = crowded(1);
    assert_eq!(
        node.answer(only, 1, Outcome::Ok),
        [run(only, 2, Start::Warm)]
    );
    node.now += SECOND;
    assert_eq!(
        node.answer(only, 2, Outcome::Ok),
        [Action::Remove {
            container: only,
            why: Removal::Room
        }]
    );
    // The next is not for whoever had it, though its call waits longer.
    let created = node.tell(Event::Removed { container: only });
    assert!(
        matches!(&created[..], [Action::Create { pool, .. }] if pool.as_str() == "java"),
        "{created:?}"
    );
    // And back again: what takes turns by the second is not given up for a call.
    let other = container(&created[0]);
    node.call("b");
    node.tell(Event::Created { container: other });
    node.tell(Event::Loaded { container: other });
    assert_eq!(
        node.answer(other, 4, Outcome::Ok),
        [run(other, 5, Start::Warm)]
    );
}

#[test]
fn small_containers_do_not_take_what_is_freed_for_a_large_one() {
    let mut node = Node::new(NodeSettings {
        memory: 4,
        ..NodeSettings::default()
    });
    for (name, memory) in [("python", 1), ("java", 4)] {
        node.tell(Event::PoolSet {
            pool: name.into(),
            settings: PoolSettings {
                memory,
                ..pool(0, 4)
            },
        });
    }
    node.deploy("a", 1);
    node.tell(Event::FunctionSet {
        function: "b".into(),
        settings: FunctionSettings::new("java"),
    });
    let busy: Vec<_> = (1..=4)
        .map(|call| {
            let container = container(&node.call("a")[0]);
            node.tell(Event::Created { container });
            node.tell(Event::Loaded { container });
            (container, call)
        })
        .collect();
    for _ in 0..20 {
        node.call("a");
    }
    assert_eq!(node.call("b"), []);
    node.now += SECOND;
    let mut last = Vec::new();
    for (container, call) in busy {
        assert_eq!(
            node.answer(container, call, Outcome::Ok),
            [Action::Remove {
                container,
                why: Removal::Room
            }]
        );
        last = node.tell(Event::Removed { container });
    }
    assert!(
        matches!(&last[..], [Action::Create { pool, .. }] if pool.as_str() == "java"),
        "{last:?}"
    );
}

#[test]
fn who_stood_behind_a_pool_moves_up_when_that_gives_up() {
    let mut node = Node::new(NodeSettings {
        memory: 4,
        ..NodeSettings::default()
    });
    for (name, memory) in [("python", 1), ("java", 4)] {
        node.tell(Event::PoolSet {
            pool: name.into(),
            settings: PoolSettings {
                memory,
                ..pool(0, 4)
            },
        });
    }
    node.deploy("a", 1);
    node.tell(Event::FunctionSet {
        function: "b".into(),
        settings: FunctionSettings::new("java"),
    });
    let container = container(&node.call("a")[0]);
    node.tell(Event::Created { container });
    node.tell(Event::Loaded { container });
    assert_eq!(node.call("b"), []);
    // There is room for it, but another waits for that.
    assert_eq!(node.call("a"), []);
    let created = node.tell(Event::Withdrawn { call: CallId(2) });
    assert!(
        matches!(&created[..], [Action::Create { pool, .. }] if pool.as_str() == "python"),
        "{created:?}"
    );
}

#[test]
fn minimums_that_do_not_fit_stop_nobody() {
    let mut node = Node::new(NodeSettings {
        containers: 3,
        ..NodeSettings::default()
    });
    for name in ["go", "java", "python"] {
        for action in node.tell(Event::PoolSet {
            pool: name.into(),
            settings: pool(2, 3),
        }) {
            node.tell(Event::Created {
                container: container(&action),
            });
        }
    }
    node.deploy("a", 1);
    let gone = node.call("a");
    assert!(
        matches!(
            gone[..],
            [Action::Remove {
                why: Removal::Room,
                ..
            }]
        ),
        "{gone:?}"
    );
    let created = node.tell(Event::Removed {
        container: container(&gone[0]),
    });
    assert!(
        matches!(&created[..], [Action::Create { pool, .. }] if pool.as_str() == "python"),
        "{created:?}"
    );
}

#[test]
fn what_is_unused_for_long_goes_down_to_the_minimum() {
    let mut node = Node::with(3, &[]);
    node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: pool(1, 3),
    });
    let gone = node.pass(301 * SECOND);
    assert_eq!(gone.len(), 2, "{gone:?}");
    assert!(gone.iter().all(|action| matches!(
        action,
        Action::Remove {
            why: Removal::Unused,
            ..
        }
    )));
}

#[test]
fn under_memory_pressure_one_goes_and_none_comes() {
    let mut node = Node::with(2, &["a"]);
    node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: pool(0, 8),
    });
    let used = node.hold("a");
    let gone = node.tell(Event::MemoryPressure);
    assert!(matches!(
        gone[..],
        [Action::Remove { container, why: Removal::Pressure }] if container != used
    ));
    node.tell(Event::Removed {
        container: container(&gone[0]),
    });
    node.call("a");
    node.call("a");
    assert_eq!(node.pass(4 * SECOND), []);
    assert!(matches!(node.pass(SECOND)[..], [Action::Create { .. }, ..]));
}

#[test]
fn queues_are_bounded_and_the_hint_follows_the_rate() {
    let mut node = Node::with(1, &["a", "b"]);
    node.tell(Event::NodeSet(NodeSettings {
        queue: 4,
        queue_per_function: 3,
        ..NodeSettings::default()
    }));
    let (container, call) = node.start("a");
    node.now += 100 * MS;
    assert_eq!(node.answer(container, call, Outcome::Ok), []);
    node.call("a");
    for _ in 0..3 {
        assert_eq!(node.call("a"), []);
    }
    let full = node.call("a");
    let [
        Action::Refuse {
            refusal:
                Refusal::Busy {
                    busy: Busy::FunctionQueue,
                    retry_after,
                },
            ..
        },
    ] = full[..]
    else {
        panic!("{full:?}");
    };
    // Four calls of a tenth of a second.
    let hint = retry_after.as_millis();
    assert!((400..410).contains(&hint), "{hint}");
    // Two of another function find place in the node's queue, the second at the expense of the
    // one that has most.
    let last = CallId(node.calls - 1);
    assert_eq!(node.call("b"), []);
    assert!(matches!(
        node.call("b")[..],
        [Action::Refuse { call, refusal: Refusal::Busy { busy: Busy::NodeQueue, .. } }]
            if call == last
    ));
}

#[test]
fn what_waits_to_its_deadline_is_refused_by_itself() {
    let mut node = Node::with(1, &["a"]);
    node.start("a");
    assert_eq!(node.call("a"), []);
    let refused = node.pass(30 * SECOND);
    assert!(matches!(
        refused[..],
        [Action::Refuse {
            refusal: Refusal::Busy {
                busy: Busy::Waited,
                ..
            },
            ..
        }]
    ));
    assert_eq!(node.scheduler.waiting(), 0);
}

#[test]
fn draining_ends_what_was_taken_and_takes_nothing() {
    let mut node = Node::with(1, &["a"]);
    let (container, call) = node.start("a");
    node.call("a");
    assert_eq!(node.tell(Event::Drain), []);
    assert!(matches!(
        node.call("a")[..],
        [Action::Refuse {
            refusal: Refusal::Draining,
            ..
        }]
    ));
    assert_eq!(
        node.answer(container, call, Outcome::Ok),
        [run(container, 2, Start::Warm)]
    );
    assert!(!node.scheduler.is_quiet());
    assert_eq!(node.answer(container, 2, Outcome::Ok), []);
    assert!(node.scheduler.is_quiet());
    // Nothing is put back or removed any more: the next life of the driver does that.
    assert_eq!(node.pass(3600 * SECOND), []);
}

#[test]
fn what_is_found_is_put_back_first() {
    let mut node = Node::new(NodeSettings::default());
    let container = node.scheduler.number();
    let adopted = node.tell(Event::Adopted {
        container,
        pool: "python".into(),
        memory: 1,
        found: refunction_scheduler::Found::Unknown,
    });
    assert_eq!(adopted, [Action::Restore { container }]);
    // It counts for the minimum of a pool that is set later.
    assert_eq!(
        node.tell(Event::PoolSet {
            pool: "python".into(),
            settings: pool(1, 1),
        }),
        []
    );
}

#[test]
fn as_many_run_at_once_as_may() {
    let mut node = Node::with(3, &["a"]);
    node.tell(Event::FunctionSet {
        function: "a".into(),
        settings: FunctionSettings {
            at_once: Some(1),
            ..FunctionSettings::new("python")
        },
    });
    let (container, call) = node.start("a");
    assert_eq!(node.call("a"), []);
    assert_eq!(
        node.answer(container, call, Outcome::Ok),
        [run(container, 2, Start::Warm)]
    );
}

#[test]
fn calls_do_not_wait_for_containers_that_do_not_come() {
    let mut node = Node::with(1, &["a"]);
    node.start("a");
    node.tell(Event::PoolSet {
        pool: "java".into(),
        settings: pool(0, 1),
    });
    node.tell(Event::FunctionSet {
        function: "j".into(),
        settings: FunctionSettings::new("java"),
    });
    let created = node.call("j");
    let [Action::Create { container, .. }] = created[..] else {
        panic!("{created:?}");
    };
    let impossible = Event::CreationImpossible {
        cause: "nobody answers".into(),
        retry_after: Duration::from_secs(4),
    };
    let refused = |actions: &[Action]| {
        matches!(
            actions,
            [Action::Refuse { refusal: Refusal::NoContainer { cause, retry_after }, .. }]
                if &**cause == "nobody answers" && *retry_after <= Duration::from_secs(4)
        )
    };
    let actions = node.tell(impossible);
    assert!(refused(&actions), "{actions:?}");
    let actions = node.call("j");
    assert!(refused(&actions), "{actions:?}");
    // Who has a container that lives waits for that.
    assert_eq!(node.call("a"), []);
    // The wait was long enough: it is worth another.
    node.pass(5 * SECOND);
    assert_eq!(node.call("j"), []);
    let loads = node.tell(Event::Created { container });
    assert!(matches!(loads[..], [Action::Load { .. }]), "{loads:?}");
}

#[test]
fn what_creations_lacked_is_there_and_they_are_tried_at_once() {
    let mut node = Node::with(1, &[]);
    let created = node.tell(Event::PoolSet {
        pool: "java".into(),
        settings: pool(1, 1),
    });
    let mut last = container(&created[0]);
    // Until it would be left alone for half a minute.
    for _ in 0..10 {
        let left = node.tell(Event::CreationFailed {
            container: last,
            cause: "there is no image".into(),
        });
        assert!(
            !left.iter().any(|it| matches!(it, Action::Create { .. })),
            "{left:?}"
        );
        let again = node.pass(31 * SECOND);
        let [Action::Create { container, .. }] = again[..] else {
            panic!("{again:?}");
        };
        last = container;
    }
    node.tell(Event::CreationFailed {
        container: last,
        cause: "there is no image".into(),
    });
    assert_eq!(node.pass(SECOND), []);
    let actions = node.tell(Event::CreationPossible);
    assert!(
        actions.iter().any(|it| matches!(it, Action::Create { .. })),
        "{actions:?}"
    );
}

/// A pool of so many containers at most, of which none ever holds two functions.
fn for_one_each(maximum: u32, functions: &[&str]) -> Node {
    let mut node = Node::with(0, functions);
    node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: PoolSettings {
            reuse: Reuse::Never,
            ..pool(0, maximum)
        },
    });
    node
}

#[test]
fn without_reuse_a_call_of_another_function_gets_a_container_of_its_own() {
    let mut node = for_one_each(2, &["a", "b", "c"]);
    let mut hold = |function: &str| {
        // At once: what others have is of no use to it.
        let created = node.call(function);
        assert!(matches!(created[..], [Action::Create { .. }]));
        let id = container(&created[0]);
        node.tell(Event::Created { container: id });
        let call = node.calls;
        assert_eq!(
            node.tell(Event::Loaded { container: id }),
            [run(id, call, Start::Created)]
        );
        assert_eq!(node.answer(id, call, Outcome::Ok), []);
        id
    };
    let (a, b) = (hold("a"), hold("b"));
    assert_eq!(node.call("a"), [run(a, 3, Start::Warm)]);
    node.answer(a, 3, Outcome::Ok);
    // The pool is full: that goes whose keep-warm time is over first, and only one.
    assert_eq!(node.call("c"), [remove(b, Removal::Spent)]);
    assert_eq!(node.call("c"), [remove(a, Removal::Spent)]);
    let created = node.tell(Event::Removed { container: b });
    assert!(
        matches!(created[..], [Action::Create { .. }]),
        "{created:?}"
    );
}

#[test]
fn without_reuse_what_held_a_function_goes_whenever_it_would_be_put_back() {
    let fresh = |node: &mut Node| {
        let id = container(&node.call("a")[0]);
        node.tell(Event::Created { container: id });
        node.tell(Event::Loaded { container: id });
        id
    };
    // Its keep-warm time is over.
    let mut node = for_one_each(3, &["a"]);
    let id = fresh(&mut node);
    node.answer(id, 1, Outcome::Ok);
    assert_eq!(node.pass(61 * SECOND), [remove(id, Removal::Spent)]);
    // Another revision.
    let mut node = for_one_each(3, &["a"]);
    let id = fresh(&mut node);
    node.answer(id, 1, Outcome::Ok);
    assert_eq!(node.deploy("a", 2), [remove(id, Removal::Spent)]);
    // Its worker is lost: the supervisor has another, but the container held the function.
    let mut node = for_one_each(3, &["a"]);
    let id = fresh(&mut node);
    assert_eq!(node.answer(id, 1, crash()), [remove(id, Removal::Spent)]);
    // Code that does not load may have run in part.
    let mut node = for_one_each(3, &["a"]);
    let id = container(&node.call("a")[0]);
    node.tell(Event::Created { container: id });
    let ended = node.tell(Event::LoadFailed {
        container: id,
        cause: "no such name".into(),
    });
    assert!(ended.contains(&remove(id, Removal::Spent)), "{ended:?}");
}

#[test]
fn without_reuse_nothing_is_taken_over_that_may_have_held_something() {
    let mut node = for_one_each(3, &["a"]);
    let id = node.scheduler.number();
    let adopted = node.tell(Event::Adopted {
        container: id,
        pool: "python".into(),
        memory: 1,
        found: Found::Unknown,
    });
    assert_eq!(adopted, [remove(id, Removal::Spent)]);
    // Nor what was put back before the setting was changed.
    let mut node = Node::with(1, &["a", "b"]);
    let id = node.hold("a");
    let restored = node.pass(61 * SECOND);
    assert_eq!(restored, [Action::Restore { container: id }]);
    node.tell(Event::Restored {
        container: id,
        method: Method::Rewind,
    });
    let set = node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: PoolSettings {
            reuse: Reuse::Never,
            ..pool(0, 1)
        },
    });
    assert_eq!(set, [remove(id, Removal::Spent)]);
}

#[test]
fn without_reuse_spares_are_new_and_idle_containers_are_none() {
    let mut node = for_one_each(5, &["a", "b"]);
    node.tell(Event::PoolSet {
        pool: "python".into(),
        settings: PoolSettings {
            reuse: Reuse::Never,
            spare: 1,
            ..pool(0, 5)
        },
    });
    let first = container(&node.call("a")[0]);
    node.tell(Event::Created { container: first });
    node.tell(Event::Loaded { container: first });
    node.answer(first, 1, Outcome::Ok);
    // It runs again, and nothing new stands beside it.
    node.call("a");
    let created = node.pass(10 * MS);
    assert!(
        matches!(created[..], [Action::Create { .. }]),
        "{created:?}"
    );
    let spare = container(&created[0]);
    node.tell(Event::Created { container: spare });
    assert_eq!(container(&node.call("b")[0]), spare);
    assert_eq!(
        node.tell(Event::Loaded { container: spare }),
        [run(spare, 3, Start::Restored)]
    );
}

#[test]
fn without_reuse_draining_refuses_who_has_no_container() {
    let mut node = for_one_each(2, &["a", "b"]);
    let id = container(&node.call("a")[0]);
    node.tell(Event::Created { container: id });
    node.tell(Event::Loaded { container: id });
    node.call("a");
    node.call("b");
    let drained = node.tell(Event::Drain);
    assert_eq!(
        drained,
        [Action::Refuse {
            call: CallId(3),
            refusal: Refusal::Draining
        }]
    );
    // The other has one that will be free.
    assert_eq!(node.answer(id, 1, Outcome::Ok), [run(id, 2, Start::Warm)]);
}
