//! The restore, and what it replaces, in one run of one program.
//!
//! Criterion measures each step by itself and remembers it for the next run. The
//! table at the end comes from short rounds of all steps, so that a noisy minute is
//! everybody's: ratios hold even where times do not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use refunction_bench::asked::Asked;
use refunction_bench::figure::Figure;
use refunction_bench::floor::Floor;
use refunction_bench::fork_server::{ForkServer, Request};
use refunction_bench::runtime::Runtime;
use refunction_bench::stage::Stage;
use refunction_bench::table::{self, Promise, Report, Row, Samples};
use refunction_bench::{Failure, criu, libraries, outside};
use refunction_snapshot::Scan;

/// Rounds of the table.
const ROUNDS: usize = 50;
/// How often each step is measured in a round.
const IN_A_ROW: usize = 40;
/// How often each is done before that.
const WARM_UP: usize = 5;
/// Rounds of one step at a time.
const COLD_ROUNDS: usize = 500;
/// Calls after the first one in a round that measures them.
const WARM_CALLS: usize = 5;
/// Runs of what takes milliseconds.
const SLOW_RUNS: usize = 20;

const FLOOR: &str = "floor";
const REWIND: &str = "rewind";
const REFORK: &str = "refork";
const TURNAROUND: &str = "turnaround: load, call, rewind";
const FORK_SERVER: &str = "fork_server: fork, load, call, reap";
const FORK_NOTHING: &str = "fork_server: fork, exit, reap";
const LOAD: &str = "load";
const FIRST: &str = "first_request_after_rewind";
const WARM: &str = "warm_request";
const COLD_REWIND: &str = "in turns: rewind";
const COLD_TURNAROUND: &str = "in turns: load, call, rewind";
const COLD_FIRST: &str = "in turns: first request";
const COLD_FORK_SERVER: &str = "in turns: fork server";
const NEW_TURNAROUND: &str = "turnaround: refork, load, call";
const CONTAINER: &str = "container_start";
const RUNC: &str = "runc_run: true";
const RUNC_PYTHON: &str = "runc_run: python3";
const CRIU: &str = "criu_restore: python3";

/// The figure of all ways.
const WAYS_ID: &str = "restore";

fn main() -> ExitCode {
    refunction_bench::run(measure)
}

