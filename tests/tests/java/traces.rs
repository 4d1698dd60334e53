//! Whatever a tenant leaves in a JVM, the next one finds it as if nobody had been there.

use std::collections::BTreeMap;

use refunction_tests::java;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

use crate::program::{function, jar, load};

/// What costs the worker, and the row of the state table that says so.
const REPLACED: &[(&str, &str)] = &[(
    "a descriptor of the adapter's that is closed",
    "descriptors",
)];

/// What a tenant finds that looks for this.
fn look(supervisor: &mut Supervisor, code: &Value, name: &str) -> String {
    load(supervisor, code.clone(), "main", "Traces");
    let found = supervisor.call(&json!({"look": name}));
    found.as_str().expect("text").to_owned()
}

/// Each trace is looked for before it is left, right after, and by the next tenant. What is
/// the same right after would not be noticed by the next either.
#[test]
fn a_tenant_finds_nothing_of_the_one_before() {
    let mut supervisor = java::start(&[]).unwatched();
    let code = function(&jar(&["Traces", "Echo"], &[]));
    load(&mut supervisor, code.clone(), "main", "Traces");
    let names: Vec<String> =
        serde_json::from_value(supervisor.call(&json!({}))).expect("a list of names");
    assert!(names.len() > 40, "{names:?}");
    assert_eq!(supervisor.restore().method, "rewind");
    let mut failures = BTreeMap::new();
    for name in &names {
        let before = look(&mut supervisor, &code, name);
        let mut wrong = Vec::new();
        let restored = supervisor.restore();
        if restored.method != "rewind" {
            wrong.push(format!("before: {}", restored.report));
        }
        load(&mut supervisor, code.clone(), "main", "Traces");
        let left = supervisor.answer(&json!({"leave": name}));
        if left["data"] != "left" {
            wrong.push(left.to_string());
        }
        let right_after = supervisor.call(&json!({"look": name}));
        if right_after == before {
            wrong.push(format!("it leaves no trace: {before}"));
        }
        let restored = supervisor.restore();
        let expected = REPLACED.iter().find(|(replaced, _)| replaced == name);
        let is_expected = match expected {
            Some((_, row)) => restored.rows == [*row],
            None => restored.method == "rewind",
        };
        if !is_expected {
            wrong.push(format!("{}", restored.report));
        }
        let after = look(&mut supervisor, &code, name);
        if after != before {
            wrong.push(format!("{before} was {after} for the next"));
        }
        supervisor.restore();
        if !wrong.is_empty() {
            failures.insert(name, wrong);
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
