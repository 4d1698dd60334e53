//! The paper's Figure 9: as many slots as ever, and more and more functions, called in random
//! order. Where a container is restored for the next function it does not matter how many there
//! are; where it serves one function, and the next needs another, more and more calls wait for a
//! cold start, and the starts for each other.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use refunction_bench::Failure;
use refunction_bench::caller::{Caller, call};
use refunction_bench::figure::Figure;
use refunction_bench::node::{Node, SLEEPER};
use refunction_bench::random::Random;
use refunction_bench::table::{Name, Promise, Report, Row, Samples};
use serde_json::json;

use crate::Extent;
use crate::mode::{MODES, Mode};

pub const FIGURE: &str = "9";
const SLOTS: usize = 24;
const FUNCTIONS: [usize; 5] = [1, 12, 24, 48, 200];

/// How long a function sleeps: the processors are to be had for whatever else there is to do.
const SLEEP: Duration = Duration::from_millis(500);

/// Calls that come in a second: half of the slots are in use on average.
const RATE: f64 = 24.0;

/// How much longer than with one function the middle call may take with 200.
const FLAT: f64 = 1.1;

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let (warm_up, time) = extent.of((3, 12), (1, 4));
    let (warm_up, time) = (Duration::from_secs(warm_up), Duration::from_secs(time));
    report.figures.push(Figure {
        id: FIGURE.into(),
        title: "Response time by the number of functions, on 24 slots".into(),
        x: "functions".into(),
        y: "response time, us".into(),
        is_x_logarithmic: true,
        is_y_logarithmic: true,
        caption: format!(
            "Each function sleeps {} ms; {RATE} calls a second come at random times, each of a function drawn at random.",
            SLEEP.as_millis()
        )
        .into(),
    });
    let mut samples = Samples::default();
    let mut starts = Vec::new();
    for mode in MODES {
        let node = mode.start(SLOTS, "python")?;
        for number in 0..FUNCTIONS[FUNCTIONS.len() - 1] {
            node.deploy(
                &name(number),
                mode.image("python"),
                SLEEPER,
                &json!({"keep_warm_s": 600}),
            )?;
        }
        for functions in FUNCTIONS {
            // The same calls in both modes.
            let mut random = Random::of(functions as u64);
            drop(arrive(&node, functions, warm_up, &mut random)?);
            let calls = arrive(&node, functions, time, &mut random)?;
            let mut began = BTreeMap::<String, usize>::new();
            for (took, start) in &calls {
                samples.add(&row(mode, functions), *took);
                *began.entry(start.clone()).or_default() += 1;
            }
            starts.push((mode, functions, calls.len(), began));
        }
        node.end();
    }
    report.results = samples.rows(|name| {
        let (_, functions) = name.split_once(": ")?;
        name.starts_with(Mode::Cold.name())
            .then(|| Name::from(format!("{}: {functions}", Mode::Restore.name())))
    });
    for (result, (mode, functions, ..)) in report.results.iter_mut().zip(&starts) {
        *result = result.clone().on(FIGURE, mode.name(), *functions as f64);
    }
    for (mode, functions, calls, began) in &starts {
        let waited = began.get("created").copied().unwrap_or_default();
        report.results.push(Row::of(
            format!(
                "{}: {functions} functions: waited for a new container",
                mode.name()
            ),
            "% of calls",
            vec![100.0 * waited as f64 / *calls as f64],
        ));
    }
    let promised = Promise::of(
        "restored: the middle call with 200 functions by that with 1",
        &report.results,
        &row(Mode::Restore, 200),
        &row(Mode::Restore, 1),
        FLAT,
    );
    report.promises.extend(promised);
    let tail = |functions| {
        let name = row(Mode::Restore, functions);
        report
            .results
            .iter()
            .find(|it| it.name == name)
            .map(|it| it.p99)
    };
    if let (Some(many), Some(one)) = (tail(200), tail(1)) {
        report.promises.push(Promise {
            what: "restored: p99 with 200 functions by that with 1".into(),
            at_most: FLAT,
            measured: many / one,
            kept: many / one <= FLAT,
        });
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("sleeper-{number}")
}

fn row(mode: Mode, functions: usize) -> String {
    format!("{}: {functions} functions", mode.name())
}

/// Calls that come at random times, whether those before have been answered or not: how long
/// each took, and how it was begun.
fn arrive(
    node: &Node,
    functions: usize,
    time: Duration,
    random: &mut Random,
) -> Result<Vec<(Duration, String)>, Failure> {
    let connections = Mutex::new(Vec::<Caller>::new());
    let argument = SLEEP.as_secs_f64().to_string();
    thread::scope(|scope| {
        let began = Instant::now();
        let mut at = Duration::ZERO;
        let mut calls = Vec::new();
        loop {
            // The time between two calls that come by chance.
            at += Duration::from_secs_f64(-random.fraction().ln() / RATE);
            if at > time {
                break;
            }
            let request = call(&name(random.below(functions as u64) as usize), &argument);
            thread::sleep((began + at).saturating_duration_since(Instant::now()));
            let connections = &connections;
            calls.push(scope.spawn(move || {
                let idle = connections.lock().ok().and_then(|mut it| it.pop());
                let mut caller = match idle {
                    Some(caller) => caller,
                    None => node.connect().map_err(|error| error.to_string())?,
                };
                let due = began + at;
                let answer = caller.exchange(&request).and_then(|it| it.ok());
                let answer = answer.map_err(|error| error.to_string())?;
                if let Ok(mut connections) = connections.lock() {
                    connections.push(caller);
                }
                // From when it was due: what a client waits for itself counts.
                Ok::<_, String>((
                    due.elapsed(),
                    answer.header("x-refunction-start").to_owned(),
                ))
            }));
        }
        let ended = calls.into_iter().map(|call| call.join());
        let ended = ended.map(|ended| Ok(ended.map_err(|_| "a client broke")??));
        ended.collect()
    })
}
