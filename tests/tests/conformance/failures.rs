//! Whatever goes wrong has a kind and a cause, and costs nobody but the function.

use nix::sys::signal::Signal;
use refunction_tests::peer::assert_failure;
use refunction_tests::process::Handle;
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("an exception", an_exception),
    ("an exception whose words are no Unicode", no_unicode),
    ("an exception at the loading", an_exception_at_the_loading),
    ("a syntax error", a_syntax_error),
    ("a missing entry", a_missing_entry),
    ("a result that is no JSON", a_result_that_is_no_json),
    ("a time-out", a_time_out),
    ("recursion without an end", recursion_without_an_end),
    ("a crash", a_crash),
    ("a function that is not there", a_function_that_is_not_there),
];

fn an_exception(language: &Language) {
    let mut supervisor = language.load("raise");
    for reason in ["the moon", "grüß 👋"] {
        let failure = supervisor.fail(&json!(reason));
        assert_failure(&failure, "exception", &[&format!("refused: {reason}")]);
        assert_eq!(failure["error_type"], language.exception, "{failure}");
        let stack = failure["stack"].as_str().expect("a stack");
        assert!(stack.contains("inner"), "{stack}");
    }
    // The function is still there, and what it did is undone like anything else.
    assert_eq!(supervisor.restore().method, "rewind");
    language.load_into(&mut supervisor, "echo");
    assert_eq!(supervisor.call(&json!(1)), 1);
}

fn no_unicode(language: &Language) {
    let mut supervisor = language.load("no_unicode");
    let worker = supervisor.worker();
    for _ in 0..2 {
        let failure = supervisor.fail(&Value::Null);
        assert_failure(&failure, "exception", &["half of", "a pair"]);
        assert_eq!(failure["error_type"], language.exception, "{failure}");
    }
    assert_eq!(supervisor.worker(), worker, "it is no crash");
    assert_eq!(supervisor.restore().method, "rewind");
}

/// A load that must fail, for a reason with these words.
fn refuses(language: &Language, program: &str, words: &[&str]) {
    let mut supervisor = language.start(&[]);
    let answer = supervisor.try_load(&language.function(&language.program(program)));
    assert_eq!(answer["data"], false, "{answer}");
    assert_failure(&answer["error"], "exception", words);
    assert_failure(&supervisor.fail(&json!(1)), "not_loaded", &[]);
    language.load_into(&mut supervisor, "echo");
    assert_eq!(supervisor.call(&json!(1)), 1);
}

fn an_exception_at_the_loading(language: &Language) {
    refuses(language, "at_load", &["not to be loaded"]);
}

fn a_syntax_error(language: &Language) {
    refuses(language, "syntax", &[]);
}

fn a_missing_entry(language: &Language) {
    refuses(language, "no_entry", &["main"]);
}

fn a_result_that_is_no_json(language: &Language) {
    let mut supervisor = language.load("not_json");
    let failure = supervisor.fail(&Value::Null);
    assert_failure(&failure, "exception", &["JSON"]);
}

fn a_time_out(language: &Language) {
    let mut supervisor = language.load("endless");
    let worker = supervisor.worker();
    supervisor.send(&json!({"type": "request", "id": 1, "data": true, "deadline_ms": 500}));
    let answer = supervisor.expect("error");
    assert_failure(&answer["data"], "timeout", &["500 ms"]);
    assert!(Handle::open(worker).is_none(), "the worker is still there");
    // Loaded again, in another one.
    assert_eq!(supervisor.call(&json!(false)), "over");
}

fn recursion_without_an_end(language: &Language) {
    let mut supervisor = language.load("recursion");
    let failure = supervisor.fail(&json!(1));
    assert_failure(&failure, "exception", &[]);
    assert_eq!(supervisor.call(&json!(0)), 0);
    assert_eq!(supervisor.restore().method, "rewind");
}

fn a_crash(language: &Language) {
    let mut supervisor = language.load("endless");
    for signal in [Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGKILL] {
        supervisor.ask(&json!(1), &json!(true));
        let worker = supervisor.worker();
        Handle::open(worker).expect("a worker").signal(signal);
        let answer = supervisor.expect("error");
        let told = match signal {
            Signal::SIGSEGV => language.segmentation_fault,
            signal => signal,
        };
        assert_failure(&answer["data"], "crashed", &[told.as_str()]);
        assert_eq!(supervisor.call(&json!(false)), "over");
    }
}

fn a_function_that_is_not_there(language: &Language) {
    let mut supervisor = language.start(&[]);
    assert_failure(&supervisor.fail(&json!(1)), "not_loaded", &["function"]);
    language.load_into(&mut supervisor, "echo");
    assert_eq!(supervisor.restore().method, "rewind");
    assert_failure(&supervisor.fail(&json!(1)), "not_loaded", &["function"]);
}
