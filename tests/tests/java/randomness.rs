//! Two tenants never draw the same: a rewind brings back generators, too.

use std::collections::BTreeSet;
use std::fs;

use refunction_tests::java;
use serde_json::Value;

use crate::program::{class, classes, jar, load};

/// Their generators were drawn from before the snapshot, too: a library did that.
#[test]
fn no_two_tenants_draw_the_same() {
    let library = classes().with_extension("jar");
    fs::write(&library, jar(&["Drawn"], &[])).expect("the library");
    let preload = format!("{},Drawn", library.display());
    let mut supervisor = java::start(&["--preload", &preload]).unwatched();
    let worker = supervisor.worker();
    let code = class("Draw");
    let mut seen = BTreeSet::new();
    for round in 0..1000 {
        load(&mut supervisor, code.clone(), "main", "Draw");
        let drawn = supervisor.call(&Value::Null);
        let drawn = drawn.as_object().expect("an object");
        assert_eq!(drawn.len(), 23, "{drawn:?}");
        for (source, value) in drawn {
            assert!(
                seen.insert((source.clone(), value.to_string())),
                "{source} gave {value} again, in round {round}"
            );
        }
        let restored = supervisor.restore();
        assert_eq!(restored.method, "rewind", "{}", restored.report);
    }
    assert_eq!(supervisor.worker(), worker);
}
