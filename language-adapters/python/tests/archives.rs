//! Functions given as a base64 zip.

mod common;

use std::path::Path;

use common::{booted, call, cases, load, run, source, try_invoke};
use refunction_adapter::{Adapter, Exception};
use refunction_protocol::Function;
use refunction_python::Python;
use serde_json::{Value, json};

fn main() {
    run(
        &mut booted(),
        cases![
            a_main_file_with_what_lies_beside_it,
            a_handler_names_its_module,
            data_is_read_from_the_working_directory,
            compiled_modules_are_found,
            programs_may_be_run,
            a_bundled_library_goes_before_the_preloaded,
            errors_show_the_archives_lines,
            a_missing_entry_is_named,
            what_is_no_archive_is_refused,
            entries_that_would_escape_are_refused,
            archives_that_are_too_large_are_refused,
            the_next_load_removes_everything,
        ],
    );
}

/// Makes archives: in Python, since that is at hand. `files` maps names to text;
/// `modes`, `sizes` and `raw` do what an honest archive would not.
const PACK: &str = r"
import base64, io, zipfile
def main(args):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, text in args['files'].items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = args.get('modes', {}).get(name, 0o100644) << 16
            archive.writestr(info, text * args.get('repeat', 1))
    return base64.b64encode(buffer.getvalue()).decode()
";

fn pack(python: &mut Python, archive: &Value) -> String {
    match call(python, PACK, &archive.to_string()) {
        Value::String(code) => code,
        other => panic!("{other}"),
    }
}

fn function(python: &mut Python, files: &Value) -> Function {
    Function {
        binary: true,
        ..source(&pack(python, &json!({ "files": files })))
    }
}

fn refused(python: &mut Python, function: &Function) -> Exception {
    python.load(function).expect_err("it must be refused")
}

