//! A node simulated, with what things cost as measured, against the obvious policies.
//!
//! `cargo test --release -p refunction-scheduler --test simulation -- --nocapture --test-threads 1`
//! prints the numbers of docs/scheduling.md.

#[path = "simulation/costs.rs"]
mod costs;
#[path = "simulation/others.rs"]
mod others;
#[path = "simulation/ours.rs"]
mod ours;
#[path = "simulation/queue.rs"]
mod queue;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/trace.rs"]
mod trace;

use std::time::Duration;

use costs::{CREATE, LOAD, Load, Open, Outcome, RESTORE};
use random::Random;
use refunction_scheduler::{FunctionSettings, NodeSettings, PoolSettings};
use trace::{Arrival, MS, SECOND, azure};

const SLOTS: usize = 24;

fn node() -> NodeSettings {
    NodeSettings {
        containers: SLOTS as u32,
        longest_wait: Duration::from_secs(600),
        ..NodeSettings::default()
    }
}

fn pool(minimum: usize) -> PoolSettings {
    PoolSettings {
        minimum: minimum as u32,
        maximum: SLOTS as u32,
        ..PoolSettings::default()
    }
}

fn kept_warm(seconds: u64) -> FunctionSettings {
    FunctionSettings {
        keep_warm: Duration::from_secs(seconds),
        ..FunctionSettings::new("python")
    }
}

const FUNCTIONS: usize = 300;

fn day(seed: u64, busy: f64) -> Open {
    Open(azure(seed, FUNCTIONS, 1200 * SECOND, busy))
}

#[test]
fn an_ordinary_day() {
    for (seed, busy) in [(1, 4.0), (2, 8.0), (3, 12.0)] {
        println!(
            "{FUNCTIONS} functions, twenty minutes, {busy} of {SLOTS} containers busy on average"
        );
        let day = || day(seed, busy);
        let grown = ours::run(node(), pool(2), FUNCTIONS, &kept_warm(600), &mut day());
        grown.print("refunction, minimum 2");
        let full = ours::run(node(), pool(SLOTS), FUNCTIONS, &kept_warm(600), &mut day());
        full.print("refunction, minimum 24");
        let cold = others::cold_starting(SLOTS, &mut day());
        cold.print("cold start, kept alive 10 min");
        let first = others::first_come(SLOTS, &mut day());
        first.print("24, restored after each, FIFO");
        assert_eq!((grown.refused, full.refused), (0, 0));
        assert_eq!(grown.delays.len(), cold.delays.len());
        assert!(grown.created <= SLOTS as u64);
        // Who pays for containers: the first few calls, and not every call of a rare function.
        assert!(
            grown.cold * 20 <= cold.cold,
            "{} to {}",
            grown.cold,
            cold.cold
        );
        assert_eq!(full.cold, 0);
        assert!(grown.mean_delay() * 3.0 <= cold.mean_delay());
        assert!(full.mean_delay() * 4.0 <= cold.mean_delay());
        assert!(grown.delay(99.0) <= cold.delay(99.0));
        assert!(full.delay(90.0) * 20 <= cold.delay(90.0));
        // Holding what is hot saves the load that restoring after each call repeats.
        assert!(full.mean_delay() <= first.mean_delay());
        assert!(full.delay(50.0) <= first.delay(50.0) + RESTORE);
    }
}

/// The same call after each answer, of a function drawn anew, by so many clients.
struct Clients {
    random: Random,
    functions: u64,
    run: u64,
    clients: usize,
    /// When each client begins.
    apart: u64,
    until: u64,
}

impl Clients {
    fn call(&mut self, at: u64) -> Arrival {
        Arrival {
            at,
            function: self.random.below(self.functions) as usize,
            run: self.run,
        }
    }
}

impl Load for Clients {
    fn first(&mut self) -> Vec<Arrival> {
        (0..self.clients as u64)
            .map(|client| self.call(client * self.apart))
            .collect()
    }

