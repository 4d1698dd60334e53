//! Functions given as a base64 zip.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{booted, cases, load, refused, run, source, try_invoke};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use refunction_javascript::JavaScript;
use refunction_protocol::Function;
use serde_json::json;

fn main() {
    run(
        &mut booted(),
        cases![
            an_index_with_what_lies_beside_it,
            modules_of_either_kind_import_each_other,
            packages_say_what_their_files_are,
            libraries_are_found_in_node_modules,
            a_handler_names_its_module,
            modules_are_run_once_and_in_circles,
            errors_show_the_archives_lines,
            missing_modules_are_named,
            a_missing_entry_is_named,
            what_is_no_archive_is_refused,
            entries_that_would_escape_are_refused,
            archives_that_are_too_large_are_refused,
            a_damaged_file_is_refused_when_it_is_read,
            the_next_load_forgets_everything,
        ],
    );
}

/// One file of an archive, and what an honest one would not say of it.
struct File<'a> {
    name: &'a str,
    text: &'a [u8],
    mode: u32,
}

fn file<'a>(name: &'a str, text: &'a str) -> File<'a> {
    File {
        name,
        text: text.as_bytes(),
        mode: 0o100_644,
    }
}

fn zip(files: &[File<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (number, file) in files.iter().enumerate() {
        let name = rawzip::path::EntryPath::verbatim(file.name.as_bytes());
        if file.name.ends_with('/') {
            archive.new_dir(name).create().expect("a directory");
            continue;
        }
        let builder = archive.new_file(name).unix_permissions(file.mode);
        // Both methods that zip programs use.
        if number % 2 == 0 {
            let (mut entry, config) = builder
                .compression_method(CompressionMethod::STORE)
                .start()
                .expect("an entry");
            let mut writer = config.wrap(&mut entry);
            std::io::Write::write_all(&mut writer, file.text).expect("written");
            let (_, descriptor) = writer.finish().expect("finished");
            entry.finish(descriptor).expect("finished");
        } else {
            let (mut entry, config) = builder
                .compression_method(CompressionMethod::DEFLATE)
                .start()
                .expect("an entry");
            let encoder = DeflateEncoder::new(&mut entry, Compression::default());
            let mut writer = config.wrap(encoder);
            std::io::Write::write_all(&mut writer, file.text).expect("written");
            let (encoder, descriptor) = writer.finish().expect("finished");
            encoder.finish().expect("finished");
            entry.finish(descriptor).expect("finished");
        }
    }
    archive.finish().expect("finished");
    bytes
}

fn packed(files: &[File<'_>]) -> Function {
    archive(&STANDARD.encode(zip(files)))
}

fn archive(code: &str) -> Function {
    Function {
        binary: true,
        ..source(code)
    }
}

/// Loads an archive and calls it with `{"n":21}`.
fn answer(javascript: &mut JavaScript, files: &[(&str, &str)]) -> serde_json::Value {
    let files: Vec<File<'_>> = files.iter().map(|(name, text)| file(name, text)).collect();
    load(javascript, &packed(&files));
    match try_invoke(javascript, r#"{"n":21}"#) {
        Ok(value) => value,
        Err(error) => panic!("{error:#?}"),
    }
}

fn an_index_with_what_lies_beside_it(javascript: &mut JavaScript) {
    let files = [
        file("lib/", ""),
        file(
            "index.js",
            "const helper = require('./helper');\nconst deep = require('./lib/inner');\nconst data = require('./lib/data.json');\nexports.main = (args) => [helper.double(args.n), deep(), data.list, __filename, __dirname];\nexports.other = () => 'other';",
        ),
        file("helper.js", "exports.double = (n) => 2 * n;"),
        file(
            "lib/inner/index.js",
            "const { double } = require('../../helper.js');\nmodule.exports = () => double(4) + __dirname;",
        ),
        file("lib/data.json", "{\"list\": [\"dätä\"]}"),
    ];
    let mut function = packed(&files);
    load(javascript, &function);
    let expected = json!([42, "8/lib/inner", ["dätä"], "/index.js", "/"]);
    assert_eq!(try_invoke(javascript, r#"{"n":21}"#), Ok(expected.clone()));
    // As base64 tools wrap it.
    let mut wrapped = String::new();
    for (index, character) in function.code.chars().enumerate() {
        if index % 76 == 0 {
            wrapped.push_str("\r\n");
        }
        wrapped.push(character);
    }
    function.code = wrapped;
    load(javascript, &function);
    assert_eq!(try_invoke(javascript, r#"{"n":21}"#), Ok(expected));
    function.main = Some("other".into());
    load(javascript, &function);
    assert_eq!(try_invoke(javascript, "{}"), Ok(json!("other")));
    // As zip programs make it that know no rights.
    let other_system: Vec<File<'_>> = files.into_iter().map(|it| File { mode: 0, ..it }).collect();
    load(javascript, &packed(&other_system));
}

fn modules_of_either_kind_import_each_other(javascript: &mut JavaScript) {
    let value = answer(
        javascript,
        &[
            (
                "index.mjs",
                "import old, { a, b as renamed } from './old.cjs';\nimport * as all from './old.cjs';\nimport data from './data.json' with { type: 'json' };\nimport fresh, { later } from './new.mjs';\nconst lazy = await import('./new.mjs');\nexport const main = async (args) => [old.c, a, renamed, all.default === old, data.x, fresh(args.n), await later, lazy.default === fresh, import.meta.url, import.meta.dirname];",
            ),
            (
                "old.cjs",
                "exports.a = 1;\nexports.b = 2;\nmodule.exports.c = 3;",
            ),
            ("data.json", "{\"x\": 4}"),
            (
                "new.mjs",
                "export default (n) => n + 1;\nexport const later = Promise.resolve('later');",
            ),
        ],
    );
    assert_eq!(
        value,
        json!([
            3,
            1,
            2,
            true,
            4,
            22,
            "later",
            true,
            "file:///index.mjs",
            "/"
        ])
    );
    let value = answer(
        javascript,
        &[
            (
                "index.js",
                "exports.handler = async () => (await import('./new.js')).value;",
            ),
            ("new.js", "export const value = 'from a script';"),
        ],
    );
    assert_eq!(value, json!("from a script"));
    let files = [
        file("index.js", "const it = require('./new.js');"),
        file("new.js", "export const value = 1;"),
    ];
    let error = refused(javascript, &packed(&files));
    assert!(
        error.message.contains("new.js is an ECMAScript module"),
        "{error:?}"
    );
}

fn packages_say_what_their_files_are(javascript: &mut JavaScript) {
    let value = answer(
        javascript,
        &[
            (
                "package.json",
                "{\"type\": \"module\", \"main\": \"./src/start\"}",
            ),
            (
                "src/start.js",
                "import { it } from '../old/index.js';\n// Strict, and so without a `this`.\nexport const main = () => [it, typeof this];",
            ),
            ("old/package.json", "{\"type\": \"commonjs\"}"),
            ("old/index.js", "exports.it = typeof this;"),
        ],
    );
    assert_eq!(value, json!(["object", "undefined"]));
    let files = [
        file("package.json", "{\"type\": \"module\"}"),
        file("index.js", "exports.main = () => 1;"),
    ];
    let error = refused(javascript, &packed(&files));
    assert_eq!(error.error_type, "ReferenceError", "{error:?}");
}

fn libraries_are_found_in_node_modules(javascript: &mut JavaScript) {
    let value = answer(
        javascript,
        &[
            (
                "src/index.mjs",
                "import plain from 'plain';\nimport { kind } from 'both';\nimport part from '@scope/name/part';\nimport { inner } from 'plain/lib/inner.js';\nimport { asked } from './asker.cjs';\nexport const main = () => [plain, kind, part, inner, asked];",
            ),
            ("src/asker.cjs", "exports.asked = require('both').kind;"),
            ("package.json", "{\"main\": \"src/index.mjs\"}"),
            ("node_modules/plain/package.json", "{\"main\": \"lib\"}"),
            (
                "node_modules/plain/lib/index.js",
                "module.exports = 'plain';",
            ),
            (
                "node_modules/plain/lib/inner.js",
                "exports.inner = 'inner';",
            ),
            (
                "node_modules/both/package.json",
                "{\"exports\": {\".\": {\"import\": \"./i.mjs\", \"require\": \"./r.cjs\"}}}",
            ),
            ("node_modules/both/i.mjs", "export const kind = 'import';"),
            ("node_modules/both/r.cjs", "exports.kind = 'require';"),
            (
                "node_modules/@scope/name/package.json",
                "{\"exports\": {\"./*\": \"./src/*.js\"}}",
            ),
            (
                "node_modules/@scope/name/src/part.js",
                "export default 'part';",
            ),
        ],
    );
    assert_eq!(
        value,
        json!(["plain", "import", "part", "inner", "require"])
    );
}

fn a_handler_names_its_module(javascript: &mut JavaScript) {
    let mut function = packed(&[
        file(
            "lambda.mjs",
            "export const handler = async (event, context) => [event, context.awsRequestId];",
        ),
        file(
            "src/app.js",
            "exports.run = (event, context) => [__filename, !!context];",
        ),
    ]);
    for (handler, expected) in [
        ("lambda.handler", json!([1, "request-1"])),
        ("src/app.run", json!(["/src/app.js", true])),
        ("src.app.run", json!(["/src/app.js", true])),
    ] {
        function.handler = Some(handler.into());
        load(javascript, &function);
        assert_eq!(try_invoke(javascript, "1"), Ok(expected), "{handler}");
    }
    function.handler = None;
    function.main = Some("src.app.run".into());
    load(javascript, &function);
    // It wants the context, so it is given one.
    assert_eq!(
        try_invoke(javascript, "1"),
        Ok(json!(["/src/app.js", true]))
    );
}

fn modules_are_run_once_and_in_circles(javascript: &mut JavaScript) {
    let value = answer(
        javascript,
        &[
            (
                "index.js",
                "globalThis.runs = [];\nconst a = require('./a');\nconst again = require('./a.js');\nexports.main = () => [runs, a === again, a.b.early, a.b.a === a];",
            ),
            (
                "a.js",
                "runs.push('a');\nexports.early = 'early';\nexports.b = require('./b');",
            ),
            (
                "b.js",
                "runs.push('b');\nconst a = require('./a');\nexports.early = a.early;\nexports.a = a;",
            ),
        ],
    );
    assert_eq!(value, json!([["a", "b"], true, "early", true]));
    // One that failed is run again, and fails again.
    let value = answer(
        javascript,
        &[
            (
                "index.js",
                "const messages = [];\nfor (let n = 0; n < 2; n++) {\n  try { require('./bad'); } catch (error) { messages.push(error.message); }\n}\nexports.main = () => messages;",
            ),
            ("bad.js", "throw new Error('bad');"),
        ],
    );
    assert_eq!(value, json!(["bad", "bad"]));
}

fn errors_show_the_archives_lines(javascript: &mut JavaScript) {
    let mut function = packed(&[
        file(
            "index.js",
            "const helper = require('./lib/helper');\nexports.main = () => helper.fail();",
        ),
        file(
            "lib/helper.js",
            "exports.fail = function fail() {\n  throw new RangeError('deep');\n};",
        ),
        file("broken.js", "exports.main = () => {\n  return );\n};"),
        file("data.json", "{ not: 1 }"),
        file("reading.js", "require('./data.json');"),
        file("raising.mjs", "export const main = 1;\nnull.x;\n"),
        file(
            "asking.mjs",
            "import './broken.js';\nexport const main = () => 1;",
        ),
    ]);
    load(javascript, &function);
    let error = try_invoke(javascript, "{}").expect_err("it raises");
    assert_eq!(
        error.stack,
        "RangeError: deep\n    at fail (lib/helper.js:2:13)\n    at <anonymous> (index.js:2:29)"
    );
    function.handler = Some("broken.main".into());
    let error = refused(javascript, &function);
    assert_eq!(error.error_type, "SyntaxError");
    assert!(error.stack.contains("at broken.js:2:"), "{}", error.stack);
    function.handler = Some("asking.main".into());
    let error = refused(javascript, &function);
    assert_eq!(error.error_type, "SyntaxError");
    assert!(error.stack.contains("at broken.js:2:"), "{}", error.stack);
    function.handler = Some("reading.main".into());
    let error = refused(javascript, &function);
    assert_eq!(error.error_type, "SyntaxError");
    assert!(error.message.starts_with("data.json: "), "{error:?}");
    function.handler = Some("raising.main".into());
    let error = refused(javascript, &function);
    assert_eq!(error.error_type, "TypeError");
    assert_eq!(error.stack.matches("    at ").count(), 1, "{}", error.stack);
    assert!(error.stack.contains("(raising.mjs:2:"), "{}", error.stack);
}

fn missing_modules_are_named(javascript: &mut JavaScript) {
    for (text, message) in [
        (
            "require('./gone')",
            "Cannot find module './gone' imported from index.js",
        ),
        (
            "import '../outside.js'",
            "Cannot find module '../outside.js' imported from index.js",
        ),
        (
            "require('gone')",
            "Cannot find module 'gone' imported from index.js",
        ),
        (
            "require('/etc/passwd')",
            "Cannot find module '/etc/passwd' imported from index.js",
        ),
        (
            "await import('./lib/gone')",
            "Cannot find module './lib/gone' imported from index.js",
        ),
        (
            "require('node:fs')",
            "Cannot find module 'node:fs' imported from index.js: this is QuickJS, which has none of Node.js's own modules",
        ),
    ] {
        let error = refused(javascript, &packed(&[file("index.js", text)]));
        assert_eq!(error.message, message, "{text}");
    }
}

fn a_missing_entry_is_named(javascript: &mut JavaScript) {
    let mut function = packed(&[
        file("app.js", "exports.run = () => 1;"),
        file("data.txt", ""),
    ]);
    let error = refused(javascript, &function);
    assert_eq!(error.error_type, "EntryNotFound");
    assert!(error.message.contains("app.js, data.txt"), "{error:?}");
    function.handler = Some("app.walk".into());
    assert_eq!(
        refused(javascript, &function).message,
        "the function has no 'walk': it has run"
    );
    function.handler = Some("elsewhere.run".into());
    let error = refused(javascript, &function);
    assert_eq!(error.error_type, "ModuleNotFound");
    assert!(error.message.contains("'elsewhere'"), "{error:?}");
}

fn what_is_no_archive_is_refused(javascript: &mut JavaScript) {
    let good = STANDARD.encode(zip(&[file(
        "index.js",
        &"exports.main = () => 1;".repeat(20),
    )]));
    for code in [
        "%%%",
        "ü",
        "AAA",
        "aGVsbG8=",
        "",
        &good[..good.len() / 8 * 4],
    ] {
        let error = refused(javascript, &archive(code));
        assert_eq!(error.error_type, "BadArchive", "{error:?}");
        assert_eq!(error.stack, "");
    }
}

fn entries_that_would_escape_are_refused(javascript: &mut JavaScript) {
    for name in [
        "../out.js",
        "/out.js",
        "a/../../out.js",
        "a\\..\\out.js",
        "..",
    ] {
        let error = refused(javascript, &packed(&[file("index.js", ""), file(name, "")]));
        assert!(error.message.contains("outside its directory"), "{error:?}");
    }
    for mode in [0o120_777, 0o010_644, 0o020_644] {
        let link = File {
            mode,
            ..file("link", "/etc/passwd")
        };
        let error = refused(javascript, &packed(&[file("index.js", ""), link]));
        assert!(
            error.message.contains("neither a file nor a directory"),
            "{error:?}"
        );
    }
    let error = refused(
        javascript,
        &packed(&[file("a", ""), file("a/b", ""), file("index.js", "")]),
    );
    assert!(
        error.message.contains("both a file and a directory"),
        "{error:?}"
    );
}

fn archives_that_are_too_large_are_refused(javascript: &mut JavaScript) {
    let large = "x".repeat(32 << 20);
    let names: Vec<String> = (0..17).map(|number| format!("f{number}")).collect();
    let mut files: Vec<File<'_>> = Vec::new();
    for name in &names {
        // Only what is packed is small.
        files.push(file("small", ""));
        files.push(file(name, &large));
    }
    let error = refused(javascript, &packed(&files));
    assert!(error.message.contains("536870912 are allowed"), "{error:?}");
    let names: Vec<String> = (0..50_001).map(|number| format!("f{number}")).collect();
    let files: Vec<File<'_>> = names.iter().map(|name| file(name, "")).collect();
    let error = refused(javascript, &packed(&files));
    assert!(error.message.contains("50000 are allowed"), "{error:?}");
}

fn a_damaged_file_is_refused_when_it_is_read(javascript: &mut JavaScript) {
    let text = "exports.main = () => 'a text that is not packed';";
    let mut bytes = zip(&[file("index.js", text)]);
    let at = bytes
        .windows(6)
        .position(|it| it == b"a text")
        .expect("the text as it is");
    bytes[at] = b'b';
    let error = refused(javascript, &archive(&STANDARD.encode(bytes)));
    assert!(
        error
            .message
            .starts_with("index.js: the code is not a usable zip archive"),
        "{error:?}"
    );
}

fn the_next_load_forgets_everything(javascript: &mut JavaScript) {
    let files = [
        ("index.js", "require('./helper'); exports.main = () => 1;"),
        ("helper.js", "globalThis.left = 1;"),
    ];
    answer(javascript, &files);
    for code in ["require('./helper.js')", "import './helper.js'", "left"] {
        refused(javascript, &source(code));
    }
}
