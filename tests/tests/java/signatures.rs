//! The shapes that a Java function may have.

use std::fs;

use refunction_tests::java;
use refunction_tests::peer::assert_failure;
use serde_json::{Value, json};

use crate::program::{classes, function, jar, load};

#[test]
fn arguments_are_what_a_method_declares() {
    let mut supervisor = java::start(&[]);
    let code = function(&jar(&["Signatures"], &[]));
    let point = json!({"x": 3, "y": 9, "label": null});
    for (entry, argument, answer) in [
        ("text", json!("a"), json!("a!")),
        ("text", json!(1), json!("1!")),
        ("number", json!(41), json!(42)),
        ("fraction", json!(3), json!(1.5)),
        ("not", json!(true), json!(false)),
        ("exact", json!(1.25), json!(2.25)),
        ("large", json!(u64::MAX - 1), json!(u64::MAX)),
        ("sum", json!([1, 2, 3]), json!(6)),
        ("maybe", json!([1, 3, 2]), json!(3)),
        ("maybe", json!([]), json!(null)),
        ("least", json!(["b", "a"]), json!("a")),
        ("dayAfter", json!("2024-02-28"), json!("2024-02-29")),
        ("set", json!(["b", "a", "b"]), json!(["b", "a"])),
        (
            "point",
            json!({"x": 3, "y": 9, "more": 1}),
            json!({"x": 1, "y": 3, "label": null}),
        ),
        (
            "point",
            json!({"y": 1, "label": "p"}),
            json!({"x": 0, "y": 0, "label": "p"}),
        ),
        ("points", json!({"7": point}), json!({"7": point})),
        ("nothing", json!({"ignored": 1}), json!("called")),
        ("silent", json!(1), json!(null)),
        ("instance", json!({"a": "b"}), json!("b the-call")),
        (
            "kinds",
            json!([null, true, 1, 4_294_967_296_i64, u64::MAX, 0.5, "", [], {}]),
            json!([
                null,
                "Boolean",
                "Integer",
                "Long",
                "BigInteger",
                "Double",
                "String",
                "ArrayList",
                "LinkedHashMap"
            ]),
        ),
    ] {
        load(
            &mut supervisor,
            code.clone(),
            "handler",
            &format!("Signatures::{entry}"),
        );
        assert_eq!(supervisor.call(&argument), answer, "{entry}");
    }
    // What a type variable stands for is known from the subclass.
    load(
        &mut supervisor,
        code,
        "handler",
        "Signatures$Points::generic",
    );
    assert_eq!(supervisor.call(&json!([point])), json!([point]));
}

#[test]
fn arguments_that_do_not_fit_are_refused_by_name() {
    let mut supervisor = java::start(&[]);
    let code = function(&jar(&["Signatures"], &[]));
    for (entry, argument, words) in [
        (
            "number",
            json!("a"),
            &["the argument is a string", "int"][..],
        ),
        ("number", json!(3_000_000_000_i64), &["3000000000", "int"]),
        ("number", json!(1.5), &["1.5", "int"]),
        ("not", json!(1), &["a number", "boolean"]),
        ("text", json!({}), &["an object", "String"]),
        ("sum", json!([1, "b"]), &["the argument[1]"]),
        (
            "point",
            json!({"x": []}),
            &["the argument['x']", "an array"],
        ),
        ("points", json!({"seven": {}}), &["'seven'", "no number"]),
        ("dayAfter", json!("tomorrow"), &["'tomorrow'", "LocalDate"]),
    ] {
        load(
            &mut supervisor,
            code.clone(),
            "handler",
            &format!("Signatures::{entry}"),
        );
        let failure = supervisor.fail(&argument);
        assert_failure(&failure, "exception", words);
        assert_eq!(failure["error_type"], "BadArgument", "{failure}");
        // Of where the one before was refused nothing is told.
        assert_eq!(supervisor.fail(&argument), failure);
    }
}

/// The tenant's jar brings Lambda's interfaces itself.
#[test]
fn handlers_as_lambda_has_them() {
    let mut supervisor = java::start(&[]);
    let code = function(&jar(&["Orders", "Streams", "com"], &[]));
    load(
        &mut supervisor,
        code.clone(),
        "handler",
        "Orders::handleRequest",
    );
    let order = json!({
        "size": "LARGE",
        "items": [{"name": "tea", "count": 2}],
        "byName": {"milk": {"name": "milk", "count": 3}},
    });
    let expected = json!({
        "total": 5,
        "size": "LARGE",
        "items": [{"name": "tea", "count": 2}],
        "request": "the-call",
    });
    assert_eq!(supervisor.call(&order), expected);
    let log = supervisor.wait_for_log(|log| log["line"] == "total 5");
    assert_eq!(log["id"], "the-call");
    let failure = supervisor.fail(&json!({"size": "HUGE"}));
    assert_failure(&failure, "exception", &["['size']", "'HUGE'"]);

    load(&mut supervisor, code.clone(), "handler", "Streams");
    assert_eq!(
        supervisor.call(&json!({"a": ["ü"]})),
        json!({"id": "the-call", "event": {"a": ["ü"]}})
    );
    load(&mut supervisor, code.clone(), "handler", "Streams::two");
    assert_eq!(supervisor.call(&json!([1])), json!([1]));
    load(&mut supervisor, code.clone(), "handler", "Streams::length");
    assert_eq!(supervisor.call(&json!("abc")), 5);
    load(&mut supervisor, code, "handler", "Streams::broken");
    let failure = supervisor.fail(&Value::Null);
    assert_failure(&failure, "exception", &["not JSON"]);
    assert_eq!(supervisor.restore().method, "rewind");
}

/// The real library, in the place where Lambda's archives have libraries.
#[test]
fn actions_as_openwhisk_has_them() {
    let directory = std::env::temp_dir().join(format!("refunction-gson-{}", std::process::id()));
    fs::create_dir_all(directory.join("lib")).expect("a directory");
    fs::copy(java::gson(), directory.join("lib/gson.jar")).expect("the library");
    fs::copy(
        classes().join("Action.class"),
        directory.join("Action.class"),
    )
    .expect("the class");
    let file = directory.join("action.jar");
    java::archive(
        &file,
        &[],
        &directory,
        &["Action.class".into(), "lib".into()],
    );
    let code = function(&fs::read(&file).expect("the jar"));
    fs::remove_dir_all(&directory).expect("removing it");
    let mut supervisor = java::start(&[]);
    for _ in 0..2 {
        load(&mut supervisor, code.clone(), "main", "Action");
        for name in ["you", "grüß"] {
            let answer = supervisor.call(&json!({"name": name}));
            assert_eq!(answer, json!({"greeting": format!("Hello {name}!")}));
        }
        let failure = supervisor.fail(&json!([]));
        assert_failure(&failure, "exception", &["JsonObject"]);
        let restored = supervisor.restore();
        assert_eq!(restored.method, "rewind", "{}", restored.report);
    }
}
