//! What is around a function: its output, its environment, its resources.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use refunction_tests::{eventually, java};
use serde_json::{Value, json};

use crate::program::{class, classes, function, jar, load};

#[test]
fn what_is_printed_comes_by_line_and_before_the_answer() {
    let mut supervisor = java::start(&[]);
    load(
        &mut supervisor,
        class("Surroundings"),
        "main",
        "Surroundings",
    );
    for text in ["one", "grüße 👋"] {
        assert_eq!(supervisor.call(&json!({"print": text})), "ab");
        let logs = supervisor.take_logs();
        let lines = |stream: &str| -> Vec<String> {
            logs.iter()
                .filter(|log| log["stream"] == stream && log["id"] == "the-call")
                .map(|log| log["line"].as_str().expect("text").to_owned())
                .collect()
        };
        assert_eq!(
            lines("stdout"),
            [format!("out {text}"), "two".into(), "lines".into()]
        );
        assert_eq!(lines("stderr"), [format!("err {text}")]);
    }
}

#[test]
fn an_environment_of_its_own() {
    let mut supervisor = java::start(&[]);
    let variables = json!({"GREETING": "grüß dich", "EMPTY": ""});
    let ask = |name: &str| json!({"variable": name});
    let mut with_variables = class("Surroundings");
    with_variables["env"] = variables;
    let answer = supervisor.try_load(&with_variables);
    assert_eq!(answer["data"], true, "{answer}");
    let greeting = json!(["grüß dich", "grüß dich", "grüß dich"]);
    assert_eq!(supervisor.call(&ask("GREETING")), greeting);
    assert_eq!(supervisor.call(&ask("EMPTY")), json!(["", "", ""]));
    assert_eq!(
        supervisor.call(&ask("REFUNCTION_RUNTIME")),
        json!([null, null, ""])
    );
    assert_eq!(supervisor.restore().method, "rewind");
    load(
        &mut supervisor,
        class("Surroundings"),
        "main",
        "Surroundings",
    );
    assert_eq!(supervisor.call(&ask("GREETING")), json!([null, null, ""]));
}

#[test]
fn resources_and_main_classes_of_a_jar() {
    let mut supervisor = java::start(&[]);
    let code = function(&jar(
        &["Surroundings", "Echo"],
        &["--main-class", "Surroundings"],
    ));
    assert_eq!(supervisor.try_load(&code)["data"], true);
    let manifest = supervisor.call(&json!({"resource": "/META-INF/MANIFEST.MF"}));
    let manifest = manifest.as_str().expect("the manifest");
    assert!(manifest.contains("Main-Class: Surroundings"), "{manifest}");
    assert_eq!(supervisor.call(&json!({"class": "Echo"})), "Echo");
    // Neither the adapter's classes nor those of the tenant before are there.
    assert_eq!(
        supervisor.call(&json!({"class": "refunction.Main"})),
        Value::Null
    );
    assert_eq!(supervisor.restore().method, "rewind");
    load(
        &mut supervisor,
        class("Surroundings"),
        "main",
        "Surroundings",
    );
    assert_eq!(supervisor.call(&json!({"class": "Echo"})), Value::Null);
    assert_eq!(
        supervisor.call(&json!({"resource": "/META-INF/MANIFEST.MF"})),
        Value::Null
    );
}

#[test]
fn what_an_image_has_installed_and_preloaded() {
    let root = std::env::temp_dir().join(format!("refunction-root-{}", std::process::id()));
    fs::create_dir_all(root.join("lib")).expect("a directory");
    fs::copy(java::gson(), root.join("lib/gson.jar")).expect("the library");
    fs::copy(classes().join("Action.class"), root.join("Action.class")).expect("the class");
    let library = root.join("lib/gson.jar");
    let preloads = format!("{},com.google.gson.Gson", library.display());
    for preload in [&["--preload", &preloads][..], &[]] {
        let mut supervisor = java::start_with(preload, |command| {
            command.env("FUNCTION_ROOT", &root);
        });
        for _ in 0..2 {
            let installed = json!({"code": "", "main": "Action"});
            assert_eq!(supervisor.try_load(&installed)["data"], true);
            let answer = supervisor.call(&json!({"name": "you"}));
            assert_eq!(answer, json!({"greeting": "Hello you!"}));
            assert_eq!(supervisor.restore().method, "rewind");
        }
    }
    fs::remove_dir_all(&root).expect("removing it");
}

/// A restore beside a spare that boots removes what is new: neither may meet the other's.
#[test]
fn a_boot_makes_no_files_where_tenants_do() {
    let directory = std::env::temp_dir().join(format!("warm-up-{}", std::process::id()));
    fs::create_dir(&directory).expect("a directory");
    fs::set_permissions(&directory, Permissions::from_mode(0o1777)).expect("open to workers");
    let changed = || {
        let status = fs::metadata(&directory).expect("it is there");
        status.modified().expect("a time")
    };
    let before = changed();
    let mut supervisor = java::start_with(&[], |command| {
        command.env("TMPDIR", &directory);
    });
    eventually("a spare stands by", || supervisor.status()["spares"] == 1);
    assert_eq!(changed(), before, "something was made here");
    // It is this directory that archives are unpacked to.
    let archive = function(&jar(&["Surroundings"], &[]));
    load(&mut supervisor, archive, "main", "Surroundings");
    assert_ne!(changed(), before, "nothing was unpacked here");
    drop(supervisor);
    fs::remove_dir_all(&directory).expect("removed");
}
