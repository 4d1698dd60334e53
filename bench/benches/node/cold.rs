//! The paper's Figures 6 and 7: the response time of a function that is called now and then, so
//! that no container holds it: from a container that was restored before, from one that has to
//! be restored first, and from a new one.

use std::thread;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use refunction_bench::Failure;
use refunction_bench::caller::call;
use refunction_bench::figure::Figure;
use refunction_bench::node::{self, ECHO, Node};
use refunction_bench::table::{Name, Report, Samples};
use refunction_tests::java;
use serde_json::{Value, json};

use crate::Extent;

/// A runtime, and the paper's figure of it.
const RUNTIMES: [(&str, &str); 2] = [("python", "6"), ("java", "7")];

/// What stands before a call, how long a function is kept, and how the call is to begin.
const WAYS: [(&str, &str, u64, &str); 3] = [
    ("restored container", "min = 1\nmax = 1\n", 0, "restored"),
    (
        "container restored for the call",
        "min = 1\nmax = 1\n",
        600,
        "swapped",
    ),
    (
        "new container",
        "min = 0\nspare = 0\nreuse = \"never\"\n",
        0,
        "created",
    ),
];

/// Between calls; a container is restored in less.
const PAUSE: Duration = Duration::from_millis(30);

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let mut samples = Samples::default();
    for (runtime, figure) in RUNTIMES {
        if let Some(reason) = node::missing(runtime) {
            report.not_run.insert(runtime.into(), reason);
            continue;
        }
        report.figures.push(Figure {
            id: figure.into(),
            title: format!("Response time at low throughput: {runtime}").into(),
            y: "response time, us".into(),
            is_y_logarithmic: true,
            caption: "One call at a time of a no-op that no container holds, through the gateway."
                .into(),
            ..Figure::default()
        });
        for way in WAYS {
            let most = extent.of(30, 5);
            let count = if way.3 == "created" { most } else { most * 5 };
            take(runtime, way, count, &mut samples)?;
        }
    }
    report.results = samples.rows(|name| {
        let (runtime, way) = name.split_once(": ")?;
        (way != WAYS[2].0).then(|| Name::from(format!("{runtime}: {}", WAYS[2].0)))
    });
    for row in &mut report.results {
        let Some((runtime, way)) = row
            .name
            .clone()
            .split_once(": ")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
        else {
            continue;
        };
        if let Some((_, figure)) = RUNTIMES.iter().find(|(it, _)| *it == runtime) {
            *row = row.clone().on(*figure, way, None);
        }
    }
    Ok(())
}

fn take(
    runtime: &str,
    (way, how, keep_warm_s, expected): (&str, &str, u64, &str),
    count: usize,
    samples: &mut Samples,
) -> Result<(), Failure> {
    let image = format!("refunction/{runtime}");
    let node = Node::start(&format!("[[pool]]\nimage = {image:?}\n{how}"), &[runtime])?;
    let (code, mut more) = function(runtime)?;
    more["keep_warm_s"] = keep_warm_s.into();
    for name in ["a", "b"] {
        node.deploy(name, &image, &code, &more)?;
    }
    if expected != "created" {
        node.await_containers(1);
    }
    let mut caller = node.connect()?;
    let mut taken = 0;
    // The first has nothing before it to be restored from.
    for number in 0..count * 2 + 1 {
        let request = call(["a", "b"][number % 2], "{}");
        if expected == "created" {
            // What it replaced has been cleared away.
            node.await_containers(0);
        }
        thread::sleep(PAUSE);
        let began = Instant::now();
        let answer = caller.exchange(&request)?.ok()?;
        let took = began.elapsed();
        if number > 0 && answer.header("x-refunction-start") == expected {
            samples.add(&format!("{runtime}: {way}"), took);
            taken += 1;
        }
        if taken == count {
            node.end();
            return Ok(());
        }
    }
    Err(format!("{runtime}: only {taken} calls began as {expected}").into())
}

/// The code of a no-op, and what else there is to say of it.
fn function(runtime: &str) -> Result<(String, Value), Failure> {
    if runtime != "java" {
        return Ok((ECHO.to_owned(), json!({})));
    }
    let class = java::compile_text(
        "public class Main { public static Object main(Object args) { return args; } }",
    )
    .ok_or("the compiler refused the function")?;
    Ok((BASE64_STANDARD.encode(class), json!({"binary": true})))
}
