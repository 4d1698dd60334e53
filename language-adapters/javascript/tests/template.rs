//! What only a template sees: preloading, and the image's own files.

mod common;

use std::fs;

use common::{call, cases, load, refused, run, source, try_invoke};
use refunction_adapter::Adapter;
use refunction_javascript::JavaScript;
use refunction_protocol::Function;
use serde_json::json;

fn main() {
    let root = std::env::temp_dir().join(format!("refunction-root-js-{}", std::process::id()));
    for directory in ["node_modules/library", "lib", "../refunction-outside"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    for (name, text) in [
        (
            "app.mjs",
            "import { value } from './lib/beside.js';\nexport const handler = (event, context) => [event, value, import.meta.filename];",
        ),
        (
            "lib/beside.js",
            "globalThis.runs = (globalThis.runs ?? 0) + 1;\nexports.value = 'beside';",
        ),
        (
            "node_modules/library/package.json",
            "{\"main\": \"main.cjs\"}",
        ),
        (
            "node_modules/library/main.cjs",
            "globalThis.loads = (globalThis.loads ?? 0) + 1;\nmodule.exports = { loads };",
        ),
        ("failing.js", "throw new RangeError('of its own');"),
        ("waiting.mjs", "await new Promise(() => {});"),
    ] {
        fs::write(root.join(name), text).expect("a file");
    }
    // SAFETY: no other thread exists that could read the environment.
    unsafe { std::env::set_var("FUNCTION_ROOT", &root) };
    let mut javascript = JavaScript::new();
    run(
        &mut javascript,
        cases![
            nothing_works_before_boot,
            booting_twice_is_harmless,
            the_images_own_handler,
            source_text_may_import_what_lies_in_the_root,
            nothing_outside_of_the_root_is_a_module,
            preloading_imports,
            a_failing_library_is_named,
        ],
    );
    fs::remove_dir_all(root.join("../refunction-outside")).expect("removed");
    fs::remove_dir_all(root).expect("removed");
}

fn nothing_works_before_boot(javascript: &mut JavaScript) {
    assert!(javascript.preload(&[]).is_err());
    assert!(javascript.settle().is_err());
    assert!(javascript.after_restore().is_err());
    assert_eq!(javascript.runtime().version, "");
    javascript.after_fork();
    let error = refused(javascript, &source(""));
    assert_eq!(error.message, "JavaScript was not booted");
    assert!(try_invoke(javascript, "{}").is_err());
}

fn booting_twice_is_harmless(javascript: &mut JavaScript) {
    javascript.boot().expect("boot");
    javascript.boot().expect("boot");
    javascript.settle().expect("settle");
    javascript.settle().expect("settle");
    assert_eq!(call(javascript, "const main = () => 1", "{}"), json!(1));
}

fn the_images_own_handler(javascript: &mut JavaScript) {
    let function = |handler: &str| Function {
        handler: Some(handler.into()),
        ..source("")
    };
    let root = std::env::var("FUNCTION_ROOT").expect("set above");
    for _ in 0..2 {
        load(javascript, &function("app.handler"));
        assert_eq!(
            try_invoke(javascript, "1"),
            Ok(json!([1, "beside", format!("{root}/app.mjs")]))
        );
    }
    let error = refused(javascript, &function("app.missing"));
    assert_eq!(
        error.message,
        "the function has no 'missing': it has handler"
    );
    let error = refused(javascript, &function("nowhere.handler"));
    assert_eq!(error.error_type, "ModuleNotFound");
}

fn source_text_may_import_what_lies_in_the_root(javascript: &mut JavaScript) {
    for code in [
        "const { value } = require('./lib/beside');\nrequire('library');\nconst main = () => [value, loads, runs];",
        "import { value } from './lib/beside.js';\nimport 'library';\nexport const main = () => [value, loads, runs];",
    ] {
        // Each time in a context of its own.
        for _ in 0..2 {
            assert_eq!(call(javascript, code, "{}"), json!(["beside", 1, 1]));
        }
    }
}

fn nothing_outside_of_the_root_is_a_module(javascript: &mut JavaScript) {
    let root = std::env::var("FUNCTION_ROOT").expect("set above");
    fs::write(
        format!("{root}/../refunction-outside/x.js"),
        "exports.x = 1;",
    )
    .expect("a file");
    for specifier in [
        "../refunction-outside/x.js".to_owned(),
        "./lib/../../refunction-outside/x.js".to_owned(),
        format!("{root}/../refunction-outside/x.js"),
        "/etc/hostname".to_owned(),
    ] {
        let error = refused(javascript, &source(&format!("require('{specifier}')")));
        assert!(error.message.starts_with("Cannot find module"), "{error:?}");
    }
    let inside =
        format!("const it = require('{root}/lib/beside.js'); const main = () => it.value;");
    assert_eq!(call(javascript, &inside, "{}"), json!("beside"));
}

fn preloading_imports(javascript: &mut JavaScript) {
    javascript
        .preload(&["library".into(), "./lib/beside.js".into()])
        .expect("preload");
    javascript.settle().expect("settle");
    // What was preloaded ran before the function, and not again.
    let code = "const before = [globalThis.loads, globalThis.runs];\nconst it = require('library');\nconst main = () => [before, it.loads, loads, runs];";
    for _ in 0..2 {
        assert_eq!(call(javascript, code, "{}"), json!([[1, 1], 1, 1, 1]));
    }
}

fn a_failing_library_is_named(javascript: &mut JavaScript) {
    for (library, cause) in [
        (
            "no-such-library",
            "Error: Cannot find module 'no-such-library'",
        ),
        ("./failing.js", "RangeError: of its own"),
        ("./waiting.mjs", "NeverSettled: the function's promise"),
        ("", "Error: Cannot find module ''"),
    ] {
        let error = javascript
            .preload(&["library".into(), library.into()])
            .expect_err("it fails");
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("importing {library}: {cause}")),
            "{said}"
        );
    }
}
