//! The functions in `programs/`, as they are sent.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use refunction_tests::java;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

/// The classes of all of them.
pub fn classes() -> &'static Path {
    static CLASSES: OnceLock<PathBuf> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java/programs");
        java::compile(&java::sources_under(&programs))
    })
}

/// A function whose code these bytes are.
pub fn function(bytes: &[u8]) -> Value {
    json!({"code": STANDARD.encode(bytes), "binary": true})
}

/// A program that is one class, as its class file.
pub fn class(name: &str) -> Value {
    let file = classes().join(format!("{name}.class"));
    function(&fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
}

/// A jar of these programs, with the classes inside them, and of the packages named.
pub fn jar(entries: &[&str], options: &[&str]) -> Vec<u8> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let mut found = Vec::new();
    for entry in fs::read_dir(classes()).expect("the classes") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("a name in UTF-8");
        let program = name.split(['.', '$']).next().expect("a name");
        if entries.contains(&program) {
            found.push(name.to_owned());
        }
    }
    assert!(found.len() >= entries.len(), "{entries:?}: {found:?}");
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!(
        "refunction-java-{}-{number}.jar",
        std::process::id()
    ));
    java::archive(&file, options, classes(), &found);
    let bytes = fs::read(&file).expect("the jar");
    fs::remove_file(&file).expect("removing the jar");
    bytes
}

/// Loads a function with this entry, as a `handler` or a `main` field names it.
#[track_caller]
pub fn load(supervisor: &mut Supervisor, mut function: Value, field: &str, entry: &str) {
    function[field] = json!(entry);
    let answer = supervisor.try_load(&function);
    assert_eq!(answer["data"], true, "{answer}");
}
