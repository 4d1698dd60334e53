//! `cargo xtask demo`: what one tenant leaves behind, another cannot find.

mod language;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use self::language::{Function, Functions, Language};
use crate::sandbox::Sandbox;
use crate::terminal::{Paint, step};
use crate::workspace::Workspace;
use crate::{images, shell, test};

/// The number that tenant B's function looks for.
const CARD: &str = "4929 0110 2233 4455";

/// In how many places tenant A leaves it.
const PLACES: usize = 5;

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The runtime to show it with, or all of them
    #[arg(long, default_value = "python")]
    runtime: String,
    /// How often each way back is measured
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,
}

impl Options {
    /// Every runtime, and few measurements.
    pub(crate) fn quick() -> Self {
        Self {
            runtime: "all".into(),
            samples: 3,
        }
    }
}

/// Builds what it shows, shows it, and fails if tenant B found anything.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let languages = language::asked_for(&options.runtime)?;
    let names: Vec<_> = languages.iter().map(|it| it.name.to_owned()).collect();
    let archives = images::build(workspace, &names)?;
    step("refunctiond and funk", || test::build_release(workspace))?;
    let (sandbox, _) = step("a private containerd", || Sandbox::start(workspace, "demo"))?;
    let shown = step("importing the images", || import(&sandbox, &archives)).and_then(|_| {
        languages.into_iter().try_for_each(|language| {
            Demo {
                sandbox: &sandbox,
                options,
                language,
                functions: language.functions(workspace)?,
            }
            .show()
        })
    });
    if shown.is_err() && shell::check_interrupt().is_ok() {
        sandbox.print_last_words();
    }
    shown
}

fn import(sandbox: &Sandbox, archives: &[PathBuf]) -> Result<()> {
    archives.iter().try_for_each(|archive| {
        shell::quiet(sandbox.funk().args(["image", "import"]).arg(archive)).map(drop)
    })
}

struct Demo<'a> {
    sandbox: &'a Sandbox,
    options: &'a Options,
    language: &'static Language,
    functions: Functions,
}

impl Demo<'_> {
    fn show(&self) -> Result<()> {
        let paint = Paint::stdout();
        let container = self.create(&[])?;
        println!();
        println!(
            "{}  {} {}, {} of snapshot, created in {}",
            paint.bold(format!("Container {}", container.id)),
            container.runtime,
            container.version,
            mebibytes(container.snapshot_bytes),
            Micros(container.create_us),
        );

        scene(
            paint,
            "Tenant A's function, which leaves a card number in five places",
        );
        for line in self.language.tenant_a.trim_end().lines() {
            println!("  {}", paint.dim(line));
        }
        self.load(&container, &self.functions.both)?;
        let charge = json!({ "card": CARD });
        println!("  request   {charge}");
        println!("  response  {}", self.request(&container, &charge)?);

        scene(
            paint,
            "Tenant B's code in that process, as if it were only kept warm",
        );
        let before = Search::read(&self.request(&container, &Value::Null)?)?;
        before.print(paint);

        scene(
            paint,
            "Restore: the process goes back to before it had seen tenant A",
        );
        self.restore(&container)?.print(paint);

        scene(paint, "Tenant B's function in the same container");
        self.load(&container, &self.functions.tenant_b)?;
        let after = Search::read(&self.request(&container, &Value::Null)?)?;
        after.print(paint);

        if before.found().len() != PLACES {
            bail!(
                "the search itself does not work: before the restore it found only {:?}",
                before.found()
            );
        }
        if !after.is_empty() {
            bail!("tenant B found what tenant A left: {after:?}");
        }
        println!("  {}", paint.good("Nothing of tenant A is left."));

        scene(paint, "Ways to a clean process, measured here and now");
        self.compare(paint, &container)
    }

    /// Measures the ways back, and prints them beside each other.
    fn compare(&self, paint: Paint, container: &Container) -> Result<()> {
        let samples = self.options.samples as usize;
        self.restore(container)?;
        let rewinds = self.restores(container, samples)?;
        self.remove(container)?;

        let reforking = self.create(&["REFUNCTION_METHOD=refork"])?;
        let reforks = self.restores(&reforking, samples)?;
        self.remove(&reforking)?;

        let mut creations = Vec::new();
        for _ in 0..samples.min(10) {
            let container = self.create(&[])?;
            creations.push(container.create_us);
            self.remove(&container)?;
        }

        let rows = [
            (
                "rewind",
                "the process itself, put back in place",
                of(&rewinds, "rewind"),
            ),
            (
                "refork",
                "a new process, forked from the template",
                of(&reforks, "refork"),
            ),
            ("recreate", "a new container", creations),
        ];
        println!(
            "  {}",
            paint.dim(format!(
                "{:<9} {:<40} {:>7} {:>11} {:>11}",
                "", "", "samples", "median", "worst"
            ))
        );
        for (name, what, mut times) in rows {
            times.sort_unstable();
            let (median, worst) = match (times.get(times.len() / 2), times.last()) {
                (Some(median), Some(worst)) => {
                    (Micros(*median).to_string(), Micros(*worst).to_string())
                }
                _ => ("-".to_owned(), "-".to_owned()),
            };
            println!(
                "  {} {what:<40} {:>7} {median:>11} {worst:>11}",
                paint.bold(format!("{name:<9}")),
                times.len(),
            );
        }
        if let Some(restored) = rewinds.iter().find(|restored| restored.method != "rewind") {
            println!(
                "  The container reforked where it should have rewound: {}",
                restored.taints.join("; ")
            );
        }
        Ok(())
    }

    /// Loads, calls and restores, over and over.
    fn restores(&self, container: &Container, samples: usize) -> Result<Vec<Restored>> {
        let numbers = json!({ "numbers": [1, 2, 3] });
        let mut restores = Vec::with_capacity(samples);
        // The first restore of a container finds everything cold.
        for round in 0..=samples {
            self.load(container, &self.functions.sum)?;
            let answer = self.request(container, &numbers)?;
            if answer != json!({ "sum": 6 }) {
                bail!("the function answered {answer}");
            }
            let restored = self.restore(container)?;
            if round > 0 {
                restores.push(restored);
            }
        }
        Ok(restores)
    }
}

