//! Whatever JSON a function is given and gives back.

use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("every character", every_character),
    ("every kind of value", every_kind_of_value),
    ("empty and null results", empty_and_null_results),
    ("payloads of 1 and 6 MiB", large_payloads),
    ("results of 1 and 6 MiB", large_results),
];

const MIB: usize = 1024 * 1024;

fn every_character(language: &Language) {
    let mut supervisor = language.load("echo");
    for text in [
        "grüß dich, Welt",
        "日本語 עברית العربية ไทย",
        "👩‍👩‍👧‍👦 𝕏 \u{10ffff}",
        "\u{0}\u{1}\u{7f}\u{85}\u{2028}\u{2029}\u{feff}\u{fffd}",
        "\"\\/\u{8}\u{c}\n\r\t",
        "e\u{301} and é are two",
    ] {
        assert_eq!(supervisor.call(&json!(text)), text);
        let key = json!({ text: [text] });
        assert_eq!(supervisor.call(&key), key);
    }
    let all: String = (0..0x3000)
        .chain(0x1_f300..0x1_f700)
        .filter_map(char::from_u32)
        .collect();
    assert_eq!(supervisor.call(&json!(all)), all);
}

fn every_kind_of_value(language: &Language) {
    let mut supervisor = language.load("echo");
    for value in [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(9_007_199_254_740_991_i64),
        json!(1.5e-7),
        json!(""),
        json!([]),
        json!({}),
        json!([null, false, [], {}, ""]),
        json!({"": 0, "__proto__": 1, "constructor": 2, "1": 3, "a.b": 4}),
    ] {
        assert_eq!(supervisor.call(&value), value);
    }
    let deep = (0..100).fold(json!("deep"), |inner, _| json!([inner]));
    assert_eq!(supervisor.call(&deep), deep);
}

fn empty_and_null_results(language: &Language) {
    let mut supervisor = language.load("shapes");
    for (what, expected) in [
        ("nothing", json!(null)),
        ("null", json!(null)),
        ("text", json!("")),
        ("list", json!([])),
        ("object", json!({})),
        ("false", json!(false)),
        ("zero", json!(0)),
        ("fraction", json!(0.5)),
        ("large", json!(9_007_199_254_740_991_i64)),
        ("nested", json!([[[{"a": [null, [true]]}]]])),
    ] {
        assert_eq!(supervisor.call(&json!(what)), expected, "{what}");
    }
}

fn large_payloads(language: &Language) {
    let mut supervisor = language.load("echo");
    // Of several bytes a character, and in one that must be escaped.
    for (text, bytes) in [("é", MIB), ("x", 6 * MIB), ("\n", 6 * MIB)] {
        let payload = Value::from(text.repeat(bytes / text.len()));
        assert!(supervisor.call(&payload) == payload, "{text:?}");
    }
    assert_eq!(supervisor.restore().method, "rewind");
}

fn large_results(language: &Language) {
    let mut supervisor = language.load("large");
    for bytes in [MIB, 6 * MIB] {
        let answer = supervisor.call(&json!(bytes));
        assert!(answer.as_str().is_some_and(|text| text.len() == bytes));
    }
    assert_eq!(supervisor.restore().method, "rewind");
}
