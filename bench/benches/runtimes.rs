//! Every runtime: what its restore costs, and what it replaces: a plain fork server where
//! the runtime can be forked, and the plainest start of the runtime where it is a program
//! of its own (the paper's Figure 10); and how large its snapshot is (Figure 13). Each round
//! measures all steps of one runtime, so that a noisy minute is everybody's. Arguments are the
//! names of runtimes, and `--quick` for few rounds.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use refunction_bench::Failure;
use refunction_bench::asked::Asked;
use refunction_bench::figure::Figure;
use refunction_bench::floor::Floor;
use refunction_bench::fork_server::{ForkServer, Request};
use refunction_bench::paper;
use refunction_bench::runtime::{Origin, Runtime};
use refunction_bench::stage::Stage;
use refunction_bench::table::{self, Name, Promise, Report, Row, Samples};
use refunction_snapshot::Scan;

/// Rounds of each runtime.
const ROUNDS: usize = 25;
/// How often each step is measured in a round.
const IN_A_ROW: usize = 40;
/// How often each is done before that: what was measured before had the caches.
const WARM_UP: usize = 5;
/// Calls after the first one in a round that measures them.
const WARM_CALLS: usize = 5;
/// Starts of a program in each round: they take milliseconds.
const STARTS: usize = 2;

const FLOOR: &str = "floor";
const REWIND: &str = "rewind";
const TURNAROUND: &str = "load, call, rewind";
const LOAD: &str = "load";
const FIRST: &str = "first request";
const WARM: &str = "warm request";
const COLD: &str = "warm request, caches as a rewind leaves them";
const FORK_SERVER: &str = "fork server: fork, load, call, reap";
const START: &str = "start to its first word";
const SNAPSHOT: &str = "snapshot";

/// Figures of the paper.
const RESTORES: &str = "10";
const SIZES: &str = "13";

fn main() -> ExitCode {
    refunction_bench::run(measure)
}

fn measure() -> Result<(), Failure> {
    let here = Runtime::ALL.into_iter().filter(|it| it.is_here());
    let asked = Asked::of_arguments(&here.clone().map(Runtime::name).collect::<Vec<_>>())?;
    let chosen: Vec<_> = here.filter(|it| asked.includes(it.name())).collect();
    let names: Vec<_> = chosen.iter().map(|it| it.name()).collect();
    let mut report = Report {
        conditions: table::conditions(),
        ..Report::default()
    };
    let mut samples = Samples::default();
    let mut sizes = Vec::new();
    for runtime in &chosen {
        match in_rounds(&asked, *runtime, &mut samples) {
            Ok((nature, bytes)) => {
                report.conditions.insert(runtime.name().into(), nature);
                let size = Row::of(of(runtime.name(), SNAPSHOT), "MB", vec![bytes as f64 / 1e6]);
                sizes.push(size.on(SIZES, SNAPSHOT, None));
                report.quoted.extend(paper::quoted(*runtime));
            }
            Err(reason) => {
                report
                    .not_run
                    .insert(runtime.name().into(), reason.to_string());
            }
        }
    }
    report.results = samples.rows(|name| {
        let (runtime, step) = name.split_once(": ")?;
        Some(match step {
            REWIND | TURNAROUND => of(runtime, replaced_by(Runtime::from_str(runtime).ok()?)),
            FIRST | COLD => of(runtime, WARM),
            _ if step.starts_with("rewind, ") => of(runtime, REWIND),
            _ if step.starts_with("floor, ") => of(runtime, FLOOR),
            _ => return None,
        })
    });
    table::in_floors(&mut report.results, |name| {
        let runtime = name.split_once(": ").map_or(name, |(runtime, _)| runtime);
        of(runtime, FLOOR)
    });
    for runtime in chosen {
        report.promises.extend(promises(runtime, &report.results));
    }
    report.results = (report.results.into_iter().map(placed))
        .chain(sizes)
        .collect();
    report.figures = figures();
    report.publish(env!("CARGO_TARGET_TMPDIR"), &names.join("-"))
}

fn figures() -> Vec<Figure> {
    vec![
        Figure {
            id: RESTORES.into(),
            title: "Restore by runtime".into(),
            y: "rewind after a no-op, and what it takes the place of".into(),
            is_y_logarithmic: true,
            caption: "A plain fork server has the same warm runtime and forks it for each \
                      request. A start is that of a program of one line, until its first word \
                      is there."
                .into(),
            ..Figure::default()
        },
        Figure {
            id: SIZES.into(),
            title: "Size of a snapshot by runtime".into(),
            y: "snapshot, without pages that hold nothing".into(),
            caption: "Without libraries. The paper's sizes are of checkpoints.".into(),
            ..Figure::default()
        },
    ]
}

/// In the figure that shows it, if one does.
fn placed(row: Row) -> Row {
    let step = row.name.split_once(": ").map(|(_, step)| step.to_owned());
    match step {
        Some(step) if [REWIND, FORK_SERVER, START].contains(&step.as_str()) => {
            row.on(RESTORES, step, None)
        }
        _ => row,
    }
}

/// What a rewind of this runtime takes the place of.
fn replaced_by(runtime: Runtime) -> &'static str {
    match runtime.origin() {
        Origin::Template(_) => FORK_SERVER,
        Origin::Program(_) => START,
    }
}

