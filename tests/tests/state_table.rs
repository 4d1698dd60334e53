//! docs/restore.md names code and tests for each kind of state, SPECIFICATION.md tests
//! for each number, docs/contracts.md for each clause. That these are still there is tried here; that they do what they
//! say, by the tests named.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const HEADER: [&str; 5] = ["state", "how it is seen", "what is done", "code", "test"];

/// Of the tables in SPECIFICATION.md.
const PROMISES: [&str; 3] = ["promise", "number", "test"];

/// Of the tables in docs/contracts.md.
const CLAUSES: [&str; 3] = ["clause", "how", "test"];

/// What stands where there is no code.
const NOT_HANDLED: &str = "–";

/// What stands where there is no test.
const NO_TEST: &str = "none yet";

/// Fewer rows than this and the table was not read, or was cut.
const FEWEST_ROWS: usize = 60;
const FEWEST_PROMISES: usize = 20;
const FEWEST_CLAUSES: usize = 40;

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

/// The rows of all tables with this header.
fn rows<'a>(document: &'a str, header: &[&str]) -> Vec<Vec<&'a str>> {
    let mut rows = Vec::new();
    let mut lines = document.lines();
    while lines.any(|line| cells(line).is_some_and(|cells| cells == header)) {
        // Without the line under it.
        rows.extend(lines.by_ref().skip(1).map_while(cells));
    }
    rows
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
        faults.extend(faults_of_tests(test, folder));
    }
    faults
}

/// What is wrong with a list of tests.
fn faults_of_tests(cell: &str, folder: &Path) -> Vec<String> {
    let Some(links) = links(cell) else {
        return vec![format!("{cell:?} is no list of links")];
    };
    let fault = |link: &Link<'_>| {
        let Some(name) = in_backticks(link.text) else {
            return Some(format!("{} names no test", link.text));
        };
        match fs::read_to_string(folder.join(link.target)) {
            Ok(file) if has_test(&file, name) => None,
            Ok(_) => Some(format!("{} has no {name:?}", link.target)),
            Err(error) => Some(format!("{}: {error}", link.target)),
        }
    };
    links.iter().filter_map(fault).collect()
}

#[test]
fn every_row_leads_to_code_and_tests_that_are_there() {
    let folder = documents();
    let document = fs::read_to_string(folder.join("restore.md")).expect("docs/restore.md");
    let rows = rows(&document, &HEADER);
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
fn every_promise_leads_to_tests_that_are_there() {
    let folder = documents().join("..");
    let document = fs::read_to_string(folder.join("SPECIFICATION.md")).expect("read");
    let promises = rows(&document, &PROMISES);
    assert!(promises.len() >= FEWEST_PROMISES, "{}", promises.len());
    let mut found = Vec::new();
    for promise in promises {
        let &[what, number, test] = promise.as_slice() else {
            panic!("{promise:?} has {} cells", promise.len());
        };
        assert!(!what.is_empty() && !number.is_empty(), "{promise:?}");
        found.extend(
            faults_of_tests(test, &folder)
                .iter()
                .map(|fault| format!("{what}: {fault}")),
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

#[test]
fn every_clause_of_a_contract_leads_to_tests_that_are_there() {
    let folder = documents();
    let document = fs::read_to_string(folder.join("contracts.md")).expect("docs/contracts.md");
    let clauses = rows(&document, &CLAUSES);
    assert!(
        clauses.len() >= FEWEST_CLAUSES,
        "there are only {}",
        clauses.len()
    );
    let mut faults = Vec::new();
    for clause in clauses {
        let &[name, how, test] = clause.as_slice() else {
            faults.push(format!("{clause:?}: it has {} cells", clause.len()));
            continue;
        };
        let found = match test == NO_TEST {
            true if how.starts_with(NOT_HANDLED) => Vec::new(),
            true => vec![format!("no test tries {how:?}")],
            false => faults_of_tests(test, &folder),
        };
        faults.extend(found.iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
