//! What is around a function: its output, its environment, its files.

use std::io::{Cursor, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use refunction_tests::peer::assert_failure;
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::Case;
use crate::language::Language;

pub const CASES: &[Case] = &[
    ("what is printed carries its request", printed),
    ("an environment of its own", environment),
    ("a handler with a context", handler),
    ("an archive of several files", archive),
    ("what is no archive", no_archive),
];

fn printed(language: &Language) {
    let mut supervisor = language.load("print");
    for id in ["one", "two"] {
        let text = format!("grüße {id}");
        supervisor.ask(&json!(id), &json!(text));
        supervisor.expect("response");
        let mut logs = supervisor.take_logs();
        logs.sort_by_key(|log| log["line"].to_string());
        let lines: Vec<_> = logs
            .iter()
            .map(|log| (&log["id"], &log["stream"], &log["line"]))
            .collect();
        let (err, out) = (json!(format!("err {text}")), json!(format!("out {text}")));
        let id = json!(id);
        assert_eq!(
            lines,
            [(&id, &json!("stderr"), &err), (&id, &json!("stdout"), &out)]
        );
    }
}

fn environment(language: &Language) {
    let mut supervisor = language.start(&[]);
    let names = json!(["GREETING", "EMPTY", "ABSENT"]);
    let mut function = language.function(&language.program("env"));
    function["env"] = json!({"GREETING": "grüß dich", "EMPTY": ""});
    let answer = supervisor.try_load(&function);
    assert_eq!(answer["data"], true, "{answer}");
    assert_eq!(supervisor.call(&names), json!(["grüß dich", "", null]));
    assert_eq!(supervisor.restore().method, "rewind");
    language.load_into(&mut supervisor, "env");
    assert_eq!(supervisor.call(&names), json!([null, null, null]));
}

fn handler(language: &Language) {
    let mut supervisor = language.start(&[]);
    let mut function = language.function(&language.program("handler"));
    function["handler"] = json!(language.handler);
    let answer = supervisor.try_load(&function);
    assert_eq!(answer["data"], true, "{answer}");
    assert_eq!(
        supervisor.call(&json!({"a": 1})),
        json!([{"a": 1}, "the-call"])
    );
}

fn archive(language: &Language) {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in language.archive() {
        writer
            .start_file(name, SimpleFileOptions::default())
            .and_then(|()| Ok(writer.write_all(&content)?))
            .expect("written");
    }
    let bytes = writer.finish().expect("written").into_inner();
    let mut supervisor = language.start(&[]);
    for _ in 0..2 {
        let function = json!({"code": STANDARD.encode(&bytes), "binary": true});
        let answer = supervisor.try_load(&function);
        assert_eq!(answer["data"], true, "{answer}");
        assert_eq!(supervisor.call(&json!(["a", "b", "ü"])), "a-b-ü");
        assert_eq!(supervisor.restore().method, "rewind");
    }
}

fn no_archive(language: &Language) {
    let mut supervisor = language.start(&[]);
    for code in [
        "%%%".to_owned(),
        STANDARD.encode("no archive"),
        String::new(),
    ] {
        let answer = supervisor.try_load(&json!({"code": code, "binary": true}));
        assert_eq!(answer["data"], false, "{answer}");
        assert_failure(&answer["error"], "exception", &[]);
    }
    language.load_into(&mut supervisor, "echo");
    assert_eq!(supervisor.call(&Value::Null), Value::Null);
}
