//! What isolation costs a call (the paper's Figure 14): system calls by themselves, and real
//! functions, in a plain process, in a worker without its filter, in one with it, and after a
//! rewind. Arguments are figures, both if none is named; `--quick` takes few samples.

use std::process::ExitCode;
use std::time::Duration;

use refunction_bench::Failure;
use refunction_bench::asked::Asked;
use refunction_bench::figure::Figure;
use refunction_bench::functions::{REAL, Real};
use refunction_bench::plain::Plain;
use refunction_bench::player::Player;
use refunction_bench::setting::Setting;
use refunction_bench::table::{self, Name, Promise, Report, Row, Samples};
use serde_json::{Value, json};

const CALLS_ID: &str = "14";
const REAL_ID: &str = "isolation";

const PLAIN: &str = "plain process";
const UNFILTERED: &str = "worker without its filter";
const WARM: &str = "worker";
const FIRST: &str = "first call after a rewind";
const WHOLE: &str = "load, call, rewind";

/// System calls by themselves, so many in one call of the function: one of which nothing is
/// noted, and one that is noted.
const CALLS: [(&str, &str); 2] = [
    (
        "getpid",
        "import os\ndef main(args):\n    for _ in range(1000): os.getpid()\n",
    ),
    (
        "umask",
        "import os\ndef main(args):\n    for _ in range(1000): os.umask(0o022)\n",
    ),
];

/// What isolation may add to a call of so many microseconds or more.
const MAY_COST: [(f64, f64); 2] = [(1_000.0, 1.03), (100.0, 1.25)];

fn main() -> ExitCode {
    refunction_bench::run(measure)
}

fn measure() -> Result<(), Failure> {
    let asked = Asked::of_arguments(&[CALLS_ID, REAL_ID])?;
    let mut report = Report {
        conditions: table::conditions(),
        ..Report::default()
    };
    if asked.includes(CALLS_ID) {
        system_calls(&asked, &mut report)?;
    }
    if asked.includes(REAL_ID) {
        real_functions(&asked, &mut report)?;
    }
    report.publish(env!("CARGO_TARGET_TMPDIR"), "overhead")
}

fn system_calls(asked: &Asked, report: &mut Report) -> Result<(), Failure> {
    for (name, code) in CALLS {
        let name = format!("1000 calls of {name}");
        let mut parts = Parts::with(&Setting::python(code), &json!({}))?;
        let mut samples = Samples::default();
        for _ in 0..asked.either(20, 1) {
            parts.round(asked, |step, took| samples.add(&of(&name, step), took))?;
        }
        let rows = samples.rows(|row| (row != of(&name, PLAIN)).then(|| of(&name, PLAIN).into()));
        (report.results).extend(rows.into_iter().map(|row| {
            let step = step_of(&row);
            match step.as_str() {
                FIRST | WHOLE => row,
                _ => row.on(CALLS_ID, step, None),
            }
        }));
    }
    report.figures.push(Figure {
        id: CALLS_ID.into(),
        title: "System calls, with and without tracing".into(),
        y: "a thousand calls from Python".into(),
        is_y_logarithmic: true,
        caption: "getpid(2) leaves nothing to put back, and passes the filter. umask(2) does, and \
                  is noted: the worker stops for it each time, as for every call that is noted."
            .into(),
        ..Figure::default()
    });
    Ok(())
}

fn real_functions(asked: &Asked, report: &mut Report) -> Result<(), Failure> {
    for real in REAL {
        let sizes = asked.either(&real.sizes[..], &real.sizes[..1]);
        for (size, word) in sizes.iter().zip(["small", "large"]) {
            let name = format!("{}, {word}", real.name);
            let setting = Setting::python(real.code).importing(real.imports);
            match Parts::with(&setting, &Real::argument(*size)) {
                Ok(parts) => one_function(asked, &name, parts, report)?,
                Err(reason) => {
                    report.not_run.insert(name.into(), reason.to_string());
                }
            }
        }
    }
    report.figures.push(Figure {
        id: REAL_ID.into(),
        title: "What isolation adds to a request, on real functions".into(),
        y: "% of the same call in a plain process".into(),
        caption: "A plain process has the same interpreter and the same adapter, and neither \
                  tracer nor filter. What a caller waits for is the first call after a rewind; \
                  the rewind itself comes after the answer."
            .into(),
        ..Figure::default()
    });
    Ok(())
}

