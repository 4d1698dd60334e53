//! A function that the container's command names is in the snapshot.

use std::collections::BTreeSet;

use refunction_tests::eventually;
use refunction_tests::supervisor::{Listening, Supervisor};
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    (
        "every_restore_leads_back_to_the_imported_module",
        every_restore,
    ),
    ("no_two_requests_draw_the_same", no_two_requests),
    (
        "what_cannot_be_imported_ends_the_container_and_says_why",
        what_cannot_be_imported,
    ),
    ("a_handler_is_named_as_lambda_does", a_handler_is_named),
    ("no_other_function_is_loaded", no_other_function),
];

/// What can be tried with one runtime for all that are forked.
pub const ONCE: &[Case] = &[("what_a_fork_would_not_have_is_refused", not_in_a_fork)];

fn start(language: &Language, handler: &str) -> Listening {
    // When it is put back is for the test to say.
    let arguments = [
        &language.arguments()[..],
        &["--isolation", "session", handler],
    ]
    .concat();
    Listening::start_with(&arguments, |command| language.furnish(command))
}

fn every_restore(language: &Language) {
    let listening = start(language, language.handler);
    let mut peer = listening.connect();
    for _ in 0..5 {
        // No function was sent, nor is it after the restore.
        for count in 1..=2 {
            let answer = peer.call(&json!({"op": "count"}));
            assert_eq!(answer["count"], count, "{answer}");
            // Looking for a function's generators runs nothing of it.
            let made = answer.get("made").unwrap_or(&json!(0)).clone();
            assert_eq!(made, 0, "{answer}");
        }
        let restored = peer.restore();
        assert_eq!(restored.method, "rewind", "{restored:?}");
    }
    let root = language.root();
    let root = root.to_str().expect("UTF-8");
    for variable in ["FUNCTION_ROOT", "LAMBDA_TASK_ROOT"] {
        let value = peer.call(&json!({"op": "env", "name": variable}));
        assert_eq!(value, root, "{variable}");
    }
    let settings = peer.call(&json!({"op": "env", "name": "REFUNCTION_RUNTIME"}));
    assert_eq!(settings, Value::Null);
    assert_eq!(peer.call(&json!({"op": "cwd"})), root);
}

fn no_two_requests(language: &Language) {
    let listening = start(language, language.handler);
    let mut peer = listening.connect();
    let mut drawn = BTreeSet::new();
    for _ in 0..100 {
        for _ in 0..2 {
            let numbers = peer.call(&json!({"op": "draw"}));
            for number in numbers.as_array().expect("numbers") {
                assert!(drawn.insert(number.to_string()), "{number} twice");
            }
        }
        assert_eq!(peer.restore().method, "rewind");
    }
}

fn what_cannot_be_imported(language: &Language) {
    for (handler, words) in [&language.broken, &language.missing] {
        let arguments = [&language.arguments()[..], &[handler]].concat();
        let mut supervisor = Supervisor::spawn(&arguments, |command| language.furnish(command));
        assert_eq!(supervisor.wait(), 1, "{handler}");
        // What it said last is read a moment after its end.
        for word in *words {
            let what = format!("{handler}: {word:?} is said");
            eventually(&what, || supervisor.errors().contains(word));
        }
        supervisor.assert_nothing_left();
    }
}

fn a_handler_is_named(language: &Language) {
    for handler in language.others {
        let listening = start(language, handler);
        let mut peer = listening.connect();
        let answer = peer.call(&json!({"asked": 1}));
        assert!(
            answer.to_string().contains(r#"{"asked":1}"#),
            "{handler}: {answer}"
        );
    }
}

fn no_other_function(language: &Language) {
    let listening = start(language, language.handler);
    let mut peer = listening.connect();
    let refused = peer.try_load(&json!({"code": "x"}));
    assert_eq!(refused["data"], false, "{refused}");
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(message.contains(language.handler), "{message}");
    // The one that it is for is there already, and may be asked for all the same.
    let itself = peer.try_load(&json!({"code": "", "handler": language.handler}));
    assert_eq!(itself["data"], true, "{itself}");
    assert_eq!(peer.call(&json!([1])), json!([1]));
}

fn not_in_a_fork(language: &Language) {
    for (handler, words) in [
        ("threads.handler", &["1 thread", "in the handler"][..]),
        (
            "keeps_open.handler",
            &["keeps_open.py", "socket:", "at the first use"],
        ),
    ] {
        let mut supervisor = language.spawn(handler, |_| {});
        assert_eq!(supervisor.wait(), 1, "{handler}");
        for word in words {
            let what = format!("{handler}: {word:?} is said");
            eventually(&what, || supervisor.errors().contains(word));
        }
    }
    // The same of a library that is loaded before.
    let arguments = [&language.arguments()[..], &["--preload", "keeps_open"]].concat();
    let mut supervisor = Supervisor::spawn(&arguments, |command| language.furnish(command));
    assert_eq!(supervisor.wait(), 1);
    eventually("what it left open is said", || {
        let errors = supervisor.errors();
        ["preloaded", "keeps_open.py"]
            .iter()
            .all(|word| errors.contains(word))
    });
}
