//! What only a template sees: preloading, the image's own files, libraries that
//! want to be told of forks.

mod common;

use std::fs;

use common::{call, cases, in_child, load, run, source, try_invoke};
use refunction_adapter::Adapter;
use refunction_protocol::Function;
use refunction_python::Python;
use serde_json::json;

fn main() {
    let root = std::env::temp_dir().join(format!("refunction-root-{}", std::process::id()));
    fs::create_dir_all(root.join("package")).expect("a directory");
    for (name, text) in [
        (
            "app.py",
            "import beside\ndef handler(event, context): return [event, beside.value, __name__]",
        ),
        ("beside.py", "value = 'beside'"),
        ("package/__init__.py", ""),
        ("package/part.py", "loaded = True"),
        ("failing.py", "raise ValueError('of its own')"),
        ("leaving.py", "import sys\nsys.exit(2)"),
        (
            "threading_library.py",
            "import threading, time\nthreading.Thread(target=time.sleep, args=(1,), daemon=True).start()",
        ),
        (
            "forking_library.py",
            "import os\nforks = []\nos.register_at_fork(before=lambda: forks.append('before'), after_in_child=lambda: forks.append('child'))",
        ),
        (
            "seeded.py",
            // What stands in for something else is not to be asked what it is.
            "import random\ngenerator = random.Random(1)\n\
             class Lazy:\n    @property\n    def __class__(self): raise RuntimeError\n\
             lazy = Lazy()",
        ),
        (
            "blas.py",
            "import os\nthreads = os.environ['OPENBLAS_NUM_THREADS']",
        ),
    ] {
        fs::write(root.join(name), text).expect("a file");
    }
    // SAFETY: no other thread exists that could read the environment.
    unsafe { std::env::set_var("FUNCTION_ROOT", &root) };
    let mut python = Python::new();
    run(
        &mut python,
        cases![
            nothing_works_before_boot,
            booting_twice_is_harmless,
            preloading_imports,
            a_failing_library_is_named,
            a_library_with_threads_is_refused,
            libraries_are_told_of_forks,
            libraries_generators_are_reseeded,
            numpy_is_reseeded_where_it_is_installed,
            the_images_own_handler,
            the_path_has_the_root_and_what_is_installed,
        ],
    );
    fs::remove_dir_all(root).expect("removed");
}

fn nothing_works_before_boot(python: &mut Python) {
    assert!(python.preload(&[]).is_err());
    assert!(python.settle().is_err());
    assert!(python.after_restore().is_err());
    python.after_fork();
    let error = python.load(&source("")).expect_err("not booted");
    assert_eq!(error.message, "Python was not booted");
    assert!(try_invoke(python, "{}").is_err());
}

fn booting_twice_is_harmless(python: &mut Python) {
    python.boot().expect("boot");
    python.boot().expect("boot");
    python.settle().expect("settle");
    assert_eq!(
        call(
            python,
            "import sys\ndef main(): return sys.path.count(sys.path[0])",
            "{}"
        ),
        json!(1)
    );
}

fn preloading_imports(python: &mut Python) {
    python
        .preload(&["package.part".into(), "blas".into(), "seeded".into()])
        .expect("preload");
    python.settle().expect("settle");
    let code = "import sys\nthere = 'package.part' in sys.modules\nimport blas\ndef main(): return [there, blas.threads]";
    assert_eq!(call(python, code, "{}"), json!([true, "1"]));
}

fn a_failing_library_is_named(python: &mut Python) {
    for (library, cause) in [
        (
            "no_such_library",
            "ModuleNotFoundError: No module named 'no_such_library'",
        ),
        (
            "package.missing",
            "ModuleNotFoundError: No module named 'package.missing'",
        ),
        ("failing", "ValueError: of its own"),
        ("leaving", "SystemExit: 2"),
        ("", "ValueError: Empty module name"),
    ] {
        let error = python
            .preload(&["json".into(), library.into()])
            .expect_err("it fails");
        assert_eq!(error.to_string(), format!("importing {library}: {cause}"));
    }
}

