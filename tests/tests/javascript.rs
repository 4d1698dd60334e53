//! Tenants whose functions are JavaScript: what one does to its realm the next does not
//! see, no two draw the same, and a thousand leave nothing behind.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use refunction_tests::growth::{Sizes, end_quietly, print_times};
use refunction_tests::peer::assert_failure;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};

const JAVASCRIPT: &[&str] = &["--runtime", "javascript"];

fn start(arguments: &[&str]) -> Supervisor {
    Supervisor::start(&[JAVASCRIPT, arguments].concat())
}

#[track_caller]
fn rewind(supervisor: &mut Supervisor) -> u64 {
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
    restored.report["total_us"].as_u64().expect("a duration")
}

/// What a tenant changes, and a look that shows it: an expression, which may await.
struct Case {
    name: &'static str,
    change: &'static str,
    look: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "a property of the global object",
        change: "globalThis.mark = 'mine'; var other = 1; globalThis.undefinedBefore = other;",
        look: "[typeof mark, typeof undefinedBefore, Object.getOwnPropertyNames(globalThis).length]",
    },
    Case {
        name: "the global object's prototype",
        change: "Object.setPrototypeOf(Object.getPrototypeOf(globalThis), null) || 0; Object.getPrototypeOf(globalThis).mark = 1;",
        look: "[typeof mark, String(Object.getPrototypeOf(globalThis))]",
    },
    Case {
        name: "a prototype of every builtin",
        change: "for (const name of Object.getOwnPropertyNames(globalThis)) {
            const thing = globalThis[name];
            if (typeof thing === 'function') { thing.mark = 1; if (thing.prototype) thing.prototype.mark = name; }
        }",
        look: "Object.getOwnPropertyNames(globalThis).map((name) => globalThis[name])
            .filter((it) => typeof it === 'function')
            .filter((it) => Object.hasOwn(it, 'mark') || (it.prototype && Object.hasOwn(it.prototype, 'mark'))).length",
    },
    Case {
        name: "prototypes without a name",
        change: "for (const it of [function* () {}, async () => {}, async function* () {}, [][Symbol.iterator](), new Map().entries(), ''.matchAll(/a/g), Object.getPrototypeOf(Int8Array)])
            for (let at = Object.getPrototypeOf(it); at; at = Object.getPrototypeOf(at)) at.mark = 1;",
        look: "[function* () {}, async () => {}, async function* () {}, [][Symbol.iterator](), new Map().entries(), ''.matchAll(/a/g), Object.getPrototypeOf(Int8Array)]
            .map((it) => it.mark ?? null)",
    },
    Case {
        name: "methods of builtins replaced",
        change: "Array.prototype.map = () => 'mine'; JSON.parse = () => 'mine'; Promise.prototype.then = function () { return 'mine'; };
            Function.prototype.call = () => 'mine'; String.prototype.concat = () => 'mine'; Math.max = () => 'mine';",
        look: "[typeof [].map((it) => it), JSON.parse('1'), `${1}`, Math.max(1, 2), (function () { return 2; }).call(), Promise.prototype.then.name]",
    },
    Case {
        name: "methods of the runtime's own replaced",
        change: "console.log = () => {}; globalThis.setTimeout = null; crypto.randomUUID = () => 'mine'; URL.prototype.toString = () => 'mine';
            TextEncoder.prototype.encode = () => 'mine'; performance.now = () => 'mine'; process.cwd = () => 'mine'; structuredClone.mark = 1;",
        look: "[console.log.length, typeof setTimeout, crypto.randomUUID().length, String(new URL('a:b')), new TextEncoder().encode('a')[0],
            typeof performance.now(), typeof process.cwd(), structuredClone.mark ?? null]",
    },
    Case {
        name: "builtins frozen",
        change: "for (const name of Object.getOwnPropertyNames(globalThis)) {
            const thing = globalThis[name];
            if (typeof thing === 'function' && thing.prototype) Object.freeze(thing.prototype);
        }
        Object.preventExtensions(globalThis);",
        look: "[Object.isFrozen(Array.prototype), Object.isFrozen(Object.prototype), Object.isExtensible(globalThis), Object.isFrozen(URL.prototype)]",
    },
    Case {
        name: "accessors on the prototype of all objects",
        change: "Object.defineProperty(Object.prototype, 'token', { get() { return 'read'; }, set(value) { globalThis.stolen = value; }, configurable: true });
            Object.defineProperty(Array.prototype, 5, { set() { globalThis.stolen = 1; }, configurable: true });",
        look: "(() => { const it = {}; it.token = 1; const list = []; list[5] = 2; return [it.token, list[5], typeof stolen]; })()",
    },
    Case {
        name: "the registry of symbols",
        change: "globalThis[Symbol.for('shared')] = 1; Symbol.for('shared').description; Array.prototype[Symbol.iterator] = function* () { yield 'mine'; };",
        look: "[globalThis[Symbol.for('shared')] ?? null, [...[1]][0]]",
    },
    Case {
        name: "well-known symbols as hooks",
        change: "Object.prototype[Symbol.toPrimitive] = () => 'mine'; Array[Symbol.species].mark = 1; Object.defineProperty(Map, Symbol.hasInstance, { value: () => true });",
        look: "[String({}), Array.mark ?? null, ({}) instanceof Map]",
    },
    Case {
        name: "how stacks are told",
        change: "Error.prepareStackTrace = () => 'mine'; Error.stackTraceLimit = 0; Error.prototype.toString = () => 'mine';",
        look: "[typeof Error.prepareStackTrace, Error.stackTraceLimit, String(new Error('x')), new Error('x').stack.includes('function.js')]",
    },
    Case {
        name: "static state of regular expressions",
        change: "globalThis.pattern = /a/g; pattern.lastIndex = 7; RegExp.prototype.exec = () => null; RegExp.prototype.flags;",
        look: "[/a/.test('a'), typeof pattern, 'aXbX'.replace(/X/g, '-')]",
    },
    Case {
        name: "the environment",
        change: "process.env.SECRET = 'mine'; delete process.env.PATH; process.env = { replaced: 1 }; process.argv.push('mine'); process.exitCode = 3;",
        look: "[process.env.SECRET ?? null, 'PATH' in process.env, process.argv.length, process.exitCode ?? null]",
    },
    Case {
        name: "modules that were loaded",
        change: "module.exports.mark = 1; require.mark = 1; globalThis.kept = [module, require, exports]; Object.getPrototypeOf(module).mark = 1;",
        look: "[typeof kept, module.mark ?? null, require.mark ?? null, Object.keys(module).length]",
    },
    Case {
        name: "labels of the console",
        change: "console.count('mine'); console.time('mine'); console.group('mine');",
        // What it prints is compared by the host.
        look: "(console.count('mine'), console.log('plain'), 0)",
    },
    Case {
        name: "weak references and what is told of their ends",
        change: "globalThis.target = { big: new Array(1000).fill(0) }; globalThis.weak = new WeakRef(target);
            globalThis.registry = new FinalizationRegistry(() => console.log('collected')); registry.register(target, 1); globalThis.target = null;",
        look: "[typeof weak, typeof registry]",
    },
    Case {
        name: "memory that is held",
        change: "globalThis.held = []; for (let n = 0; n < 200; n++) held.push(new Uint8Array(100_000).fill(n), 'x'.repeat(10_000) + n, { n, self: held });",
        look: "typeof held",
    },
    Case {
        name: "a heap in pieces, and a collection",
        change: "globalThis.pieces = new Map(); for (let n = 0; n < 100_000; n++) pieces.set('key' + n, { n }); for (let n = 0; n < 100_000; n += 2) pieces.delete('key' + n);
            let rings = 0; for (let n = 0; n < 300_000; n++) { const ring = { a: new Array(4) }; ring.ring = ring; rings++; }",
        look: "typeof pieces",
    },
    Case {
        name: "a deep stack",
        change: "const deep = (n) => n === 0 ? 0 : 1 + deep(n - 1); try { (function endless() { endless(); })(); } catch (error) { globalThis.depth = deep(500); }",
        look: "typeof depth",
    },
    Case {
        name: "functions made from text",
        change: "(0, eval)('var leaked = 1; function leakedFunction() {}'); new Function('globalThis.made = 1')();",
        look: "[typeof leaked, typeof leakedFunction, typeof made]",
    },
];

