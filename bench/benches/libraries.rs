//! Restore and refork by the library that the template has imported (the paper's Figure 11),
//! and how soon a function that uses it answers. `--quick` takes few samples.

use std::process::ExitCode;

use refunction_bench::Failure;
use refunction_bench::asked::Asked;
use refunction_bench::figure::Figure;
use refunction_bench::fork_server::{ForkServer, Request};
use refunction_bench::player::Player;
use refunction_bench::setting::Setting;
use refunction_bench::table::{self, Name, Promise, Report, Row, Samples};

/// A name, and what of it is imported: some libraries are empty until a part is.
const LIBRARIES: [(&str, &str); 6] = [
    (PLAIN, ""),
    ("django", "django.http,django.template,django.urls"),
    ("sqlalchemy", "sqlalchemy,sqlalchemy.orm"),
    ("numpy", "numpy"),
    ("scipy", "scipy.linalg,scipy.sparse"),
    (PANDAS, "pandas"),
];
const PLAIN: &str = "plain";
const PANDAS: &str = "pandas";

const NO_OP: &str = "def main(args):\n    return args\n";
const USES_PANDAS: &str =
    "import pandas\ndef main(args):\n    return int(pandas.Series([1, 2, 3]).sum())\n";

const REWIND: &str = "rewind";
const REFORK: &str = "refork";
const FORK_SERVER: &str = "fork server: fork, load, call, reap";
const FIRST: &str = "load and first request of a no-op";
const FIRST_OF_PANDAS: &str = "load and first request of a function that uses pandas";
const WARM_OF_PANDAS: &str = "a further call of that function";
const SNAPSHOT: &str = "snapshot";
const ID: &str = "11";

fn main() -> ExitCode {
    refunction_bench::run(measure)
}

struct Parts {
    library: &'static str,
    player: Player,
    fork_server: ForkServer,
}

impl Parts {
    fn with(library: &'static str, imported: &str) -> Result<Self, Failure> {
        let setting = Setting::python(NO_OP).importing(imported);
        Ok(Self {
            library,
            fork_server: ForkServer::with(&setting)?,
            player: Player::start(&setting)?,
        })
    }
}

fn of(library: &str, step: &str) -> String {
    format!("{library}: {step}")
}

fn measure() -> Result<(), Failure> {
    let asked = Asked::of_arguments(&[ID])?;
    let mut report = Report {
        conditions: table::conditions(),
        ..Report::default()
    };
    let mut all = Vec::new();
    for (library, imported) in LIBRARIES {
        match Parts::with(library, imported) {
            Ok(parts) => all.push(parts),
            Err(reason) => {
                report.not_run.insert(library.into(), reason.to_string());
            }
        }
    }
    let setting = Setting::python(USES_PANDAS).importing(PANDAS);
    let mut with_pandas = Player::start(&setting).ok();
    let mut samples = Samples::default();
    for _ in 0..asked.either(20, 1) {
        for parts in &mut all {
            round(&asked, parts, &mut samples)?;
        }
        if let Some(player) = &mut with_pandas {
            for turn in player.turns(asked.either(20, 2), 1)? {
                samples.add(&of(PANDAS, FIRST_OF_PANDAS), turn.load + turn.first);
                // What of the first is its own work.
                for call in turn.warm {
                    samples.add(&of(PANDAS, WARM_OF_PANDAS), call);
                }
            }
        }
    }
    let rows = samples.rows(|name| {
        let (library, step) = name.split_once(": ")?;
        match step {
            REWIND | REFORK if library != PLAIN => Some(of(PLAIN, step).into()),
            REWIND | REFORK => Some(of(library, FORK_SERVER).into()),
            FIRST_OF_PANDAS => Some(of(PANDAS, FIRST).into()),
            _ => None,
        }
    });
    report.promises = promises(&rows);
    report.results = rows.into_iter().map(placed).collect();
    for parts in all {
        let megabytes = parts.player.nature.bytes as f64 / 1e6;
        let name = of(parts.library, SNAPSHOT);
        report.results.push(Row::of(name, "MB", vec![megabytes]));
    }
    report.figures.push(Figure {
        id: ID.into(),
        title: "Restore by library in the template".into(),
        y: "a turn's end: rewind, refork, or a fork server's turnaround".into(),
        is_y_logarithmic: true,
        caption: imports().into(),
        ..Figure::default()
    });
    report.publish(env!("CARGO_TARGET_TMPDIR"), "libraries")
}

/// What was imported for each.
fn imports() -> String {
    let imported = LIBRARIES
        .iter()
        .filter(|(library, _)| *library != PLAIN)
        .map(|(library, imported)| format!("{library} ({})", imported.replace(',', ", ")));
    let imported = imported.collect::<Vec<_>>().join("; ");
    format!("A no-op in CPython, with nothing imported, and with {imported}.")
}

fn round(asked: &Asked, parts: &mut Parts, samples: &mut Samples) -> Result<(), Failure> {
    let (in_a_row, warm_up) = asked.either((20, 3), (2, 1));
    let of = |step| of(parts.library, step);
    // First: a new worker's turns are slower than those of one that has had some.
    for took in parts.player.reforks(in_a_row)? {
        samples.add(&of(REFORK), took);
    }
    let turns = parts.player.turns(2 * warm_up + in_a_row, 0)?;
    for turn in turns.iter().skip(2 * warm_up) {
        samples.add(&of(REWIND), turn.rewind);
        samples.add(&of(FIRST), turn.load + turn.first);
    }
    for time in 0..warm_up + in_a_row {
        let took = parts.fork_server.serve(Request::Call)?;
        if time >= warm_up {
            samples.add(&of(FORK_SERVER), took);
        }
    }
    Ok(())
}

fn placed(row: Row) -> Row {
    let step = row.name.split_once(": ").map(|(_, step)| step.to_owned());
    match step {
        Some(step) if [REWIND, REFORK, FORK_SERVER].contains(&step.as_str()) => {
            row.on(ID, step, None)
        }
        _ => row,
    }
}

fn promises(rows: &[Row]) -> Vec<Promise> {
    let promise = |what: &str, (library, step): (&str, &str), (to, by): (&str, &str), at_most| {
        let what = Name::from(what.to_owned());
        Promise::of(what, rows, &of(library, step), &of(to, by), at_most)
    };
    [
        promise("a rewind with numpy by a plain one", ("numpy", REWIND), (PLAIN, REWIND), 1.5),
        promise("a rewind with pandas by a plain one", (PANDAS, REWIND), (PLAIN, REWIND), 2.5),
        promise("a refork with pandas by a plain one", (PANDAS, REFORK), (PLAIN, REFORK), 1.3),
        promise(
            "a refork by a fork server's turnaround",
            (PLAIN, REFORK),
            (PLAIN, FORK_SERVER),
            0.5,
        ),
        promise(
            "the first answer of a function that uses pandas by a no-op's, pandas in both templates",
            (PANDAS, FIRST_OF_PANDAS),
            (PANDAS, FIRST),
            2.0,
        ),
        promise(
            "the first answer of a function that uses pandas by a no-op's in a plain template",
            (PANDAS, FIRST_OF_PANDAS),
            (PLAIN, FIRST),
            2.0,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
