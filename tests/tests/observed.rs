//! Functions by name through funk, in real containers: what becomes of them is seen in
//! `funk top`, in their logs, and in the daemon's.

use refunction_tests::host::{Answer, Host};
use serde_json::{Value, json};

const FUNCTION: &str = "
import os
def main(args):
    print('called with', args)
    if 'raise' in args: raise ValueError(args['raise'])
    if 'exit' in args: os._exit(args['exit'])
    while 'spin' in args: pass
    return {'args': args, 'var': os.environ.get('VAR')}
";

fn deploy(host: &Host, name: &str, code: &str, more: &[&str]) -> Answer {
    let mut all = vec!["deploy", name, "-f", "-"];
    all.extend(more);
    host.funk_reading(&all, code.as_bytes())
}

fn invoke(host: &Host, name: &str, argument: &Value) -> Answer {
    let argument = argument.to_string();
    host.funk_reading(&["invoke", name, "-r", "-"], argument.as_bytes())
}

fn top(host: &Host) -> Value {
    host.funk(&["top"]).ok()
}

#[test]
fn functions_are_deployed_called_listed_and_deleted() {
    let mut host = Host::with_image();
    let python = ["--runtime", "python"];
    let deployed = deploy(
        &host,
        "a",
        FUNCTION,
        &["--runtime", "python", "-e", "VAR=x=y"],
    )
    .ok();
    assert_eq!(deployed["change"], "created", "{deployed}");
    let again = deploy(
        &host,
        "a",
        FUNCTION,
        &["--runtime", "python", "-e", "VAR=x=y"],
    )
    .ok();
    assert_eq!(again["change"], "unchanged", "{again}");
    let answer = invoke(&host, "a", &json!({"größe": 2.50})).ok();
    assert_eq!(
        answer["value"],
        json!({"args": {"größe": 2.5}, "var": "x=y"})
    );
    assert_eq!(answer["start"], "created", "{answer}");
    assert_eq!(invoke(&host, "a", &json!({})).ok()["start"], "warm");
    // Another revision of it is what is called next.
    let changed = deploy(&host, "a", FUNCTION, &python).ok();
    assert_eq!(changed["change"], "updated", "{changed}");
    assert_eq!(
        invoke(&host, "a", &json!({})).ok()["value"]["var"],
        Value::Null
    );

    // What the function does wrong.
    let raised = invoke(&host, "a", &json!({"raise": "no"}));
    raised.fails(1, &["ValueError", "line 5"]);
    assert_eq!(raised.json["error"]["kind"], "exception", "{raised:?}");
    invoke(&host, "a", &json!({"exit": 3})).fails(6, &["crashed", "status 3"]);
    let limited = [
        "--runtime",
        "python",
        "--deadline-ms",
        "200",
        "--handler",
        "function.main",
    ];
    deploy(
        &host,
        "late",
        "def main(event, context):\n    while True: pass\n",
        &limited,
    )
    .ok();
    invoke(&host, "late", &json!({})).fails(5, &["200 ms"]);
    let own = ["invoke", "late", "--deadline-ms", "50"];
    host.funk(&own).fails(5, &["deadline"]);
    deploy(&host, "broken", "import nothing_of_this_name\n", &python).ok();
    invoke(&host, "broken", &json!({})).fails(1, &["nothing_of_this_name"]);

    // What whoever types does wrong.
    host.funk(&["invoke", "nobody"])
        .fails(3, &["nobody", "funk functions"]);
    host.funk(&["logs", "--function", "nobody"])
        .fails(3, &["nobody"]);
    host.funk(&["invoke", "a", "-r", "{,"]).fails(2, &["JSON"]);
    deploy(&host, "a", FUNCTION, &["--runtime", "python", "--new"]).fails(2, &["already"]);
    deploy(&host, "a", FUNCTION, &["--image", "nowhere"]).fails(3, &["nowhere", "image import"]);
    deploy(&host, "a/b", FUNCTION, &python).fails(2, &["a/b"]);
    deploy(&host, "a", FUNCTION, &[]).fails(2, &["--image", "--runtime"]);
    deploy(
        &host,
        "a",
        FUNCTION,
        &["--runtime", "python", "--revision", "1"],
    )
    .fails(2, &["has changed meanwhile"]);

    let listed = host.funk(&["functions"]).ok();
    let names: Vec<_> = listed["functions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["a", "broken", "late"]);
    assert_eq!(listed["functions"][2]["deadline_ms"], 200, "{listed}");
    let deleted = host.funk(&["delete", "a", "nobody", "late"]);
    deleted.fails(3, &["nobody"]);
    assert_eq!(deleted.json["deleted"], json!(["a", "late"]), "{deleted:?}");
    host.funk(&["invoke", "a"]).fails(3, &["\"a\""]);
    assert_eq!(host.stop(), Some(0));
    host.assert_ended();
}

#[test]
fn what_happens_is_counted() {
    // One container, so that each function finds the other's in it.
    let config = std::env::temp_dir().join(format!("refunction-one-{}.toml", std::process::id()));
    std::fs::write(&config, "[node]\nmax_containers = 1\n").expect("a configuration file");
    let mut host = Host::start_with(&["--config", config.to_str().expect("UTF-8")]);
    std::fs::remove_file(&config).expect("removed");
    host.import(&["python"]);
    for name in ["a", "b"] {
        deploy(&host, name, FUNCTION, &["--runtime", "python"]).ok();
    }
    let before = top(&host);
    assert_eq!(before["deployed"], 2, "{before}");
    assert_eq!(before["containers"], json!([]), "{before}");
    for _ in 0..3 {
        invoke(&host, "a", &json!({})).ok();
        invoke(&host, "b", &json!({})).ok();
    }
    invoke(&host, "b", &json!({"raise": "no"})).fails(1, &[]);
    host.funk(&["invoke", "nobody"]).fails(3, &[]);
    let after = top(&host);
    let calls = &after["calls"];
    assert_eq!(
        calls["outcomes"],
        json!({"ok": 6, "exception": 1}),
        "{after}"
    );
    assert_eq!(calls["refusals"], json!({"unknown": 1}), "{after}");
    assert_eq!(calls["starts"]["created"], 1, "{after}");
    assert_eq!(calls["starts"]["warm"], 1, "{after}");
    assert_eq!(calls["ran"]["count"], 7, "{after}");
    assert!(
        calls["waited"]["p99_us"].as_u64() > calls["waited"]["p50_us"].as_u64(),
        "{after}"
    );
    assert_eq!(after["restores"]["rewind"]["count"], 5, "{after}");
    assert_eq!(after["restores"]["refork"], Value::Null, "{after}");
    let [container] = after["containers"].as_array().expect("a list").as_slice() else {
        panic!("{after}");
    };
    assert_eq!(container["activity"], "idle", "{after}");
    assert_eq!(container["function"], "b", "{after}");
    assert_eq!(container["requests"], 7, "{after}");
    let pool = &after["pools"][0];
    assert_eq!(pool["runtime"], "python", "{after}");
    assert_eq!(pool["containers"]["idle"], 1, "{after}");
    assert_eq!(pool["memory_bytes"], after["memory_bytes"], "{after}");
    let of = |name: &str| {
        let functions = after["functions"].as_array().expect("a list");
        let found = functions.iter().find(|it| it["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {after}"))["calls"]["outcomes"].clone()
    };
    assert_eq!(of("a"), json!({"ok": 3}));
    assert_eq!(of("b"), json!({"ok": 3, "exception": 1}));

    // What is deleted is not seen any more, and still counted in all.
    host.funk(&["delete", "b"]).ok();
    let after = top(&host);
    let functions = after["functions"].as_array().expect("a list");
    assert!(
        functions
            .iter()
            .all(|it| it["calls"].is_null() || it["name"] == "a"),
        "{after}"
    );
    assert_eq!(after["calls"]["outcomes"]["ok"], 6, "{after}");
    assert_eq!(host.stop(), Some(0));
    host.assert_ended();
}

#[test]
fn a_function_s_lines_outlive_its_container_and_name_their_requests() {
    let mut host = Host::start_with(&["--log-format", "json"]);
    host.import(&["python"]);
    for name in ["a", "b"] {
        deploy(&host, name, FUNCTION, &["--runtime", "python"]).ok();
    }
    let first = invoke(&host, "a", &json!({"n": 1})).ok();
    invoke(&host, "b", &json!({"n": 2})).ok();
    let container = first["container"].as_str().expect("an id");
    host.funk(&["rm", container]).ok();
    let second = invoke(&host, "a", &json!({"n": 3})).ok();
    assert_ne!(second["container"], container, "{second}");
    let logs = host.funk(&["logs", "--function", "a"]).ok();
    let lines: Vec<_> = logs["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| (line["line"].clone(), line["request_id"].clone()))
        .collect();
    let expected = [
        (json!("called with {'n': 1}"), first["request_id"].clone()),
        (json!("called with {'n': 3}"), second["request_id"].clone()),
    ];
    assert_eq!(lines, expected, "{logs}");

    invoke(&host, "a", &json!({"exit": 3})).fails(6, &[]);
    assert_eq!(host.stop(), Some(0));
    let log = host.log();
    let events: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let lost = events
        .iter()
        .find(|it| it["message"] == "its worker is lost");
    let lost = lost.unwrap_or_else(|| panic!("nothing says that: {log}"));
    assert_eq!(lost["function"], "a", "{lost}");
    assert_eq!(lost["container"], second["container"], "{lost}");
    assert_eq!(lost["outcome"], "crashed", "{lost}");
    assert_eq!(lost["request"].as_str().map(str::len), Some(36), "{lost}");
    host.assert_ended();
}
