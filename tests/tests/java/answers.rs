//! Whatever JSON a function is given and gives back.

use refunction_tests::java;
use serde_json::{Value, json};

use crate::program::class;

#[test]
fn values_come_back_as_they_were_given() {
    let mut supervisor = java::start(&[]);
    assert_eq!(supervisor.started["data"]["runtime"], "java");
    let answer = supervisor.try_load(&class("Echo"));
    assert_eq!(answer["data"], true, "{answer}");
    for value in [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(2_147_483_648_i64),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5e-7),
        json!(""),
        json!([]),
        json!({}),
        json!([null, false, [], {}, ""]),
        json!({"": 0, "__proto__": 1, "z": 2, "a": 3, "a.b": 4}),
        json!("\u{0}\u{1}\u{7f}\u{85}\u{2028}\u{feff}\u{fffd}\"\\/\u{8}\u{c}\n\r\t"),
        json!("grüß dich 日本語 👩‍👩‍👧‍👦 𝕏 \u{10ffff}"),
        json!("x".repeat(6 << 20)),
        json!("é\n".repeat(1 << 20)),
    ] {
        let answer = supervisor.call(&value);
        // A payload of megabytes is no message.
        let begins: String = value.to_string().chars().take(80).collect();
        assert!(answer == value, "{begins}");
    }
    let deep = (0..100).fold(json!("deep"), |inner, _| json!([inner]));
    assert_eq!(supervisor.call(&deep), deep);
    let half: Value = serde_json::from_str(r#"["\ud83d\udc4b \u00fc \/"]"#).expect("JSON");
    assert_eq!(supervisor.call(&half), half);
    assert_eq!(supervisor.restore().method, "rewind");
}
