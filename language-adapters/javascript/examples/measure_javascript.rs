//! What the adapter costs: the template's phases, and in a forked worker the time
//! and the pages that each step writes. Arguments are modules to preload.

use std::time::{Duration, Instant};

use refunction_adapter::{Adapter, Invocation};
use refunction_javascript::JavaScript;
use refunction_protocol::Function;
use serde_json::value::RawValue;

fn main() {
    let mut javascript = JavaScript::new();
    let libraries: Vec<String> = std::env::args().skip(1).collect();
    timed("boot", || javascript.boot().expect("boot"));
    timed("preload", || {
        javascript.preload(&libraries).expect("preload")
    });
    timed("settle", || javascript.settle().expect("settle"));

    for (name, source) in [
        ("no-op", "const main = (args) => args;"),
        ("module", "export default (args) => args;"),
        (
            "async",
            "async function main(args) { await null; return args; }",
        ),
        (
            "JSON of 1000 keys",
            "function main() { const data = {}; for (let n = 0; n < 1000; n++) data[n] = [n, String(n)]; return JSON.parse(JSON.stringify(data)); }",
        ),
        ("throwing", "function main() { throw new RangeError('x'); }"),
    ] {
        println!("-- {name}");
        // SAFETY: the process has one thread, and the child goes on as its copy.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            serve(&mut javascript, source);
            return;
        }
        // SAFETY: waits for the child just made; no status is asked for.
        unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
    }
}

/// What a worker does.
fn serve(javascript: &mut JavaScript, source: &str) {
    let function = Function::from_source(source);
    let invocation = Invocation {
        id: "1".into(),
        deadline_unix_ms: None,
        data: RawValue::from_string(r#"{"name":"x"}"#.into()).expect("JSON"),
        ..Invocation::default()
    };
    // Counting and printing write pages of their own: once for nothing.
    step("(nothing)", || {});
    step("(nothing)", || {});
    step("after_fork", || javascript.after_fork());
    step("after_restore", || {
        javascript.after_restore().expect("reseed")
    });
    step("load", || javascript.load(&function).expect("load"));
    step("invoke", || drop(javascript.invoke(&invocation)));
    step("again: after_restore", || {
        javascript.after_restore().expect("reseed")
    });
    step("again: load", || javascript.load(&function).expect("load"));
    step("again: invoke", || drop(javascript.invoke(&invocation)));
}

fn step(name: &str, work: impl FnOnce()) {
    let before = private_pages();
    let start = Instant::now();
    work();
    let took = start.elapsed();
    report(name, took, Some(private_pages() - before));
}

fn timed(name: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    report(name, start.elapsed(), None);
}

fn report(name: &str, took: Duration, pages: Option<i64>) {
    let pages = pages.map_or(String::new(), |pages| format!("{pages:>6} pages"));
    println!("{name:<24}{:>10.1} µs{pages}", took.as_secs_f64() * 1e6);
}

/// Pages written since the fork.
fn private_pages() -> i64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("the memory's summary");
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok())
        .expect("a count in kB")
        / 4
}
