//! The paper's Figure 8: one more client every half second, up to 24, each with one call of a
//! second after another.

use std::thread;
use std::time::{Duration, Instant};

use refunction_bench::Failure;
use refunction_bench::caller::call;
use refunction_bench::figure::Figure;
use refunction_bench::node::{Node, SLEEPER};
use refunction_bench::table::{Name, Promise, Report, Row, Samples};
use serde_json::json;

use crate::Extent;
use crate::mode::Mode;

const FIGURE: &str = "8";
const CLIENTS: usize = 24;
const SLEEP: Duration = Duration::from_secs(1);
const FUNCTION: &str = "sleeper";

/// How much of a call's second a client may wait beyond it where no container is missing.
const SPIKE: f64 = 0.05;

/// Pools that are ready for the ramp in one way or another.
const POOLS: [(&str, &str); 3] = [
    ("restored, min 24", "min = 24\n"),
    ("restored, min 1, spare 1", "min = 1\nspare = 1\n"),
    ("cold start", "min = 0\nspare = 0\nreuse = \"never\"\n"),
];

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let step = extent.of(Duration::from_millis(500), Duration::from_millis(250));
    report.figures.push(Figure {
        id: FIGURE.into(),
        title: "Response time while concurrency grows".into(),
        x: "clients".into(),
        y: "response time, us".into(),
        caption: format!(
            "Another client every {} ms, each calling a function that sleeps a second; the longest response of the calls that began while there were so many clients.",
            step.as_millis()
        )
        .into(),
        ..Figure::default()
    });
    let mut samples = Samples::default();
    let mut lines = Vec::new();
    for (name, how) in POOLS {
        let image = Mode::Restore.image("python");
        let settings =
            format!("[[pool]]\nimage = {image:?}\nmax = {CLIENTS}\nmemory = \"256M\"\n{how}");
        let node = Node::start(&settings, &["python"])?;
        node.deploy(FUNCTION, image, SLEEPER, &json!({"keep_warm_s": 600}))?;
        let ready = match name {
            "restored, min 24" => CLIENTS,
            "restored, min 1, spare 1" => 1,
            _ => 0,
        };
        node.await_containers(ready);
        let calls = ramp(&node, step)?;
        let mut longest = vec![Duration::ZERO; CLIENTS];
        for (clients, took) in calls {
            samples.add(name, took);
            samples.add(&waited(name), took.saturating_sub(SLEEP));
            longest[clients - 1] = longest[clients - 1].max(took);
        }
        for (index, took) in longest.iter().enumerate() {
            let row = Row::of(
                format!("{name}: {} clients", index + 1),
                "us",
                vec![took.as_secs_f64() * 1e6],
            );
            lines.push(row.on(FIGURE, name, (index + 1) as f64));
        }
        let most = longest.iter().max().copied().unwrap_or_default();
        if name != "cold start" {
            let spike = most.saturating_sub(SLEEP).as_secs_f64() / SLEEP.as_secs_f64();
            report.promises.push(Promise {
                what: format!("{name}: the longest wait on top of a call of a second").into(),
                at_most: SPIKE,
                measured: spike,
                kept: spike <= SPIKE,
            });
        }
        node.end();
    }
    report.results = samples.rows(|name| {
        name.ends_with(WAITED)
            .then(|| Name::from(waited("cold start")))
    });
    report.results.extend(lines);
    Ok(())
}

const WAITED: &str = "beyond its second";

fn waited(name: &str) -> String {
    format!("{name}: {WAITED}")
}

/// Each call: how many clients there were when it began, and how long it took.
fn ramp(node: &Node, step: Duration) -> Result<Vec<(usize, Duration)>, Failure> {
    let began = Instant::now();
    let until = began + step * u32::try_from(CLIENTS)?;
    let request = call(FUNCTION, &SLEEP.as_secs_f64().to_string());
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let from = began + step * u32::try_from(number).unwrap_or(0);
                let request = &request;
                scope.spawn(move || {
                    let mut caller = node.connect().map_err(|error| error.to_string())?;
                    let mut calls = Vec::new();
                    thread::sleep(from.saturating_duration_since(Instant::now()));
                    while Instant::now() < until {
                        let begun = Instant::now();
                        let since = begun.duration_since(began).as_secs_f64();
                        let clients = (since / step.as_secs_f64()) as usize + 1;
                        let answer = caller.exchange(request).and_then(|it| it.ok());
                        answer.map_err(|error| error.to_string())?;
                        calls.push((clients.min(CLIENTS), begun.elapsed()));
                    }
                    Ok::<_, String>(calls)
                })
            })
            .collect();
        let mut calls = Vec::new();
        for client in clients {
            calls.extend(client.join().map_err(|_| "a client broke")??);
        }
        Ok(calls)
    })
}