fn a_main_file_with_what_lies_beside_it(python: &mut Python) {
    let mut function = function(
        python,
        &json!({
            "__main__.py": "import helper, package.inner.deep as deep\nimport pkgutil\nguard = __name__ == '__main__'\ndef main(args):\n    return [helper.double(args['n']), deep.read(), guard, pkgutil.get_data('package', 'data.txt').decode()]\ndef other(args): return 'other'",
            "helper.py": "def double(n): return 2 * n",
            "package/__init__.py": "",
            "package/data.txt": "dätä",
            "package/inner/": "",
            "package/inner/__init__.py": "",
            "package/inner/deep.py": "import importlib.resources as r\nfrom .. import __name__ as parent\ndef read(): return parent + r.files('package').joinpath('data.txt').read_text()",
        }),
    );
    load(python, &function);
    let expected = json!([42, "packagedätä", false, "dätä"]);
    assert_eq!(try_invoke(python, r#"{"n":21}"#), Ok(expected.clone()));
    // As base64 tools wrap it.
    let mut wrapped = String::new();
    for (index, character) in function.code.chars().enumerate() {
        if index % 76 == 0 {
            wrapped.push_str("\r\n");
        }
        wrapped.push(character);
    }
    function.code = wrapped;
    load(python, &function);
    assert_eq!(try_invoke(python, r#"{"n":21}"#), Ok(expected));
    function.main = Some("other".into());
    load(python, &function);
    assert_eq!(try_invoke(python, "{}"), Ok(json!("other")));
}

fn a_handler_names_its_module(python: &mut Python) {
    let files = json!({
        "lambda_function.py": "def lambda_handler(event, context): return [event, context.aws_request_id, __name__]",
        "src/__init__.py": "",
        "src/app.py": "from . import __name__ as package\ndef run(event, context=None): return [package, context is not None]",
    });
    let mut function = function(python, &files);
    for (handler, expected) in [
        (
            "lambda_function.lambda_handler",
            json!([1, "request-1", "lambda_function"]),
        ),
        ("src.app.run", json!(["src", true])),
        ("src/app.run", json!(["src", true])),
    ] {
        function.handler = Some(handler.into());
        load(python, &function);
        assert_eq!(try_invoke(python, "1"), Ok(expected));
    }
    function.handler = None;
    function.main = Some("src.app.run".into());
    load(python, &function);
    assert_eq!(try_invoke(python, "1"), Ok(json!(["src", false])));
}

fn data_is_read_from_the_working_directory(python: &mut Python) {
    let function = function(
        python,
        &json!({
            "__main__.py": "import os\ntext = open('conf/a.json').read()\ndef main(args): return [text, open(os.path.join(os.path.dirname(__file__), 'conf/a.json')).read()]",
            "conf/a.json": "{}",
        }),
    );
    load(python, &function);
    assert_eq!(try_invoke(python, "{}"), Ok(json!(["{}", "{}"])));
}

fn compiled_modules_are_found(python: &mut Python) {
    // Any extension module of Python's own will do, under a name it can be found by.
    let code = "
import base64, importlib.util, io, os, sysconfig, zipfile
def main(args):
    for name in ('_json', '_bisect', '_heapq', '_queue', '_lsprof', '_csv', '_crypt'):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin and os.path.isfile(spec.origin):
            break
    else:
        return None
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.write(spec.origin, 'native/' + os.path.basename(spec.origin))
        archive.writestr('native/__init__.py', '')
        archive.writestr('__main__.py', f'from native import {name} as it\\ndef main(args): return it.__file__')
    return base64.b64encode(buffer.getvalue()).decode()
";
    let Value::String(code) = call(python, code, "{}") else {
        println!("(every extension module of this Python is built in)");
        return;
    };
    let function = Function {
        binary: true,
        ..source(&code)
    };
    load(python, &function);
    let file = try_invoke(python, "{}").expect("an answer");
    assert!(
        file.as_str().expect("a path").starts_with("/tmp/"),
        "{file}"
    );
}

fn programs_may_be_run(python: &mut Python) {
    let code = pack(
        python,
        &json!({
            "files": {
                "__main__.py": "import subprocess\ndef main(args): return subprocess.run(['bin/tool'], capture_output=True, text=True).stdout",
                "bin/tool": "#!/bin/sh\necho ran\n",
            },
            "modes": { "bin/tool": 0o100_755 },
        }),
    );
    load(
        python,
        &Function {
            binary: true,
            ..source(&code)
        },
    );
    assert_eq!(try_invoke(python, "{}"), Ok(json!("ran\n")));
}

fn a_bundled_library_goes_before_the_preloaded(python: &mut Python) {
    // Stands for a library that the template preloaded.
    call(
        python,
        "import sys, types\nfor name in ('vendored', 'vendored.part'):\n    sys.modules[name] = types.ModuleType(name)\n    sys.modules[name].version = 1\ndef main(): pass",
        "{}",
    );
    let function = function(
        python,
        &json!({
            "__main__.py": "import vendored, sys\ndef main(args): return [vendored.version, 'vendored.part' in sys.modules]",
            "vendored/__init__.py": "version = 2",
        }),
    );
    load(python, &function);
    assert_eq!(try_invoke(python, "{}"), Ok(json!([2, false])));
    let after = call(
        python,
        "import vendored, sys\ndef main(): return [vendored.version, 'vendored.part' in sys.modules]",
        "{}",
    );
    assert_eq!(after, json!([1, true]));
}

fn errors_show_the_archives_lines(python: &mut Python) {
    let mut function = function(
        python,
        &json!({
            "__main__.py": "import helper\ndef main(args): return helper.fail()",
            "helper.py": "def fail():\n    raise OSError('deep')",
            "broken.py": "def main(:\n",
            "raising.py": "1 / 0\n",
        }),
    );
    load(python, &function);
    let error = try_invoke(python, "{}").expect_err("it raises");
    assert!(
        error
            .stack
            .contains("helper.py\", line 2, in fail\n    raise OSError('deep')"),
        "{}",
        error.stack
    );
    assert_eq!(error.stack.matches("  File ").count(), 2, "{}", error.stack);
    function.handler = Some("broken.main".into());
    assert_eq!(refused(python, &function).error_type, "SyntaxError");
    function.handler = Some("raising.main".into());
    let error = refused(python, &function);
    assert_eq!(error.error_type, "ZeroDivisionError");
    assert_eq!(error.stack.matches("  File ").count(), 1, "{}", error.stack);
}

fn a_missing_entry_is_named(python: &mut Python) {
    let mut function = function(
        python,
        &json!({"app.py": "def run(args): pass", "data.txt": ""}),
    );
    let error = refused(python, &function);
    assert_eq!(error.error_type, "EntryNotFound");
    assert!(error.message.contains("app.py, data.txt"), "{error:?}");
    function.handler = Some("app.walk".into());
    assert_eq!(
        refused(python, &function).message,
        "the function has no 'walk': it has run"
    );
    function.handler = Some("elsewhere.run".into());
    assert_eq!(refused(python, &function).error_type, "ModuleNotFoundError");
    function.handler = Some("json.loads".into());
    assert_eq!(refused(python, &function).error_type, "ImportError");
}

fn what_is_no_archive_is_refused(python: &mut Python) {
    let good = pack(
        python,
        &json!({"files": {"__main__.py": "def main(args): pass".repeat(20)}}),
    );
    let mut damaged = good.clone().into_bytes();
    let middle = 80;
    damaged[middle] = if damaged[middle] == b'A' { b'B' } else { b'A' };
    for code in [
        "%%%".to_owned(),
        "ü".to_owned(),
        "AAA".to_owned(),
        "aGVsbG8=".to_owned(),
        String::new(),
        good[..good.len() / 8 * 4].to_owned(),
        String::from_utf8(damaged).expect("ASCII"),
    ] {
        let error = refused(
            python,
            &Function {
                binary: true,
                ..source(&code)
            },
        );
        assert_eq!(error.error_type, "BadArchive", "{error:?}");
        assert_eq!(error.stack, "");
    }
}

fn entries_that_would_escape_are_refused(python: &mut Python) {
    for name in [
        "../out.py",
        "/out.py",
        "a/../../out.py",
        "a\\..\\out.py",
        "..",
    ] {
        let function = function(
            python,
            &json!({ name: "", "__main__.py": "def main(): pass" }),
        );
        let error = refused(python, &function);
        assert!(error.message.contains("outside its directory"), "{error:?}");
    }
    for mode in [0o120_777, 0o010_644, 0o020_644] {
        let code = pack(
            python,
            &json!({"files": {"link": "/etc/passwd", "__main__.py": ""}, "modes": {"link": mode}}),
        );
        let error = refused(
            python,
            &Function {
                binary: true,
                ..source(&code)
            },
        );
        assert!(
            error.message.contains("neither a file nor a directory"),
            "{error:?}"
        );
    }
    // A file where another entry needs a directory.
    let function = function(python, &json!({"a": "", "a/b": "", "__main__.py": ""}));
    assert_eq!(refused(python, &function).error_type, "OSError");
}

fn archives_that_are_too_large_are_refused(python: &mut Python) {
    let names: serde_json::Map<_, _> = (0..17)
        .map(|n| (format!("f{n}"), json!("x".repeat(1 << 10))))
        .collect();
    let code = pack(python, &json!({"files": names, "repeat": 32 << 10}));
    let error = refused(
        python,
        &Function {
            binary: true,
            ..source(&code)
        },
    );
    assert!(error.message.contains("536870912 are allowed"), "{error:?}");
}

fn the_next_load_removes_everything(python: &mut Python) {
    let function = function(
        python,
        &json!({
            "__main__.py": "import helper, os, sys\ndef main(args): return os.path.dirname(__file__)",
            "helper.py": "",
        }),
    );
    let before = call(
        python,
        "import sys, os\ndef main(): return [sys.path, os.getcwd()]",
        "{}",
    );
    load(python, &function);
    let directory = try_invoke(python, "{}").expect("an answer");
    let directory = Path::new(directory.as_str().expect("a path"));
    assert!(directory.join("helper.py").exists());
    let after = call(
        python,
        "import sys, os\nassert 'helper' not in sys.modules and 'main__' not in sys.modules\ndef main(): return [sys.path, os.getcwd()]",
        "{}",
    );
    assert_eq!(before, after);
    assert!(!directory.exists());
}
