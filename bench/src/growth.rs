//! What a restore grows with, and what it does not: memory that the function allocates and
//! frees (the paper's Figure 12), pages that it writes to, mappings, threads; and for how long
//! a function that wrote a lot is felt by those after it.

use refunction_snapshot::Scan;
use serde_json::json;

use crate::Failure;
use crate::asked::Asked;
use crate::figure::Figure;
use crate::floor::Floor;
use crate::player::Player;
use crate::runtime::Runtime;
use crate::setting::Setting;
use crate::stage::Stage;
use crate::table::{self, Name, Promise, Report, Row, Samples};

/// What there is to measure.
const SUBJECTS: [(&str, Subject); 5] = [
    ("12", memory),
    ("pages", pages),
    ("mappings", mappings),
    ("threads", threads),
    ("ageing", ageing),
];

type Subject = fn(&Asked, &mut Report) -> Result<(), Failure>;

/// Megabytes that a function allocates and frees.
const MEGABYTES: [u64; 8] = [0, 10, 25, 50, 75, 100, 125, 150];
/// How much that may show, either way.
const FLAT: f64 = 1.2;
/// Pages that it writes to.
const PAGES: [u64; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
/// Mappings that its template has beside its own.
const MAPPINGS: [u64; 6] = [0, 50, 150, 450, 950, 1_950];
/// Threads of Node.js's pool.
const POOL: [u64; 5] = [1, 4, 16, 32, 60];
/// Pages that the one heavy function writes to.
const HEAVY: u64 = 5_000;
/// How many restores may pass until a light function's is as usual again, and what is as usual.
const RESTORES: usize = 8;
const AS_USUAL: f64 = 1.5;
/// How many restores after it are looked at.
const RESTORES_SEEN: usize = 16;

const NO_OP: &str = "def main(args):\n    return args\n";
const REWIND: &str = "rewind";
const FLOOR: &str = "floor";

/// Measures what is asked for.
///
/// # Errors
/// A worker did not answer as it should, or could not be put back.
pub fn measure(asked: &Asked, report: &mut Report) -> Result<(), Failure> {
    for (name, subject) in SUBJECTS {
        if asked.includes(name) {
            subject(asked, report)?;
        }
    }
    Ok(())
}

/// The names of what there is to measure.
#[must_use]
pub fn subjects() -> [&'static str; SUBJECTS.len()] {
    SUBJECTS.map(|(name, _)| name)
}

/// The paper's Figure 12.
fn memory(asked: &Asked, report: &mut Report) -> Result<(), Failure> {
    const CODE: &str = "def main(args):\n    return len(b'x' * (args['megabytes'] << 20))\n";
    let (rounds, in_a_row, warm_up) = asked.either((20, 5, 2), (1, 2, 1));
    let sizes = asked.either(&MEGABYTES[..], &MEGABYTES[..2]);
    let mut stage = Stage::with(Scan::Auto, Setting::python(CODE))?;
    let mut samples = Samples::default();
    let name = |size: &u64| format!("rewind after {size} MB");
    stage.give(&json!({"megabytes": MEGABYTES[0]}))?;
    let mut floor = Floor::of(&mut stage)?;
    for _ in 0..rounds {
        for size in sizes {
            stage.give(&json!({"megabytes": size}))?;
            for time in 0..warm_up + in_a_row {
                let rewind = stage.turn(0)?.rewind;
                if time >= warm_up {
                    samples.add(&name(size), rewind);
                }
            }
            for _ in 0..in_a_row {
                stage.load()?;
                stage.call()?;
                // Before the rewind, which has the caches as the function leaves them, too.
                let floor = floor.measure()?.whole();
                stage.rewind()?;
                samples.add(&floor_of(&name(size)), floor);
            }
        }
    }
    stage.strike()?;
    let places: Vec<_> = sizes.iter().map(|it| (name(it), *it as f64)).collect();
    let without = name(&MEGABYTES[0]);
    let rows = on_lines_against(samples, "12", "Python", &places, |row| {
        (!row.starts_with(FLOOR)).then(|| without.clone().into())
    });
    let of = |size: &u64| rows.iter().find(|row| row.name == name(size));
    let furthest = |value: fn(&Row) -> Option<f64>| {
        let values: Vec<f64> = (sizes.iter().filter_map(of)).filter_map(value).collect();
        let without = values.first().copied().unwrap_or(1.0);
        let ratios = values.iter().map(|it| (it / without).max(without / it));
        ratios.fold(1.0, f64::max)
    };
    for (what, measured) in [
        (
            "a rewind after memory was allocated and freed, by one after none was",
            furthest(|row| Some(row.median)),
        ),
        (
            "the same in floors, each with the caches that the function leaves",
            furthest(|row| row.floors),
        ),
    ] {
        report.promises.push(Promise {
            what: what.into(),
            at_most: FLAT,
            measured,
            kept: measured <= FLAT,
        });
    }
    report.results.extend(rows);
    report.figures.push(Figure {
        id: "12".into(),
        title: "Restore by memory that the function allocates and frees".into(),
        x: "megabytes written and freed by the function".into(),
        y: REWIND.into(),
        caption: "The paper reports that its restore is flat from 0 to 150 MB. What a function \
                  writes takes the place of everything else in the processor's caches: the floor \
                  is measured right after its call."
            .into(),
        ..Figure::default()
    });
    Ok(())
}

/// A function that writes to pages of its template.
fn writer(pages: u64) -> Setting {
    const CODE: &str = "import ballast\n\
                        def main(args):\n    ballast.write(args.get('pages', 0))\n";
    Setting::python(CODE)
        .importing("ballast")
        .with("BALLAST_PAGES", pages)
}

fn pages(asked: &Asked, report: &mut Report) -> Result<(), Failure> {
    let counts = asked.either(&PAGES[..], &PAGES[..3]);
    let most = counts.last().copied().unwrap_or_default();
    let mut stage = Stage::with(Scan::Auto, writer(most))?;
    let mut samples = Samples::default();
    let mut places = Vec::new();
    for count in counts {
        stage.give(&json!({"pages": count}))?;
        let name = format!("rewind after writing to {count} pages");
        // A page is copied back from the second time on that it was written.
        let (warm_up, times) = asked.either((10, (400_000 / count).clamp(20, 400)), (2, 2));
        for time in 0..warm_up + times {
            let rewind = stage.turn(0)?.rewind;
            if time >= warm_up {
                samples.add(&name, rewind);
            }
        }
        let mut floor = Floor::of(&mut stage)?;
        for _ in 0..times.min(100) {
            stage.turn(0)?;
            samples.add(&floor_of(&name), floor.measure()?.whole());
        }
        places.push((name, *count as f64));
    }
    stage.strike()?;
    report
        .results
        .extend(on_lines(samples, "pages", "Python", &places));
    report.figures.push(Figure {
        id: "pages".into(),
        title: "Restore by pages written".into(),
        x: "pages of the template that the function writes to, beside its runtime's own".into(),
        y: REWIND.into(),
        is_x_logarithmic: true,
        is_y_logarithmic: true,
        caption: "Each count by itself, once its pages are known to be written again and again. \
                  The floor is what no restore of them can beat."
            .into(),
    });
    Ok(())
}

/// The floor's name, of what has this name.
fn floor_of(name: &str) -> String {
    format!("{FLOOR} of a {name}")
}

/// Rows of these names, each in its place on a line, and their floors on another.
fn on_lines(
    samples: Samples,
    figure: &'static str,
    series: &'static str,
    places: &[(String, f64)],
) -> Vec<Row> {
    on_lines_against(samples, figure, series, places, |_| None)
}

/// The same, with ratios.
fn on_lines_against(
    mut samples: Samples,
    figure: &'static str,
    series: &'static str,
    places: &[(String, f64)],
    against: impl Fn(&str) -> Option<Name>,
) -> Vec<Row> {
    let mut rows = samples.rows(against);
    table::in_floors(&mut rows, |name| floor_of(name).into());
    let placed = rows.into_iter().map(|row| {
        let found = places.iter().find_map(|(name, x)| {
            let is_floor = row.name == floor_of(name);
            (is_floor || row.name == *name).then_some((is_floor, *x))
        });
        match found {
            Some((true, x)) => row.on(figure, format!("{FLOOR}, {series}"), x),
            Some((false, x)) => row.on(figure, series, x),
            None => row,
        }
    });
    placed.collect()
}

fn mappings(asked: &Asked, report: &mut Report) -> Result<(), Failure> {
    let added = asked.either(&MAPPINGS[..], &MAPPINGS[..2]);
    let mut all = Vec::new();
    for added in added {
        let setting = Setting::python(NO_OP)
            .importing("ballast")
            .with("BALLAST_MAPPINGS", added);
        let player = Player::start(&setting)?;
        let count = player.nature.mappings;
        all.push(Standing {
            player,
            name: format!("rewind of {count} mappings"),
            x: count as f64,
        });
    }
    let (samples, places) = in_rounds(asked, all)?;
    report
        .results
        .extend(on_lines(samples, "mappings", "Python", &places));
    report.figures.push(Figure {
        id: "mappings".into(),
        title: "Restore by mappings".into(),
        x: "mappings of the worker".into(),
        y: REWIND.into(),
        caption: "A no-op. Neighbouring mappings have different rights; half of them can be \
                  written to and hold a page."
            .into(),
        ..Figure::default()
    });
    Ok(())
}

fn threads(asked: &Asked, report: &mut Report) -> Result<(), Failure> {
    let mut all = Vec::new();
    for pool in asked.either(&POOL[..], &POOL[..1]) {
        let setting = Setting::no_op(Runtime::Node)?.with("UV_THREADPOOL_SIZE", pool);
        match Player::start(&setting) {
            Ok(player) => {
                let count = player.nature.threads;
                all.push(Standing {
                    player,
                    name: format!("rewind of Node.js with {count} threads"),
                    x: count as f64,
                });
            }
            Err(reason) => {
                let what = format!("threads: Node.js with a pool of {pool}");
                report.not_run.insert(what.into(), reason.to_string());
            }
        }
    }
    let (samples, places) = in_rounds(asked, all)?;
    report
        .results
        .extend(on_lines(samples, "threads", "Node.js", &places));
    let python = Standing {
        player: Player::start(&Setting::no_op(Runtime::Python)?)?,
        name: "rewind of Python with 1 thread".into(),
        x: 1.0,
    };
    let (samples, places) = in_rounds(asked, vec![python])?;
    report
        .results
        .extend(on_lines(samples, "threads", "Python", &places));
    report.figures.push(Figure {
        id: "threads".into(),
        title: "Restore by threads".into(),
        x: "threads of the worker".into(),
        y: REWIND.into(),
        caption: "A no-op in Node.js with a pool of 1 to 60 threads, all of them asleep, beside \
                  those that it has anyway; and in Python, which has one thread."
            .into(),
        ..Figure::default()
    });
    Ok(())
}

/// A player, what its rewinds are called, and where they are on a line.
struct Standing {
    player: Player,
    name: String,
    x: f64,
}

/// Has all of them take turns in rounds, so that a noisy minute is everybody's.
fn in_rounds(
    asked: &Asked,
    mut all: Vec<Standing>,
) -> Result<(Samples, Vec<(String, f64)>), Failure> {
    let (rounds, in_a_row, warm_up) = asked.either((20, 20, 3), (1, 2, 1));
    let mut samples = Samples::default();
    for _ in 0..rounds {
        for Standing { player, name, .. } in &mut all {
            for turn in player.turns(warm_up + in_a_row, 0)?.iter().skip(warm_up) {
                samples.add(name, turn.rewind);
            }
            for floor in player.floors(in_a_row / 2)? {
                samples.add(&floor_of(name), floor);
            }
        }
    }
    let places = all.into_iter().map(|it| (it.name, it.x)).collect();
    Ok((samples, places))
}

fn ageing(asked: &Asked, report: &mut Report) -> Result<(), Failure> {
    const USUAL: &str = "ageing: rewind after a no-op, as usual";
    let (times, usual) = asked.either((30, 20), (1, 2));
    let mut stage = Stage::with(Scan::Auto, writer(HEAVY))?;
    let mut samples = Samples::default();
    let name = |number: usize| format!("ageing: rewind after a no-op, {number} restores later");
    let (light, heavy) = (json!({"pages": 0}), json!({"pages": HEAVY}));
    for _ in 0..times {
        stage.give(&light)?;
        for _ in 0..usual {
            stage.turn(0)?;
        }
        for _ in 0..usual {
            samples.add(USUAL, stage.turn(0)?.rewind);
        }
        stage.give(&heavy)?;
        samples.add(
            "ageing: rewind after the heavy function",
            stage.turn(0)?.rewind,
        );
        stage.give(&light)?;
        for number in 1..=RESTORES_SEEN {
            samples.add(&name(number), stage.turn(0)?.rewind);
        }
    }
    stage.strike()?;
    let rows = samples.rows(|_| Some(USUAL.into()));
    let number_of = |row: &Row| (1..=RESTORES_SEEN).find(|number| row.name == name(*number));
    let last_unusual = rows
        .iter()
        .filter(|row| row.ratio.is_some_and(|ratio| ratio > AS_USUAL))
        .filter_map(number_of)
        .max();
    let restores = last_unusual.map_or(1, |number| number + 1);
    report.promises.push(Promise {
        what: Name::from(format!(
            "restores after a function that wrote to {HEAVY} pages until a no-op's takes \
             {AS_USUAL} times the usual at most"
        )),
        at_most: RESTORES as f64,
        measured: restores as f64,
        kept: restores <= RESTORES,
    });
    let placed = rows.into_iter().map(|row| match number_of(&row) {
        Some(number) => row.on("ageing", "after the heavy function", number as f64),
        None if row.name == USUAL => row.on("ageing", "as usual", 0.0),
        None => row,
    });
    report.results.extend(placed);
    report.figures.push(Figure {
        id: "ageing".into(),
        title: format!("A no-op's restore after a function that wrote to {HEAVY} pages").into(),
        x: "restores since the heavy function".into(),
        y: REWIND.into(),
        is_y_logarithmic: true,
        caption: "What was written once is dropped from what is copied back when it is not \
                  written again."
            .into(),
        ..Figure::default()
    });
    Ok(())
}
