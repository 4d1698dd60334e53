//! Tenants that follow each other in one process.

use refunction_tests::eventually;
use refunction_tests::growth::{Sizes, print_times};
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

/// What the specification allows, however many tenants there were.
const OF_SUPERVISOR_KIB: u64 = 4096;

pub const CASES: &[Case] = &[(
    "a thousand alternations of ten functions",
    a_thousand_alternations,
)];

/// Loads the n-th of ten functions, calls it, and puts the container back; how many
/// microseconds that took.
fn serve(supervisor: &mut Supervisor, functions: &[Value], number: u32) -> u64 {
    let function = number % 10;
    let answer = supervisor.try_load(&functions[function as usize]);
    assert_eq!(answer["data"], true, "{answer}");
    for call in 1..=2 {
        let expected = json!([function, {"turn": number}, call]);
        assert_eq!(supervisor.call(&json!({"turn": number})), expected);
    }
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
    restored.report["total_us"].as_u64().expect("a duration")
}

fn a_thousand_alternations(language: &Language) {
    let mut supervisor = language.start(&[]).unwatched();
    let source = language.program("count");
    let functions: Vec<Value> = (0..10)
        .map(|number| language.function(&source.replace("NUMBER", &number.to_string())))
        .collect();
    let worker = supervisor.worker();
    let mut times = Vec::new();
    let mut numbers = 0..1000;
    let mut some = |supervisor: &mut Supervisor, tenants| {
        for number in numbers.by_ref().take(tenants) {
            times.push(serve(supervisor, &functions, number));
        }
    };
    some(&mut supervisor, 200);
    if ["node", "java"].contains(&language.name) {
        // It boots meanwhile, and the supervisor has descriptors of it.
        eventually("a spare stands by", || supervisor.status()["spares"] == 1);
    }
    let early = Sizes::most(&mut supervisor, |it| some(it, 7));
    some(&mut supervisor, 600);
    let late = Sizes::least(&mut supervisor, |it| some(it, 7));
    // Pages that are written now and then, as by a collection of garbage, are kept at hand
    // in the end; there are never more of them than the snapshot has.
    let snapshot = supervisor.started["data"]["snapshot_bytes"].as_u64();
    // What the supervisor notes about them stays with its allocator.
    late.assert_within(&early, OF_SUPERVISOR_KIB, snapshot.expect("a size") / 1024);
    some(&mut supervisor, usize::MAX);
    print_times(language.name, &mut times);
    assert_eq!(supervisor.worker(), worker);
    let status = supervisor.status();
    assert_eq!(
        [&status["rewinds"], &status["reforks"]],
        [&json!(1000), &json!(0)]
    );
}
