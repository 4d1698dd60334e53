//! A step costs the same however many functions, containers and waiting calls there are:
//! counted in decisions, each of which is a look-up in an ordered map.

use std::time::Duration;

use refunction_scheduler::{
    Action, Call, CallId, ContainerId, Event, FunctionSettings, Method, Moment, NodeSettings,
    Outcome, PoolSettings, Scheduler,
};

/// Most and mean decisions of one step, over ten thousand calls of so many functions on so many
/// containers, with so many waiting all the time.
fn decisions(functions: u64, containers: u32, waiting: u64) -> (u64, u64) {
    let mut scheduler = Scheduler::new(NodeSettings {
        containers,
        creations: containers,
        queue: 1_000_000,
        queue_per_function: 1_000_000,
        longest_wait: Duration::from_secs(3600),
        ..NodeSettings::default()
    });
    let mut now = 0;
    let mut most = 0;
    let mut sum = 0;
    let mut steps = 0;
    let mut step = |scheduler: &mut Scheduler, event, counted: bool| {
        now += 10;
        let before = scheduler.work();
        let actions = scheduler.step(Moment::from_micros(now), event);
        if counted {
            let work = scheduler.work() - before;
            most = most.max(work);
            sum += work;
            steps += 1;
        }
        actions
    };
    let pool = Event::PoolSet {
        pool: "python".into(),
        settings: PoolSettings {
            minimum: containers,
            maximum: containers,
            ..PoolSettings::default()
        },
    };
    let mut todo: Vec<Action> = step(&mut scheduler, pool, false);
    for n in 0..functions {
        step(
            &mut scheduler,
            Event::FunctionSet {
                function: name(n).as_str().into(),
                settings: FunctionSettings::new("python"),
            },
            false,
        );
    }
    let mut made = 0;
    let mut ended = 0;
    while ended < 10_000 {
        let full = made >= waiting + u64::from(containers);
        let event = if made < ended + waiting {
            made += 1;
            Event::Called(Call {
                id: CallId(made),
                function: name(made * 7919 % functions).as_str().into(),
                deadline: Moment::from_micros(u64::MAX),
            })
        } else {
            match todo.pop() {
                Some(Action::Create { container, .. }) => Event::Created { container },
                Some(Action::Load { container, .. }) => Event::Loaded { container },
                Some(Action::Restore { container }) => Event::Restored {
                    container,
                    method: Method::Rewind,
                },
                Some(Action::Run {
                    container, call, ..
                }) => {
                    ended += 1;
                    answered(container, call)
                }
                Some(Action::Wake { .. }) => continue,
                other => panic!("{other:?}"),
            }
        };
        let actions = step(&mut scheduler, event, full);
        assert!(actions.len() <= 4, "{actions:?}");
        todo.extend(actions);
    }
    (most, sum / steps)
}

fn answered(container: ContainerId, call: CallId) -> Event {
    Event::Answered {
        container,
        call,
        outcome: Outcome::Ok,
    }
}

fn name(n: u64) -> String {
    format!("f{n}")
}

#[test]
fn a_step_costs_the_same_on_a_large_node() {
    let (most_small, mean_small) = decisions(10, 4, 20);
    let (most_large, mean_large) = decisions(5_000, 400, 20_000);
    println!("most {most_small} and {most_large}, mean {mean_small} and {mean_large} decisions");
    assert!(most_large <= 2 * most_small, "{most_small} {most_large}");
    assert!(mean_large <= 2 * mean_small, "{mean_small} {mean_large}");
    assert!(most_large <= 60, "{most_large}");
}
