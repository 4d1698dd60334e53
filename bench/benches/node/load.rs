//! Fifty clients for a minute: whether each call is answered, with what it asked for, and what
//! the daemon has in memory meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use refunction_bench::Failure;
use refunction_bench::caller::call;
use refunction_bench::node::{ECHO, Node};
use refunction_bench::table::{Promise, Report, Row, Samples};
use serde_json::json;

use crate::Extent;

const IMAGE: &str = "refunction/python";
const CLIENTS: usize = 50;
const FUNCTIONS: usize = 8;
const CONTAINERS: usize = 8;

/// How much more the daemon may have in memory at the end than once it was warm.
const GROWTH: f64 = 1.25;

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let time = extent.of(Duration::from_secs(60), Duration::from_secs(8));
    let node = Node::start(
        &format!("[[pool]]\nimage = {IMAGE:?}\nmin = {CONTAINERS}\nmax = {CONTAINERS}\n"),
        &["python"],
    )?;
    for number in 0..FUNCTIONS {
        node.deploy(&name(number), IMAGE, ECHO, &json!({}))?;
    }
    node.await_containers(CONTAINERS);
    let fresh = node.resident_kib()?;
    load(&node, time / 10)?;
    let warm = node.resident_kib()?;
    let (calls, resident) = load(&node, time)?;
    thread::sleep(Duration::from_secs(1));
    let end = node.resident_kib()?;

    let failed = calls.iter().filter(|call| call.is_err()).count();
    if let Some(Err(first)) = calls.iter().find(|call| call.is_err()) {
        report
            .conditions
            .insert("the first failure".into(), first.clone());
    }
    let mut samples = Samples::default();
    for took in calls.iter().flatten() {
        samples.add("latency", *took);
    }
    report.conditions.insert(
        "load".into(),
        format!(
            "{CLIENTS} clients, {FUNCTIONS} functions, {CONTAINERS} containers, {} s",
            time.as_secs()
        ),
    );
    report.results = samples.rows(|_| None);
    let rate = calls.len() as f64 / time.as_secs_f64();
    report.results.extend([
        Row::of("calls", "1/s", vec![rate]),
        Row::of("daemon's memory before any call", "KiB", vec![fresh]),
        Row::of("daemon's memory after a warm-up", "KiB", vec![warm]),
        Row::of("daemon's memory meanwhile", "KiB", resident),
        Row::of("daemon's memory a second after", "KiB", vec![end]),
    ]);
    report.promises = vec![
        at_most(
            "calls that failed, were lost or got another's answer",
            failed as f64,
            0.0,
        ),
        at_most(
            "daemon's memory at the end by that after a warm-up",
            end / warm,
            GROWTH,
        ),
    ];
    node.end();
    Ok(())
}

fn at_most(what: &'static str, measured: f64, at_most: f64) -> Promise {
    Promise {
        what: what.into(),
        at_most,
        measured,
        kept: measured <= at_most,
    }
}

fn name(number: usize) -> String {
    format!("echo-{number}")
}

type Call = Result<Duration, String>;

/// Has all clients call for so long: each call, and the daemon's memory each second.
fn load(node: &Node, time: Duration) -> Result<(Vec<Call>, Vec<f64>), Failure> {
    let until = Instant::now() + time;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || calls_of(node, client, until)))
            .collect();
        let watching = scope.spawn(|| {
            let mut resident = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                resident.extend(node.resident_kib());
                thread::sleep(Duration::from_millis(500));
            }
            resident
        });
        let calls = clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client's calls"))
            .collect();
        is_over.store(true, Ordering::Relaxed);
        Ok((calls, watching.join().map_err(|_| "the watch broke")?))
    })
}

fn calls_of(node: &Node, client: usize, until: Instant) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut caller = None;
    let mut number = client;
    while Instant::now() < until {
        // No two calls have the same argument: an answer is its own call's or nobody's.
        let argument = format!("[{client},{number}]");
        let began = Instant::now();
        let connection = match caller.take() {
            Some(caller) => Ok(caller),
            None => node.connect(),
        };
        let outcome = connection.and_then(|mut connection| {
            let answer = connection.exchange(&call(&name(number % FUNCTIONS), &argument))?;
            let answer = answer.ok()?;
            let text = answer.text().replace(' ', "");
            if text != argument {
                return Err(format!("{argument} was answered with {text}").into());
            }
            Ok(connection)
        });
        number += 1;
        calls.push(match outcome {
            Ok(connection) => {
                caller = Some(connection);
                Ok(began.elapsed())
            }
            Err(error) => Err(error.to_string()),
        });
    }
    calls
}