/// A function that changes something when it is told to, and looks.
fn function(case: &Case) -> String {
    format!(
        "exports.main = async (step) => {{\n  if (step === 'change') {{\n    {}\n    return 'changed';\n  }}\n  return await ({});\n}};",
        case.change, case.look
    )
}

/// What a look gives, and what it prints.
#[track_caller]
fn look(supervisor: &mut Supervisor) -> Value {
    let value = supervisor.call(&json!("look"));
    json!([value, lines(supervisor)])
}

fn lines(supervisor: &mut Supervisor) -> Vec<Value> {
    let logs = supervisor.take_logs();
    logs.into_iter().map(|log| log["line"].clone()).collect()
}

fn isolate(arguments: &[&str], method: &str) {
    let mut supervisor = start(arguments);
    let mut names = BTreeSet::new();
    for case in CASES {
        assert!(names.insert(case.name), "{} is there twice", case.name);
        let source = function(case);
        supervisor.load(&source);
        let before = look(&mut supervisor);
        assert_eq!(supervisor.restore().method, method, "{}", case.name);

        supervisor.load(&source);
        assert_eq!(
            supervisor.call(&json!("change")),
            "changed",
            "{}",
            case.name
        );
        supervisor.take_logs();
        // The function's own look, in the same realm: one that sees nothing proves nothing.
        let own = supervisor.answer(&json!("look"));
        let own = (own["type"] == "response").then(|| json!([own["data"], lines(&mut supervisor)]));
        assert_ne!(own.as_ref(), Some(&before), "{}: not seen", case.name);
        supervisor.take_logs();
        let restored = supervisor.restore();
        assert_eq!(
            restored.method, method,
            "{}: {}",
            case.name, restored.report
        );

        supervisor.load(&source);
        assert_eq!(look(&mut supervisor), before, "{}", case.name);
        assert_eq!(supervisor.restore().method, method, "{}", case.name);
    }
    assert_eq!(supervisor.errors(), "");
}

