//! Functions given as source text: how they are loaded, called, and what comes back.

mod common;

use common::{booted, call, cases, load, output_of, raised, refused, run, source, try_invoke};
use refunction_adapter::{Adapter, Invocation};
use refunction_javascript::JavaScript;
use refunction_protocol::Function;
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
            the_time_zone_is_the_functions,
            promises_are_awaited,
            a_promise_that_cannot_settle_is_an_error,
            timers_fire_in_order,
            timers_go_on_in_the_next_call,
            what_nobody_catches_fails_the_call,
            handlers_may_call_back,
            syntax_errors_show_the_line,
            only_the_tenants_frames_are_shown,
            causes_are_shown,
            odd_exceptions_are_told,
            leaving_is_no_death,
            results_that_are_not_json,
            results_that_json_makes_something_of,
            numbers_keep_their_value,
            a_large_argument_is_echoed,
            deep_data_is_an_exception,
            everything_printed_arrives,
            the_context_is_lambdas,
            the_next_load_replaces_the_function,
            a_failed_load_leaves_nothing,
            memory_running_out_is_an_exception,
        ],
    );
}

fn nothing_is_loaded_at_first(javascript: &mut JavaScript) {
    let error = try_invoke(javascript, "{}").expect_err("nothing is loaded");
    assert_eq!(error.error_type, "NotLoaded");
}

fn the_runtime_has_a_version(javascript: &mut JavaScript) {
    let runtime = javascript.runtime();
    assert_eq!(runtime.name, "javascript");
    let version = call(
        javascript,
        "function main() { return process.versions.quickjs; }",
        "{}",
    );
    assert_eq!(version, json!(runtime.version));
    assert!(runtime.version.starts_with("0."), "{}", runtime.version);
}

