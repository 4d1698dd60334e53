//! Whatever goes wrong has a kind and a cause, and costs nobody but the function.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use refunction_tests::java;
use refunction_tests::peer::assert_failure;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

use crate::program::{class, function, jar, load};

/// A supervisor that holds the program that fails.
fn failing(arguments: &[&str]) -> Supervisor {
    let mut supervisor = java::start(arguments);
    load(
        &mut supervisor,
        function(&jar(&["Failing"], &[])),
        "main",
        "Failing",
    );
    supervisor
}

#[test]
fn exceptions_are_told_with_the_tenants_own_lines() {
    let mut supervisor = failing(&[]);
    for (how, error_type, message, stack) in [
        (
            "exception",
            "java.lang.IllegalArgumentException",
            "refused: a",
            "Failing.inner(Failing.java:",
        ),
        (
            "cause",
            "java.lang.RuntimeException",
            "outer",
            "Caused by: java.io.IOException: inner",
        ),
        (
            "suppressed",
            "java.lang.Exception",
            "main",
            "Suppressed: java.io.IOException: beside",
        ),
        (
            "no message",
            "java.lang.Exception",
            "",
            "Failing.main(Failing.java:",
        ),
        (
            "hostile",
            "Failing$Hostile",
            "cannot be told",
            "cannot be told",
        ),
        (
            "recursion",
            "java.lang.StackOverflowError",
            "",
            "Failing.deep(Failing.java:",
        ),
        (
            "error",
            "java.lang.AssertionError",
            "asserted",
            "Failing.main",
        ),
        (
            "not JSON",
            "NotJson",
            "result['inside'][0] is of type java.lang.Thread",
            "",
        ),
        ("infinite", "NotJson", "result[0] is Infinity", ""),
        ("circle", "NotJson", "contains itself", ""),
    ] {
        let failure = supervisor.fail(&json!({"how": how}));
        assert_failure(&failure, "exception", &[message]);
        assert_eq!(failure["error_type"], error_type, "{failure}");
        let told = failure["stack"].as_str().unwrap_or_default();
        assert!(told.contains(stack), "{how}: {told}");
        assert!(!told.contains("refunction."), "{how}: {told}");
        assert!(!told.contains("at java."), "{how}: {told}");
    }
    assert_eq!(supervisor.call(&json!({"how": "well"})), "served");
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
}

#[test]
fn memory_that_runs_out_is_a_failure_of_the_call() {
    let mut supervisor = java::start_with(&[], |command| {
        command.env("JAVA_TOOL_OPTIONS", "-Xmx64m");
    });
    load(
        &mut supervisor,
        function(&jar(&["Failing"], &[])),
        "main",
        "Failing",
    );
    let worker = supervisor.worker();
    for _ in 0..3 {
        let failure = supervisor.fail(&json!({"how": "memory"}));
        assert_failure(&failure, "exception", &["Java heap space"]);
        assert_eq!(
            failure["error_type"], "java.lang.OutOfMemoryError",
            "{failure}"
        );
        assert_eq!(supervisor.call(&json!({"how": "well"})), "served");
    }
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
    assert_eq!(supervisor.worker(), worker);
}

#[test]
fn an_exit_is_a_crash_that_is_named() {
    let mut supervisor = failing(&[]);
    for (how, status) in [("exit", "3"), ("halt", "4")] {
        let failure = supervisor.fail(&json!({"how": how}));
        assert_failure(&failure, "crashed", &[status]);
        // Loaded again, in another one.
        assert_eq!(supervisor.call(&json!({"how": "well"})), "served");
    }
}

#[test]
fn an_interruption_does_not_outlast_its_call() {
    let mut supervisor = failing(&[]);
    assert_eq!(supervisor.call(&json!({"how": "interrupt"})), "served");
    assert_eq!(supervisor.call(&json!({"how": "interrupted"})), false);
}

/// A load that must fail, for a reason with these words.
#[track_caller]
fn refuses(supervisor: &mut Supervisor, function: &Value, words: &[&str]) {
    let answer = supervisor.try_load(function);
    assert_eq!(answer["data"], false, "{answer}");
    assert_failure(&answer["error"], "exception", words);
    assert_failure(&supervisor.fail(&json!(1)), "not_loaded", &[]);
}

#[test]
fn what_cannot_be_loaded_is_refused_with_the_reason() {
    let mut supervisor = java::start(&[]);
    let with = |mut code: Value, field: &str, entry: &str| {
        code[field] = json!(entry);
        code
    };
    let jar = function(&jar(&["Failing", "Signatures"], &[]));
    let cut = {
        let code = STANDARD
            .decode(jar["code"].as_str().expect("text"))
            .expect("base64");
        function(&code[..code.len() / 2])
    };
    for (function, words) in [
        (json!({"code": "class A {}"}), &["source text", "jar"][..]),
        (json!({"code": "", "binary": false}), &["no code"]),
        (json!({"code": "%%%", "binary": true}), &["not base64"]),
        (function(b"no archive"), &["neither a jar"]),
        (function(&[0xca, 0xfe, 0xba, 0xbe, 0, 0]), &["class file"]),
        (cut, &["archive"]),
        (with(jar.clone(), "main", "Absent"), &["no class Absent"]),
        (
            with(jar.clone(), "main", "Failing#absent"),
            &["no method absent", "main"],
        ),
        (
            with(jar.clone(), "handler", "Failing"),
            &["no method handleRequest"],
        ),
        (
            with(jar.clone(), "handler", "Failing::"),
            &["not of the form"],
        ),
        (jar.clone(), &["no class Main"]),
        (
            with(class("Unmade"), "handler", "Unmade"),
            &["not to be made"],
        ),
        (with(class("Unready"), "main", "Unready"), &["not a number"]),
        (
            json!({"code": "", "handler": "a.Absent::b"}),
            &["no class a.Absent"],
        ),
    ] {
        refuses(&mut supervisor, &function, words);
    }
    load(&mut supervisor, class("Echo"), "main", "Echo");
    assert_eq!(supervisor.call(&json!(1)), 1);
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
}

#[test]
fn a_start_without_the_adapter_says_what_is_missing() {
    let mut supervisor = Supervisor::spawn(&["--runtime", "java"], |command| {
        command.env("FUNCTION_JAVA_ADAPTER", "/nowhere/java.jar");
    });
    assert!(supervisor.receive_within(Duration::from_secs(30)).is_none());
    assert_eq!(supervisor.wait(), 1);
    let errors = supervisor.errors();
    assert!(errors.contains("/nowhere/java.jar"), "{errors}");
}