fn one_function(
    asked: &Asked,
    name: &str,
    mut parts: Parts,
    report: &mut Report,
) -> Result<(), Failure> {
    const STEPS: [&str; 4] = [UNFILTERED, WARM, FIRST, WHOLE];
    let mut samples = Samples::default();
    // Of each round, so that a noisy minute is everybody's.
    let mut added: [Vec<f64>; STEPS.len()] = Default::default();
    for _ in 0..asked.either(20, 1) {
        let mut of_round = Samples::default();
        parts.round(asked, |step, took| {
            samples.add(&of(name, step), took);
            of_round.add(step, took);
        })?;
        let rows = of_round.rows(|step| (step != PLAIN).then_some(PLAIN.into()));
        for (step, added) in STEPS.iter().zip(&mut added) {
            let ratio = rows.iter().find(|row| row.name == *step);
            added.extend(ratio.and_then(|row| row.ratio).map(|it| (it - 1.0) * 100.0));
        }
    }
    let rows = samples.rows(|row| (row != of(name, PLAIN)).then(|| of(name, PLAIN).into()));
    let plain = rows.iter().find(|row| row.name == of(name, PLAIN));
    let plain = plain.map_or(0.0, |row| row.median);
    let may_cost = MAY_COST.iter().find(|(micros, _)| plain >= *micros);
    report.results.extend(rows);
    for (step, added) in STEPS.into_iter().zip(added) {
        let row = Row::of(of(&format!("added to {name}"), step), "%", added);
        let measured = 1.0 + row.median / 100.0;
        if let (Some((_, at_most)), FIRST | WHOLE) = (may_cost, step) {
            report.promises.push(Promise {
                what: Name::from(format!("{name}: {step}, by a call in a plain process")),
                at_most: *at_most,
                measured,
                kept: measured <= *at_most,
            });
        }
        report.results.push(row.on(REAL_ID, step, None));
    }
    Ok(())
}

fn of(name: &str, step: &str) -> String {
    format!("{name}: {step}")
}

fn step_of(row: &Row) -> String {
    let (_, step) = row.name.split_once(": ").unwrap_or_default();
    step.to_owned()
}

/// The same function, with more and more around it.
struct Parts {
    plain: Plain,
    unfiltered: Player,
    worker: Player,
}

impl Parts {
    fn with(setting: &Setting, argument: &Value) -> Result<Self, Failure> {
        let mut parts = Self {
            plain: Plain::start(setting)?,
            unfiltered: Player::start(&setting.clone().without_filter())?,
            worker: Player::start(setting)?,
        };
        parts.plain.give(argument)?;
        parts.unfiltered.give(argument)?;
        parts.worker.give(argument)?;
        // It is never put back, and so is loaded once.
        parts.unfiltered.load()?;
        Ok(parts)
    }

    fn round(
        &mut self,
        asked: &Asked,
        mut sample: impl FnMut(&str, Duration),
    ) -> Result<(), Failure> {
        let (in_a_row, warm_up) = asked.either((20, 4), (2, 1));
        for time in 0..warm_up + in_a_row {
            let took = self.plain.call()?;
            if time >= warm_up {
                sample(PLAIN, took);
            }
        }
        let all = warm_up + in_a_row;
        for took in self.unfiltered.calls(all)?.iter().skip(warm_up) {
            sample(UNFILTERED, *took);
        }
        let turns = self.worker.turns(1, all)?;
        let warm = turns.iter().flat_map(|turn| &turn.warm);
        for took in warm.skip(warm_up) {
            sample(WARM, *took);
        }
        for turn in self.worker.turns(all, 0)?.iter().skip(warm_up) {
            sample(FIRST, turn.first);
            sample(WHOLE, turn.whole);
        }
        Ok(())
    }
}
