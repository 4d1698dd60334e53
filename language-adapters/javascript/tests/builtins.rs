//! What functions find beside the language itself.

mod common;

use common::{booted, call, cases, output_of, raised, run};
use refunction_javascript::JavaScript;
use serde_json::{Value, json};

fn main() {
    run(
        &mut booted(),
        cases![
            consoles_show_values_as_node_does,
            consoles_have_their_other_methods,
            texts_are_encoded_and_decoded,
            base64_is_the_webs,
            urls_are_parsed,
            urls_are_changed,
            queries_are_lists,
            values_are_cloned,
            what_cannot_be_cloned_is_refused,
            random_bytes_are_the_kernels,
            clocks_run,
            processes_look_like_one,
            nothing_of_the_adapters_is_reachable,
            the_adapter_is_not_confused_by_what_a_function_breaks,
        ],
    );
}

/// The value of an expression, which may await.
fn value(javascript: &mut JavaScript, expression: &str) -> Value {
    let code = format!("async function main() {{ return ({expression}); }}");
    call(javascript, &code, "{}")
}

fn printed(javascript: &mut JavaScript, statements: &str) -> String {
    let code = format!("function main() {{ {statements} }}");
    output_of(|| call(javascript, &code, "{}")).1
}

fn consoles_show_values_as_node_does(javascript: &mut JavaScript) {
    for (arguments, expected) in [
        ("", ""),
        (
            "'a', 1, true, null, undefined, 10n, -0",
            "a 1 true null undefined 10n -0",
        ),
        (
            "['a', [1, [2, [3, [4]]]]]",
            "[ 'a', [ 1, [ 2, [Array] ] ] ]",
        ),
        (
            "{ a: 1, 'b-c': 'x', [Symbol('s')]: {} }",
            "{ a: 1, 'b-c': 'x', [Symbol(s)]: {} }",
        ),
        (
            "{ a: { b: { c: { d: 1 } } } }",
            "{ a: { b: { c: [Object] } } }",
        ),
        ("'100%', 1", "100% 1"),
        (
            "'%s is %d, %i, %f, %j and %o%%', 'x', '4.5', 4.5, '1.5', {a: 1}, [1]",
            "x is 4.5, 4, 1.5, {\"a\":1} and [ 1 ]%",
        ),
        ("'%s'", "%s"),
        ("'%c red', 'color: red', 'more'", " red more"),
        ("new Map([['a', { b: 1 }]])", "Map(1) { 'a' => { b: 1 } }"),
        ("new Set([1, 'x'])", "Set(2) { 1, 'x' }"),
        ("function named() {}", "[Function: named]"),
        ("(() => {})", "[Function (anonymous)]"),
        ("class Point {}", "[class Point]"),
        ("new (class Point { x = 1 })()", "Point { x: 1 }"),
        (
            "{ __proto__: null, a: 1 }",
            "[Object: null prototype] { a: 1 }",
        ),
        ("[1, , 3]", "[ 1, <empty item>, 3 ]"),
        ("new Uint8Array([1, 2])", "Uint8Array(2) [ 1, 2 ]"),
        ("new ArrayBuffer(3)", "ArrayBuffer { byteLength: 3 }"),
        ("new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("/a+/gi", "/a+/gi"),
        ("Promise.resolve(1)", "Promise { fulfilled }"),
        (
            "{ get a() { throw 1 }, set b(x) {} }",
            "{ a: [Getter], b: [Setter] }",
        ),
        (
            "[\"it's\", 'say \"x\"', 'a\\nb']",
            "[ \"it's\", 'say \"x\"', 'a\\nb' ]",
        ),
        ("Symbol('x')", "Symbol(x)"),
        (
            "(() => { const a = {}; a.self = a; return a; })()",
            "{ self: [Circular] }",
        ),
        (
            "new Proxy({ a: 1 }, { ownKeys() { throw 1 } })",
            "<not to be shown: looking at it throws>",
        ),
    ] {
        assert_eq!(
            printed(javascript, &format!("console.log({arguments})")),
            format!("{expected}\n"),
            "{arguments}"
        );
    }
    let long = printed(javascript, "console.log(Array(200).fill('0123456789'))");
    assert!(long.contains("\n  ... 100 more items\n]"), "{long}");
    let error = printed(
        javascript,
        "console.error(new RangeError('told', { cause: 'because' }))",
    );
    assert!(
        error.starts_with("RangeError: told\n    at main (function.js:1:"),
        "{error}"
    );
    assert!(error.ends_with("\n  [cause]: 'because'\n"), "{error}");
    assert_eq!(error.matches("because").count(), 1, "{error}");
    let listed = printed(javascript, "console.log([new Error('inside')])");
    assert!(
        listed.starts_with("[\n  Error: inside\n      at main"),
        "{listed}"
    );
}

fn consoles_have_their_other_methods(javascript: &mut JavaScript) {
    let statements = "
      console.group('group'); console.log('in\\nside'); console.group(); console.warn('deeper');
      console.groupEnd(); console.groupEnd(); console.groupEnd(); console.log('outside');
      console.count(); console.count('x'); console.count(); console.countReset(); console.count();
      console.assert(true, 'no'); console.assert(false, 'yes %d', 1); console.assert();
      console.dir({ a: { b: { c: {} } } }, { depth: 0 });
      console.table([{ a: 1, b: 'x' }, { a: 2 }]); console.table(['p']); console.table(3);
      console.timeEnd('never');";
    assert_eq!(
        printed(javascript, statements),
        "group\n  in\n  side\n    deeper\noutside\n\
         default: 1\nx: 1\ndefault: 2\ndefault: 1\n\
         Assertion failed: yes 1\nAssertion failed\n\
         { a: [Object] }\n\
         (index) │ a │ b  \n─────── │ ─ │ ───\n0       │ 1 │ 'x'\n1       │ 2 │    \n\
         (index) │ Values\n─────── │ ──────\n0       │ 'p'   \n3\n\
         Warning: No such label 'never' for console.time()\n"
    );
    let timed = printed(
        javascript,
        "console.time(); console.timeLog(undefined, 'x'); console.timeEnd();",
    );
    let lines: Vec<&str> = timed.lines().collect();
    assert!(
        lines[0].starts_with("default: ") && lines[0].ends_with("ms x"),
        "{timed}"
    );
    assert!(
        lines[1].starts_with("default: ") && lines[1].ends_with("ms"),
        "{timed}"
    );
    let trace = printed(javascript, "console.trace('here')");
    assert!(
        trace.starts_with("Trace: here\n    at main (function.js:1:"),
        "{trace}"
    );
    assert!(!trace.contains("refunction>"), "{trace}");
}

fn texts_are_encoded_and_decoded(javascript: &mut JavaScript) {
    for (expression, expected) in [
        (
            "[...new TextEncoder().encode('ü☃')]",
            json!([195, 188, 226, 152, 131]),
        ),
        ("new TextEncoder().encode().length", json!(0)),
        (
            "[...new TextEncoder().encode('\\ud800')]",
            json!([239, 191, 189]),
        ),
        (
            "(() => { const a = new Uint8Array(4); return [new TextEncoder().encodeInto('aü☃', a), [...a]]; })()",
            json!([{"read": 2, "written": 3}, [97, 195, 188, 0]]),
        ),
        (
            "(() => { const a = new Uint8Array(5); return [new TextEncoder().encodeInto('a𝄞b', a), [...a]]; })()",
            json!([{"read": 3, "written": 5}, [97, 240, 157, 132, 158]]),
        ),
        (
            "new TextDecoder().decode(new TextEncoder().encode('ü☃𝄞'))",
            json!("ü☃𝄞"),
        ),
        (
            "new TextDecoder().decode(new Uint8Array([0xff, 65]).buffer)",
            json!("\u{fffd}A"),
        ),
        (
            "new TextDecoder().decode(new DataView(new Uint8Array([66, 65]).buffer, 1))",
            json!("A"),
        ),
        (
            "new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 65]))",
            json!("A"),
        ),
        (
            "new TextDecoder('utf-8', { ignoreBOM: true }).decode(new Uint8Array([0xef, 0xbb, 0xbf, 65]))",
            json!("\u{feff}A"),
        ),
        (
            "new TextDecoder('utf-16').decode(new Uint8Array([0x34, 0xd8, 0x1e, 0xdd]))",
            json!("𝄞"),
        ),
        (
            "[new TextDecoder('latin1').encoding, new TextDecoder('latin1').decode(new Uint8Array([0x80]))]",
            json!(["windows-1252", "€"]),
        ),
        (
            "(() => { const d = new TextDecoder(); let s = ''; for (const b of new TextEncoder().encode('a☃𝄞')) s += d.decode(new Uint8Array([b]), { stream: true }); return s + d.decode(); })()",
            json!("a☃𝄞"),
        ),
    ] {
        assert_eq!(value(javascript, expression), expected, "{expression}");
    }
    for (expression, error_type) in [
        (
            "new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([0xff]))",
            "TypeError",
        ),
        ("new TextDecoder('shift_jis')", "RangeError"),
        ("new TextDecoder().decode('text')", "TypeError"),
        ("new TextEncoder().encodeInto('x', [])", "TypeError"),
    ] {
        let error = raised(javascript, &format!("const main = () => {expression}"));
        assert_eq!(error.error_type, error_type, "{expression}: {error:?}");
    }
}

fn base64_is_the_webs(javascript: &mut JavaScript) {
    for (expression, expected) in [
        ("btoa('hello\\xff')", json!("aGVsbG//")),
        ("atob(' aGVs\\nbG//')", json!("hello\u{ff}")),
        (
            "[atob('YQ'), atob('YQ=='), atob('YWI='), atob('')]",
            json!(["a", "a", "ab", ""]),
        ),
        ("atob('YR==')", json!("a")),
    ] {
        assert_eq!(value(javascript, expression), expected, "{expression}");
    }
    for expression in [
        "atob('a')",
        "atob('a===')",
        "atob('%%%%')",
        "atob('YQ=')",
        "btoa('☃')",
        "btoa('\\ud800')",
    ] {
        let error = raised(javascript, &format!("const main = () => {expression}"));
        assert_eq!(error.error_type, "InvalidCharacterError", "{expression}");
    }
}

fn urls_are_parsed(javascript: &mut JavaScript) {
    let url = "new URL('../c?q=1#h', 'https://user:pw@exämple.org:8080/a/b/d')";
    let all = format!(
        "(() => {{ const u = {url}; return [u.href, u.origin, u.protocol, u.username, u.password, u.host, u.hostname, u.port, u.pathname, u.search, u.hash, String(u), JSON.stringify(u)]; }})()"
    );
    let href = "https://user:pw@xn--exmple-cua.org:8080/a/c?q=1#h";
    assert_eq!(
        value(javascript, &all),
        json!([
            href,
            "https://xn--exmple-cua.org:8080",
            "https:",
            "user",
            "pw",
            "xn--exmple-cua.org:8080",
            "xn--exmple-cua.org",
            "8080",
            "/a/c",
            "?q=1",
            "#h",
            href,
            format!("{href:?}")
        ])
    );
    assert_eq!(
        value(
            javascript,
            "[URL.canParse('x'), URL.canParse('x', 'http://a/b'), URL.parse('x'), URL.parse('a:b').href]"
        ),
        json!([false, true, null, "a:b"])
    );
    let error = raised(javascript, "const main = () => new URL('no url')");
    assert_eq!(
        (error.error_type.as_str(), error.message.as_str()),
        ("TypeError", "Invalid URL: no url")
    );
}

fn urls_are_changed(javascript: &mut JavaScript) {
    for (change, expected) in [
        ("u.protocol = 'http'", "http://a.b/c?d=e#f"),
        ("u.protocol = 'nonsense:'", "https://a.b/c?d=e#f"),
        ("u.host = 'x.y:81'", "https://x.y:81/c?d=e#f"),
        ("u.hostname = 'x.y'", "https://x.y/c?d=e#f"),
        ("u.port = 443", "https://a.b/c?d=e#f"),
        ("u.port = '44'", "https://a.b:44/c?d=e#f"),
        ("u.pathname = 'ü b'", "https://a.b/%C3%BC%20b?d=e#f"),
        ("u.search = ''", "https://a.b/c#f"),
        ("u.hash = 'new'", "https://a.b/c?d=e#new"),
        (
            "u.username = 'n'; u.password = 'p'",
            "https://n:p@a.b/c?d=e#f",
        ),
        ("u.href = 'ftp://other/'", "ftp://other/"),
        (
            "u.searchParams.append('g', 'h i')",
            "https://a.b/c?d=e&g=h+i#f",
        ),
        (
            "const p = u.searchParams; u.search = '?x=1'; p.set('x', p.get('x') + '2')",
            "https://a.b/c?x=12#f",
        ),
        ("u.searchParams.delete('d')", "https://a.b/c#f"),
    ] {
        let code = format!(
            "function main() {{ const u = new URL('https://a.b/c?d=e#f'); {change}; return u.href; }}"
        );
        assert_eq!(call(javascript, &code, "{}"), json!(expected), "{change}");
    }
    let error = raised(
        javascript,
        "const main = () => { new URL('a:b').href = 'no url'; }",
    );
    assert_eq!(error.error_type, "TypeError");
}

fn queries_are_lists(javascript: &mut JavaScript) {
    for (expression, expected) in [
        (
            "[...new URLSearchParams('?a=1&b=2&a=3')]",
            json!([["a", "1"], ["b", "2"], ["a", "3"]]),
        ),
        (
            "new URLSearchParams({ a: 1, b: 'x y&z' }).toString()",
            json!("a=1&b=x+y%26z"),
        ),
        (
            "new URLSearchParams([['a', 'b'], new Set(['c', 'd'])]).toString()",
            json!("a=b&c=d"),
        ),
        (
            "new URLSearchParams(new URLSearchParams('a=b')).toString()",
            json!("a=b"),
        ),
        (
            "(() => { const p = new URLSearchParams('a=1&b=2&a=3'); return [p.get('a'), p.getAll('a'), p.get('x'), p.has('a', '3'), p.has('a', '9'), p.size]; })()",
            json!(["1", ["1", "3"], null, true, false, 3]),
        ),
        (
            "(() => { const p = new URLSearchParams('a=1&b=2&a=3'); p.set('a', 'x'); p.set('n', 'y'); return `${p}`; })()",
            json!("a=x&b=2&n=y"),
        ),
        (
            "(() => { const p = new URLSearchParams('a=1&b=2&a=3'); p.delete('a', '1'); return `${p}`; })()",
            json!("b=2&a=3"),
        ),
        (
            "(() => { const p = new URLSearchParams('c=1&a=2&b=3&a=1'); p.sort(); return `${p}`; })()",
            json!("a=2&a=1&b=3&c=1"),
        ),
        (
            "(() => { const seen = []; new URLSearchParams('a=1&b=2').forEach((v, k) => seen.push(k + v)); return seen; })()",
            json!(["a1", "b2"]),
        ),
        (
            "[[...new URLSearchParams('a=1').keys()], [...new URLSearchParams('a=1').values()]]",
            json!([["a"], ["1"]]),
        ),
        (
            "new URLSearchParams('%C3%BC=+%2B').toString()",
            json!("%C3%BC=+%2B"),
        ),
    ] {
        assert_eq!(value(javascript, expression), expected, "{expression}");
    }
    let error = raised(
        javascript,
        "const main = () => new URLSearchParams([['a']])",
    );
    assert_eq!(error.error_type, "TypeError");
}

fn values_are_cloned(javascript: &mut JavaScript) {
    let code = "
function main() {
  const from = {
    list: [1, , 'x', null, undefined, 10n, NaN], date: new Date(5), regexp: /a/gi, nested: { deep: [{}] },
    map: new Map([[{ key: 1 }, new Set([1, 2])]]), bytes: new Uint16Array([1, 2]).subarray(1),
    view: new DataView(new ArrayBuffer(4), 1), buffer: new Uint8Array([7]).buffer,
    error: new RangeError('x', { cause: 'y' }), number: Object(1), truth: Object(true), big: Object(1n),
  };
  from.self = from;
  from.map.set('self', from.map);
  const to = structuredClone(from);
  const [[key, set]] = to.map;
  return {
    apart: to !== from && to.nested !== from.nested && to.list !== from.list && key !== [...from.map.keys()][0],
    same: to.self === to && to.map.get('self') === to.map,
    list: to.list.length === 7 && !(1 in to.list) && to.list[5] === 10n && Number.isNaN(to.list[6]),
    date: to.date instanceof Date && +to.date === 5,
    regexp: [to.regexp.source, to.regexp.flags],
    key: key.key, set: [...set],
    bytes: [to.bytes.constructor.name, ...to.bytes, to.bytes.buffer.byteLength],
    view: [to.view.byteOffset, to.view.byteLength], buffer: [...new Uint8Array(to.buffer)],
    error: [to.error instanceof RangeError, to.error.message, to.error.cause, to.error !== from.error],
    boxes: [typeof to.number, typeof to.truth, typeof to.big, to.big == 1n],
    names: Object.keys(to).length === Object.keys(from).length,
    classes: structuredClone(new (class Point { x = 1 })()).constructor === Object,
  };
}";
    assert_eq!(
        call(javascript, code, "{}"),
        json!({
            "apart": true, "same": true, "list": true, "date": true, "regexp": ["a", "gi"], "key": 1,
            "set": [1, 2], "bytes": ["Uint16Array", 2, 4], "view": [1, 3], "buffer": [7],
            "error": [true, "x", "y", true], "boxes": ["object", "object", "object", true],
            "names": true, "classes": true,
        })
    );
}

fn what_cannot_be_cloned_is_refused(javascript: &mut JavaScript) {
    for thing in [
        "() => 1",
        "Symbol('x')",
        "{ a: Promise.resolve(1) }",
        "new WeakMap()",
        "[main]",
    ] {
        let error = raised(
            javascript,
            &format!("function main() {{ structuredClone({thing}); }}"),
        );
        assert_eq!(error.error_type, "DataCloneError", "{thing}: {error:?}");
        assert!(error.message.contains("could not be cloned"), "{error:?}");
    }
}

fn random_bytes_are_the_kernels(javascript: &mut JavaScript) {
    let code = "
function main() {
  const a = crypto.getRandomValues(new Uint8Array(32));
  const b = crypto.getRandomValues(new Uint32Array(8).subarray(2, 6));
  const outside = [...new Uint32Array(b.buffer)].filter((it, at) => (at < 2 || at > 5) && it !== 0);
  return [a.some((it) => it !== 0), b.some((it) => it !== 0), outside.length,
          crypto.getRandomValues(new BigInt64Array(1)).length, crypto.randomUUID(), crypto.randomUUID()];
}";
    let drawn = call(javascript, code, "{}");
    assert_eq!(
        drawn.as_array().expect("a list")[..4],
        [json!(true), json!(true), json!(0), json!(1)]
    );
    for uuid in [&drawn[4], &drawn[5]] {
        let uuid = uuid.as_str().expect("text");
        let is_version_4 = uuid.len() == 36
            && uuid.as_bytes()[14] == b'4'
            && b"89ab".contains(&uuid.as_bytes()[19])
            && uuid.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
        assert!(is_version_4, "{uuid}");
    }
    assert_ne!(drawn[4], drawn[5]);
    for (expression, error_type) in [
        ("new Float64Array(1)", "TypeMismatchError"),
        ("[1]", "TypeMismatchError"),
        ("new Uint8Array(65537)", "QuotaExceededError"),
    ] {
        let code = format!("const main = () => crypto.getRandomValues({expression})");
        assert_eq!(raised(javascript, &code).error_type, error_type);
    }
}

fn clocks_run(javascript: &mut JavaScript) {
    let code = "
async function main() {
  const [wall, steady, high] = [Date.now(), performance.now(), process.hrtime.bigint()];
  const pair = process.hrtime();
  await new Promise((done) => setTimeout(done, 20));
  const since = process.hrtime(pair);
  return [Date.now() - wall, performance.now() - steady, Number(process.hrtime.bigint() - high) / 1e6,
          since[0] * 1e3 + since[1] / 1e6, Math.abs(performance.timeOrigin + performance.now() - Date.now()), wall];
}";
    let times = call(javascript, code, "{}");
    let times: Vec<f64> = serde_json::from_value(times).expect("numbers");
    for elapsed in &times[..4] {
        assert!((19.0..2_000.0).contains(elapsed), "{times:?}");
    }
    assert!(times[4] < 1_000.0, "{times:?}");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    assert!(
        (now.as_secs_f64() * 1e3 - times[5]).abs() < 60_000.0,
        "{times:?}"
    );
}

fn processes_look_like_one(javascript: &mut JavaScript) {
    let all = "[process.pid, process.platform, typeof process.env.PATH, process.argv.length, process.cwd(), process.uptime() >= 0, Object.prototype.toString.call(process), global === globalThis]";
    let directory = std::env::current_dir().expect("a directory");
    assert_eq!(
        value(javascript, all),
        json!([
            std::process::id(),
            "linux",
            "string",
            1,
            directory,
            true,
            "[object process]",
            true
        ])
    );
}

fn nothing_of_the_adapters_is_reachable(javascript: &mut JavaScript) {
    // Neither in a property of any object that can be reached from the global one, nor in
    // a stack that the function looks at by itself.
    let code = "
function main() {
  const seen = new Set();
  const found = [];
  const look = (thing, path) => {
    if ((typeof thing !== 'object' && typeof thing !== 'function') || thing === null || seen.has(thing)) return;
    seen.add(thing);
    for (const key of Reflect.ownKeys(thing)) {
      const name = String(key);
      if (/schedule|commonJs|entropy|natives|refunction|encodeUtf8|uncurry/.test(name)) found.push(path + '.' + name);
      const property = Reflect.getOwnPropertyDescriptor(thing, key);
      for (const part of ['value', 'get', 'set']) look(property[part], path + '.' + name);
    }
    look(Object.getPrototypeOf(thing), path + '.__proto__');
  };
  look(globalThis, 'globalThis');
  return [found, seen.size > 500];
}";
    assert_eq!(call(javascript, code, "{}"), json!([[], true]));
    let globals = "Object.keys(globalThis)";
    assert_eq!(value(javascript, globals), json!([]));
}

fn the_adapter_is_not_confused_by_what_a_function_breaks(javascript: &mut JavaScript) {
    let code = "
const bad = () => { throw 'patched'; };
const spaces = [JSON, Reflect, Math, console, process, crypto, globalThis];
for (const kind of [Object, Function, Array, String, Number, Boolean, Symbol, BigInt, Error, TypeError, Map, Set,
                    WeakMap, WeakSet, Promise, RegExp, Date, ArrayBuffer, Uint8Array, Object.getPrototypeOf(Uint8Array)]) {
  spaces.push(kind, kind.prototype);
}
Object.prototype.state = 5;
const targets = [];
for (const space of spaces) {
  for (const name of Reflect.ownKeys(space)) {
    if (!['prototype', 'constructor', '__proto__', 'globalThis', 'length', 'name', 'message', 'prepareStackTrace', 'stackTraceLimit'].includes(name)) targets.push([space, name]);
  }
}
let patched = 0;
const define = Reflect.defineProperty;
for (let at = 0; at < targets.length; at++) {
  if (define(targets[at][0], targets[at][1], { value: bad, writable: true, configurable: true })) patched++;
}
exports.main = async (args) => {
  await null;
  if (patched < 500) return patched;
  if (args.fail) null.mine;
  if (args.cycle) { const cycle = {}; cycle.self = cycle; return cycle; }
  return { args, list: [1, { a: null }] };
};";
    let value = call(javascript, code, r#"{"a":1}"#);
    assert_eq!(value, json!({"args": {"a": 1}, "list": [1, {"a": null}]}));
    let error = common::try_invoke(javascript, r#"{"fail":true}"#).expect_err("it raises");
    assert_eq!(
        (error.error_type.as_str(), error.message.as_str()),
        ("TypeError", "cannot read property 'mine' of null")
    );
    assert!(error.stack.contains("(function.js:"), "{}", error.stack);
    let error = common::try_invoke(javascript, r#"{"cycle":true}"#).expect_err("it raises");
    assert_eq!(
        error.message,
        "the result is not JSON: result[\"self\"] contains itself"
    );
    // Whatever a function makes of stacks, its errors are told.
    for patch in [
        "() => { throw 1; }",
        "() => 5",
        "() => ({ get length() { throw 1; } })",
        "() => undefined",
    ] {
        let error = raised(
            javascript,
            &format!(
                "Error.prepareStackTrace = {patch};\nfunction main() {{ throw new RangeError('told'); }}"
            ),
        );
        assert_eq!(
            (error.error_type.as_str(), error.message.as_str()),
            ("RangeError", "told"),
            "{patch}"
        );
    }
    // The next function finds its own builtins.
    assert_eq!(
        call(javascript, "const main = () => [1].map(String)", "{}"),
        json!(["1"])
    );
}
