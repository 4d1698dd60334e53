//! Functions given as source text: how they are loaded, called, and what comes back.

mod common;

use common::{booted, call, cases, load, output_of, raised, run, source, try_invoke};
use refunction_adapter::{Adapter, Invocation};
use refunction_protocol::Function;
use refunction_python::Python;
use serde_json::json;
use serde_json::value::RawValue;

fn main() {
    run(
        &mut booted(),
        cases![
            nothing_is_loaded_at_first,
            the_runtime_has_a_version,
            entries_of_every_form,
            missing_entries_are_named,
            unicode_everywhere,
            the_environment_is_set_and_taken_back,
            coroutines_share_a_loop,
            syntax_errors_show_the_line,
            only_the_tenants_frames_are_shown,
            causes_are_shown,
            odd_exceptions_are_told,
            leaving_is_no_death,
            results_that_are_not_json,
            numbers_keep_their_value,
            decimals_are_numbers,
            a_large_argument_is_echoed,
            deep_data_is_an_exception,
            a_tenants_patches_hit_the_tenant_only,
            everything_printed_arrives,
            the_context_is_lambdas,
            the_next_load_replaces_the_function,
            a_function_is_an_ordinary_module,
            a_failed_load_leaves_nothing,
            warming_left_no_trace,
            signals_are_as_in_any_python,
            threads_go_on_between_calls,
            memory_running_out_is_an_exception,
        ],
    );
}

fn the_runtime_has_a_version(python: &mut Python) {
    let runtime = python.runtime();
    assert_eq!(runtime.name, "python");
    let version = call(
        python,
        "import platform\ndef main():\n    return platform.python_version()",
        "{}",
    );
    assert_eq!(version, json!(runtime.version));
}

fn nothing_is_loaded_at_first(python: &mut Python) {
    let error = try_invoke(python, "{}").expect_err("nothing is loaded");
    assert_eq!(error.error_type, "NotLoaded");
}

