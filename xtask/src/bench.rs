//! `cargo xtask bench`: what a restore costs, next to what it replaces; one page and one file
//! of all of it.
//!
//! A runtime that is embedded is measured in a program that has no other, as its image has
//! none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::json;

use crate::terminal::step;
use crate::workspace::Workspace;
use crate::{images, shell, test};

/// Which of them, and where.
#[derive(Args)]
pub(crate) struct Options {
    /// Only what is measured of these runtimes
    runtimes: Vec<String>,

    /// Only these figures: the paper's by their numbers, others by their names
    #[arg(long, num_args = 1.., value_name = "FIGURE")]
    only: Vec<String>,

    /// Few samples of everything: enough to see that it works, not to quote
    #[arg(long)]
    quick: bool,

    /// Keep what earlier runs measured in the report, where this one does not measure it again
    #[arg(long)]
    keep: bool,

    /// The processors that the engine is measured on, as taskset(1) has them; all if empty
    #[arg(long, default_value = "1")]
    on: String,
}

/// One benchmark of a program with one embedded runtime, or none.
struct Part {
    /// A benchmark of `bench/`.
    bench: &'static str,
    /// The embedded runtime that the program is built with.
    embedded: &'static str,
    /// Of what.
    runtimes: &'static [&'static str],
    /// The figures that it makes, each with the argument that asks for it; without one, they
    /// all come together.
    figures: &'static [(&'static str, &'static str)],
    /// What it is measured on.
    place: Place,
}

/// What a part needs, and where it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The engine and its workers, where the options say.
    Engine,
    /// Supervisors, on all processors.
    Supervisors,
    /// A daemon with containers, on all processors.
    Node,
}

const PARTS: &[Part] = &[
    Part {
        bench: "restore",
        embedded: "python",
        runtimes: &["python"],
        figures: &[("restore", "")],
        place: Place::Engine,
    },
    Part {
        bench: "runtimes",
        embedded: "python",
        runtimes: &["python"],
        figures: &[("10", ""), ("13", "")],
        place: Place::Engine,
    },
    Part {
        bench: "libraries",
        embedded: "python",
        runtimes: &["python"],
        figures: &[("11", "")],
        place: Place::Engine,
    },
    Part {
        bench: "growth",
        embedded: "python",
        runtimes: &["python"],
        figures: &[
            ("12", "12"),
            ("pages", "pages"),
            ("mappings", "mappings"),
            ("threads", "threads"),
            ("ageing", "ageing"),
        ],
        place: Place::Engine,
    },
    Part {
        bench: "overhead",
        embedded: "python",
        runtimes: &["python"],
        figures: &[("14", "14"), ("isolation", "isolation")],
        place: Place::Engine,
    },
    Part {
        bench: "runtimes",
        embedded: "javascript",
        runtimes: &["javascript"],
        figures: &[("10", ""), ("13", "")],
        place: Place::Engine,
    },
    Part {
        bench: "runtimes",
        embedded: "lua",
        runtimes: &["lua"],
        figures: &[("10", ""), ("13", "")],
        place: Place::Engine,
    },
    Part {
        bench: "runtimes",
        embedded: "",
        runtimes: &["node", "java"],
        figures: &[("10", ""), ("13", "")],
        place: Place::Engine,
    },
    Part {
        bench: "memory",
        embedded: "",
        runtimes: &["python"],
        figures: &[("memory", "")],
        place: Place::Supervisors,
    },
    Part {
        bench: "throughput",
        embedded: "",
        runtimes: &["python"],
        figures: &[("throughput", "")],
        place: Place::Supervisors,
    },
    Part {
        bench: "node",
        embedded: "",
        runtimes: &["python", "java"],
        figures: &[
            ("6", "cold"),
            ("7", "cold"),
            ("8", "ramp"),
            ("9", "saturation"),
            ("gateway", "gateway"),
            ("load", "load"),
            ("starts", "starts"),
        ],
        place: Place::Node,
    },
    Part {
        bench: "cri",
        embedded: "",
        runtimes: &[],
        figures: &[("cri", "")],
        place: Place::Node,
    },
];

impl Part {
    /// The arguments that ask for what is wanted of it; none if nothing is.
    fn arguments(&self, options: &Options) -> Option<Vec<&'static str>> {
        let wanted =
            |figure: &str| options.only.is_empty() || options.only.iter().any(|it| it == figure);
        let figures: Vec<_> = (self.figures.iter())
            .filter(|(figure, _)| wanted(figure))
            .collect();
        let runtimes: Vec<_> = (self.runtimes.iter().copied())
            .filter(|runtime| options.runtimes.iter().any(|it| it == runtime))
            .collect();
        if figures.is_empty() || (runtimes.is_empty() && !options.runtimes.is_empty()) {
            return None;
        }
        if self.bench == "runtimes" {
            return Some(if options.runtimes.is_empty() {
                self.runtimes.to_vec()
            } else {
                runtimes
            });
        }
        // Two figures may be made by one argument.
        let named: BTreeSet<_> = figures.iter().map(|(_, argument)| *argument).collect();
        Some(named.into_iter().filter(|it| !it.is_empty()).collect())
    }
}