#[test]
fn what_a_tenant_does_to_its_realm_the_next_does_not_see() {
    isolate(&[], "rewind");
}

#[test]
fn what_a_tenant_does_to_its_realm_the_next_does_not_see_in_the_pagemap_file() {
    isolate(&["--scan", "file"], "rewind");
}

#[test]
fn what_a_tenant_does_to_its_realm_another_worker_does_not_see() {
    isolate(&["--method", "refork"], "refork");
}

#[test]
fn work_that_a_tenant_left_does_not_go_on() {
    let mut supervisor = start(&[]);
    let worker = supervisor.worker();
    for left in [
        "setInterval(() => console.log('left over'), 1)",
        "setTimeout(() => { throw new Error('left over'); }, 1)",
        "setImmediate(() => console.log('left over'))",
        "new Promise((done) => setTimeout(done, 1)).then(() => console.log('left over'))",
        "(async () => { while (true) { await new Promise((done) => setTimeout(done, 1)); console.log('left over'); } })()",
        "globalThis.kept = Promise.withResolvers(); kept.promise.then(() => console.log('left over'))",
        "setTimeout(() => Promise.reject(new Error('left over')), 1)",
    ] {
        supervisor.load(&format!("function main() {{ {left}; return 1; }}"));
        assert_eq!(supervisor.call(&Value::Null), 1, "{left}");
        rewind(&mut supervisor);
        // The next waits for longer than any of that would have taken.
        supervisor.load(
            "const main = () => new Promise((done) => setTimeout(done, 30, globalThis.kept ?? 'nothing'))",
        );
        assert_eq!(supervisor.call(&Value::Null), "nothing", "{left}");
        assert_eq!(supervisor.take_logs(), [] as [Value; 0], "{left}");
        rewind(&mut supervisor);
    }
    assert_eq!(supervisor.worker(), worker);
}