    fn next(&mut self, _call: usize, now: u64) -> Option<Arrival> {
        (now < self.until).then(|| self.call(now))
    }
}

#[test]
fn any_number_of_functions_on_as_many_containers() {
    let clients = |functions| Clients {
        random: Random::new(9),
        functions,
        run: 10 * MS,
        clients: SLOTS,
        apart: 0,
        until: 5 * SECOND,
    };
    let mut one = None;
    println!("{SLOTS} clients, {SLOTS} containers, functions of 10 ms in random order");
    for functions in [1, 12, 24, 48, 200] {
        let count = functions as usize;
        let ours = ours::run(
            node(),
            pool(SLOTS),
            count,
            &kept_warm(60),
            &mut clients(functions),
        );
        ours.print(&format!("refunction, {functions} functions"));
        let cold = others::cold_starting(SLOTS, &mut clients(functions));
        cold.print(&format!("cold start, {functions} functions"));
        let (first_ours, first_cold) =
            *one.get_or_insert((ours.mean_response(), cold.mean_response()));
        let flat = ours.mean_response() / first_ours;
        let collapse = cold.mean_response() / first_cold;
        println!("  response time by that of one function: {flat:.2} to {collapse:.2}");
        assert_eq!(ours.cold, 0);
        assert!(flat <= 1.3, "{functions}: {flat}");
        if functions >= 48 {
            assert!(collapse >= 4.0, "{functions}: {collapse}");
            assert!(cold.mean_response() >= 4.0 * ours.mean_response());
        }
    }
}

fn sleepers() -> Clients {
    Clients {
        random: Random::new(8),
        functions: 1,
        run: SECOND,
        clients: SLOTS,
        apart: 500 * MS,
        until: 20 * SECOND,
    }
}

#[test]
fn a_ramp_of_sleepers() {
    println!("clients of one-second calls, one more each half second, to {SLOTS}");
    let ready = ours::run(node(), pool(SLOTS), 1, &kept_warm(60), &mut sleepers());
    ready.print("refunction, minimum 24");
    let ahead = ours::run(node(), pool(1), 1, &kept_warm(60), &mut sleepers());
    ahead.print("refunction, minimum 1, spare 1");
    let bare = PoolSettings {
        spare: 0,
        ..pool(1)
    };
    let late = ours::run(node(), bare, 1, &kept_warm(60), &mut sleepers());
    late.print("refunction, minimum 1, spare 0");
    let cold = others::cold_starting(SLOTS, &mut sleepers());
    cold.print("cold start, kept alive 10 min");
    assert_eq!((ready.cold, ready.created), (0, SLOTS as u64));
    assert!(ready.delay(100.0) <= LOAD);
    // One container ahead is enough where clients come slower than containers are made.
    assert_eq!(ahead.cold, 0);
    assert!(ahead.delay(100.0) <= LOAD + RESTORE);
    // Without, each new client meets a creation: no better than a cold start.
    assert!(late.delay(100.0) >= CREATE);
    assert!(cold.delay(100.0) >= CREATE);
}

#[test]
fn all_sleepers_at_once() {
    // Nothing is ahead of this: but nobody waits for more than what is made four at a time.
    let all = || Clients {
        apart: 0,
        ..sleepers()
    };
    let ours = ours::run(node(), pool(1), 1, &kept_warm(60), &mut all());
    ours.print("24 sleepers at once, minimum 1");
    assert!(ours.delay(100.0) <= 6 * CREATE + 10 * MS + LOAD);
}

