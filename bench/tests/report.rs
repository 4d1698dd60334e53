//! That a benchmark, run for a moment, gives a page and a file that say what it found. Nothing
//! is timed. This program plays the measured parts, too, so it has a `main` of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use refunction_bench::asked::Asked;
use refunction_bench::figure::Quoted;
use refunction_bench::growth;
use refunction_bench::report::{PAGE, RESULTS, Run};
use refunction_bench::table::{self, Promise, Report, Row};
use refunction_bench::{Failure, play};
use refunction_snapshot::block_sigchld;
use serde_json::Value;

fn main() -> ExitCode {
    match play().unwrap_or_else(test) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<(), Failure> {
    block_sigchld()?;
    refunction_tests::environment::require_root();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir_all(&directory)?,
    }
    let names = ["12", "pages"].map(str::to_owned);
    let asked = Asked::of(
        names.into_iter().chain(["--quick".to_owned()]),
        &growth::subjects(),
    )?;
    let mut report = Report {
        conditions: table::conditions(),
        ..Report::default()
    };
    growth::measure(&asked, &mut report)?;
    assert!(report.results.len() >= 4, "{report}");
    add_what_a_page_must_stand(&mut report);
    let path = directory.join("growth.json");
    fs::write(&path, serde_json::to_vec_pretty(&report)?)?;
    Run::read(&directory)?.write(&directory)?;
    the_file_says_what_was_found(&directory, &report)?;
    the_page_says_what_was_found(&directory, &report)?;
    // Written again, it takes its own file for no report.
    let again = Run::read(&directory)?;
    assert_eq!(again.results.len(), report.results.len());
    fs::write(&path, "{")?;
    let error = Run::read(&directory)
        .err()
        .ok_or("half a report was read")?;
    assert!(error.to_string().contains("growth.json"), "{error}");
    println!("report: a page and a file that say what was found");
    Ok(())
}

/// What the run itself may not have.
fn add_what_a_page_must_stand(report: &mut Report) {
    report.promises.push(Promise {
        what: "<b>something</b> that was not kept".into(),
        at_most: 1.0,
        measured: 2.0,
        kept: false,
    });
    (report.not_run).insert("a thing".into(), "it is \"not\" here & there".into());
    report.quoted.push(Quoted {
        source: "somebody".into(),
        name: "the same".into(),
        unit: "us".into(),
        value: 2_300.0,
        figure: Some("12".into()),
        x: None,
    });
}

fn the_file_says_what_was_found(directory: &Path, report: &Report) -> Result<(), Failure> {
    let run: Value = serde_json::from_slice(&fs::read(directory.join(RESULTS))?)?;
    let rows = run["results"].as_array().ok_or("there are no results")?;
    assert_eq!(rows.len(), report.results.len());
    for (row, found) in rows.iter().zip(&report.results) {
        assert_eq!(row["part"], "growth");
        assert_eq!(row["name"], found.name.as_str());
        assert_eq!(row["unit"], "us");
        let number = |key: &str| row[key].as_f64().ok_or(format!("{key} of {row}"));
        assert!(number("median")? > 0.0, "{row}");
        assert!(number("median")? <= number("p90")?, "{row}");
        assert!(number("p90")? <= number("p99")?, "{row}");
        assert!(number("samples")? >= 1.0, "{row}");
    }
    assert!(
        rows.iter()
            .any(|row| row["ratio"].is_f64() && row["against"].is_string())
    );
    let promises = run["promises"].as_array().ok_or("nothing is promised")?;
    assert!(promises.iter().any(|promise| promise["kept"] == false));
    assert!(run["not_run"]["growth"]["a thing"].is_string());
    assert_eq!(run["quoted"][0]["source"], "somebody");
    Ok(())
}

fn the_page_says_what_was_found(directory: &Path, report: &Report) -> Result<(), Failure> {
    let page = fs::read_to_string(directory.join(PAGE))?;
    every_element_is_closed(&page)?;
    assert_eq!(page.matches("<svg").count(), report.figures.len());
    // Whatever is not in it would have to be fetched.
    for elsewhere in ["<script", "<link", "<img", "src=", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    let is_there = |row: &Row| page.contains(&format!("<td>{}</td>", row.name));
    assert!(report.results.iter().all(is_there));
    for text in [
        "&lt;b&gt;something&lt;/b&gt; that was not kept",
        "it is &quot;not&quot; here &amp; there",
        "the same: somebody, on other hardware",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(text), "{text}");
    }
    Ok(())
}

/// Elements of one kind do not overlap on this page, so that counting tells.
fn every_element_is_closed(page: &str) -> Result<(), Failure> {
    let mut open: BTreeMap<&str, i32> = BTreeMap::new();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').ok_or("a tag without an end")?;
        let name = tag.split([' ', '\n', '/']).find(|word| !word.is_empty());
        let name = name.ok_or("a tag without a name")?;
        if tag.starts_with('/') {
            *open.entry(name).or_default() -= 1;
        } else if !tag.ends_with('/') && !["!DOCTYPE", "meta"].contains(&name) {
            *open.entry(name).or_default() += 1;
        }
    }
    let unclosed: Vec<_> = open.iter().filter(|(_, count)| **count != 0).collect();
    assert!(unclosed.is_empty(), "{unclosed:?}");
    Ok(())
}