#[test]
fn a_tenant_that_leaves_while_it_waits_is_put_back() {
    let mut supervisor = start(&[]);
    supervisor.load(
        "const main = (wait) => wait ? new Promise((done) => setTimeout(done, 600_000)) : 'served'",
    );
    supervisor.send(&json!({"type": "request", "id": 1, "data": true, "deadline_ms": 200}));
    let answer = supervisor.expect("error");
    assert_failure(&answer["data"], "timeout", &["200 ms"]);
    assert_eq!(supervisor.call(&json!(false)), "served");
    rewind(&mut supervisor);
}

/// How often these bytes stand in a process's memory, wherever it can be read.
fn count_in_memory(pid: u32, wanted: &[u8]) -> usize {
    const PIECE: usize = 1 << 20;
    let memory = File::open(format!("/proc/{pid}/mem")).expect("its memory");
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("its mappings");
    let mut bytes = vec![0; PIECE + wanted.len()];
    let mut count = 0;
    for line in maps.lines() {
        let (range, _) = line.split_once(' ').expect("a range");
        let (from, to) = range.split_once('-').expect("two ends");
        let at = |text| u64::from_str_radix(text, 16).expect("an address");
        // Each piece reaches into the next by what could lie on the border.
        for from in (at(from)..at(to)).step_by(PIECE) {
            let length = usize::try_from(at(to) - from).unwrap_or(usize::MAX);
            let length = length.min(bytes.len());
            // The kernel's own areas cannot be read, nor can a tenant write there.
            let Ok(read) = memory.read_at(&mut bytes[..length], from) else {
                continue;
            };
            let found = bytes[..read].windows(wanted.len());
            count += found.filter(|it| *it == wanted).count();
        }
    }
    count
}

#[test]
fn no_byte_of_a_secret_stays_in_the_process() {
    let mut supervisor = start(&[]);
    let worker = supervisor.worker();
    // Neither a constant of this source nor of the function's.
    let secret = "const wide = ['\u{1f600}'];
        function main(seed) {
            const secret = seed.map((it) => String.fromCharCode(it ^ 0x55)).join('');
            globalThis.kept = [secret, secret.repeat(1000), new TextEncoder().encode(secret), { [secret]: Symbol(secret) },
                new Map([[secret, secret + wide[0]]]), new RegExp(secret), () => secret, BigInt('0x' + [...secret].map((it) => it.charCodeAt(0).toString(16)).join(''))];
            Array.prototype[secret] = secret; process.env.SECRET = secret; Symbol.for(secret); Error(secret).stack;
            for (let n = 0; n < 5000; n++) kept[0] = (secret + n).slice(0, -1);
            const deep = (left, local) => left === 0 ? local.length : deep(left - 1, local + left % 10);
            deep(500, secret);
            console.log(secret);
            setTimeout(() => secret, 100_000, secret);
            new Promise((done) => setTimeout(done, 100_000, secret)).then((it) => it + secret);
            return secret.length;
        }";
    let hidden: Vec<u8> = (0..32).map(|at| b'a' + (at * 7 + 3) % 26).collect();
    let seed: Vec<u8> = hidden.iter().map(|byte| byte ^ 0x55).collect();
    for _ in 0..3 {
        supervisor.load(secret);
        assert_eq!(supervisor.call(&json!(seed)), 32);
        assert!(
            count_in_memory(worker, &hidden) > 10,
            "it was hidden nowhere"
        );
        rewind(&mut supervisor);
        assert_eq!(count_in_memory(worker, &hidden), 0);
    }
    assert_eq!(supervisor.worker(), worker);
}

#[test]
fn the_images_own_files_are_found_and_preloaded() {
    let root = std::env::temp_dir().join(format!("refunction-javascript-{}", std::process::id()));
    fs::create_dir_all(root.join("node_modules/library")).expect("directories");
    for (name, text) in [
        (
            "app.mjs",
            "import { loads, draw } from 'library';\nexport const handler = (event) => [event, loads, draw()];",
        ),
        (
            "node_modules/library/index.js",
            "globalThis.loads = (globalThis.loads ?? 0) + 1;\nexports.loads = loads;\nexports.draw = () => Math.random();",
        ),
    ] {
        fs::write(root.join(name), text).expect("a file");
    }
    let arguments = [JAVASCRIPT, &["--preload", "library"]].concat();
    let mut supervisor = Supervisor::start_with(&arguments, |command| {
        command.env("FUNCTION_ROOT", &root);
    });
    let mut drawn = BTreeSet::new();
    for _ in 0..5 {
        let answer = supervisor.try_load(&json!({"code": "", "handler": "app.handler"}));
        assert_eq!(answer["data"], true, "{answer}");
        let value = supervisor.call(&json!(7));
        assert_eq!((&value[0], &value[1]), (&json!(7), &json!(1)));
        // The library took hold of the generator in the template.
        assert!(drawn.insert(value[2].to_string()), "{value} again");
        rewind(&mut supervisor);
    }
    fs::remove_dir_all(root).expect("removed");
}