#[test]
fn a_hot_function_beside_a_rare_one() {
    const HOT: usize = 0;
    const RARE: usize = 1;
    let slots = 8;
    let node = NodeSettings {
        containers: slots as u32,
        ..node()
    };
    // 10 000 calls of a millisecond each second, which is more than there is.
    let flood = || {
        let mut calls: Vec<_> = (0..50_000)
            .map(|n| Arrival {
                at: n * 100,
                function: HOT,
                run: MS,
            })
            .collect();
        calls.extend((0..20).map(|n| Arrival {
            at: 200 * MS + n * 237 * MS,
            function: RARE,
            run: MS,
        }));
        calls.sort_unstable();
        Open(calls)
    };
    let ours = ours::run(node, pool(slots), 2, &kept_warm(60), &mut flood());
    let first = others::first_come(slots, &mut flood());
    ours.print("refunction");
    first.print("restored after each, one queue");
    let mut most = 0;
    for (n, (function, delay)) in ours.delays.iter().enumerate() {
        if *function == RARE {
            let arrived = ours.starts[n] - delay;
            let before = ours.starts[..n].iter().rev();
            most = most.max(before.take_while(|at| **at >= arrived).count());
        }
    }
    let (rare, fifo) = (ours.delay_of(RARE, 100.0), first.delay_of(RARE, 100.0));
    println!(
        "  the rare one waits {rare} µs at most, for {most} calls of the hot one; else {fifo} µs"
    );
    assert!(most <= 4 * slots, "{most} calls before it");
    assert!(rare <= 5 * MS, "{rare}");
    assert!(fifo >= 500 * MS);
    // And it costs the hot one next to nothing.
    let hot = ours.delays.iter().filter(|(f, _)| *f == HOT).count();
    assert!(hot as f64 >= 0.95 * 5.0 * 1000.0 * slots as f64, "{hot}");
}

#[test]
fn two_functions_in_one_container_go_in_batches() {
    let one = NodeSettings {
        containers: 1,
        ..node()
    };
    let calls = |apart: u64| {
        let calls = (0..4000_u64).map(|n| Arrival {
            at: n * apart,
            function: n as usize % 2,
            run: 200,
        });
        Open(calls.collect())
    };
    // Busy for two fifths of the time by the calls, and with a swap for each never done.
    let some = ours::run(one.clone(), pool(1), 2, &kept_warm(60), &mut calls(500));
    some.print("two functions, one container, 40 %");
    assert!(some.swapped <= 1000, "{}", some.swapped);
    assert!(some.delay(100.0) <= 5 * MS, "{}", some.delay(100.0));
    // For nine tenths: the batches become as long as they may.
    let many = ours::run(one, pool(1), 2, &kept_warm(60), &mut calls(220));
    many.print("two functions, one container, 90 %");
    assert!(many.swapped <= 100, "{}", many.swapped);
    assert!(many.delay(100.0) <= 60 * MS, "{}", many.delay(100.0));
}

/// Why a swap is preferred to a creation even where there is room, and why a spare is made all
/// the same: the alternatives, by what callers see.
#[test]
fn when_to_grow() {
    let run = |name: &str, spare, grow_after| {
        let pool = PoolSettings {
            spare,
            grow_after: Duration::from_millis(grow_after),
            ..pool(2)
        };
        let ours = ours::run(node(), pool, FUNCTIONS, &kept_warm(600), &mut day(2, 8.0));
        ours.print(name);
        ours
    };
    let chosen = run("spare 1, after 10 ms", 1, 10);
    let none = run("spare 0, after 10 ms", 0, 10);
    run("spare 2, after 10 ms", 2, 10);
    run("spare 1, at once", 1, 0);
    run("spare 1, after 100 ms", 1, 100);
    run("spare 0, after 1 s", 0, 1000);
    assert!(chosen.cold < none.cold);
    assert!(chosen.mean_delay() < none.mean_delay());
}

#[test]
fn the_same_again() {
    let once = || {
        let calls = azure(5, 100, 60 * SECOND, 10.0);
        ours::run(node(), pool(1), 100, &kept_warm(5), &mut Open(calls))
    };
    let (a, b): (Outcome, Outcome) = (once(), once());
    assert_eq!((a.delays, a.starts), (b.delays, b.starts));
}
