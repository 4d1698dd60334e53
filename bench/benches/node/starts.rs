//! What a restore replaces: a container's start, by whatever starts one, and CRIU's restore.

use std::process::Command;
use std::time::{Duration, Instant};

use refunction_bench::node::{ECHO, Node};
use refunction_bench::table::{Name, Promise, Report, Samples};
use refunction_bench::{Failure, criu, outside};

use crate::Extent;

const REWIND: &str = "rewind of a container";
const CREATE: &str = "start of a container through containerd";
const CTR: &str = "ctr run --rm: true";
const RUNC: &str = "runc run: true";
const CRIU: &str = "criu restore: python3";

/// What a rewind may take of each.
const PROMISED: [(&str, f64); 2] = [(CREATE, 1.0 / 1000.0), (CRIU, 1.0 / 500.0)];

pub fn measure(extent: Extent, report: &mut Report) -> Result<(), Failure> {
    let mut samples = Samples::default();
    let node = Node::start("", &["python"])?;
    // Not verified, as none is that an operator has.
    let host = node.host();
    let id = host.id("rewound");
    host.funk(&["create", "--image", "refunction/python", "--name", &id])
        .ok();
    for _ in 0..extent.of(300, 30) {
        host.load(&id, ECHO);
        host.request(&id, "{}").ok();
        let restored = host.funk(&["restore", "-c", &id]).ok();
        if restored["method"] != "rewind" {
            return Err(format!("it was not rewound: {restored}").into());
        }
        let micros = restored["total_us"].as_u64().ok_or("no time")?;
        samples.add(REWIND, Duration::from_micros(micros));
    }
    for number in 0..extent.of(30, 5) {
        let id = host.id(&format!("made-{number}"));
        let began = Instant::now();
        host.funk(&["create", "--image", "refunction/python", "--name", &id])
            .ok();
        samples.add(CREATE, began.elapsed());
        host.funk(&["rm", &id]).ok();

        let id = host.id(&format!("ctr-{number}"));
        let began = Instant::now();
        let image = "docker.io/refunction/python:latest";
        let ran = host.ctr(&["run", "--rm", image, &id, "true"]);
        let took = began.elapsed();
        if ran.code == 0 {
            samples.add(CTR, took);
        } else {
            report.not_run.insert(CTR.into(), ran.errors);
        }
    }
    // Not asked whether nothing is left: ctr leaves the control group of the namespace.
    drop(node);
    let mut outside = |name: &'static str, outcome: outside::Outcome| match outcome {
        Ok(times) => times.into_iter().for_each(|took| samples.add(name, took)),
        Err(reason) => drop(report.not_run.insert(name.into(), reason)),
    };
    outside(RUNC, outside::runc(extent.of(30, 5), &["true"]));
    let temporary = env!("CARGO_TARGET_TMPDIR");
    outside(CRIU, criu::restore(temporary, extent.of(30, 5)));
    if let Ok(version) = Command::new("containerd").arg("--version").output() {
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        report.conditions.insert("containerd".into(), version);
    }
    report.results = samples.rows(|name| (name != CREATE).then(|| Name::from(CREATE)));
    for (other, at_most) in PROMISED {
        let what = format!("a rewind by {other}");
        let promise = Promise::of(what, &report.results, REWIND, other, at_most);
        report.promises.extend(promise);
    }
    Ok(())
}
