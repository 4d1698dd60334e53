//! docs/restore.md names code and tests for each kind of state. That these are
//! still there is tried here; that they do what they say, by the tests it names.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const HEADER: [&str; 5] = ["state", "how it is seen", "what is done", "code", "test"];

/// What stands where there is no code.
const NOT_HANDLED: &str = "–";

/// What stands where there is no test.
const NO_TEST: &str = "none yet";

/// Fewer rows than this and the table was not read, or was cut.
const FEWEST_ROWS: usize = 60;

/// `[text](target)`.
struct Link<'a> {
    text: &'a str,
    target: &'a str,
}

fn documents() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// The rows of the first table below the header.
fn rows(document: &str) -> Vec<Vec<&str>> {
    document
        .lines()
        .skip_while(|line| cells(line).is_none_or(|cells| cells != HEADER))
        // The header, and the line under it.
        .skip(2)
        .map_while(cells)
        .collect()
}

/// The links of a cell; `None` if there is anything between them but commas.
fn links(cell: &str) -> Option<Vec<Link<'_>>> {
    let mut links = Vec::new();
    let mut rest = cell;
    loop {
        let (text, after) = rest.strip_prefix('[')?.split_once("](")?;
        let (target, after) = after.split_once(')')?;
        links.push(Link { text, target });
        match after.strip_prefix(", ") {
            Some(more) => rest = more,
            None => return after.is_empty().then_some(links),
        }
    }
}

fn in_backticks(text: &str) -> Option<&str> {
    text.strip_prefix('`')?.strip_suffix('`')
}

/// True if this file has a function, a mutation or a case of that name.
fn has_test(file: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let function = file.match_indices("fn ").any(|(at, _)| {
        let after = &file[at + "fn ".len()..];
        after
            .strip_prefix(name)
            .is_some_and(|after| !after.starts_with(is_word))
    });
    function || file.contains(&format!("\"{name}\","))
}

/// What is wrong with one row.
fn faults(row: &[&str], folder: &Path) -> Vec<String> {
    let &[state, seen, done, code, test] = row else {
        return vec![format!("it has {} cells", row.len())];
    };
    let mut faults = Vec::new();
    for (name, cell) in HEADER.iter().zip([state, seen, done, code, test]) {
        if cell.is_empty() {
            faults.push(format!("{name:?} is empty"));
        }
    }
    if code == NOT_HANDLED {
        if !done.starts_with(NOT_HANDLED) {
            faults.push(format!("no code does {done:?}"));
        }
    } else {
        match links(code) {
            Some(links) => {
                for link in links {
                    if !folder.join(link.target).is_file() {
                        faults.push(format!("{} is not there", link.target));
                    }
                    let named = in_backticks(link.text);
                    if named.is_none_or(|named| !link.target.ends_with(named)) {
                        faults.push(format!("{} does not lead to {}", link.text, link.target));
                    }
                }
            }
            None => faults.push(format!("{code:?} is no list of links")),
        }
    }
    if test == NO_TEST {
        if !done.starts_with(NOT_HANDLED) {
            faults.push(format!("no test tries {done:?}"));
        }
    } else {
        match links(test) {
            Some(links) => {
                for link in links {
                    let Some(name) = in_backticks(link.text) else {
                        faults.push(format!("{} names no test", link.text));
                        continue;
                    };
                    match fs::read_to_string(folder.join(link.target)) {
                        Ok(file) if has_test(&file, name) => {}
                        Ok(_) => faults.push(format!("{} has no {name:?}", link.target)),
                        Err(error) => faults.push(format!("{}: {error}", link.target)),
                    }
                }
            }
            None => faults.push(format!("{test:?} is no list of links")),
        }
    }
    faults
}

#[test]
fn every_row_leads_to_code_and_tests_that_are_there() {
    let folder = documents();
    let document = fs::read_to_string(folder.join("restore.md")).expect("docs/restore.md");
    let rows = rows(&document);
    assert!(
        rows.len() >= FEWEST_ROWS,
        "there are only {} rows",
        rows.len()
    );
    let mut states = BTreeSet::new();
    let mut found = Vec::new();
    for row in &rows {
        if !states.insert(row[0]) {
            found.push(format!("{}: it is there twice", row[0]));
        }
        found.extend(
            faults(row, &folder)
                .iter()
                .map(|fault| format!("{}: {fault}", row[0])),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_wrong_row_is_noticed() {
    let folder = documents();
    let code = "[`Cargo.toml`](../Cargo.toml)";
    let test = "[`a_wrong_row_is_noticed`](../tests/tests/state_table.rs)";
    let row = |done, code, test| faults(&["state", "seen", done, code, test], &folder).len();
    assert_eq!(row("R", code, test), 0);
    assert_eq!(row("– not handled", NOT_HANDLED, NO_TEST), 0);
    for (done, code, test) in [
        ("R", NOT_HANDLED, test),
        ("R", "", test),
        ("R", "Cargo.toml", test),
        ("R", "[`gone.rs`](../gone.rs)", test),
        ("R", "[`other.toml`](../Cargo.toml)", test),
        ("", code, test),
        ("R", code, ""),
        ("R", code, "later"),
        ("D", code, NO_TEST),
        ("R", code, "[`a_wrong_row`](../tests/tests/state_table.rs)"),
        ("R", code, "[`a_wrong_row_is_noticed`](../gone.rs)"),
        (
            "R",
            code,
            "[a_wrong_row_is_noticed](../tests/tests/state_table.rs)",
        ),
    ] {
        assert_ne!(row(done, code, test), 0, "{done:?} {code:?} {test:?}");
    }
    assert_eq!(faults(&["state", "seen"], &folder).len(), 1);
}
