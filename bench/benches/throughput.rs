//! What isolation by request costs a container that answers requests all the time: calls per
//! second and their latency, next to the same function without any isolation. The two take
//! turns, so that a noisy minute is everybody's. Arguments are numbers of requests at a time
//! (`REFUNCTION_CONCURRENCY`), and `--quick` for one round.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use refunction_bench::Failure;
use refunction_bench::server::Server;
use refunction_bench::table::{self, Name, Promise, Report, Samples};
use serde_json::{Value, json};

/// How long each server is under load in each round.
const TIME: Duration = Duration::from_millis(400);
/// Rounds of each kind of load.
const ROUNDS: usize = 12;
/// Connections, each with one request at a time.
const CONNECTIONS: [usize; 2] = [1, 50];
/// How long a call is to take by itself.
const CALL: Duration = Duration::from_millis(1);

const OFF: &str = "off";
const REQUEST: &str = "request";
/// What is measured of each.
const SHARE: &str = "time for each call";
const LATENCY: &str = "latency";

/// Users that no worker on this host has.
const USER: u32 = 90_000;

fn main() -> ExitCode {
    refunction_bench::run(measure)
}

fn measure() -> Result<(), Failure> {
    let mut at_once = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .map(|number| Ok(number.parse()?))
        .collect::<Result<Vec<usize>, Failure>>()?;
    if at_once.is_empty() {
        at_once.extend([1, 2]);
    }
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if is_quick { 1 } else { ROUNDS };
    let mut report = Report {
        conditions: table::conditions(),
        ..Report::default()
    };
    let mut samples = Samples::default();
    let mut compared = Vec::new();
    for concurrency in at_once {
        let servers = [(OFF, 0), (REQUEST, 100)].map(|(isolation, user)| {
            Ok::<_, Failure>((isolation, start(isolation, concurrency, user)?))
        });
        let servers: Vec<_> = servers.into_iter().collect::<Result<_, _>>()?;
        let steps = steps_of_a_call(&servers[0].1)?;
        let loads = [
            ("busy", json!({"op": "work", "steps": steps})),
            (
                "asleep",
                json!({"op": "sleep", "seconds": CALL.as_secs_f64()}),
            ),
        ];
        for ((kind, event), clients) in loads
            .iter()
            .flat_map(|load| CONNECTIONS.map(|clients| (load, clients)))
        {
            let name = |isolation: &str, what: &str| {
                format!("{concurrency} at once, {clients} clients, {kind}: {isolation}: {what}")
            };
            for _ in 0..rounds {
                for (isolation, server) in &servers {
                    round(server, clients, event, |what, took| {
                        samples.add(&name(isolation, what), took);
                    })?;
                }
            }
            compared.extend(
                [(SHARE, 1.0 / 0.85), (LATENCY, 1.05)]
                    .map(|(what, at_most)| (name(REQUEST, what), name(OFF, what), at_most)),
            );
        }
    }
    report.results = samples.rows(|name| {
        let pair = compared.iter().find(|(request, ..)| request == name);
        pair.map(|(_, off, _)| Name::from(off.clone()))
    });
    for (request, off, at_most) in compared {
        let promise = Promise::of(request.clone(), &report.results, &request, &off, at_most);
        report.promises.extend(promise);
    }
    report.publish(env!("CARGO_TARGET_TMPDIR"), "throughput")
}

fn start(isolation: &str, concurrency: usize, user: u32) -> Result<Server, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions");
    let concurrency = concurrency.to_string();
    let arguments = ["--isolation", isolation, "--concurrency", &concurrency];
    Server::start(&root, "work.handler", USER + user, &arguments)
}

/// One server under load; each of its samples.
fn round(
    server: &Server,
    clients: usize,
    event: &Value,
    mut sample: impl FnMut(&str, Duration),
) -> Result<(), Failure> {
    let began = Instant::now();
    let times = server.load(clients, event, TIME);
    let calls = u32::try_from(times.len())?;
    sample(SHARE, began.elapsed() / calls.max(1));
    times.into_iter().for_each(|took| sample(LATENCY, took));
    Ok(())
}

/// How many steps of work take as long as a call is to.
fn steps_of_a_call(server: &Server) -> Result<u64, Failure> {
    const MANY: u64 = 100_000;
    let mut connection = server.connect();
    let mut fastest = |steps: u64| {
        let times = (0..20).map(|_| {
            let began = Instant::now();
            let _ = connection.call(&json!({"op": "work", "steps": steps}));
            began.elapsed()
        });
        times.min().ok_or("it was not called")
    };
    let none = fastest(0)?;
    let many = fastest(MANY)?.saturating_sub(none).as_secs_f64();
    // Fewer than 2^53 steps take a millisecond.
    Ok((MANY as f64 * CALL.as_secs_f64() / many) as u64)
}