/// How many restores no number may come twice in.
const DRAWS: usize = 1000;

#[test]
fn no_two_tenants_draw_the_same_in_a_thousand_rewinds() {
    let mut supervisor = start(&[]);
    let worker = supervisor.worker();
    let draw = "const atLoad = Math.random();
        const main = () => [atLoad, Math.random(), Math.random(), crypto.randomUUID(), String(crypto.getRandomValues(new Uint8Array(16)))]";
    let mut seen = BTreeSet::new();
    let mut youngest = f64::INFINITY;
    for round in 0..DRAWS {
        supervisor.load(draw);
        let drawn = supervisor.call(&Value::Null);
        let drawn = drawn.as_array().expect("a list");
        assert_eq!(drawn.len(), 5);
        for value in drawn {
            assert!(
                seen.insert(value.to_string()),
                "{value} again, in round {round}"
            );
        }
        youngest = youngest.min(drawn[0].as_f64().expect("a number"));
        rewind(&mut supervisor);
    }
    assert!(
        youngest < 0.1,
        "a thousand numbers, and the least is {youngest}"
    );
    assert_eq!(supervisor.worker(), worker);
}

#[test]
fn time_goes_on_across_rewinds() {
    let mut supervisor = start(&[]);
    let mut before = 0.0;
    for _ in 0..20 {
        supervisor
            .load("const main = () => [Date.now(), performance.now(), performance.timeOrigin]");
        let times: Vec<f64> =
            serde_json::from_value(supervisor.call(&Value::Null)).expect("numbers");
        assert!(times[0] >= before, "{times:?} after {before}");
        // Counted from when the function came, not from when the template did.
        assert!(
            times[1] < 5_000.0 && times[2] >= before - 1.0,
            "{times:?} after {before}"
        );
        before = times[0];
        rewind(&mut supervisor);
    }
}

#[test]
fn a_time_zone_of_a_functions_own_is_put_back() {
    let mut supervisor = start(&[]);
    let code = "const main = () => [new Date(0).getTimezoneOffset(), process.env.TZ ?? null]";
    supervisor.load(code);
    let before = supervisor.call(&Value::Null);
    rewind(&mut supervisor);
    for (zone, offset) in [("XYZ-5:30", -330), ("XYZ8", 480)] {
        let answer = supervisor.try_load(&json!({"code": code, "env": {"TZ": zone}}));
        assert_eq!(answer["data"], true, "{answer}");
        assert_eq!(supervisor.call(&Value::Null), json!([offset, zone]));
        rewind(&mut supervisor);
        supervisor.load(code);
        assert_eq!(supervisor.call(&Value::Null), before);
        rewind(&mut supervisor);
    }
}

struct Tenant {
    source: &'static str,
    /// What it answers to a number.
    answer: fn(u64) -> Value,
}

/// Says whether it found the mark that the one before it left.
const HEAD: &str = "
const found = [typeof globalThis.mark, 'MARK' in process.env, Array.prototype.mark ?? null];
if (String(found) !== 'undefined,false,') throw new Error('found ' + found);
globalThis.mark = process.env.MARK = Array.prototype.mark = 'left';
";