/// The daemon, as the demo talks to it.
impl Demo<'_> {
    fn create(&self, env: &[&str]) -> Result<Container> {
        let mut command = self.command(&["create", "--image"]);
        command.arg(format!("refunction/{}", self.language.name));
        for variable in env {
            command.args(["--env", variable]);
        }
        let created = answer(&mut command)?;
        Ok(Container {
            id: text(&created, "id")?,
            runtime: text(&created, "runtime")?,
            version: text(&created, "runtime_version")?,
            snapshot_bytes: number(&created, "snapshot_bytes")?,
            create_us: number(&created, "create_us")?,
        })
    }

    fn remove(&self, container: &Container) -> Result<()> {
        answer(&mut self.command(&["rm", &container.id])).map(drop)
    }

    fn load(&self, container: &Container, function: &Function) -> Result<()> {
        let mut command = self.command(&["function", "-c", &container.id]);
        answer(command.args(function)).map(drop)
    }

    fn request(&self, container: &Container, argument: &Value) -> Result<Value> {
        let argument = argument.to_string();
        let mut answer =
            answer(&mut self.command(&["request", "-c", &container.id, "-r", &argument]))?;
        Ok(answer["value"].take())
    }

    fn restore(&self, container: &Container) -> Result<Restored> {
        let restored = answer(&mut self.command(&["restore", "-c", &container.id]))?;
        let list = |name: &str| restored[name].as_array().cloned().unwrap_or_default();
        Ok(Restored {
            method: text(&restored, "method")?,
            total_us: number(&restored, "total_us")?,
            dirty_pages: number(&restored, "dirty_pages")?,
            phases: list("phases")
                .iter()
                .map(|phase| Ok((text(phase, "name")?, number(phase, "ns")?)))
                .collect::<Result<_>>()?,
            taints: list("taints")
                .iter()
                .map(|taint| {
                    Ok(format!(
                        "{} ({})",
                        text(taint, "row")?,
                        text(taint, "detail")?
                    ))
                })
                .collect::<Result<_>>()?,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.funk();
        command.args(["--output", "json"]).args(arguments);
        command
    }
}

fn answer(command: &mut Command) -> Result<Value> {
    let printed = shell::quiet(command)?;
    serde_json::from_str(&printed).with_context(|| format!("funk printed no JSON: {printed}"))
}

fn text(object: &Value, field: &str) -> Result<String> {
    let found = object[field].as_str().map(str::to_owned);
    found.with_context(|| format!("no text {field:?} in {object}"))
}

fn number(object: &Value, field: &str) -> Result<u64> {
    let found = object[field].as_u64();
    found.with_context(|| format!("no number {field:?} in {object}"))
}

struct Container {
    id: String,
    runtime: String,
    version: String,
    snapshot_bytes: u64,
    create_us: u64,
}

struct Restored {
    method: String,
    total_us: u64,
    dirty_pages: u64,
    phases: Vec<(String, u64)>,
    taints: Vec<String>,
}

impl Restored {
    fn print(&self, paint: Paint) {
        println!(
            "  {} in {}, {} pages put back",
            paint.bold(&self.method),
            paint.bold(Micros(self.total_us)),
            self.dirty_pages
        );
        let width = self.phases.iter().map(|(name, _)| name.len()).max();
        for (name, ns) in &self.phases {
            println!(
                "    {name:<width$}  {:>9.1} µs",
                thousandths(*ns),
                width = width.unwrap_or(0)
            );
        }
        for taint in &self.taints {
            println!("    not rewound because of {taint}");
        }
    }
}

/// The durations of those restores that were done by one method.
fn of(restores: &[Restored], method: &str) -> Vec<u64> {
    restores
        .iter()
        .filter(|restored| restored.method == method)
        .map(|restored| restored.total_us)
        .collect()
}

/// What tenant B's function found.
#[derive(Debug)]
struct Search {
    places: Vec<(String, bool)>,
    /// Running in the process, where a function can tell.
    threads: Option<u64>,
    /// Of the card number in the process's memory, and how much that is; where a
    /// function can read it.
    copies: Option<(u64, u64)>,
}

impl Search {
    fn read(report: &Value) -> Result<Self> {
        let places = report["places"]
            .as_object()
            .with_context(|| format!("no places in {report}"))?;
        let place = |(name, found): (&String, &Value)| {
            let found = found.as_bool();
            found
                .map(|found| (name.clone(), found))
                .with_context(|| format!("{name:?} is no yes or no in {report}"))
        };
        Ok(Self {
            places: places.iter().map(place).collect::<Result<_>>()?,
            threads: report["threads"].as_u64(),
            copies: report["copies"].as_u64().zip(report["searched"].as_u64()),
        })
    }

    fn found(&self) -> Vec<&str> {
        let found = self.places.iter().filter(|(_, found)| *found);
        found.map(|(place, _)| place.as_str()).collect()
    }

    /// True if nothing of tenant A is there, named or not.
    fn is_empty(&self) -> bool {
        self.found().is_empty()
            && self.copies.is_none_or(|(copies, _)| copies == 0)
            && self.threads.is_none_or(|threads| threads == 1)
    }

    fn print(&self, paint: Paint) {
        let mark = |found: bool, words: String| {
            if found {
                paint.bad(words)
            } else {
                paint.good(words)
            }
        };
        for (place, found) in &self.places {
            let words = if *found {
                "finds the card number"
            } else {
                "nothing"
            };
            println!("  {place:<22} {}", mark(*found, words.to_owned()));
        }
        if let Some((copies, searched)) = self.copies {
            let words = format!(
                "{copies} copies of the card number in {}",
                mebibytes(searched)
            );
            println!("  {:<22} {}", "all of its memory", mark(copies > 0, words));
        }
        if let Some(threads) = self.threads {
            let words = threads.to_string();
            println!("  {:<22} {}", "threads running", mark(threads > 1, words));
        }
    }
}

fn scene(paint: Paint, title: &str) {
    println!();
    println!("{}", paint.bold(title));
}

/// Microseconds in the unit a person would use.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self.0 {
            us @ 0..1_000 => format!("{us} µs"),
            us @ 1_000..100_000 => format!("{:.2} ms", thousandths(us)),
            us => format!("{:.0} ms", thousandths(us)),
        };
        formatter.pad(&text)
    }
}

#[allow(clippy::cast_precision_loss)] // Printed with a digit or two.
fn thousandths(value: u64) -> f64 {
    value as f64 / 1000.0
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}
