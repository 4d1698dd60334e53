//! A function called by anybody, and CloudEvents.

use refunction_tests::http::Site;
use serde_json::{Value, json};

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("any_json_is_an_argument_and_a_result", any_json),
    ("each_kind_of_failure_has_a_status_of_its_own", failures),
    ("what_is_no_call_is_refused_with_the_reason", refusals),
    ("an_event_is_the_same_in_either_mode", events),
    (
        "an_event_that_is_none_is_refused_with_the_reason",
        bad_events,
    ),
    ("an_answer_to_an_event_may_be_one", replies),
];

fn any_json(language: &Language) {
    let site = language.site(&[], |_| {});
    for text in [
        r#"{"a":[1,2.5,"ü"],"b":null}"#,
        "[]",
        "\"text\"",
        "true",
        " \n 12 \n ",
    ] {
        for kind in [
            "application/json",
            "application/json; charset=utf-8",
            "text/json",
            "application/vnd.mine+json",
            "",
        ] {
            let headers = [("content-type", kind)];
            let headers = if kind.is_empty() { &[][..] } else { &headers };
            let answer = site.send("POST", "/", headers, text.as_bytes());
            assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
            let expected: Value = serde_json::from_str(text).expect("JSON");
            // Lua has no list that is empty.
            if !(language.name == "lua" && text == "[]") {
                assert_eq!(answer.json(), expected);
            }
            assert_eq!(answer.header("content-type"), "application/json");
            let seconds: f64 = answer
                .header("x-duration-seconds")
                .parse()
                .expect("seconds");
            assert!(seconds > 0.0 && seconds < 60.0);
            assert_eq!(answer.header("x-request-id").len(), 36);
        }
    }
    // As curl -d sends it; and without a body the argument is null.
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-request-id", "mine"),
    ];
    let answer = site.send("POST", "/", &headers, br#"{"a":1}"#);
    assert_eq!(answer.json(), json!({"a": 1}));
    assert_eq!(answer.header("x-request-id"), "mine");
    assert_eq!(site.send("POST", "/", &[], b"").json(), Value::Null);
    // An id that would break a log line is not taken.
    let headers = [("x-request-id", "a b")];
    let answer = site.send("POST", "/", &headers, b"1");
    assert_eq!(answer.header("x-request-id").len(), 36);
}

fn failures(language: &Language) {
    // A program in the place of one that was ended boots within the deadline of the next call.
    let limit = if ["java", "node"].contains(&language.name) {
        "6000"
    } else {
        "700"
    };
    let site = language.site(&[], |command| {
        command.env("REFUNCTION_DEADLINE_MS", limit);
    });
    let fails = |event: Value, status: u16, kind: &str, words: &str| {
        let answer = site.post("/", &event);
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status, &error["kind"]),
            (status, &json!(kind)),
            "{error}"
        );
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(words), "{message}");
        // The next one is none of its.
        assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
        error
    };
    let error = fails(json!({"op": "raise"}), 500, "exception", "no good");
    let kind = error["error_type"].as_str().expect("a type");
    assert!(kind.ends_with(language.exception), "{error}");
    fails(
        json!({"op": "sleep", "seconds": 100}),
        504,
        "timeout",
        &format!("{limit} ms"),
    );
    if language.can_exit {
        fails(json!({"op": "exit"}), 502, "crashed", "status 3");
    }
}

fn refusals(language: &Language) {
    let site = language.site(&[], |_| {});
    let refused = |method: &str, path: &str, kind: &str, body: &[u8], status: u16, words: &str| {
        let answer = site.send(method, path, &[("content-type", kind)], body);
        assert_eq!(answer.status, status, "{}", answer.text());
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(words), "{message}");
        answer
    };
    let json = "application/json";
    refused("POST", "/", json, b"{", 400, "not JSON");
    refused("POST", "/", json, b"\"\xff\"", 400, "not JSON");
    refused("POST", "/", "text/plain", b"{}", 415, "text/plain");
    refused(
        "POST",
        "/",
        "application/cloudevents-batch+json",
        b"[]",
        415,
        "batch",
    );
    refused("POST", "/elsewhere", json, b"{}", 404, "POST /");
    for (method, path, allowed) in [
        ("GET", "/", "POST"),
        ("PUT", "/", "POST"),
        ("GET", "/run", "POST"),
        ("POST", "/_/ready", "GET, HEAD"),
    ] {
        let answer = refused(method, path, json, b"", 405, allowed);
        assert_eq!(answer.header("allow"), allowed);
    }
    let limit = 32 * 1024 * 1024;
    refused(
        "POST",
        "/",
        json,
        &vec![b' '; limit + 1],
        413,
        "33554432 bytes",
    );
    assert_eq!(site.call(&json!({"op": "count"}))["count"], 1);
}

