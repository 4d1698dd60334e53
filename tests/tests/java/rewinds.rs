//! A thousand tenants one after the other in one JVM: every answer right, and nothing
//! grows.

use refunction_tests::java;
use refunction_tests::process::{self, Size};
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

use crate::program::{class, load};

/// What the n-th of the ten functions answers to a number.
fn answer(function: u64, number: u64) -> u64 {
    match function {
        0 => number + 1,
        1 => 2000 + number,
        2 => number * 49 * 50 / 2,
        4 => number * 10,
        5 => 40 + number,
        6 => 64 + number,
        7 => 24 + number,
        9 => 10_000 + number,
        _ => number,
    }
}

/// Lets a tenant come, be asked twice, and go; true if it went by a rewind.
fn stay(supervisor: &mut Supervisor, code: &Value, function: u64, number: u64) -> bool {
    load(
        supervisor,
        code.clone(),
        "main",
        &format!("Ten#f{function}"),
    );
    for number in [number, number + 1] {
        let given = supervisor.call(&json!(number));
        assert_eq!(given, answer(function, number), "function {function}");
    }
    let restored = supervisor.restore();
    if restored.method != "rewind" {
        println!("function {function} of {number}: {}", restored.report);
    }
    restored.method == "rewind"
}

fn measure(supervisor: &mut Supervisor, code: &Value) -> [Size; 2] {
    for number in 0..20 {
        stay(supervisor, code, 0, number);
    }
    let worker = supervisor.worker();
    [Size::of(supervisor.pid()), Size::of(worker)]
}

#[test]
fn a_thousand_tenants_leave_no_trace() {
    let mut supervisor = java::start(&["--rotate-memory-mib", "0"]).unwatched();
    let code = class("Ten");
    let mut early = None;
    let mut replaced = 0;
    for number in 0..1000 {
        if number == 100 {
            early = Some(measure(&mut supervisor, &code));
        }
        replaced += u64::from(!stay(&mut supervisor, &code, number % 10, number));
    }
    let late = measure(&mut supervisor, &code);
    let early = early.expect("measured");
    println!("{replaced} replaced\n{early:?}\n{late:?}");
    assert!(replaced < 10, "{replaced} of 1000 workers were replaced");
    for (name, early, late) in [
        ("the supervisor", early[0], late[0]),
        ("the worker", early[1], late[1]),
    ] {
        assert_eq!(late.descriptors, early.descriptors, "{name}'s descriptors");
        assert_eq!(late.threads, early.threads, "{name}'s threads");
        assert_eq!(late.processes, early.processes, "{name}'s processes");
        assert!(
            late.mappings <= early.mappings + 8,
            "{name}'s mappings: {} and {}",
            early.mappings,
            late.mappings
        );
        assert!(
            late.own_kib <= early.own_kib + 8 * 1024,
            "{name}'s memory: {} KiB and {} KiB",
            early.own_kib,
            late.own_kib
        );
    }
    supervisor.send(&json!({"type": "shutdown"}));
    assert_eq!(supervisor.wait(), 0);
    assert_eq!(supervisor.errors(), "");
    supervisor.assert_nothing_left();
    assert!(process::of_user(supervisor.uid).is_empty());
}
