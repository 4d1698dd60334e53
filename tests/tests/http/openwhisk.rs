//! OpenWhisk's action interface: each row of its contract.

use refunction_tests::eventually;
use refunction_tests::http::Site;
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("whisk_initialises_an_action_once", once),
    ("whisk_refuses_an_action_without_code", nothing),
    ("whisk_tells_why_an_action_cannot_be_initialised", broken),
    ("whisk_gives_the_arguments_and_takes_a_dictionary", run),
    ("whisk_refuses_other_results", results),
    (
        "whisk_ends_the_log_of_each_activation_on_both_streams",
        sentinels,
    ),
    ("whisk_exports_the_variables_of_init_and_of_run", variables),
    ("whisk_takes_large_and_odd_arguments", arguments),
    ("whisk_finds_an_entry_by_another_name", entry),
    ("whisk_gives_up_at_the_deadline_of_an_activation", deadline),
    ("whisk_leaves_an_image_with_a_function_as_it_is", named),
];

const END: &str = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n";

fn start(language: &Language) -> Site {
    language.generic_site(&[])
}

fn init(language: &Language, site: &Site, more: &Value) -> (u16, Value) {
    let mut value = language.action();
    let value_fields = value.as_object_mut().expect("an object");
    value_fields.insert("name".into(), "mine".into());
    value_fields.extend(more.as_object().expect("an object").clone());
    let answer = site.post("/init", &json!({"value": value}));
    (answer.status, answer.json())
}

fn initialised(language: &Language) -> Site {
    let site = start(language);
    let (status, body) = init(language, &site, &json!({}));
    assert_eq!(status, 200, "{body}");
    site
}

fn run_with(site: &Site, value: &Value) -> (u16, Value) {
    let answer = site.post("/run", &json!({"value": value}));
    (answer.status, answer.json())
}

fn once(language: &Language) {
    let site = initialised(language);
    let (status, body) = init(language, &site, &json!({}));
    let words = "Cannot initialize the action more than once.";
    assert_eq!((status, body), (403, json!({"error": words})));
    eventually("it is in the log", || site.output().contains(words));
    assert_eq!(run_with(&site, &json!({"a": 1})).0, 200);
}

fn nothing(language: &Language) {
    let site = start(language);
    let refused = json!({"error": "Missing main/no code to execute."});
    for body in [
        json!({}),
        json!({"value": {}}),
        json!({"value": {"code": ""}}),
    ] {
        let answer = site.post("/init", &body);
        assert_eq!((answer.status, answer.json()), (403, refused.clone()));
    }
    let answer = site.send("POST", "/init", &[], b"");
    assert_eq!((answer.status, answer.json()), (403, refused));
    assert_eq!(site.send("POST", "/init", &[], b"{").status, 400);
    let (status, body) = run_with(&site, &json!({}));
    assert_eq!(
        (status, body),
        (403, json!({"error": "The action was not initialized."}))
    );
    // None of it was the one initialisation that there can be.
    assert_eq!(init(language, &site, &json!({})).0, 200);
}

fn broken(language: &Language) {
    let site = start(language);
    let (status, body) = init(language, &site, &json!({"main": "not_there"}));
    assert_eq!(status, 502, "{body}");
    let message = body["error"].as_str().expect("a message");
    assert!(message.contains("not_there"), "{message}");
    assert_eq!(init(language, &site, &json!({})).0, 200);
}

fn run(language: &Language) {
    let site = initialised(language);
    let value = json!({"text": "ünïcødé 😀", "list": [1, 2]});
    let (status, body) = run_with(&site, &value);
    assert_eq!((status, &body["args"]), (200, &value), "{body}");
    // An activation without arguments has none.
    let answer = site.post("/run", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (status, body) = run_with(&site, &json!({"op": "raise"}));
    assert_eq!(status, 502);
    let message = body["error"].as_str().expect("a message");
    assert!(message.contains("no good"), "{message}");
    assert_eq!(run_with(&site, &value).0, 200);
}

fn results(language: &Language) {
    let site = initialised(language);
    let (status, body) = run_with(&site, &json!({"op": "text"}));
    assert_eq!(status, 502);
    let message = body["error"].as_str().expect("a message");
    assert!(
        message.starts_with("The action did not return a dictionary"),
        "{message}"
    );
}

fn sentinels(language: &Language) {
    let site = initialised(language);
    for (number, (op, printed)) in [("print", "ünïcødé 😀\n"), ("raise", ""), ("none", "")]
        .iter()
        .enumerate()
    {
        let _ = site.post("/run", &json!({"value": {"op": op}}));
        let ends = |text: &str| text.matches(END).count() == number + 1 && text.ends_with(END);
        eventually("stdout ends with it", || ends(&site.output()));
        eventually("stderr ends with it", || ends(&site.supervisor.errors()));
        let output = site.output();
        assert!(output.ends_with(&format!("{printed}{END}")), "{output}");
    }
}

fn variables(language: &Language) {
    let site = start(language);
    let (status, body) = init(
        language,
        &site,
        &json!({"env": {"EMPTY": "", "SET": "ü", "LIST": [1]}}),
    );
    assert_eq!(status, 200, "{body}");
    let names = [
        "EMPTY",
        "SET",
        "LIST",
        "__OW_NAMESPACE",
        "__OW_ACTIVATION_ID",
        "__OW_API_KEY",
        "__OW_DEADLINE",
    ];
    let run = |id: &str| {
        let answer = site.post(
            "/run",
            &json!({
                "value": {"op": "env", "names": names},
                "namespace": "guest",
                "activation_id": id,
                "api_key": "",
                "deadline": 9_999_999_999_999_u64,
            }),
        );
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["found"].clone()
    };
    assert_eq!(
        run("one"),
        json!(["", "ü", "[1]", "guest", "one", "", "9999999999999"])
    );
    assert_eq!(run("two")[4], "two");
}

fn arguments(language: &Language) {
    let site = initialised(language);
    let text = "a".repeat(1_048_561);
    let value = json!({"text": text});
    let (status, body) = run_with(&site, &value);
    assert_eq!((status, body["args"] == value), (200, true));
}

fn entry(language: &Language) {
    let site = start(language);
    let (status, body) = init(language, &site, &json!({"main": language.another_main()}));
    assert_eq!(status, 200, "{body}");
    assert_eq!(run_with(&site, &json!({})), (200, json!({"another": true})));
}

fn deadline(language: &Language) {
    let site = initialised(language);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a time");
    let soon = now.as_millis() + 500;
    let answer = site.post(
        "/run",
        &json!({
            "value": {"op": "sleep"},
            "deadline": u64::try_from(soon).expect("a time").to_string(),
        }),
    );
    assert_eq!(answer.status, 502);
    let message = answer.json()["error"].to_string();
    assert!(message.contains("deadline"), "{message}");
    let value = json!({"a": 1});
    assert_eq!(run_with(&site, &value).1["args"], value);
}

fn named(language: &Language) {
    let site = language.site(&[], |_| {});
    let (status, body) = init(language, &site, &json!({}));
    assert_eq!(status, 403);
    let message = body["error"].as_str().expect("a message");
    assert!(message.contains(language.handler), "{message}");
    let (status, body) = run_with(&site, &json!({"a": 1}));
    assert_eq!((status, body), (200, json!({"a": 1})));
}