const ATTRIBUTES: [(&str, &str); 4] = [
    ("ce-specversion", "1.0"),
    ("ce-id", "7"),
    ("ce-source", "/mine"),
    ("ce-type", "com.example.test"),
];

/// Sends the event in binary mode; what the function was given.
fn binary(site: &Site, more: &[(&str, &str)], body: &[u8]) -> Value {
    let answer = site.send("POST", "/", &[&ATTRIBUTES, more].concat(), body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The function gives the event back, which makes it an event in turn.
    assert_eq!(
        answer.header("content-type"),
        "application/cloudevents+json"
    );
    answer.json()
}

fn events(language: &Language) {
    let site = language.site(&[], |_| {});
    let mut event = json!({
        "specversion": "1.0",
        "id": "7",
        "source": "/mine",
        "type": "com.example.test",
        "subject": "Euro € 😀",
        "datacontenttype": "application/json",
        "data": {"a": [1, 2]},
    });
    let headers = [
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("content-type", "application/json"),
    ];
    assert_eq!(binary(&site, &headers, br#"{"a": [1, 2]}"#), event);
    let structured = |event: &Value| {
        let headers = [(
            "content-type",
            "application/cloudevents+json; charset=utf-8",
        )];
        site.send("POST", "/", &headers, event.to_string().as_bytes())
    };
    assert_eq!(structured(&event).json(), event);
    // Data that is no JSON.
    let headers = [("content-type", "text/plain; charset=utf-8")];
    let found = binary(&site, &headers, "ü".as_bytes());
    assert_eq!(found["data"], "ü");
    assert_eq!(found["datacontenttype"], "text/plain; charset=utf-8");
    let found = binary(&site, &[("content-type", "image/png")], b"\x89PNG");
    assert_eq!(found["data_base64"], "iVBORw==");
    let found = binary(&site, &[], b"");
    assert_eq!(found.get("data"), None);
    event["data"] = Value::Null;
}

fn bad_events(language: &Language) {
    let site = language.site(&[], |_| {});
    let refused = |headers: &[(&str, &str)], body: &str, words: &str| {
        let answer = site.send("POST", "/", headers, body.as_bytes());
        assert_eq!(answer.status, 400, "{}", answer.text());
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(words), "{message}");
    };
    for missing in 1..ATTRIBUTES.len() {
        let mut headers = ATTRIBUTES.to_vec();
        let (name, _) = headers.remove(missing);
        refused(&headers, "{}", &name[3..]);
    }
    let mut headers = ATTRIBUTES.to_vec();
    headers[0] = ("ce-specversion", "0.3");
    refused(&headers, "{}", "0.3");
    headers[0] = ("ce-specversion", "1.0");
    refused(
        &[&headers[..], &[("content-type", "application/json")]].concat(),
        "{",
        "not JSON",
    );
    headers.push(("ce-bad-name", "x"));
    refused(&headers, "{}", "bad-name");
    let structured = [("content-type", "application/cloudevents+json")];
    refused(&structured, "[]", "object");
    refused(
        &structured,
        r#"{"specversion":"1.0","id":"1","source":"/x"}"#,
        "type",
    );
    refused(
        &structured,
        r#"{"specversion":"1.0","id":1,"source":"/x","type":"y"}"#,
        "id",
    );
}

fn replies(language: &Language) {
    let site = language.site(&[], |_| {});
    // Sent on a path of its own, this event has a field that the function acts on.
    let event = |op: &str| {
        let mut event = json!({"specversion": "1.0", "id": "1", "source": "/x", "type": "y"});
        event["op"] = op.into();
        event["name"] = "NOT_SET_ANYWHERE".into();
        let headers = [("content-type", "application/cloudevents+json")];
        site.send("POST", "/", &headers, event.to_string().as_bytes())
    };
    let nothing = event("env");
    assert_eq!((nothing.status, nothing.text().as_str()), (204, ""));
    let json = event("count");
    assert_eq!(json.header("content-type"), "application/json");
    assert_eq!(json.json()["count"], 1);
    let back = event("nothing that is known");
    assert_eq!(back.header("content-type"), "application/cloudevents+json");
}
