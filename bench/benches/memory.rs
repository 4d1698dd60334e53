//! What containers that wait for calls have in memory (the paper's Figure 13): the
//! proportional set size of supervisor, template and workers, with ever more containers of one
//! image, and with ever more workers in one container. `--quick` starts few.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use refunction_bench::Failure;
use refunction_bench::asked::Asked;
use refunction_bench::figure::Figure;
use refunction_bench::server::Server;
use refunction_bench::table::{self, Promise, Report, Row};

/// How many containers there are, and how many requests at a time one takes.
const COUNTS: [usize; 4] = [1, 2, 5, 10];
const MEBIBYTE: f64 = 1024.0;

/// Users that no worker on this host has.
const USER: u32 = 91_000;

const ID: &str = "memory";
const CONTAINERS: &str = "containers";
const WORKERS: &str = "workers of one container";

fn main() -> ExitCode {
    refunction_bench::run(measure)
}

fn measure() -> Result<(), Failure> {
    let asked = Asked::of_arguments(&[ID])?;
    let mut report = Report {
        conditions: table::conditions(),
        ..Report::default()
    };
    let (rounds, counts) = asked.either((3, &COUNTS[..]), (1, &COUNTS[..2]));
    let mut taken: BTreeMap<(&str, usize), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        let mut servers: Vec<Server> = Vec::new();
        for count in counts {
            while servers.len() < *count {
                servers.push(start(servers.len(), &["--isolation", "request"])?);
            }
            let all = servers.iter().map(Server::process);
            (taken.entry((CONTAINERS, *count)).or_default()).push(proportional(all)?);
        }
        drop(servers);
        for count in counts {
            let concurrency = count.to_string();
            let arguments = ["--isolation", "request", "--concurrency", &concurrency];
            let server = start(0, &arguments)?;
            // It starts a worker more than it answers requests at a time.
            let workers = count + 1;
            (taken.entry((WORKERS, workers)).or_default())
                .push(proportional([server.process()].into_iter())?);
        }
    }
    let first = taken.get(&(CONTAINERS, 1)).and_then(|all| median(all));
    for ((series, count), all) in taken {
        let name = format!("{count} {series}");
        let mut row = Row::of(name, "MiB", all).on(ID, series, count as f64);
        if let Some(first) = first {
            row.ratio = Some(row.median / first);
            row.against = Some(format!("1 {CONTAINERS}").into());
        }
        report.results.push(row);
    }
    let ten = format!("10 {CONTAINERS}");
    let one = format!("1 {CONTAINERS}");
    report.promises.extend(Promise::of(
        "the memory of ten idle Python containers by that of one",
        &report.results,
        &ten,
        &one,
        2.0,
    ));
    report.figures.push(Figure {
        id: ID.into(),
        title: "Memory of idle Python containers".into(),
        x: "containers, or workers".into(),
        y: "proportional set size, MiB".into(),
        caption: "Supervisor, template and workers together, from smaps_rollup: a page that \
                  several processes share counts for each by its share."
            .into(),
        ..Figure::default()
    });
    report.publish(env!("CARGO_TARGET_TMPDIR"), "memory")
}

fn start(number: usize, arguments: &[&str]) -> Result<Server, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("functions");
    // Each may have several users.
    let user = USER + 100 * u32::try_from(number)?;
    Server::start(&root, "work.handler", user, arguments)
}

fn median(all: &[f64]) -> Option<f64> {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

/// The proportional set size of these processes and all their descendants, in MiB.
fn proportional(roots: impl Iterator<Item = u32>) -> Result<f64, Failure> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Another's process may have ended since.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut waiting: Vec<u32> = roots.collect();
    let mut kibibytes = 0.0;
    while let Some(pid) = waiting.pop() {
        waiting.extend(children.get(&pid).into_iter().flatten());
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kibibytes += number.ok_or("no proportional set size")?.parse::<f64>()?;
    }
    Ok(kibibytes / MEBIBYTE)
}