fn entries_of_every_form(javascript: &mut JavaScript) {
    let named = |code: &str, main: Option<&str>, handler: Option<&str>| Function {
        main: main.map(Into::into),
        handler: handler.map(Into::into),
        ..source(code)
    };
    let context = "(e, c) { return [e, c.awsRequestId]; }";
    let with_context = json!([{"a": 1}, "request-1"]);
    for (function, expected) in [
        // Plain scripts.
        (
            source("function main(args) { return args; }"),
            json!({"a": 1}),
        ),
        (source("function main() { return 'none'; }"), json!("none")),
        (source("const main = (...a) => a.length;"), json!(1)),
        (source("const main = (args, more = 2) => more;"), json!(2)),
        (
            source(&format!("function main{context}")),
            with_context.clone(),
        ),
        (
            source(&format!("function handler{context}")),
            with_context.clone(),
        ),
        (source("var main = (a) => a; // the end"), json!({"a": 1})),
        (
            source("#!/usr/bin/env node\nlet main = () => this === module.exports"),
            json!(true),
        ),
        (
            named("function run(args) { return 5; }", Some("run"), None),
            json!(5),
        ),
        (
            named(&format!("function f{context}"), None, Some("app.f")),
            with_context.clone(),
        ),
        // CommonJS.
        (source("exports.main = (args) => args"), json!({"a": 1})),
        (
            source(&format!("exports.handler = function {context}")),
            with_context.clone(),
        ),
        (
            source("module.exports = { main: (a) => [a] }"),
            json!([{"a": 1}]),
        ),
        (source("module.exports = (args) => args.a"), json!(1)),
        (
            named("exports.f = () => __filename", None, Some("lib/app.f")),
            json!("/lib/app.js"),
        ),
        (
            source("exports.main = () => [typeof require, require.resolve, __dirname].length"),
            json!(3),
        ),
        // ECMAScript modules.
        (source("export default (args) => args.a"), json!(1)),
        (
            source("export function main(args) { return args; }"),
            json!({"a": 1}),
        ),
        (
            source(&format!("export async function handler{context}")),
            with_context.clone(),
        ),
        (
            source("export default { main: () => 'part of it' }"),
            json!("part of it"),
        ),
        (
            source("const ready = await Promise.resolve(7);\nexport const main = () => ready"),
            json!(7),
        ),
        (
            named(
                "export function f(...a) { return a.length; }",
                None,
                Some("app.f"),
            ),
            json!(2),
        ),
        (
            named(
                "export function f(e, c) { return import.meta.filename; }",
                None,
                Some("a/b.f"),
            ),
            json!("/a/b.js"),
        ),
        (
            named("export default () => 1", Some("default"), None),
            json!(1),
        ),
    ] {
        load(javascript, &function);
        assert_eq!(
            try_invoke(javascript, r#"{"a":1}"#),
            Ok(expected),
            "{}",
            function.code
        );
    }
}

fn missing_entries_are_named(javascript: &mut JavaScript) {
    for (code, message) in [
        (
            "function helper() {}\nasync function other() {}\nconst x = 1;",
            "the function has no 'main': it has helper, other",
        ),
        (
            "export const a = 1; export function b() {}",
            "the function has no 'main': it has b",
        ),
        ("1", "the function has no 'main': it has no functions"),
        (
            "await null;\nfunction main() {}",
            "the function has no 'main': it is there, but a module must export it",
        ),
    ] {
        let error = refused(javascript, &source(code));
        assert_eq!(error.error_type, "EntryNotFound");
        assert_eq!(error.message, message);
        assert_eq!(error.stack, "");
    }
    let error = refused(javascript, &source("const main = 'text'"));
    assert_eq!(error.error_type, "TypeError");
    assert!(
        error.message.contains("not callable: it is of type string"),
        "{error:?}"
    );
    let error = refused(javascript, &source(" \n"));
    assert_eq!(error.message, "there is no code to load");
    for handler in ["nodot", ".f", "a.", "a..b", "", "a\0.f"] {
        let function = Function {
            handler: Some(handler.into()),
            ..source("function f() {}")
        };
        let error = refused(javascript, &function);
        assert_eq!(error.error_type, "EntryNotFound", "{handler:?} {error:?}");
    }
}

fn unicode_everywhere(javascript: &mut JavaScript) {
    let function = Function {
        env: [("GRÜSSE".into(), "☃ 𝄞".into())].into(),
        ..source(
            "// ☃\nfunction main(args) {\n  const größe = args['ключ'];\n  console.log('☃', größe);\n  return {'☃': größe, env: process.env.GRÜSSE};\n}",
        )
    };
    load(javascript, &function);
    let (result, output) = output_of(|| try_invoke(javascript, r#"{"ключ":"雪 \ud834\udd1e"}"#));
    assert_eq!(result, Ok(json!({"☃": "雪 𝄞", "env": "☃ 𝄞"})));
    assert_eq!(output, "☃ 雪 𝄞\n");
    // Half a surrogate pair is no text to others, but must not end the worker.
    load(
        javascript,
        &source("function main(args) { console.log(args.x); return args.x; }"),
    );
    let (value, output) = output_of(|| {
        javascript
            .invoke(&Invocation {
                id: String::new(),
                deadline_unix_ms: None,
                data: RawValue::from_string(r#"{"x":"\ud800é"}"#.into()).expect("JSON"),
                ..Invocation::default()
            })
            .expect("an answer")
    });
    assert_eq!(value.get(), r#""\ud800é""#);
    assert_eq!(output, "\u{fffd}é\n");
    let error = raised(
        javascript,
        "function main() { throw new Error('\\udcff'); }",
    );
    assert_eq!(error.message, "\u{fffd}");
}

fn the_environment_is_set_and_taken_back(javascript: &mut JavaScript) {
    let code = "const loaded = process.env.A ?? null;\nfunction main() {\n  return [loaded, process.env.EMPTY ?? null, process.env.A ?? null, process.env.PATH === undefined];\n}";
    load(
        javascript,
        &Function {
            env: [("A".into(), "1".into()), ("EMPTY".into(), String::new())].into(),
            ..source(code)
        },
    );
    assert_eq!(
        try_invoke(javascript, "{}"),
        Ok(json!(["1", "", "1", false]))
    );
    assert_eq!(
        call(javascript, code, "{}"),
        json!([null, null, null, false])
    );
    for (name, value) in [("A=B", ""), ("", ""), ("A\0", ""), ("A", "\0")] {
        let error = refused(
            javascript,
            &Function {
                env: [(name.into(), value.into())].into(),
                ..source(code)
            },
        );
        assert_eq!(error.error_type, "TypeError", "{error:?}");
        assert!(error.message.contains("environment variable"), "{error:?}");
    }
}

fn the_time_zone_is_the_functions(javascript: &mut JavaScript) {
    let code = "const main = () => [new Date(0).getTimezoneOffset(), process.env.TZ ?? null]";
    let before = call(javascript, code, "{}");
    load(
        javascript,
        &Function {
            env: [("TZ".into(), "XYZ-5:30".into())].into(),
            ..source(code)
        },
    );
    assert_eq!(try_invoke(javascript, "{}"), Ok(json!([-330, "XYZ-5:30"])));
    assert_eq!(call(javascript, code, "{}"), before);
}

fn promises_are_awaited(javascript: &mut JavaScript) {
    for (code, expected) in [
        ("async function main(a) { await null; return a; }", json!(1)),
        ("const main = (a) => Promise.resolve(a)", json!(1)),
        (
            "const main = (a) => ({ then(resolve) { setTimeout(resolve, 1, a + 1); } })",
            json!(2),
        ),
        (
            "const wait = (ms) => new Promise((done) => setTimeout(done, ms));\nasync function main() {\n  const found = [];\n  await Promise.all([wait(20).then(() => found.push('b')), wait(1).then(() => found.push('a'))]);\n  return found;\n}",
            json!(["a", "b"]),
        ),
        (
            "async function* count() { for (let n = 0; n < 3; n++) { await null; yield n; } }\nasync function main() { const all = []; for await (const n of count()) all.push(n); return all; }",
            json!([0, 1, 2]),
        ),
        (
            "function main() { queueMicrotask(() => console.log('put off')); return 'first'; }",
            json!("first"),
        ),
    ] {
        let (value, output) = output_of(|| call(javascript, code, "1"));
        assert_eq!(value, expected, "{code}");
        assert_eq!(
            output,
            if code.contains("put off") {
                "put off\n"
            } else {
                ""
            }
        );
    }
    let error = raised(
        javascript,
        "async function main() {\n  await null;\n  throw new RangeError('later');\n}",
    );
    assert_eq!(error.error_type, "RangeError");
    assert_eq!(
        error.stack,
        "RangeError: later\n    at main (function.js:3:13)"
    );
}

fn a_promise_that_cannot_settle_is_an_error(javascript: &mut JavaScript) {
    for code in [
        "const main = () => new Promise(() => {})",
        "async function main() { await new Promise(() => {}); }",
        // A timer that nobody is to wait for.
        "const main = () => new Promise((done) => setTimeout(done, 10000).unref())",
        "const main = () => new Promise((done) => clearTimeout(setTimeout(done, 10000)))",
    ] {
        let error = raised(javascript, code);
        assert_eq!(error.error_type, "NeverSettled", "{code}");
        assert!(error.message.contains("still pending"), "{error:?}");
    }
    let error = refused(
        javascript,
        &source("await new Promise(() => {});\nexport const main = () => 1"),
    );
    assert_eq!(error.error_type, "NeverSettled");
    // The worker goes on.
    assert_eq!(call(javascript, "const main = () => 1", "{}"), json!(1));
}

fn timers_fire_in_order(javascript: &mut JavaScript) {
    let code = "
const order = [];
const note = (what) => order.push(what);
async function main() {
  setTimeout(note, 30, 'late');
  setTimeout(note, 5, 'soon');
  const never = setTimeout(note, 1, 'never');
  clearTimeout(never);
  clearTimeout(+setTimeout(note, 1, 'by number'));
  clearTimeout(undefined); clearTimeout({}); clearTimeout('x');
  setImmediate(note, 'immediate');
  clearImmediate(setImmediate(note, 'no'));
  process.nextTick(note, 'tick');
  queueMicrotask(() => note('microtask'));
  note('now');
  let left = 3;
  await new Promise((done) => {
    const interval = setInterval(() => {
      note('interval');
      if (--left === 0) { clearInterval(interval); done(); }
    }, 8);
  });
  await new Promise((done) => setTimeout(done, 20));
  return order;
}";
    assert_eq!(
        call(javascript, code, "{}"),
        json!([
            "now",
            "tick",
            "microtask",
            "immediate",
            "soon",
            "interval",
            "interval",
            "interval",
            "late"
        ])
    );
    let error = raised(javascript, "const main = () => setTimeout('text')");
    assert_eq!(error.error_type, "TypeError");
}

fn timers_go_on_in_the_next_call(javascript: &mut JavaScript) {
    let code = "let ticks = 0;\nsetInterval(() => ticks++, 1);\nasync function main(wait) {\n  const before = ticks;\n  if (wait) await new Promise((done) => setTimeout(done, 15));\n  return ticks - before;\n}";
    assert_eq!(call(javascript, code, "false"), json!(0));
    let ticks = try_invoke(javascript, "true").expect("an answer");
    assert!(ticks.as_u64().is_some_and(|it| it > 3), "{ticks}");
    // A call that needs no waiting is not kept by them.
    assert_eq!(try_invoke(javascript, "false"), Ok(json!(0)));
}

fn what_nobody_catches_fails_the_call(javascript: &mut JavaScript) {
    for (code, message) in [
        (
            "async function main() { Promise.reject(new Error('nobody asked')); return 1; }",
            "nobody asked",
        ),
        (
            "function main() { (async () => { throw new Error('left alone'); })(); return 1; }",
            "left alone",
        ),
        (
            "function main() { queueMicrotask(() => { throw new Error('microtask'); }); return 1; }",
            "microtask",
        ),
        (
            "async function main() { setTimeout(() => { throw new Error('timer'); }, 1); await new Promise((done) => setTimeout(done, 50)); return 1; }",
            "timer",
        ),
    ] {
        let error = raised(javascript, code);
        assert_eq!(
            (error.error_type.as_str(), error.message.as_str()),
            ("Error", message)
        );
        assert!(error.stack.contains("(function.js:1:"), "{}", error.stack);
    }
    // One that is caught in time is none, nor one that is caught in the same turn.
    for code in [
        "async function main() { const bad = Promise.reject(new Error('x')); try { await bad; } catch { return 1; } }",
        "async function main() { const bad = Promise.reject(1); await null; return bad.catch((it) => it); }",
        "const main = () => Promise.allSettled([Promise.reject(1)]).then(() => 1)",
    ] {
        assert_eq!(call(javascript, code, "{}"), json!(1), "{code}");
    }
    // What failed one call does not fail the next.
    for failing in [
        "Promise.reject(new Error('x')); queueMicrotask(() => { throw 1; });",
        "setTimeout(() => { Promise.reject(2); queueMicrotask(() => { ran = true; }); throw 1; }, 1);",
        "Promise.reject(1); Promise.reject(2);",
    ] {
        load(
            javascript,
            &source(&format!(
                "let ran = false;\nasync function main(fail) {{ if (fail) {{ {failing} await new Promise((done) => setTimeout(done, 20)); }} return ran; }}"
            )),
        );
        try_invoke(javascript, "true").expect_err(failing);
        assert_eq!(
            try_invoke(javascript, "false"),
            Ok(json!(failing.contains("ran")))
        );
    }
    let error = refused(
        javascript,
        &source("Promise.reject(new TypeError('at import'));\nexport const main = () => 1"),
    );
    assert_eq!(error.error_type, "TypeError");
}

fn handlers_may_call_back(javascript: &mut JavaScript) {
    for (body, expected) in [
        (
            "callback(null, [event, context.awsRequestId])",
            Ok(json!([1, "request-1"])),
        ),
        ("setTimeout(callback, 1, undefined, event)", Ok(json!(1))),
        (
            "callback(null, 'first'); callback(null, 'second')",
            Ok(json!("first")),
        ),
        ("callback(new RangeError('no'))", Err("RangeError")),
        ("return Promise.resolve('promised')", Ok(json!("promised"))),
        ("", Err("NeverSettled")),
    ] {
        let code = format!("exports.handler = (event, context, callback) => {{ {body} }}");
        load(javascript, &source(&code));
        let answer = try_invoke(javascript, "1");
        assert_eq!(
            answer.map_err(|it| it.error_type),
            expected.map_err(str::to_owned),
            "{body}"
        );
    }
}

fn syntax_errors_show_the_line(javascript: &mut JavaScript) {
    for (code, place) in [
        (
            "const a = 1;\nfunction main(args) {\n  return (;\n}",
            "function.js:3:",
        ),
        (
            "export const a = 1;\nexport function main( {\n",
            "function.js:3:",
        ),
        (
            "import x from './y.js';\nexport const main = 1 +;",
            "function.js:2:",
        ),
        ("function main() { return [; }", "function.js:1:27"),
        ("await 1;\nconst let = 5;", "function.js:2:"),
    ] {
        let error = refused(javascript, &source(code));
        assert_eq!(error.error_type, "SyntaxError", "{code} {error:?}");
        assert!(error.stack.contains(place), "{code}: {}", error.stack);
        assert!(!error.stack.contains("refunction"), "{}", error.stack);
    }
}

fn only_the_tenants_frames_are_shown(javascript: &mut JavaScript) {
    let error = raised(
        javascript,
        "function main(args) {\n  helper();\n}\n\nfunction helper() {\n  null.x;\n}\n",
    );
    assert_eq!(error.error_type, "TypeError");
    assert_eq!(
        error.stack,
        format!(
            "TypeError: {}\n    at helper (function.js:6:3)\n    at main (function.js:2:3)",
            error.message
        )
    );
    // Columns of the first line too, whatever stands before it when it is compiled.
    let error = raised(javascript, "exports.main = () => { throw new Error('x'); }");
    assert_eq!(
        error.stack,
        "Error: x\n    at <anonymous> (function.js:1:34)"
    );
    let error = raised(
        javascript,
        "export function main() { return [1].map(() => { throw new Error('x'); }); }",
    );
    assert!(
        error.stack.contains("at map (native)\n    at main"),
        "{}",
        error.stack
    );
    let error = refused(javascript, &source("const x = 1;\nx();\n"));
    assert_eq!(error.stack.matches("    at ").count(), 1, "{}", error.stack);
    assert!(error.stack.contains("(function.js:2:1)"), "{}", error.stack);
    for code in [
        "import './missing.js'",
        "require('./missing.js')",
        "import('node:fs')",
    ] {
        let error = refused(javascript, &source(code));
        assert!(
            error.message.starts_with("Cannot find module '"),
            "{error:?}"
        );
        assert!(
            error.message.contains("imported from function.js"),
            "{error:?}"
        );
        assert_eq!(error.message.contains("QuickJS"), code.contains("node:"));
        assert!(!error.stack.contains("refunction>"), "{}", error.stack);
    }
}

fn causes_are_shown(javascript: &mut JavaScript) {
    let error = raised(
        javascript,
        "class Mine extends Error { name = 'Mine' }\nfunction main() {\n  try {\n    null.x;\n  } catch (error) {\n    throw new Mine('über', { cause: error });\n  }\n}",
    );
    assert_eq!(
        (error.error_type.as_str(), error.message.as_str()),
        ("Mine", "über")
    );
    assert!(
        error.stack.contains("[cause]: TypeError: "),
        "{}",
        error.stack
    );
    assert!(error.stack.contains("function.js:4:"), "{}", error.stack);
    let error = raised(
        javascript,
        "const main = () => Promise.any([Promise.reject(new RangeError('one')), Promise.reject(2)])",
    );
    assert_eq!(error.error_type, "AggregateError");
    assert!(
        error.stack.contains("[error]: RangeError: one"),
        "{}",
        error.stack
    );
    assert!(error.stack.contains("[error]: 2"), "{}", error.stack);
    let error = raised(
        javascript,
        "function main() { const error = new Error('circle'); error.cause = error; throw error; }",
    );
    assert_eq!(error.message, "circle");
    assert!(error.stack.len() < 10_000, "{}", error.stack);
}

fn odd_exceptions_are_told(javascript: &mut JavaScript) {
    for (thrown, error_type, message) in [
        ("'text'", "string", "text"),
        ("42", "int", "42"),
        ("undefined", "undefined", "undefined"),
        (
            "null",
            "null",
            "null, which is also what comes of memory that is used up",
        ),
        ("Symbol('s')", "symbol", "Symbol(s)"),
        ("10n", "big_int", "10"),
        ("{ a: [1, 'b'] }", "object", "{ a: [ 1, 'b' ] }"),
        ("{ name: 'Like', message: 'an error' }", "Like", "an error"),
        ("Object.assign(new Error('m'), { name: 5 })", "5", "m"),
        (
            "new DOMException('gone', 'AbortError')",
            "AbortError",
            "gone",
        ),
        (
            "{ get name() { throw 1; }, get message() { throw 2; }, toString() { throw 3; } }",
            "object",
            "{ name: [Getter], message: [Getter], toString: [Function: toString] }",
        ),
        (
            "Object.defineProperty(new Error('kept'), 'stack', { get() { throw 1; } })",
            "Error",
            "kept",
        ),
        (
            "Object.defineProperty(new Error(), 'message', { value: { toString() { throw 1; } } })",
            "Error",
            "<not to be told: its conversion to a string throws>",
        ),
    ] {
        for form in ["", "async "] {
            let error = raised(
                javascript,
                &format!("{form}function main() {{ throw {thrown}; }}"),
            );
            assert_eq!(
                (error.error_type.as_str(), error.message.as_str()),
                (error_type, message),
                "{thrown}"
            );
        }
    }
    let error = raised(
        javascript,
        "function main() { throw new Error('x'.repeat(10_000_000)); }",
    );
    assert!(error.message.len() < 70_000 && error.stack.len() < 70_000);
    assert!(error.message.contains("characters left out"));
    let error = raised(
        javascript,
        "const a = () => b(); const b = () => a(); const main = a",
    );
    assert_eq!(error.error_type, "RangeError");
    assert!(error.stack.len() < 70_000);
}

fn leaving_is_no_death(javascript: &mut JavaScript) {
    for statement in ["process.exit(3)", "process.exit()", "process.abort()"] {
        for form in ["", "async "] {
            let error = raised(
                javascript,
                &format!("{form}function main() {{ {statement} }}"),
            );
            assert_eq!(error.error_type, "ProcessExit", "{statement}");
        }
        let error = refused(javascript, &source(statement));
        assert_eq!(error.error_type, "ProcessExit");
    }
    assert_eq!(call(javascript, "const main = () => 1", "{}"), json!(1));
}

fn results_that_are_not_json(javascript: &mut JavaScript) {
    for (result, message) in [
        ("({ a: [1, () => 1] })", "result[\"a\"][1] is a function"),
        ("() => 1", "result is a function"),
        ("class A {}", "result is a function"),
        ("10n", "result is a BigInt"),
        ("({ a: { b: 10n } })", "result[\"a\"][\"b\"] is a BigInt"),
        ("Symbol('x')", "result is a symbol"),
        ("new Map([[1, 2]])", "result is a Map"),
        ("[new Set()]", "result[0] is a Set"),
        (
            "({ a: Promise.resolve(1) })",
            "result[\"a\"] is a Promise, which was not awaited",
        ),
        ("new ArrayBuffer(1)", "result is an ArrayBuffer"),
        (
            "(() => { const x = []; x.push(x); return x; })()",
            "result[0] contains itself",
        ),
        (
            "(() => { const x = { y: {} }; x.y.z = x; return x; })()",
            "result[\"y\"][\"z\"] contains itself",
        ),
        (
            "({ toJSON: () => ({ a: 1n }) })",
            "result[\"a\"] is a BigInt",
        ),
    ] {
        let error = raised(
            javascript,
            &format!("const main = () => {{ return {result}; }}"),
        );
        assert_eq!(error.error_type, "TypeError", "{error:?}");
        assert_eq!(error.message, format!("the result is not JSON: {message}"));
    }
    let error = raised(
        javascript,
        "const main = () => ({ toJSON() { throw new RangeError('mine'); } })",
    );
    assert_eq!(
        (error.error_type.as_str(), error.message.as_str()),
        ("RangeError", "mine")
    );
    let error = raised(
        javascript,
        "const main = () => ({ get a() { throw new RangeError('got'); } })",
    );
    assert_eq!(error.message, "got");
}

fn results_that_json_makes_something_of(javascript: &mut JavaScript) {
    for (result, expected) in [
        ("undefined", json!(null)),
        ("", json!(null)),
        ("null", json!(null)),
        ("({ a: undefined, b: 1 })", json!({"b": 1})),
        ("[undefined, , 1]", json!([null, null, 1])),
        ("NaN", json!(null)),
        ("[1 / 0]", json!([null])),
        ("new Date(0)", json!("1970-01-01T00:00:00.000Z")),
        ("({ toJSON: () => 'own' })", json!("own")),
        ("({ toJSON: () => undefined })", json!(null)),
        (
            "Object.create({ inherited: 1 }, { own: { value: 2, enumerable: true } })",
            json!({"own": 2}),
        ),
        (
            "new (class Point { constructor() { this.x = 1; } })()",
            json!({"x": 1}),
        ),
        ("new Error('plain')", json!({})),
        ("new URL('https://a.b/c')", json!("https://a.b/c")),
        ("Object(1n).constructor && 1", json!(1)),
        ("new Uint8Array([7])", json!({"0": 7})),
        ("({ __proto__: null, a: 1 })", json!({"a": 1})),
        ("JSON.parse('{\"__proto__\": 1}')", json!({"__proto__": 1})),
    ] {
        let value = call(
            javascript,
            &format!("const main = () => {{ return {result}; }}"),
            "{}",
        );
        assert_eq!(value, expected, "{result}");
    }
    // What a function has BigInt say of itself is its own affair.
    let code =
        "BigInt.prototype.toJSON = function () { return String(this); };\nconst main = () => [10n]";
    assert_eq!(call(javascript, code, "{}"), json!(["10"]));
}

fn numbers_keep_their_value(javascript: &mut JavaScript) {
    load(javascript, &source("const main = (args) => args"));
    for text in [
        "9007199254740991",
        "0.1",
        "1e300",
        "-1.5",
        "[]",
        "null",
        "true",
        "\"\"",
        "{\"1\":2}",
    ] {
        let value = javascript
            .invoke(&Invocation {
                id: String::new(),
                deadline_unix_ms: None,
                data: RawValue::from_string(text.into()).expect("JSON"),
                ..Invocation::default()
            })
            .expect("an answer");
        assert_eq!(value.get(), text.replace("1e300", "1e+300"));
    }
}

fn a_large_argument_is_echoed(javascript: &mut JavaScript) {
    load(javascript, &source("const main = (args) => args"));
    for text in ["x".repeat(1 << 20), "ü☃".repeat(1 << 18)] {
        let data = json!({"text": text});
        assert_eq!(try_invoke(javascript, &data.to_string()), Ok(data));
    }
}

fn deep_data_is_an_exception(javascript: &mut JavaScript) {
    let error = raised(
        javascript,
        "function main() { let x = []; for (let n = 0; n < 1_000_000; n++) x = [x]; return x; }",
    );
    assert_eq!(error.error_type, "RangeError", "{error:?}");
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    load(javascript, &source("const main = () => 1"));
    // Whether it is read or refused, nobody dies of it.
    if let Err(error) = try_invoke(javascript, &deep) {
        assert_eq!(error.error_type, "RangeError", "{error:?}");
    }
    let error = raised(javascript, "function main(args) { return main(args) + 1; }");
    assert_eq!(error.error_type, "RangeError");
    assert_eq!(call(javascript, "const main = () => 1", "{}"), json!(1));
}

fn everything_printed_arrives(javascript: &mut JavaScript) {
    let code = "
console.log('at import');
exports.main = () => {
  console.log('log'); console.info('info'); console.debug('debug');
  console.warn('warn'); console.error('error');
  process.stdout.write('no newline');
  process.stderr.write(' either\\n');
};";
    let ((), output) = output_of(|| load(javascript, &source(code)));
    assert_eq!(output, "at import\n");
    let (result, output) = output_of(|| try_invoke(javascript, "{}"));
    assert_eq!(result, Ok(json!(null)));
    assert_eq!(output, "log\ninfo\ndebug\nwarn\nerror\nno newline either\n");
    let (error, output) = output_of(|| {
        raised(
            javascript,
            "function main() { console.log('☃'.repeat(3)); null.x; }",
        )
    });
    assert_eq!(error.error_type, "TypeError");
    assert_eq!(output, "☃☃☃\n");
}

fn the_context_is_lambdas(javascript: &mut JavaScript) {
    let code = "
exports.handler = async (event, context) => {
  context.extra = 1;
  return [context.awsRequestId, context.functionName, context.functionVersion,
          context.memoryLimitInMB, context.invokedFunctionArn, context.logGroupName,
          context.logStreamName, context.callbackWaitsForEmptyEventLoop,
          context.getRemainingTimeInMillis()];
};";
    load(
        javascript,
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
    let value = javascript.invoke(&invocation).expect("an answer");
    let fields: Vec<serde_json::Value> = serde_json::from_str(value.get()).expect("JSON");
    assert_eq!(
        fields[..8],
        [
            json!("id-7"),
            json!("mine"),
            json!("$LATEST"),
            json!("512"),
            json!("arn:aws:lambda:eu-central-1:012345678912:function:mine"),
            json!("/aws/lambda/mine"),
            json!("$LATEST"),
            json!(true),
        ]
    );
    let remaining = fields[8].as_u64().expect("milliseconds");
    assert!((4_000..=5_000).contains(&remaining), "{remaining}");
}

fn the_next_load_replaces_the_function(javascript: &mut JavaScript) {
    let code = "globalThis.count = (globalThis.count ?? 0) + 1;\nlet calls = 0;\nArray.prototype.mark ??= 0;\nArray.prototype.mark++;\nexports.main = () => [count, ++calls, [].mark];";
    assert_eq!(call(javascript, code, "{}"), json!([1, 1, 1]));
    assert_eq!(try_invoke(javascript, "{}"), Ok(json!([1, 2, 1])));
    // Another context, and so not the same builtins.
    assert_eq!(call(javascript, code, "{}"), json!([1, 1, 1]));
}

fn a_failed_load_leaves_nothing(javascript: &mut JavaScript) {
    let function = Function {
        env: [("LEFT".into(), "over".into())].into(),
        ..source("globalThis.left = 1; setTimeout(() => { throw 1 }, 1); throw new Error('x')")
    };
    refused(javascript, &function);
    let error = try_invoke(javascript, "{}").expect_err("nothing is loaded");
    assert_eq!(error.error_type, "NotLoaded");
    let code = "async function main() { await new Promise((done) => setTimeout(done, 5)); return ['LEFT' in process.env, typeof left]; }";
    assert_eq!(call(javascript, code, "{}"), json!([false, "undefined"]));
}

fn memory_running_out_is_an_exception(javascript: &mut JavaScript) {
    let error = raised(javascript, "const main = () => new ArrayBuffer(2 ** 40)");
    assert!(
        ["RangeError", "InternalError"].contains(&error.error_type.as_str()),
        "{error:?}"
    );
    let error = raised(
        javascript,
        "function main() { const kept = []; while (true) kept.push(new ArrayBuffer(1 << 20)); }",
    );
    assert_eq!(error.error_type, "InternalError", "{error:?}");
    assert_eq!(error.message, "out of memory");
    let error = raised(
        javascript,
        "function main() { const kept = []; while (true) kept.push({ a: [1, 2, 3], b: 'text' + kept.length }); }",
    );
    // There is not always room left for an error.
    assert!(["InternalError", "null"].contains(&error.error_type.as_str()));
    assert!(error.message.contains("memory"), "{error:?}");
    assert_eq!(call(javascript, "const main = () => 1", "{}"), json!(1));
}