fn measure() -> Result<(), Failure> {
    let mut parts = Parts {
        stage: Stage::set(Scan::Auto, Runtime::Python)?,
        fork_server: ForkServer::start(Runtime::Python)?,
    };
    let asked = Asked::of_arguments(&[])?;
    if !asked.is_quick {
        by_criterion(&mut parts)?;
    }
    // Of the worker that there is when all reforks by criterion are over.
    let mut floor = Floor::of(&mut parts.stage)?;
    let mut samples = Samples::default();
    let dirty_pages = in_rounds(&asked, &mut parts, &mut floor, &mut samples)?;

    let mut conditions = table::conditions();
    conditions.insert("libraries".into(), libraries().join(" "));
    conditions.insert("dirty pages of a no-op".into(), dirty_pages.to_string());
    conditions.insert(
        "pages that a no-op changes".into(),
        floor.changed_pages().to_string(),
    );
    conditions.insert(
        "overlay pages".into(),
        parts.stage.overlay_pages().to_string(),
    );
    conditions.insert(
        "template".into(),
        format!("{} KiB", parts.stage.image_bytes() >> 10),
    );
    if let Some(worker) = parts.stage.worker() {
        let maps = std::fs::read_to_string(format!("/proc/{worker}/maps"))?;
        conditions.insert("mappings".into(), maps.lines().count().to_string());
    }
    parts.stage.strike()?;
    drop(parts.fork_server);

    let mut not_run = BTreeMap::new();
    let slow_runs = asked.either(SLOW_RUNS, 1);
    for (name, outcome) in [
        (CONTAINER, outside::container(slow_runs)),
        (RUNC, outside::runc(slow_runs, &["/bin/true"])),
        (
            RUNC_PYTHON,
            outside::runc(slow_runs, &["/usr/bin/python3", "-c", "pass"]),
        ),
        (CRIU, criu::restore(env!("CARGO_TARGET_TMPDIR"), slow_runs)),
    ] {
        match outcome {
            Ok(times) => times.into_iter().for_each(|took| samples.add(name, took)),
            Err(reason) => {
                not_run.insert(name.into(), reason);
            }
        }
    }

    let mut results = samples.rows(|name| match name {
        REWIND | REFORK | TURNAROUND | NEW_TURNAROUND | CONTAINER | RUNC | RUNC_PYTHON | CRIU => {
            Some(FORK_SERVER.into())
        }
        FIRST | COLD_FIRST => Some(WARM.into()),
        COLD_REWIND | COLD_TURNAROUND => Some(COLD_FORK_SERVER.into()),
        _ if name.starts_with("rewind: ") => Some(REWIND.into()),
        _ if name.starts_with("floor: ") => Some(FLOOR.into()),
        _ => None,
    });
    table::in_floors(&mut results, |_| FLOOR.into());
    let results: Vec<_> = results.into_iter().map(placed).collect();
    let promises = [
        Promise::of("a rewind by the floor", &results, REWIND, FLOOR, 2.0),
        Promise::of(
            "a rewind by a container start through containerd",
            &results,
            REWIND,
            CONTAINER,
            1.0 / 1000.0,
        ),
        Promise::of(
            "a rewind by CRIU's restore",
            &results,
            REWIND,
            CRIU,
            1.0 / 500.0,
        ),
        Promise::of(
            "a rewind by a fork server's turnaround",
            &results,
            REWIND,
            FORK_SERVER,
            1.0 / 8.0,
        ),
        Promise::of(
            "the first request after a rewind by a warm one",
            &results,
            FIRST,
            WARM,
            1.3,
        ),
    ];
    let report = Report {
        conditions,
        results,
        promises: promises.into_iter().flatten().collect(),
        not_run,
        figures: vec![Figure {
            id: WAYS_ID.into(),
            title: "Ways to a clean Python process".into(),
            y: "until it can be used, or its turn is over".into(),
            is_y_logarithmic: true,
            caption: "Each by itself and one after another on the same core, around the same \
                      function, which does nothing."
                .into(),
            ..Figure::default()
        }],
        ..Report::default()
    };
    report.publish(env!("CARGO_TARGET_TMPDIR"), "restore")
}

/// In the figure of what a rewind can be compared with.
fn placed(row: Row) -> Row {
    const WAYS: [&str; 8] = [
        REWIND,
        REFORK,
        TURNAROUND,
        FORK_SERVER,
        CONTAINER,
        RUNC,
        RUNC_PYTHON,
        CRIU,
    ];
    if WAYS.contains(&row.name.as_str()) {
        row.on(WAYS_ID, "", None)
    } else {
        row
    }
}

struct Parts {
    stage: Stage,
    fork_server: ForkServer,
}

type Step = fn(&mut Parts) -> Result<Duration, Failure>;

const STEPS: [(&str, Step); 8] = [
    (REWIND, |parts| Ok(parts.stage.turn(0)?.rewind)),
    (TURNAROUND, |parts| Ok(parts.stage.turn(0)?.whole)),
    (REFORK, |parts| {
        let refork = parts.stage.refork()?;
        Ok(refork.kill + refork.fork)
    }),
    (FORK_SERVER, |parts| parts.fork_server.serve(Request::Call)),
    (FORK_NOTHING, |parts| {
        parts.fork_server.serve(Request::Nothing)
    }),
    (LOAD, |parts| Ok(parts.stage.turn(0)?.load)),
    (FIRST, |parts| Ok(parts.stage.turn(0)?.first)),
    (WARM, |parts| {
        let turn = parts.stage.turn(WARM_CALLS)?;
        Ok(turn.warm.iter().sum::<Duration>() / WARM_CALLS as u32)
    }),
];