fn a_library_with_threads_is_refused(python: &mut Python) {
    let error = python
        .preload(&["threading_library".into()])
        .expect_err("it has a thread");
    assert!(error.cause.contains("1 thread(s)"), "{error}");
    // The thread ends by itself, and nothing tells when; the cases that follow want
    // one thread.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while std::fs::read_dir("/proc/self/task").expect("tasks").count() > 1 {
        assert!(std::time::Instant::now() < deadline, "the thread stays");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn libraries_are_told_of_forks(python: &mut Python) {
    python
        .preload(&["forking_library".into()])
        .expect("preload");
    python.settle().expect("settle");
    let answer = in_child(0, || {
        python.after_fork();
        python.after_restore().expect("reseed");
        let code = "
import forking_library, os, threading, subprocess, concurrent.futures, logging
def main():
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        list(executor.map(logging.debug, 'ab'))
    return [forking_library.forks, threading.active_count(), os.register_at_fork.__module__,
            threading.main_thread().native_id == os.getpid(),
            subprocess.run(['true']).returncode]
";
        call(python, code, "{}").to_string()
    });
    assert_eq!(
        answer.as_deref(),
        Some(r#"[["before","child"],1,"posix",true,0]"#)
    );
}

fn libraries_generators_are_reseeded(python: &mut Python) {
    let draw = |python: &mut Python| {
        in_child(0, || {
            python.after_fork();
            python.after_restore().expect("reseed");
            call(
                python,
                "import seeded\ndef main(): return seeded.generator.random()",
                "{}",
            )
            .to_string()
        })
    };
    assert_ne!(draw(python), draw(python));
}

fn numpy_is_reseeded_where_it_is_installed(python: &mut Python) {
    if let Err(error) = python.preload(&["numpy.random".into()]) {
        assert!(error.cause.contains("No module named 'numpy'"), "{error}");
        println!("(numpy is not installed)");
        return;
    }
    call(
        python,
        "import builtins, numpy\nbuiltins.kept = numpy.random.default_rng(1)\ndef main(): pass",
        "{}",
    );
    python.settle().expect("settle");
    let draw = |python: &mut Python| {
        in_child(0, || {
            python.after_fork();
            python.after_restore().expect("reseed");
            let code = "import numpy\ndef main(): return [numpy.random.random(), numpy.random.normal(), kept.random()]";
            call(python, code, "{}").to_string()
        })
        .expect("a child")
    };
    let drawn: Vec<[f64; 3]> = (0..2)
        .map(|_| serde_json::from_str(&draw(python)).expect("numbers"))
        .collect();
    for (one, other) in drawn[0].iter().zip(drawn[1]) {
        assert!((one - other).abs() > f64::EPSILON, "{drawn:?}");
    }
    // numpy's own way takes longer than the rest of a load. Before 1.24 there is no other.
    let is_by_itself = in_child(0, || {
        let code = "import numpy
def main():
    numpy.random.seed = None
    return hasattr(numpy.random, 'get_bit_generator')
";
        let can_be = call(python, code, "{}") == json!(true);
        (can_be == python.after_restore().is_ok()).to_string()
    });
    assert_eq!(is_by_itself.as_deref(), Some("true"));
}

fn the_images_own_handler(python: &mut Python) {
    let function = |handler: &str| Function {
        handler: Some(handler.into()),
        ..source("")
    };
    for _ in 0..2 {
        load(python, &function("app.handler"));
        assert_eq!(try_invoke(python, "1"), Ok(json!([1, "beside", "app"])));
    }
    let error = python.load(&function("app.missing")).expect_err("no entry");
    assert_eq!(
        error.message,
        "the function has no 'missing': it has handler"
    );
    let error = python
        .load(&function("nowhere.handler"))
        .expect_err("no module");
    assert_eq!(error.error_type, "ModuleNotFoundError");
    // Source text may import what lies in the root.
    assert_eq!(
        call(
            python,
            "import beside\ndef main(): return beside.value",
            "{}"
        ),
        json!("beside")
    );
}

fn the_path_has_the_root_and_what_is_installed(python: &mut Python) {
    let code = "
import os, sys
def main():
    return [sys.path[0] == os.environ['FUNCTION_ROOT'], '' in sys.path, sys.flags.utf8_mode,
            sys.stdout.encoding, sys.stdout.line_buffering, sys.stderr.errors, sys.dont_write_bytecode,
            any(path.endswith('-packages') for path in sys.path), os.access(sys.executable, os.X_OK),
            sys.flags.hash_randomization]
";
    assert_eq!(
        call(python, code, "{}"),
        json!([
            true,
            false,
            1,
            "utf-8",
            true,
            "backslashreplace",
            true,
            true,
            true,
            1
        ])
    );
}
