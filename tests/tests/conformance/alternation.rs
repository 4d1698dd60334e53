//! Tenants that follow each other in one process.

use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[(
    "two hundred alternations of ten functions",
    two_hundred_alternations,
)];

/// Loads the n-th of ten functions, calls it, and puts the container back.
fn serve(supervisor: &mut Supervisor, functions: &[Value], number: u32) {
    let function = number % 10;
    let answer = supervisor.try_load(&functions[function as usize]);
    assert_eq!(answer["data"], true, "{answer}");
    for call in 1..=2 {
        let expected = json!([function, {"turn": number}, call]);
        assert_eq!(supervisor.call(&json!({"turn": number})), expected);
    }
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
}

fn two_hundred_alternations(language: &Language) {
    let mut supervisor = language.start(&[]);
    let source = language.program("count");
    let functions: Vec<Value> = (0..10)
        .map(|number| language.function(&source.replace("NUMBER", &number.to_string())))
        .collect();
    let worker = supervisor.worker();
    for number in 0..200 {
        serve(&mut supervisor, &functions, number);
    }
    assert_eq!(supervisor.worker(), worker);
    assert_eq!(supervisor.status()["rewinds"], 200);
}