fn promises(runtime: Runtime, results: &[Row]) -> Vec<Promise> {
    let name = runtime.name();
    let times = match runtime {
        Runtime::Node => 150.0,
        Runtime::Java => 75.0,
        Runtime::Python | Runtime::JavaScript => 8.0,
        Runtime::Lua => 5.0,
    };
    let other = replaced_by(runtime);
    let rewind = Promise::of(
        format!("{name}: a rewind by its {other}"),
        results,
        &of(name, REWIND),
        &of(name, other),
        1.0 / times,
    );
    let first = Promise::of(
        format!("{name}: the first request after a rewind by a warm one"),
        results,
        &of(name, FIRST),
        &of(name, WARM),
        1.3,
    );
    let floor = match runtime {
        Runtime::Python | Runtime::JavaScript => Promise::of(
            format!("{name}: a rewind by the floor"),
            results,
            &of(name, REWIND),
            &of(name, FLOOR),
            2.0,
        ),
        Runtime::Lua | Runtime::Node | Runtime::Java => None,
    };
    floor
        .into_iter()
        .chain(rewind)
        .chain(first)
        .chain(by_the_paper(runtime, results))
        .collect()
}

/// Both are promised a fiftieth of what the paper reports.
fn by_the_paper(runtime: Runtime, results: &[Row]) -> Option<Promise> {
    let (Runtime::Node | Runtime::Java) = runtime else {
        return None;
    };
    let name = of(runtime.name(), REWIND);
    let row = results.iter().find(|row| row.name == name)?;
    let measured = row.median / paper::restore(runtime)?;
    let at_most = 1.0 / 50.0;
    Some(Promise {
        what: format!("{}: a rewind by the paper's restore", runtime.name()).into(),
        at_most,
        measured,
        kept: measured <= at_most,
    })
}

fn of(runtime: &str, step: &str) -> Name {
    format!("{runtime}: {step}").into()
}

/// Takes a runtime's samples; what its snapshot and its turns are like, and the snapshot's
/// bytes.
fn in_rounds(
    asked: &Asked,
    runtime: Runtime,
    samples: &mut Samples,
) -> Result<(String, u64), Failure> {
    let of = |step: &str| of(runtime.name(), step);
    let mut fork_server = match runtime.origin() {
        Origin::Template(_) => Some(ForkServer::start(runtime)?),
        Origin::Program(_) => None,
    };
    let mut program = runtime.start()?;
    let mut stage = Stage::set(Scan::Auto, runtime)?;
    let mut floor = Floor::of(&mut stage)?;
    let mut dirty_pages = Vec::with_capacity(ROUNDS * IN_A_ROW);
    for _ in 0..asked.either(ROUNDS, 1) {
        for time in 0..WARM_UP + IN_A_ROW {
            let turn = stage.turn(0)?;
            if time < WARM_UP {
                continue;
            }
            samples.add(&of(REWIND), turn.rewind);
            for (phase, took) in turn.rewound.phases.iter() {
                samples.add(&of(&format!("{REWIND}, {phase}")), took);
            }
            samples.add(&of(TURNAROUND), turn.whole);
            samples.add(&of(LOAD), turn.load);
            samples.add(&of(FIRST), turn.first);
            dirty_pages.push(turn.rewound.dirty_pages);
        }
        for time in 0..WARM_UP + IN_A_ROW {
            stage.turn(0)?;
            let floor = floor.measure()?;
            if time >= WARM_UP {
                samples.add(&of(FLOOR), floor.whole());
                for (part, took) in floor.named() {
                    samples.add(&of(&format!("{FLOOR}, {part}")), took);
                }
            }
        }
        for time in 0..WARM_UP + IN_A_ROW {
            for warm in stage.turn(WARM_CALLS)?.warm {
                if time >= WARM_UP {
                    samples.add(&of(WARM), warm);
                }
            }
        }
        // No rewind is between these calls, only what one does to the core's caches.
        for time in 0..WARM_UP + IN_A_ROW {
            stage.load()?;
            for _ in 0..=WARM_CALLS {
                stage.call()?;
            }
            floor.measure()?;
            let cold = stage.call()?;
            stage.rewind()?;
            if time >= WARM_UP {
                samples.add(&of(COLD), cold);
            }
        }
        if let Some(server) = &mut fork_server {
            for time in 0..WARM_UP + IN_A_ROW {
                let took = server.serve(Request::Call)?;
                if time >= WARM_UP {
                    samples.add(&of(FORK_SERVER), took);
                }
            }
        }
        if let Some(program) = &mut program {
            for _ in 0..STARTS {
                samples.add(&of(START), start(program)?);
            }
        }
    }
    let worker = stage.worker().ok_or("there is no worker")?;
    let maps = std::fs::read_to_string(format!("/proc/{worker}/maps"))?;
    dirty_pages.sort_unstable();
    let nature = format!(
        "snapshot {} KiB, {} threads, {} mappings, {} dirty pages of a no-op, {} changed",
        stage.image_bytes() >> 10,
        stage.threads(),
        maps.lines().count(),
        dirty_pages[dirty_pages.len() / 2],
        floor.changed_pages(),
    );
    let bytes = stage.image_bytes();
    stage.strike()?;
    Ok((nature, bytes))
}

fn start(program: &mut Command) -> Result<Duration, Failure> {
    let began = Instant::now();
    let mut process = program
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut word = String::new();
    if let Some(output) = process.stdout.take() {
        BufReader::new(output).read_line(&mut word)?;
    }
    let took = began.elapsed();
    let status = process.wait()?;
    if word != "there\n" {
        return Err(format!("{:?}: {status}", program.get_program()).into());
    }
    Ok(took)
}