const TENANTS: &[Tenant] = &[
    Tenant {
        source: "exports.main = (n) => n + 1;",
        answer: |n| json!(n + 1),
    },
    Tenant {
        source: "let calls = 0; async function main(n) { await null; return [n, ++calls > 0]; }",
        answer: |n| json!([n, true]),
    },
    Tenant {
        source: "function main(n) {
            const data = {}; for (let key = 0; key < 1000; key++) data[key] = [key, String(key)];
            const text = JSON.stringify(data);
            return (text.match(/\\d+/g) ?? []).length + Object.keys(JSON.parse(text)).length + n;
        }",
        answer: |n| json!(4000 + n),
    },
    Tenant {
        source: "const main = (n) => new Promise((done) => { setInterval(() => {}, 1); setTimeout(() => done(n * 2), 1); });",
        answer: |n| json!(n * 2),
    },
    Tenant {
        source: "const kept = []; function main(n) {
            for (let at = 0; at < n % 50; at++) kept.push(new Uint8Array(200_000).fill(7), Array(500).fill({ at }));
            return [n % 50, new TextDecoder().decode(new TextEncoder().encode('größe ' + n))];
        }",
        answer: |n| json!([n % 50, format!("größe {n}")]),
    },
    Tenant {
        source: "class Shape { #n; constructor(n) { this.#n = n; } get area() { return this.#n ** 2; } }
            exports.handler = async (event, context) => ({ area: new Shape(event).area, id: context.awsRequestId });",
        answer: |n| json!({"area": n * n, "id": "the-call"}),
    },
    Tenant {
        source: "const main = (n) => {
            const url = new URL('../b?n=1', 'https://example.org/a/c'); url.searchParams.set('n', n);
            return structuredClone(new Map([['href', url.href]])).get('href');
        };",
        answer: |n| json!(format!("https://example.org/b?n={n}")),
    },
    Tenant {
        source: "function* fibonacci() { let [a, b] = [0n, 1n]; while (true) { yield a; [a, b] = [b, a + b]; } }
            function main(n) { let at = 0; for (const it of fibonacci()) if (at++ === 90) return [String(it), n]; }",
        answer: |n| json!(["2880067194370816120", n]),
    },
    Tenant {
        source: "const deep = (n) => n === 0 ? 0 : 1 + deep(n - 1);
            function main(n) {
                try { (function endless() { endless(); })(); } catch (error) { return [error.name, deep(n % 100)]; }
            }",
        answer: |n| json!(["RangeError", n % 100]),
    },
    Tenant {
        source: "for (const name of Object.getOwnPropertyNames(globalThis)) { const it = globalThis[name]; if (typeof it === 'function' && it.prototype) Object.freeze(it.prototype); }
            globalThis.weak = new WeakRef({}); new FinalizationRegistry(() => {}).register({}, 1); Promise.withResolvers();
            const main = (n) => { console.log('tenant', n); return [n, typeof weak.deref]; };",
        answer: |n| json!([n, "function"]),
    },
];

/// Lets a tenant come, be asked twice, and go; what the restore took, in microseconds.
fn stay(supervisor: &mut Supervisor, number: u64) -> u64 {
    let tenant = &TENANTS[number as usize % TENANTS.len()];
    supervisor.load(&format!("{HEAD}{}", tenant.source));
    for number in [number, number + 1] {
        supervisor.ask(&json!("the-call"), &json!(number));
        let answer = supervisor.expect("response");
        assert_eq!(answer["data"], (tenant.answer)(number), "{}", tenant.source);
    }
    supervisor.take_logs();
    rewind(supervisor)
}

/// What there is when nothing much was asked for a while.
fn measure(supervisor: &mut Supervisor) -> Sizes {
    for number in 0..20 {
        stay(supervisor, number * TENANTS.len() as u64);
    }
    Sizes::of(supervisor)
}

#[test]
fn a_thousand_rewinds_of_ten_functions_leave_no_trace() {
    let mut supervisor = start(&[]).unwatched();
    let worker = supervisor.worker();
    let mut times = Vec::new();
    let mut early = None;
    for number in 0..1000 {
        if number == 100 {
            early = Some(measure(&mut supervisor));
        }
        times.push(stay(&mut supervisor, number));
    }
    let late = measure(&mut supervisor);
    print_times("verified", &mut times);
    assert_eq!(supervisor.worker(), worker);
    let status = supervisor.status();
    assert_eq!(
        (&status["rewinds"], &status["reforks"]),
        (&json!(1040), &json!(0))
    );
    late.assert_no_more_than(&early.expect("measured"), 2 * 1024);
    end_quietly(supervisor);
}
