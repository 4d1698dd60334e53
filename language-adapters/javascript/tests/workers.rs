//! What a forked worker can do, and what no two of them have in common.

mod common;

use std::collections::BTreeSet;

use common::{booted, call, cases, in_child, load, raised, run, source, try_invoke};
use refunction_adapter::Adapter;
use refunction_javascript::JavaScript;
use serde_json::{Value, json};

fn main() {
    run(
        &mut booted(),
        cases![
            a_worker_serves,
            a_worker_waits_for_its_own_timers,
            a_worker_is_told_its_own_identity,
            no_two_workers_draw_the_same,
            without_reseeding_they_would,
            time_begins_with_each_function,
            the_template_has_one_thread_and_no_descriptors,
        ],
    );
}

/// Calls a function as a worker does.
fn in_worker(javascript: &mut JavaScript, code: &str) -> String {
    in_child(0, || {
        javascript.after_fork();
        javascript.after_restore().expect("reseed");
        call(javascript, code, "{}").to_string()
    })
    .expect("a child")
}

fn a_worker_serves(javascript: &mut JavaScript) {
    // Its parent too, before and after, and a child of a child.
    let code = "let calls = 0; const main = async (args) => { await null; return ++calls; }";
    for _ in 0..3 {
        assert_eq!(in_worker(javascript, code), "1");
    }
    let answer = in_child(0, || {
        javascript.after_fork();
        load(javascript, &source(code));
        let first = try_invoke(javascript, "{}");
        let inner = in_child(0, || format!("{:?}", try_invoke(javascript, "{}")));
        let error = raised(javascript, "function main() { null.x; }");
        format!("{first:?} {inner:?} {}", error.error_type)
    });
    assert_eq!(
        answer.as_deref(),
        Some("Ok(Number(1)) Some(\"Ok(Number(2))\") TypeError")
    );
}

fn a_worker_waits_for_its_own_timers(javascript: &mut JavaScript) {
    let code = "const main = () => new Promise((done) => setTimeout(done, 5, 'late'))";
    assert_eq!(in_worker(javascript, code), "\"late\"");
}

fn a_worker_is_told_its_own_identity(javascript: &mut JavaScript) {
    let parent = std::process::id();
    let pid: u32 = in_worker(javascript, "const main = () => process.pid")
        .parse()
        .expect("a number");
    assert_ne!(pid, parent);
}

/// Everything that draws at random.
const DRAW: &str = "
const main = () => ({
  random: Math.random(), more: [Math.random(), Math.random()], uuid: crypto.randomUUID(),
  bytes: [...crypto.getRandomValues(new Uint8Array(16))],
})";

fn no_two_workers_draw_the_same(javascript: &mut JavaScript) {
    let drawn: Vec<Value> = (0..4)
        .map(|_| serde_json::from_str(&in_worker(javascript, DRAW)).expect("JSON"))
        .collect();
    for key in drawn[0].as_object().expect("an object").keys() {
        let values: BTreeSet<_> = drawn.iter().map(|it| it[key].to_string()).collect();
        assert_eq!(values.len(), drawn.len(), "{key}: {values:?}");
    }
}

fn without_reseeding_they_would(javascript: &mut JavaScript) {
    // What is not the kernel's is the template's, or the case before would prove nothing.
    let mut draw = || {
        let answer = in_child(0, || call(javascript, DRAW, "{}").to_string());
        let drawn: Value = serde_json::from_str(&answer.expect("a child")).expect("JSON");
        drawn
    };
    let (one, other) = (draw(), draw());
    assert_eq!(one["random"], other["random"]);
    assert_ne!(one["uuid"], other["uuid"]);
}

fn time_begins_with_each_function(javascript: &mut JavaScript) {
    let code =
        "const main = () => [performance.now(), Math.abs(Date.now() - performance.timeOrigin)]";
    std::thread::sleep(std::time::Duration::from_millis(300));
    for age in serde_json::from_str::<Vec<f64>>(&in_worker(javascript, code)).expect("numbers") {
        assert!((0.0..250.0).contains(&age), "{age} ms since it began");
    }
}

fn the_template_has_one_thread_and_no_descriptors(javascript: &mut JavaScript) {
    let count = |directory: &str| {
        std::fs::read_dir(directory)
            .expect("a directory of /proc")
            .count()
    };
    let before = count("/proc/self/fd");
    assert_eq!(count("/proc/self/task"), 1);
    let code = "async function main() { console.log(new URL('a:b').href, crypto.randomUUID()); await new Promise((done) => setTimeout(done, 1)); }";
    call(javascript, code, "{}");
    assert_eq!(count("/proc/self/task"), 1);
    assert_eq!(count("/proc/self/fd"), before);
    assert_eq!(call(javascript, "const main = () => 1", "{}"), json!(1));
}