fn by_criterion(parts: &mut Parts) -> Result<(), Failure> {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let failure = RefCell::new(None);
    for (name, step) in STEPS {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                // A step that failed is not tried again; its times count for nothing.
                (0..times)
                    .map(|_| {
                        if failure.borrow().is_some() {
                            return Duration::from_nanos(1);
                        }
                        step(parts).unwrap_or_else(|error| {
                            failure.replace(Some(error));
                            Duration::from_nanos(1)
                        })
                    })
                    .sum()
            });
        });
        if let Some(error) = failure.take() {
            return Err(error);
        }
    }
    criterion.final_summary();
    Ok(())
}

/// Takes the table's samples; the median number of pages that a turn wrote.
fn in_rounds(
    asked: &Asked,
    parts: &mut Parts,
    floor: &mut Floor,
    samples: &mut Samples,
) -> Result<u64, Failure> {
    let rounds = asked.either(ROUNDS, 1);
    let cold_rounds = asked.either(COLD_ROUNDS, 5);
    let mut dirty_pages = Vec::with_capacity(rounds * IN_A_ROW);
    for _ in 0..rounds {
        for turn in in_a_row(|| parts.stage.turn(0)) {
            let turn = turn?;
            samples.add(REWIND, turn.rewind);
            for (phase, took) in turn.rewound.phases.iter() {
                samples.add(&format!("{REWIND}: {phase}"), took);
            }
            samples.add(TURNAROUND, turn.whole);
            samples.add(LOAD, turn.load);
            samples.add(FIRST, turn.first);
            dirty_pages.push(turn.rewound.dirty_pages);
        }
        let floors = in_a_row(|| {
            parts.stage.turn(0)?;
            floor.measure()
        });
        for floor in floors {
            let floor = floor?;
            samples.add(FLOOR, floor.whole());
            for (part, took) in floor.named() {
                samples.add(&format!("{FLOOR}: {part}"), took);
            }
        }
        for turn in in_a_row(|| parts.stage.turn(WARM_CALLS)) {
            for warm in turn?.warm {
                samples.add(WARM, warm);
            }
        }
        for took in in_a_row(|| parts.fork_server.serve(Request::Call)) {
            samples.add(FORK_SERVER, took?);
        }
        for took in in_a_row(|| parts.fork_server.serve(Request::Nothing)) {
            samples.add(FORK_NOTHING, took?);
        }
    }
    // After the fork server has had the core's caches, and the other way round.
    for _ in 0..cold_rounds {
        let turn = parts.stage.turn(0)?;
        samples.add(COLD_REWIND, turn.rewind);
        samples.add(COLD_TURNAROUND, turn.whole);
        samples.add(COLD_FIRST, turn.first);
        samples.add(COLD_FORK_SERVER, parts.fork_server.serve(Request::Call)?);
    }
    // Without turns in between: a new worker's first ones are slower than those of
    // an old one, which has faulted its pages in.
    for _ in 0..cold_rounds {
        let refork = parts.stage.refork()?;
        samples.add(REFORK, refork.kill + refork.fork);
        samples.add("refork: kill", refork.kill);
        samples.add("refork: fork", refork.fork);
    }
    for _ in 0..cold_rounds {
        let refork = parts.stage.refork()?;
        let turn = parts.stage.turn(0)?;
        samples.add(
            NEW_TURNAROUND,
            refork.kill + refork.fork + turn.whole - turn.rewind,
        );
    }
    dirty_pages.sort_unstable();
    Ok(dirty_pages[dirty_pages.len() / 2])
}

/// Lets a step find the caches as it left them, but for the first few times, which
/// do not count.
fn in_a_row<T>(mut step: impl FnMut() -> T) -> impl Iterator<Item = T> {
    (0..WARM_UP + IN_A_ROW).filter_map(move |time| {
        let result = step();
        (time >= WARM_UP).then_some(result)
    })
}