/// Measures, and makes the page.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    check(options)?;
    let parts: Vec<_> = PARTS
        .iter()
        .filter_map(|part| Some((part, part.arguments(options)?)))
        .collect();
    ensure!(
        !parts.is_empty(),
        "none of these figures is measured of these runtimes"
    );
    let reports = workspace.reports();
    if !options.keep {
        clear(&reports)?;
    }
    fs::create_dir_all(&reports).with_context(|| reports.display().to_string())?;
    step("programs to measure", || {
        test::build_release(workspace)?;
        for embedded in parts
            .iter()
            .map(|(part, _)| part.embedded)
            .collect::<BTreeSet<_>>()
        {
            shell::run(&mut built(workspace, &["bench", "--no-run"], embedded))?;
        }
        Ok(())
    })?;
    let mut failed = Vec::new();
    if parts.iter().any(|(part, _)| part.place == Place::Node) {
        // What needs them is then not run, and says why.
        if let Err(error) = images::build(workspace, &["python".into(), "java".into()]) {
            shell::check_interrupt()?;
            eprintln!("==> no images: {error:#}");
            failed.push("images".to_owned());
        }
    }
    for (part, arguments) in &parts {
        // One that fails takes none of the others' results with it.
        let Err(error) = measure(workspace, options, part, arguments) else {
            continue;
        };
        shell::check_interrupt()?;
        let name = match part.embedded {
            "" => part.bench.to_owned(),
            embedded => format!("{}-{embedded}", part.bench),
        };
        eprintln!("==> {name}: {error:#}");
        let report = json!({
            "conditions": {}, "results": [], "promises": [],
            "not_run": {part.bench: format!("{error:#}")},
        });
        fs::write(
            reports.join(format!("{name}-failed.json")),
            report.to_string(),
        )?;
        failed.push(name);
    }
    let mut page = built(
        workspace,
        &["run", "--profile=bench", "--bin=bench-report"],
        "",
    );
    shell::run(page.arg("--").arg(&reports))?;
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}

fn check(options: &Options) -> Result<()> {
    let known: BTreeSet<_> = PARTS.iter().flat_map(|part| part.runtimes).collect();
    if let Some(name) = options
        .runtimes
        .iter()
        .find(|it| !known.contains(&it.as_str()))
    {
        bail!("no runtime is called {name:?}; there are {}", list(&known));
    }
    let known: BTreeSet<_> = (PARTS.iter().flat_map(|part| part.figures))
        .map(|(figure, _)| figure)
        .collect();
    if let Some(name) = options.only.iter().find(|it| !known.contains(&it.as_str())) {
        bail!("no figure is called {name:?}; there are {}", list(&known));
    }
    Ok(())
}

fn list(names: &BTreeSet<&&str>) -> String {
    let names: Vec<_> = names.iter().map(|name| **name).collect();
    names.join(", ")
}

/// Removes what an earlier run found.
fn clear(reports: &Path) -> Result<()> {
    match fs::remove_dir_all(reports) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", reports.display()))
        }
        _ => Ok(()),
    }
}

/// Cargo, doing this to the benchmarks with this runtime.
fn built(workspace: &Workspace, what: &[&str], embedded: &str) -> Command {
    let mut cargo = shell::cargo(workspace.root());
    cargo.args(what).args([
        "--locked",
        "--package=refunction-bench",
        "--no-default-features",
        "--features",
        embedded,
    ]);
    cargo
}

fn measure(
    workspace: &Workspace,
    options: &Options,
    part: &Part,
    arguments: &[&str],
) -> Result<()> {
    let benchmark = format!("--bench={}", part.bench);
    let mut command = built(workspace, &["bench", &benchmark], part.embedded);
    command.arg("--").args(arguments);
    if options.quick {
        command.arg("--quick");
    }
    if part.place == Place::Engine && !options.on.is_empty() {
        command = pinned(&command, &options.on);
    }
    for (name, path) in [
        (
            "FUNCTION_NODE_ADDON",
            workspace.release("librefunction_node_addon.so"),
        ),
        (
            "REFUNCTION_SUPERVISOR",
            workspace.release("refunction-supervisor"),
        ),
        ("REFUNCTIOND", workspace.release("refunctiond")),
        ("FUNK", workspace.release("funk")),
        (
            "REFUNCTION_IMAGE_TAR",
            workspace.images().join("python.tar"),
        ),
    ] {
        command.env(name, path);
    }
    shell::run(&mut command)
}

/// The same, staying on these processors.
fn pinned(command: &Command, processors: &str) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["--cpu-list", processors]);
    pinned.arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        pinned.current_dir(directory);
    }
    pinned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(runtimes: &[&str], only: &[&str]) -> Options {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Options {
            runtimes: owned(runtimes),
            only: owned(only),
            quick: false,
            keep: false,
            on: String::new(),
        }
    }

    fn wanted(options: &Options) -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
        PARTS
            .iter()
            .filter_map(|part| Some((part.bench, part.embedded, part.arguments(options)?)))
            .collect()
    }

    #[test]
    fn a_figure_is_asked_of_the_part_that_makes_it() {
        let only = options(&[], &["12", "ageing"]);
        assert_eq!(wanted(&only), [("growth", "python", vec!["12", "ageing"])]);
        let only = options(&[], &["6", "7"]);
        assert_eq!(wanted(&only), [("node", "", vec!["cold"])]);
        let only = options(&["java"], &["10"]);
        assert_eq!(wanted(&only), [("runtimes", "", vec!["java"])]);
        assert_eq!(wanted(&options(&[], &[])).len(), PARTS.len());
    }

    #[test]
    fn what_nobody_knows_is_refused_with_what_there_is() {
        let error = check(&options(&[], &["15"])).expect_err("there is none");
        assert!(error.to_string().contains("10, 11, 12"), "{error}");
        let error = check(&options(&["cobol"], &[])).expect_err("there is none");
        assert!(error.to_string().contains("lua, node"), "{error}");
    }
}