fn entries_of_every_form(python: &mut Python) {
    let named = |code: &str, main: Option<&str>, handler: Option<&str>| Function {
        main: main.map(Into::into),
        handler: handler.map(Into::into),
        ..source(code)
    };
    let context = "(e, c):\n    return [e, c.aws_request_id]";
    for (function, expected) in [
        (source("def main(args): return args"), json!({"a": 1})),
        (source("def main(): return 'none'"), json!("none")),
        (source("main = lambda *a: len(a)"), json!(1)),
        (source("def main(args, more=2): return more"), json!(2)),
        (
            source(&format!("def main{context}")),
            json!([{"a": 1}, "request-1"]),
        ),
        (
            source(&format!("def handler{context}")),
            json!([{"a": 1}, "request-1"]),
        ),
        (
            source("class main:\n    def __new__(cls, args): return args"),
            json!({"a": 1}),
        ),
        (
            source("import functools\nmain = functools.partial(lambda x, y: [x, y], 7)"),
            json!([7, {"a": 1}]),
        ),
        (
            named("def run(args): return 5", Some("run"), None),
            json!(5),
        ),
        (
            named(&format!("def f{context}"), None, Some("app.f")),
            json!([{"a": 1}, "request-1"]),
        ),
        (
            named("def f(event): return event", None, Some("app.f")),
            json!({"a": 1}),
        ),
        (
            named("def f(e, c): return __name__", None, Some("a/b.f")),
            json!("a.b"),
        ),
        (
            named("def f(*args): return len(args)", None, Some("app.f")),
            json!(2),
        ),
        // A decorator says for itself what it takes, not what it wraps.
        (
            named(
                "import functools\ndef wrap(f):\n    @functools.wraps(f)\n    def inner(e, c): return f(e)\n    return inner\n@wrap\ndef f(e): return e",
                None,
                Some("app.f"),
            ),
            json!({"a": 1}),
        ),
    ] {
        load(python, &function);
        assert_eq!(
            try_invoke(python, r#"{"a":1}"#),
            Ok(expected),
            "{}",
            function.code
        );
    }
}

fn missing_entries_are_named(python: &mut Python) {
    let error = python
        .load(&source(
            "def helper(): pass\nimport json\nfrom json import dumps",
        ))
        .expect_err("no entry");
    assert_eq!(error.error_type, "EntryNotFound");
    assert_eq!(error.message, "the function has no 'main': it has helper");
    let error = python
        .load(&source("main = 'text'"))
        .expect_err("no callable");
    assert_eq!(error.error_type, "TypeError");
    assert!(
        error.message.contains("not callable: it is of type str"),
        "{error:?}"
    );
    let error = python.load(&source(" \n")).expect_err("no code");
    assert_eq!(error.message, "there is no code to load");
    for handler in ["nodot", ".f", "a.", "a..b", ""] {
        let function = Function {
            handler: Some(handler.into()),
            ..source("def f(): pass")
        };
        let error = python.load(&function).expect_err("no handler");
        assert_eq!(error.error_type, "EntryNotFound", "{handler:?} {error:?}");
    }
    let function = Function {
        handler: Some("json.f".into()),
        ..source("def f(): pass")
    };
    let error = python.load(&function).expect_err("the name is taken");
    assert_eq!(error.error_type, "ImportError");
    assert!(error.message.contains("'json'"), "{error:?}");
}

fn unicode_everywhere(python: &mut Python) {
    let function = Function {
        env: [("GRÜSSE".into(), "☃ 𝄞".into())].into(),
        ..source(
            "import os\n# ☃\ndef main(args):\n    größe = args['ключ']\n    print('☃', größe)\n    return {'☃': größe, 'env': os.environ['GRÜSSE'], 'half': '\\ud800'[:0]}",
        )
    };
    load(python, &function);
    let (result, output) = output_of(|| try_invoke(python, r#"{"ключ":"雪 \ud834\udd1e"}"#));
    assert_eq!(result, Ok(json!({"☃": "雪 𝄞", "env": "☃ 𝄞", "half": ""})));
    assert_eq!(output, "☃ 雪 𝄞\n");
    // Half a surrogate pair is no text to others, but must not end the worker.
    load(python, &source("def main(args): return args['x']"));
    let value = python
        .invoke(&Invocation {
            id: String::new(),
            deadline_unix_ms: None,
            data: RawValue::from_string(r#"{"x":"\ud800é"}"#.into()).expect("JSON"),
            ..Invocation::default()
        })
        .expect("an answer");
    assert_eq!(value.get(), r#""\ud800\u00e9""#);
    let error = raised(python, "def main(): raise ValueError('\\udcff')");
    assert_eq!(error.message, "\\udcff");
}

fn the_environment_is_set_and_taken_back(python: &mut Python) {
    let code = "import os\nLOADED = os.environ.get('A')\ndef main():\n    return [LOADED, os.environ.get('EMPTY'), os.getenv('A'), os.environ.get('PATH') is None]";
    load(
        python,
        &Function {
            env: [("A".into(), "1".into()), ("EMPTY".into(), String::new())].into(),
            ..source(code)
        },
    );
    assert_eq!(try_invoke(python, "{}"), Ok(json!(["1", "", "1", false])));
    assert_eq!(call(python, code, "{}"), json!([null, null, null, false]));
    for (name, value) in [("A=B", ""), ("", ""), ("A\0", ""), ("A", "\0")] {
        let error = python
            .load(&Function {
                env: [(name.into(), value.into())].into(),
                ..source(code)
            })
            .expect_err("a bad variable");
        assert_eq!(error.error_type, "ValueError", "{error:?}");
        assert!(error.message.contains("environment variable"), "{error:?}");
    }
}

fn coroutines_share_a_loop(python: &mut Python) {
    let code = "import asyncio\nloops = set()\nasync def main(args):\n    await asyncio.sleep(0)\n    loops.add(id(asyncio.get_running_loop()))\n    return len(loops)";
    load(python, &source(code));
    for _ in 0..3 {
        assert_eq!(try_invoke(python, "{}"), Ok(json!(1)));
    }
    // A loop that the function closed is replaced.
    let code = "import asyncio\nasync def main(args):\n    asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)\n    await asyncio.sleep(1)";
    assert_eq!(raised(python, code).error_type, "RuntimeError");
    // An awaitable that is no coroutine, and a loop of the function's own.
    let code = "import asyncio\nclass Later:\n    def __await__(self):\n        yield from asyncio.sleep(0).__await__()\n        return 'later'\ndef main(args): return Later()";
    assert_eq!(call(python, code, "{}"), json!("later"));
    let code =
        "import asyncio\nasync def work(): return 3\ndef main(args): return asyncio.run(work())";
    assert_eq!(call(python, code, "{}"), json!(3));
    let error = raised(python, "async def main(args):\n    raise KeyError('x')");
    assert_eq!(error.stack.matches("  File ").count(), 1, "{}", error.stack);
}

fn syntax_errors_show_the_line(python: &mut Python) {
    let error = python
        .load(&source("import os\ndef main(args)\n    pass\n"))
        .expect_err("no colon");
    assert_eq!(error.error_type, "SyntaxError");
    assert!(error.message.contains("line 2"), "{error:?}");
    assert!(
        error
            .stack
            .contains("File \"function.py\", line 2\n    def main(args)\n                  ^"),
        "{}",
        error.stack
    );
    let error = python
        .load(&source("def main():\n\tif 1:\n        pass"))
        .expect_err("tabs");
    assert_eq!(error.error_type, "TabError");
    let error = python.load(&source("x = 1\0")).expect_err("a NUL");
    assert!(error.message.contains("null byte"), "{error:?}");
}

fn only_the_tenants_frames_are_shown(python: &mut Python) {
    let error = raised(
        python,
        "def main(args):\n    helper()\n\ndef helper():\n    {}['x']\n",
    );
    assert_eq!(
        (error.error_type.as_str(), error.message.as_str()),
        ("KeyError", "'x'")
    );
    assert!(
        error.stack.starts_with("Traceback (most recent call last):\n  File \"function.py\", line 2, in main\n    helper()\n"),
        "{}",
        error.stack
    );
    assert!(error.stack.contains("    {}['x']"), "{}", error.stack);
    assert!(!error.stack.contains("refunction"), "{}", error.stack);
    let error = python
        .load(&source("x = 1\nx / 0\n"))
        .expect_err("it raises");
    assert_eq!(error.stack.matches("  File ").count(), 1, "{}", error.stack);
    assert!(
        error.stack.contains("line 2, in <module>\n    x / 0"),
        "{}",
        error.stack
    );
    let error = python
        .load(&source("import no_such_module"))
        .expect_err("no module");
    assert_eq!(error.error_type, "ModuleNotFoundError");
    assert_eq!(error.stack.matches("  File ").count(), 1, "{}", error.stack);
}

fn causes_are_shown(python: &mut Python) {
    let error = raised(
        python,
        "class Mine(Exception): pass\ndef main(args):\n    try:\n        1 / 0\n    except ZeroDivisionError as error:\n        raise Mine('über') from error",
    );
    assert_eq!(error.error_type, "function.Mine");
    assert_eq!(error.message, "über");
    assert!(
        error.stack.contains("ZeroDivisionError: division by zero"),
        "{}",
        error.stack
    );
    assert!(error.stack.contains("direct cause"), "{}", error.stack);
    assert!(!error.stack.contains("refunction"), "{}", error.stack);
}

fn odd_exceptions_are_told(python: &mut Python) {
    let error = raised(
        python,
        "class Odd(Exception):\n    def __str__(self): raise self\ndef main(args): raise Odd",
    );
    assert_eq!(error.error_type, "function.Odd");
    assert_eq!(error.message, "<exception str() failed>");
    let error = raised(python, "def main(args): raise ValueError('x' * 10_000_000)");
    assert!(error.message.len() < 70_000 && error.stack.len() < 70_000);
    assert!(error.message.contains("characters left out"));
    let error = raised(python, "def a(): b()\ndef b(): a()\ndef main(args): a()");
    assert_eq!(error.error_type, "RecursionError");
    assert!(error.stack.len() < 70_000);
    let error = raised(
        python,
        "def main(args):\n    error = ValueError('circle')\n    error.__cause__ = error\n    raise error",
    );
    assert_eq!(error.message, "circle");
    let error = raised(
        python,
        "def main(args): raise ExceptionGroup('two', [ValueError(1), KeyError(2)])",
    );
    assert!(error.stack.contains("KeyError: 2"), "{}", error.stack);
}

fn leaving_is_no_death(python: &mut Python) {
    for (statement, kind, message) in [
        ("__import__('sys').exit(3)", "SystemExit", "3"),
        ("__import__('sys').exit('bye')", "SystemExit", "bye"),
        ("exit()", "SystemExit", "None"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("raise GeneratorExit", "GeneratorExit", ""),
        ("raise BaseException('base')", "BaseException", "base"),
    ] {
        for form in ["def", "async def"] {
            let error = raised(python, &format!("{form} main(args):\n    {statement}"));
            assert_eq!(
                (error.error_type.as_str(), error.message.as_str()),
                (kind, message),
                "{form}"
            );
        }
        let error = python.load(&source(statement)).expect_err("it leaves");
        assert_eq!(error.error_type, kind);
    }
    assert_eq!(call(python, "def main(): return 1", "{}"), json!(1));
}

fn results_that_are_not_json(python: &mut Python) {
    for (result, kind, message) in [
        (
            "{'a': [1, {2}]}",
            "TypeError",
            "result['a'][1] is of type set",
        ),
        (
            "[x for x in [(y for y in [1])]]",
            "TypeError",
            "result[0] is of type generator",
        ),
        ("b'x'", "TypeError", "result is of type bytes"),
        ("float('nan')", "ValueError", "result is nan"),
        ("[0, float('-inf')]", "ValueError", "result[1] is -inf"),
        ("{(1, 2): 3}", "TypeError", "result has a key of type tuple"),
        ("{float('nan'): 3}", "ValueError", "result has the key nan"),
        (
            "type('T', (), {'__module__': 'app'})()",
            "TypeError",
            "result is of type app.T",
        ),
    ] {
        let error = raised(python, &format!("def main(): return {result}"));
        assert_eq!(error.error_type, kind, "{error:?}");
        assert!(
            error.message.starts_with("the result is not JSON: "),
            "{error:?}"
        );
        assert!(error.message.contains(message), "{error:?}");
    }
    let error = raised(
        python,
        "def main():\n    x = []\n    x.append(x)\n    return x",
    );
    assert!(
        error.message.contains("result[0] contains itself"),
        "{error:?}"
    );
}

fn decimals_are_numbers(python: &mut Python) {
    for (result, text) in [
        ("Decimal('1.10')", "1.10"),
        (
            "{'a': [Decimal('-1E+3'), 'text', ('ü', Decimal('0.10'))]}",
            "{\"a\":[-1E+3,\"text\",[\"ü\",0.10]]}",
        ),
        ("['\\ud83d', Decimal(7)]", "[\"\\ud83d\",7]"),
        (
            "Decimal('0.12345678901234567890123456789')",
            "0.12345678901234567890123456789",
        ),
    ] {
        load(
            python,
            &source(&format!(
                "from decimal import Decimal\ndef main(): return {result}"
            )),
        );
        let value = python.invoke(&Invocation {
            data: RawValue::from_string("{}".into()).expect("JSON"),
            ..Invocation::default()
        });
        assert_eq!(value.expect("an answer").get(), text);
    }
    // One that is no decimal is none because its module is called so.
    for (result, kind, words) in [
        (
            "decimal.Decimal('NaN')",
            "ValueError",
            "result is Decimal('NaN')",
        ),
        (
            "[decimal.Decimal(1), {2}]",
            "TypeError",
            "result[1] is of type set",
        ),
        (
            "{decimal.Decimal(1): 1}",
            "TypeError",
            "result has a key of type decimal.Decimal",
        ),
        (
            "(sys.modules.update(decimal=sys), {1})[1]",
            "TypeError",
            "result is of type set",
        ),
    ] {
        let error = raised(
            python,
            &format!("import decimal, sys\ndef main(): return {result}"),
        );
        assert_eq!(error.error_type, kind, "{error:?}");
        assert!(error.message.contains(words), "{error:?}");
    }
}

fn numbers_keep_their_value(python: &mut Python) {
    load(python, &source("def main(args): return args"));
    for text in [
        "123456789012345678901234567890",
        "0.1",
        "-0.0",
        "1e300",
        "[]",
        "null",
        "true",
        "\"\"",
        "{\"1\":2}",
    ] {
        let value = python
            .invoke(&Invocation {
                id: String::new(),
                deadline_unix_ms: None,
                data: RawValue::from_string(text.into()).expect("JSON"),
                ..Invocation::default()
            })
            .expect("an answer");
        assert_eq!(value.get(), text.replace("1e300", "1e+300"));
    }
    let keys = call(
        python,
        "def main(): return {1: 1, 2.5: 2, True: 3, None: 4}",
        "{}",
    );
    assert_eq!(keys, json!({"1": 3, "2.5": 2, "null": 4}));
    let error = try_invoke(python, &"9".repeat(5000)).expect_err("too many digits");
    assert_eq!(error.error_type, "ValueError");
}

fn a_large_argument_is_echoed(python: &mut Python) {
    load(python, &source("def main(args): return args"));
    for text in ["x".repeat(1 << 20), "ü☃".repeat(1 << 18)] {
        let data = json!({"text": text});
        assert_eq!(try_invoke(python, &data.to_string()), Ok(data));
    }
}

fn deep_data_is_an_exception(python: &mut Python) {
    let error = raised(
        python,
        "def main(args):\n    x = []\n    for _ in range(100_000): x = [x]\n    return x",
    );
    assert_eq!(error.error_type, "RecursionError", "{error:?}");
    let error = raised(python, "def main(args): return main(args)");
    assert_eq!(error.error_type, "RecursionError");
}

fn a_tenants_patches_hit_the_tenant_only(python: &mut Python) {
    let code = "
import asyncio, builtins, gc, io, json, json.encoder, linecache, os, sys, traceback
def bad(*args, **options): raise RuntimeError('patched')
json.dumps = json.loads = traceback.format_exception = asyncio.run = bad
builtins.compile = builtins.exec = builtins.print = bad
json.encoder.c_make_encoder = bad
os.environ = {}
sys.stdout = sys.stderr = None
def main(args):
    if args.get('raise'): raise ValueError('mine')
    return args
async def later(args): return args
";
    in_forked_worker(python, code);
}

/// Patches of builtins would hit the cases that follow, so they are tried in a child.
fn in_forked_worker(python: &mut Python, code: &str) {
    let answer = common::in_child(0, || {
        python.after_fork();
        load(python, &source(code));
        let value = try_invoke(python, r#"{"a":1}"#);
        let error = try_invoke(python, r#"{"raise":true}"#).expect_err("it raises");
        let stack = error.stack;
        let later = Function {
            main: Some("later".into()),
            ..source("async def later(args): return args")
        };
        load(python, &later);
        format!(
            "{value:?} {} {}",
            stack.contains("mine"),
            try_invoke(python, "1").is_ok()
        )
    });
    assert_eq!(
        answer.as_deref(),
        Some("Ok(Object {\"a\": Number(1)}) true true")
    );
}

fn everything_printed_arrives(python: &mut Python) {
    let code = "
import ctypes, os, subprocess, sys
print('at import')
libc = ctypes.CDLL(None)
def main(args):
    sys.stdout.write('no newline')
    sys.stdout.flush()
    os.write(1, b' descriptor')
    subprocess.run(['echo', ' child'], check=True)
    libc.printf(b'printf')
    print(' error', file=sys.stderr, end='')
    sys.stdout.write(' last')
    return None
";
    let ((), output) = output_of(|| load(python, &source(code)));
    assert_eq!(output, "at import\n");
    let (result, output) = output_of(|| try_invoke(python, "{}"));
    assert_eq!(result, Ok(json!(null)));
    let (ordered, rest) = output.split_at("no newline descriptor child\n".len());
    assert_eq!(ordered, "no newline descriptor child\n");
    // C's buffer and Python's are each other's strangers: no order between them.
    for part in ["printf", " error", " last"] {
        assert!(rest.contains(part), "{output:?}");
    }
    let code = "import io, sys\nsys.stdout.write('before')\nsys.stdout = io.StringIO()\nprint('nowhere')\ndef main(): return sys.stdout.getvalue()";
    let (value, output) = output_of(|| call(python, code, "{}"));
    call(
        python,
        "import sys\nsys.stdout = sys.__stdout__\ndef main(): pass",
        "{}",
    );
    assert_eq!((value, output.as_str()), (json!("nowhere\n"), "before"));
    let (error, output) =
        output_of(|| raised(python, "def main():\n    print('☃' * 3, end='')\n    1/0"));
    assert_eq!(error.error_type, "ZeroDivisionError");
    assert_eq!(output, "☃☃☃");
}

fn the_context_is_lambdas(python: &mut Python) {
    let code = "
def handler(event, context):
    context.log('logged')
    context.extra = 1
    return [context.aws_request_id, context.function_name, context.function_version,
            context.memory_limit_in_mb, context.invoked_function_arn, context.log_group_name,
            context.log_stream_name, context.client_context, context.identity.cognito_identity_id,
            context.get_remaining_time_in_millis()]
";
    load(
        python,
        &Function {
            env: [
                ("AWS_LAMBDA_FUNCTION_NAME".into(), "mine".into()),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE".into(), "512".into()),
                ("AWS_REGION".into(), "eu-central-1".into()),
            ]
            .into(),
            ..source(code)
        },
    );
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let invocation = Invocation {
        id: "id-7".into(),
        deadline_unix_ms: Some(u64::try_from(now.as_millis()).expect("a time") + 5_000),
        data: RawValue::NULL.to_owned(),
        ..Invocation::default()
    };
    let (value, output) = output_of(|| python.invoke(&invocation).expect("an answer"));
    assert_eq!(output, "logged\n");
    let fields: Vec<serde_json::Value> = serde_json::from_str(value.get()).expect("JSON");
    assert_eq!(
        fields[..9],
        [
            json!("id-7"),
            json!("mine"),
            json!("$LATEST"),
            json!("512"),
            json!("arn:aws:lambda:eu-central-1:012345678912:function:mine"),
            json!("/aws/lambda/mine"),
            json!("$LATEST"),
            json!(null),
            json!(null),
        ]
    );
    let remaining = fields[9].as_u64().expect("milliseconds");
    assert!((4_000..=5_000).contains(&remaining), "{remaining}");
}

fn the_next_load_replaces_the_function(python: &mut Python) {
    let named = Function {
        handler: Some("first.f".into()),
        ..source("import sys\ndef f(event): return 'first' in sys.modules")
    };
    load(python, &named);
    assert_eq!(try_invoke(python, "{}"), Ok(json!(true)));
    let code = "import sys\ncount = 0\ndef main():\n    global count\n    count += 1\n    return [count, 'first' in sys.modules]";
    assert_eq!(call(python, code, "{}"), json!([1, false]));
    assert_eq!(try_invoke(python, "{}"), Ok(json!([2, false])));
    assert_eq!(call(python, code, "{}"), json!([1, false]));
}

fn a_function_is_an_ordinary_module(python: &mut Python) {
    let code = "
import dataclasses, inspect, pickle, sys, typing
@dataclasses.dataclass
class Point:
    x: int
    y: 'typing.Optional[int]' = None
def main(args):
    point = pickle.loads(pickle.dumps(Point(1)))
    return [point == Point(1), __name__, __file__.endswith('function.py'),
            sys.modules[__name__] is inspect.getmodule(main),
            typing.get_type_hints(Point)['y'] == typing.Optional[int],
            inspect.getsource(Point.__init__.__class__ and main).startswith('def main'),
            sorted(name for name in globals() if name.startswith('_'))]
";
    assert_eq!(
        call(python, code, "{}"),
        json!([
            true,
            "function",
            true,
            true,
            true,
            true,
            [
                "__builtins__",
                "__doc__",
                "__file__",
                "__loader__",
                "__name__",
                "__package__",
                "__spec__"
            ]
        ])
    );
}

fn a_failed_load_leaves_nothing(python: &mut Python) {
    let function = Function {
        env: [("LEFT".into(), "over".into())].into(),
        ..source("raise ValueError")
    };
    python.load(&function).expect_err("it raises");
    let error = try_invoke(python, "{}").expect_err("nothing is loaded");
    assert_eq!(error.error_type, "NotLoaded");
    let code = "import os, linecache\ndef main(): return 'LEFT' in os.environ";
    assert_eq!(call(python, code, "{}"), json!(false));
}

fn warming_left_no_trace(python: &mut Python) {
    let code = "
import asyncio, os, sys, warnings
warnings.simplefilter('ignore')
policy = asyncio.events._event_loop_policy
def main(args):
    return [policy is None, 'REFUNCTION_WARM' in os.environ, len(sys.argv),
            [name for name in sys.modules if 'refunction' in name or name == 'bootstrap'],
            len(os.listdir('/proc/self/task')), asyncio.get_event_loop() is not None]
";
    // The cases before ran coroutines, which sets a policy: reset, as a restore would.
    call(
        python,
        "import asyncio\nasyncio.set_event_loop_policy(None)\ndef main(): pass",
        "{}",
    );
    assert_eq!(
        call(python, code, "{}"),
        json!([true, false, 1, [], 1, true])
    );
}

fn signals_are_as_in_any_python(python: &mut Python) {
    let code = "
import os, signal, subprocess
got = []
signal.signal(signal.SIGUSR1, lambda *a: got.append(a[0]))
def main(args):
    before = signal.getsignal(signal.SIGINT) == signal.SIG_DFL
    os.kill(os.getpid(), signal.SIGUSR1)
    r, w = os.pipe()
    os.close(r)
    try: os.write(w, b'x')
    except BrokenPipeError: got.append('EPIPE')
    os.close(w)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    child = subprocess.run(['sh', '-c', 'kill -PIPE $$'])
    return [before, got, child.returncode]
";
    assert_eq!(call(python, code, "{}"), json!([true, [10, "EPIPE"], -13]));
}

fn threads_go_on_between_calls(python: &mut Python) {
    let code = "
import threading, time
count = 0
stop = threading.Event()
def work():
    global count
    while not stop.wait(0.001): count += 1
thread = threading.Thread(target=work, daemon=True)
thread.start()
def main(args):
    if args: 
        stop.set()
        thread.join()
    return count
";
    let first = call(python, code, "false").as_u64().expect("a count");
    std::thread::sleep(std::time::Duration::from_millis(100));
    let second = try_invoke(python, "true")
        .expect("an answer")
        .as_u64()
        .expect("a count");
    assert!(second > first + 5, "{first} {second}");
}

fn memory_running_out_is_an_exception(python: &mut Python) {
    let error = raised(python, "def main(args): return bytearray(1 << 60)");
    assert_eq!(error.error_type, "MemoryError");
    let answer = common::in_child(0, || {
        python.after_fork();
        let code = "import resource\nused = int(open('/proc/self/statm').read().split()[0]) * 4096\nresource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20),) * 2)\ndef main(args):\n    kept = []\n    while True: kept.append([0] * 1000)";
        let error = raised(python, code);
        format!(
            "{} {}",
            error.error_type,
            call(python, "def main(): return 1", "{}")
        )
    });
    assert_eq!(answer.as_deref(), Some("MemoryError 1"));
}
