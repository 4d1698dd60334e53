//! Node.js in a supervisor: a runtime with threads, which is put back where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use refunction_tests::eventually;
use refunction_tests::peer::assert_failure;
use refunction_tests::process::{self, Handle};
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn start(arguments: &[&str]) -> Supervisor {
    Supervisor::start(&[&["--runtime", "node"], arguments].concat())
}

#[track_caller]
fn rewind(supervisor: &mut Supervisor) {
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
}

/// A function, an argument of its, and what it answers then.
type Program = (&'static str, fn(u64) -> Value, fn(u64) -> Value);

/// Ten functions that use what Node.js has, and leave some of it running.
const PROGRAMS: &[Program] = &[
    ("function main(n) { globalThis.n = (globalThis.n ?? 0) + n; return globalThis.n; }",
        |n| json!(n), |n| json!(n)),
    ("exports.main = async (n) => { await new Promise((go) => setTimeout(go, 2)); return 2 * n; };",
        |n| json!(n), |n| json!(2 * n)),
    ("const fs = require('node:fs/promises');
      exports.main = async (text) => {
        await fs.writeFile('/tmp/left', text); return await fs.readFile('/tmp/left', 'utf8');
      };",
        |n| json!(format!("file {n}")), |n| json!(format!("file {n}"))),
    ("import { createServer } from 'node:http';
      export async function main(n) {
        const server = createServer((request, response) => response.end(request.url));
        await new Promise((go) => server.listen(0, '127.0.0.1', go));
        const answer = await fetch(`http://127.0.0.1:${server.address().port}/${n}`);
        return await answer.text();
      }",
        |n| json!(n), |n| json!(format!("/{n}"))),
    ("const { pbkdf2Sync, pbkdf2 } = require('node:crypto');
      exports.handler = (event, context, callback) =>
        pbkdf2(String(event), 'salt', 100, 16, 'sha256', (error, key) => callback(error,
          key.equals(pbkdf2Sync(String(event), 'salt', 100, 16, 'sha256'))));",
        |n| json!(n), |_| json!(true)),
    ("exports.main = (n) => { setInterval(() => console.log('late'), 1); return JSON.parse(`[${n}]`); };",
        |n| json!(n), |n| json!([n])),
    ("exports.main = (n) => {
        globalThis.kept = Array.from({ length: 30000 }, (_, at) => ({ at, n }));
        return kept.filter((it) => it.at % 3 === 0).length + n;
      };",
        |n| json!(n), |n| json!(10_000 + n)),
    ("const { execFileSync, spawn } = require('node:child_process');
      exports.main = (n) => {
        spawn('sleep', ['60'], { detached: true, stdio: 'ignore' }).unref();
        return execFileSync('echo', [String(n)]).toString();
      };",
        |n| json!(n), |n| json!(format!("{n}\n"))),
    ("const { Worker } = require('node:worker_threads');
      exports.main = (n) => new Promise((go, fail) => {
        const worker = new Worker(`const { parentPort } = require('node:worker_threads');
          parentPort.on('message', (n) => parentPort.postMessage(n + 1));`, { eval: true });
        worker.on('message', go); worker.on('error', fail); worker.postMessage(n);
      });",
        |n| json!(n), |n| json!(n + 1)),
    ("process.on('SIGUSR2', () => {}); process.umask(0o77); process.chdir('/tmp'); process.title = 'mine';
      Array.prototype.map = () => 'mine'; Object.prototype.polluted = 1; JSON.parse = () => 'mine';
      exports.main = (n) => { process.kill(process.pid, 'SIGUSR2'); return [n].map(String); };",
        |n| json!(n), |_| json!("mine")),
];

#[test]
fn a_thousand_rewinds_of_ten_functions() {
    const REWINDS: u64 = 1000;
    let mut supervisor = start(&["--rotate-after", "0", "--rotate-memory-mib", "0"]);
    let mut refused: BTreeMap<String, u32> = BTreeMap::new();
    let mut resident = Vec::new();
    for number in 0..REWINDS {
        let which = (number as usize) % PROGRAMS.len();
        let (source, argument, answer) = PROGRAMS[which];
        supervisor.load(source);
        assert_eq!(
            supervisor.call(&argument(number)),
            answer(number),
            "round {number}: {source}"
        );
        let restored = supervisor.restore();
        if restored.method != "rewind" {
            *refused
                .entry(format!("{which}: {}", restored.report["taints"]))
                .or_default() += 1;
        }
        if number % 100 == 99 {
            resident.push(process_memory(supervisor.worker()));
        }
    }
    let replaced: u32 = refused.values().sum();
    assert!(u64::from(replaced) * 100 < REWINDS, "{refused:?}");
    // What was dirtied once stays the worker's own for a while, and no longer.
    let (early, late) = (resident[1], resident[resident.len() - 1]);
    assert!(late < early + early / 4, "it grows: {resident:?} KiB");
    assert_eq!(supervisor.errors(), "");
    supervisor.close();
    supervisor.wait();
    supervisor.assert_nothing_left();
}

/// Its own memory, in KiB.
fn process_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .expect("RssAnon");
    line.split_whitespace()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .expect("a number")
}

/// What one tenant does, and what the next one looks at.
const LEAKS: &[(&str, &str, &str)] = &[
    (
        "a global variable",
        "globalThis.secret = 'secret'",
        "typeof secret",
    ),
    (
        "a property of all objects",
        "Object.prototype.secret = 'secret'",
        "typeof {}.secret",
    ),
    (
        "a method of all arrays",
        "Array.prototype.map = () => 'secret'",
        "[1].map((it) => it + 1)",
    ),
    (
        "a builtin module",
        "require('fs').readFileSync = () => 'secret'",
        "require('fs').readFileSync('/proc/self/comm', 'utf8')",
    ),
    (
        "JSON",
        "JSON.stringify = () => '\"secret\"'",
        "JSON.stringify({ a: 1 })",
    ),
    ("the console", "console.log = () => {}", "console.log.name"),
    (
        "a module in the cache",
        "require.cache['/secret.js'] = { exports: 'secret' }",
        "Object.keys(require.cache).length",
    ),
    (
        "how modules are found",
        "require('module')._resolveFilename = () => 'secret'",
        "require.resolve('fs')",
    ),
    (
        "the environment",
        "process.env.SECRET = 'secret'",
        "process.env.SECRET ?? null",
    ),
    (
        "listeners",
        "process.on('exit', () => {}); process.on('SIGUSR2', () => {})",
        "[process.listenerCount('exit'), process.listenerCount('SIGUSR2')]",
    ),
    ("the title", "process.title = 'secret'", "process.title"),
    (
        "the exit code",
        "process.exitCode = 7",
        "process.exitCode ?? null",
    ),
    ("the umask", "process.umask(0o77)", "process.umask()"),
    (
        "the working directory",
        "process.chdir('/tmp')",
        "process.cwd()",
    ),
    (
        "priority",
        "require('os').setPriority(7)",
        "require('os').getPriority()",
    ),
    (
        "a registered symbol",
        "Symbol.for('secret').description; globalThis[Symbol.for('secret')] = 1",
        "Object.getOwnPropertySymbols(globalThis).length",
    ),
    (
        "a timer",
        "setInterval(() => { globalThis.secret = 1 }, 1)",
        "process.getActiveResourcesInfo().filter((it) => it === 'Timeout')",
    ),
    (
        "a promise",
        "Promise.prototype.then = () => 'secret'",
        "Promise.resolve(1).then.name",
    ),
    (
        "a server",
        "require('net').createServer().listen('\\0secret')",
        "process.getActiveResourcesInfo().filter((it) => it.includes('Server'))",
    ),
    (
        "a thread",
        "new (require('worker_threads').Worker)('setInterval(() => {}, 1)', { eval: true })",
        "require('fs').readdirSync('/proc/self/task').length",
    ),
    (
        "a child",
        "require('child_process').spawn('sleep', ['60'])",
        "require('fs').readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')",
    ),
    (
        "a descriptor",
        "require('fs').openSync('/etc/passwd')",
        "require('fs').readdirSync('/proc/self/fd').length",
    ),
    (
        "what stands in standard output",
        "process.stdout.cork(); process.stdout.write('secret')",
        "[process.stdout.writableLength, process.stdout.writableCorked]",
    ),
    (
        "options of V8",
        "require('v8').setFlagsFromString('--stack-size=300')",
        "(function deep(n) { try { return deep(n + 1); } catch { return n > 6000; } })(0)",
    ),
    (
        "a default of crypto",
        "require('crypto').DEFAULT_ENCODING = 'hex'",
        "require('crypto').createHash('md5').update('').digest().length",
    ),
    (
        "a file",
        "require('fs').writeFileSync('/tmp/secret', 'secret')",
        "require('fs').existsSync('/tmp/secret')",
    ),
    (
        "buffers that are shared",
        "for (let n = 0; n < 99; n++) Buffer.from(['pass', 'word'].join('').repeat(99))",
        "Buffer.allocUnsafe(4096).includes(['pass', 'word'].join(''))",
    ),
    (
        "what is asynchronous",
        "const { AsyncLocalStorage: S } = require('async_hooks'); globalThis.s = new S(); s.enterWith('secret')",
        "require('async_hooks').executionAsyncResource()?.constructor?.name",
    ),
    (
        "limits of stacks",
        "Error.stackTraceLimit = 0",
        "Error.stackTraceLimit",
    ),
    (
        "how stacks look",
        "Error.prepareStackTrace = () => 'secret'",
        "typeof new Error().stack + new Error().stack.includes('secret')",
    ),
];

#[test]
fn one_tenant_leaves_nothing_of_the_language_to_the_next() {
    let look = |expression: &str| format!("exports.main = () => ({expression});");
    for (what, leave, expression) in LEAKS {
        let mut supervisor = start(&[]);
        supervisor.load(&look(expression));
        let before = supervisor.call(&Value::Null);
        rewind(&mut supervisor);
        supervisor.load(&format!(
            "exports.main = () => {{ {leave}; return 'done'; }};"
        ));
        assert_eq!(supervisor.call(&Value::Null), "done", "{what}");
        let restored = supervisor.restore();
        if *what != "priority" {
            assert_eq!(restored.method, "rewind", "{what}: {}", restored.report);
        }
        supervisor.load(&look(expression));
        assert_eq!(supervisor.call(&Value::Null), before, "{what}");
    }
}

const DRAW: &str = "
const crypto = require('node:crypto'), vm = require('node:vm'), fs = require('node:fs');
const { Worker } = require('node:worker_threads');
const key = (type, options) => crypto.generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }).d;
exports.main = async (isLong) => {
  const drawn = {
    random: [Math.random(), Math.random()],
    context: vm.runInNewContext('[Math.random(), Math.random()]'),
    another: new vm.Script('[Math.random(), Math.random()]').runInContext(vm.createContext()),
    bytes: crypto.randomBytes(16).toString('hex'),
    later: (await new Promise((go) => crypto.randomBytes(16, (_, it) => go(it)))).toString('hex'),
    uuid: crypto.randomUUID(),
    web: [...globalThis.crypto.getRandomValues(new Uint32Array(4))],
    integer: [1, 2, 3, 4].map(() => crypto.randomInt(2 ** 47)),
    curve: key('ec', { namedCurve: 'P-256' }),
    other: key('ed25519'),
    directory: fs.mkdtempSync('/tmp/x-'),
  };
  if (isLong) {
    drawn.rsa = key('rsa', { modulusLength: 512 });
    const worker = () => new Promise((go) => new Worker(`
      require('node:worker_threads').parentPort.postMessage(
        [Math.random(), require('node:crypto').randomBytes(16).toString('hex')])`,
      { eval: true }).on('message', go));
    [[drawn.worker, drawn.workerBytes], [drawn.second, drawn.secondBytes]] =
      await Promise.all([worker(), worker()]);
  }
  return drawn;
};";

#[test]
fn no_two_tenants_draw_the_same_in_a_thousand_rewinds() {
    let mut seen = BTreeSet::new();
    let mut supervisor = start(&[]);
    for round in 0..1000 {
        supervisor.load(DRAW);
        let drawn = supervisor.call(&json!(round % 20 == 0));
        for (source, value) in drawn.as_object().expect("an object") {
            assert!(
                seen.insert(value.to_string()),
                "{source} gave {value} again, in round {round}"
            );
        }
        rewind(&mut supervisor);
    }
}

#[test]
fn a_timer_does_not_see_the_past() {
    let mut supervisor = start(&[]);
    for _ in 0..3 {
        // Time passes that a loop that does not look at the clock would think is to come.
        std::thread::sleep(Duration::from_millis(200));
        supervisor.load(
            "exports.main = (ms) => { const at = Date.now(), mark = performance.now();
             return new Promise((go) => setTimeout(() => go([Date.now() - at, performance.now() - mark]), ms)); };",
        );
        std::thread::sleep(Duration::from_millis(200));
        let waited = supervisor.call(&json!(100));
        for clock in [&waited[0], &waited[1]] {
            assert!(clock.as_f64().is_some_and(|ms| ms >= 99.0), "{waited}");
        }
        rewind(&mut supervisor);
    }
}

#[test]
fn every_thread_is_as_unprivileged_as_it_should_be() {
    let mut supervisor = start(&[]);
    let (worker, uid) = (supervisor.worker(), supervisor.uid);
    let tasks: Vec<_> = fs::read_dir(format!("/proc/{worker}/task"))
        .expect("tasks")
        .collect();
    assert!(tasks.len() > 4, "{tasks:?}");
    for task in tasks {
        let path = task.expect("a task").path().join("status");
        let status = fs::read_to_string(path).expect("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|it| it.strip_prefix(name));
            line.unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let ids = [uid; 4].map(|id| id.to_string()).join(" ");
        assert_eq!(
            [field("Uid:"), field("Gid:"), field("Groups:")],
            [ids.clone(), ids, String::new()]
        );
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!(
            [field("NoNewPrivs:"), field("Seccomp:"), field("Umask:")],
            ["1", "2", "0022"]
        );
    }
    // Nor is it in what a function can see of its surroundings.
    supervisor.load("exports.main = () => Object.keys(process.env).filter((it) => /OPENSSL|REFUNCTION_/.test(it))");
    assert_eq!(supervisor.call(&Value::Null), json!([]));
}

/// Workers of this supervisor beside the one that serves.
fn spares(supervisor: &mut Supervisor) -> Vec<u32> {
    let worker = supervisor.worker();
    let uid = supervisor.uid.to_string();
    process::descendants(supervisor.pid())
        .into_iter()
        .filter(|pid| *pid != worker && process::parent(*pid) == Some(supervisor.pid()))
        .filter(|pid| process::status(*pid, "Uid").is_some_and(|ids| ids.starts_with(&uid)))
        .collect()
}

#[test]
fn a_spare_takes_over_at_once_and_has_a_successor() {
    let mut supervisor = start(&[]);
    supervisor.load(
        "exports.main = (n) => { if (n < 0) process.kill(process.pid, 'SIGKILL'); return n; }",
    );
    for round in 0..5 {
        eventually("a spare stands by", || spares(&mut supervisor).len() == 1);
        let spare = spares(&mut supervisor)[0];
        assert_failure(&supervisor.fail(&json!(-1)), "crashed", &["SIGKILL"]);
        assert_eq!(supervisor.worker(), spare, "round {round}");
        assert_eq!(supervisor.call(&json!(round)), round);
    }
}

#[test]
fn a_restore_waits_for_a_spare_that_still_boots() {
    let mut supervisor = start(&[]);
    for round in 0..5 {
        supervisor.load("exports.main = () => process.kill(process.pid, 'SIGKILL')");
        assert_failure(&supervisor.fail(&json!(round)), "crashed", &["SIGKILL"]);
        let restored = supervisor.restore();
        assert!(["rewind", "refork"].contains(&restored.method.as_str()));
    }
    supervisor.load("exports.main = (n) => n");
    assert_eq!(supervisor.call(&json!(1)), 1);
}

#[test]
fn a_spare_that_is_killed_or_meddled_with_is_replaced() {
    let mut supervisor = start(&[]);
    supervisor.load("exports.main = (n) => { if (n < 0) process.abort(); return n; }");
    eventually("a spare stands by", || spares(&mut supervisor).len() == 1);
    let first = spares(&mut supervisor)[0];
    Handle::open(first)
        .expect("a spare")
        .signal(Signal::SIGKILL);
    eventually("another spare stands by", || {
        let spares = spares(&mut supervisor);
        spares.len() == 1 && spares[0] != first
    });
    // What it is sent while it stands still is not there when it goes on.
    let second = spares(&mut supervisor)[0];
    for signal in [
        Signal::SIGUSR1,
        Signal::SIGTERM,
        Signal::SIGSTOP,
        Signal::SIGHUP,
    ] {
        Handle::open(second).expect("a spare").signal(signal);
    }
    assert_failure(&supervisor.fail(&json!(-1)), "crashed", &["SIGABRT"]);
    assert_eq!(supervisor.call(&json!(1)), 1);
    // A limit that somebody lowered cannot be had back: that one never serves.
    eventually("another spare stands by", || {
        spares(&mut supervisor).len() == 1
    });
    let meddled = spares(&mut supervisor)[0];
    let status = std::process::Command::new("renice")
        .args(["5", "-p", &meddled.to_string()])
        .output();
    assert!(status.expect("renice").status.success());
    assert_failure(&supervisor.fail(&json!(-1)), "crashed", &["SIGABRT"]);
    assert_eq!(supervisor.call(&json!(2)), 2);
    assert_ne!(supervisor.worker(), meddled);
}

#[test]
fn a_tenant_does_not_reach_the_spare() {
    let mut supervisor = start(&[]);
    eventually("a spare stands by", || spares(&mut supervisor).len() == 1);
    let spare = spares(&mut supervisor)[0];
    supervisor.load(
        "const { openSync, readFileSync, readlinkSync, readSync } = require('fs');
         const numbers = Array.from({ length: 20 }, (_, number) => number);
         exports.main = (pid) => {
           const ways = {
             memory: () => readSync(openSync(`/proc/${pid}/mem`, 'r'), Buffer.alloc(1), 0, 1, 4096),
             mappings: () => readFileSync(`/proc/${pid}/maps`),
             environment: () => readFileSync(`/proc/${pid}/environ`),
             signals: () => process.kill(pid, 'SIGUSR1'),
           };
           for (const number of numbers) {
             ways[`descriptor ${number}`] = () => openSync(`/proc/${pid}/fd/${number}`, 'r');
             ways[`link ${number}`] = () => readlinkSync(`/proc/${pid}/fd/${number}`);
           }
           return Object.keys(ways).filter((name) => {
             try { ways[name](); return true; } catch (error) { return !/EACCES|EPERM/.test(error.code); }
           });
         };",
    );
    assert_eq!(supervisor.call(&json!(spare)), json!([]));
}

fn archive(files: &[(&str, &str)]) -> String {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .and_then(|()| Ok(writer.write_all(text.as_bytes())?))
            .expect("written");
    }
    STANDARD.encode(writer.finish().expect("written").into_inner())
}

#[test]
fn archives_bring_their_packages() {
    let package = [
        (
            "node_modules/greeting/package.json",
            r#"{"name": "greeting", "main": "lib/index.js"}"#,
        ),
        (
            "node_modules/greeting/lib/index.js",
            "exports.greet = (name) => `hello ${name}`;",
        ),
    ];
    let cases: &[(&[(&str, &str)], Value)] = &[
        (
            &[(
                "index.js",
                "const { greet } = require('greeting'); exports.main = greet;",
            )],
            json!({}),
        ),
        (
            &[(
                "app.mjs",
                "import greeting from 'greeting'; export const run = async (it) => greeting.greet(it);",
            )],
            json!({"handler": "app.run"}),
        ),
        (
            &[
                (
                    "package.json",
                    r#"{"type": "module", "main": "src/app.js"}"#,
                ),
                (
                    "src/app.js",
                    "import { greet } from 'greeting'; export function main(it) { return greet(it); }",
                ),
            ],
            json!({}),
        ),
        (
            &[(
                "src/app.js",
                "exports.run = (it) => require('greeting').greet(it);",
            )],
            json!({"main": "src/app.run"}),
        ),
    ];
    let mut supervisor = start(&[]);
    for (files, entry) in cases {
        let mut function = entry.clone();
        function["code"] = archive(&[*files, &package].concat()).into();
        function["binary"] = true.into();
        let answer = supervisor.try_load(&function);
        assert_eq!(answer["data"], true, "{files:?}: {answer}");
        assert_eq!(supervisor.call(&json!("you")), "hello you");
        rewind(&mut supervisor);
    }
    assert!(process::files_of_user(supervisor.uid).is_empty());
}

#[test]
fn an_archive_stays_in_its_directory() {
    let mut supervisor = start(&[]);
    for name in [
        "../outside.js",
        "/tmp/outside.js",
        "a/../../outside.js",
        "a\\..\\outside.js",
    ] {
        let code = archive(&[("index.js", "exports.main = () => 1"), (name, "1")]);
        let answer = supervisor.try_load(&json!({"code": code, "binary": true}));
        assert_failure(&answer["error"], "exception", &["outside"]);
        assert!(!fs::exists("/tmp/outside.js").expect("tmp"));
    }
}

#[test]
fn a_function_of_the_image_is_called_by_its_name() {
    let root = std::env::temp_dir().join(format!("refunction-node-{}", std::process::id()));
    fs::create_dir(&root).expect("a directory");
    fs::write(
        root.join("app.js"),
        "exports.run = (event) => [event, __filename];",
    )
    .expect("written");
    let mut supervisor = Supervisor::start_with(&["--runtime", "node"], |command| {
        command.env("FUNCTION_ROOT", &root);
    });
    let answer = supervisor.try_load(&json!({"code": "", "handler": "app.run"}));
    let called = supervisor.call(&json!(1));
    fs::remove_dir_all(&root).expect("removed");
    assert_eq!(answer["data"], true, "{answer}");
    assert_eq!(called, json!([1, root.join("app.js")]));
}

#[test]
fn a_package_is_loaded_before_any_function() {
    let root = std::env::temp_dir().join(format!("refunction-packages-{}", std::process::id()));
    let packages = [
        ("common", "index.js", "exports.user = process.getuid();"),
        (
            "modern",
            "index.mjs",
            "export const user = process.getuid();",
        ),
    ];
    for (name, file, text) in packages {
        let package = root.join("node_modules").join(name);
        fs::create_dir_all(&package).expect("a directory");
        let description = json!({"name": name, "main": file}).to_string();
        fs::write(package.join("package.json"), description).expect("written");
        fs::write(package.join(file), text).expect("written");
    }
    let arguments = ["--runtime", "node", "--preload", "common,modern"];
    let mut supervisor = Supervisor::start_with(&arguments, |command| {
        command.env("FUNCTION_ROOT", &root);
    });
    // While it boots a runtime is the supervisor's user, and no tenant's code runs.
    for _ in 0..2 {
        supervisor.load(
            "exports.main = async () =>
               [require('common').user, (await import('modern')).user, process.getuid()];",
        );
        let users = supervisor.call(&Value::Null);
        assert_eq!(users, json!([0, 0, supervisor.uid]));
        rewind(&mut supervisor);
    }
    fs::remove_dir_all(&root).expect("removed");
}

#[test]
fn whatever_is_thrown_fails_the_call_with_the_tenants_lines() {
    let mut supervisor = start(&[]);
    for (source, error_type, words) in [
        (
            "exports.main = () => { throw new TypeError('sync'); }",
            "TypeError",
            "sync",
        ),
        (
            "exports.main = async () => { throw new RangeError('async'); }",
            "RangeError",
            "async",
        ),
        (
            "exports.handler = (event, context, callback) => callback(new SyntaxError('back'))",
            "SyntaxError",
            "back",
        ),
        (
            "exports.handler = (e, c, done) => setTimeout(() => { throw new Error('uncaught'); }, 1)",
            "Error",
            "uncaught",
        ),
        (
            "exports.main = () => new Promise(() => Promise.reject(new EvalError('unhandled')))",
            "EvalError",
            "unhandled",
        ),
        ("exports.main = () => { throw 'text'; }", "Error", "text"),
        (
            "exports.main = () => { throw undefined; }",
            "Error",
            "undefined",
        ),
        (
            "exports.main = () => { throw { get message() { throw 1; } }; }",
            "Error",
            "described",
        ),
        (
            "exports.main = () => { throw new Error('node:fs at node:fs'); }",
            "Error",
            "node:fs at node:fs",
        ),
        (
            "exports.main = () => new Promise(() => {})",
            "Unsettled",
            "never end",
        ),
    ] {
        supervisor.load(source);
        let failure = supervisor.fail(&Value::Null);
        assert_failure(&failure, "exception", &[words]);
        assert_eq!(failure["error_type"], error_type, "{failure}");
        if let Some(stack) = failure["stack"].as_str() {
            assert!(stack.contains("function.js:1:"), "{stack}");
            assert!(stack.contains(words), "{stack}");
            assert!(
                !stack.contains("[eval]") && !stack.contains("node:internal"),
                "{stack}"
            );
        }
        rewind(&mut supervisor);
    }
}

#[test]
fn causes_are_told_too() {
    let mut supervisor = start(&[]);
    supervisor.load(
        "exports.main = async (how) => {
           if (how === 'any') await Promise.any([Promise.reject(new TypeError('one')), Promise.reject('two')]);
           const inner = new RangeError('inner', { cause: 'itself' });
           if (how === 'circle') inner.cause = inner;
           throw new Error('outer', { cause: inner });
         };",
    );
    for (how, words) in [
        (
            "cause",
            &["[cause]: RangeError: inner", "[cause]: 'itself'"][..],
        ),
        ("circle", &["[cause]: RangeError: inner"]),
        ("any", &["[error]: TypeError: one", "[error]: 'two'"]),
    ] {
        let failure = supervisor.fail(&json!(how));
        let stack = failure["stack"].as_str().expect("a stack");
        for word in words {
            assert!(stack.contains(word), "{how}: {stack}");
        }
    }
}

#[test]
fn what_cannot_be_compiled_is_told_of_its_own_lines() {
    let mut supervisor = start(&[]);
    for (source, words) in [
        ("function main( {", "Unexpected end of input"),
        ("exports.main = () => `open", "end of input"),
        (
            "const a = 1;\nconst a = 2;\nexports.main = () => a;",
            "'a' has already been declared",
        ),
    ] {
        let answer = supervisor.try_load(&json!(source));
        assert_eq!(answer["data"], false, "{answer}");
        let error = &answer["error"];
        assert_failure(error, "exception", &[words]);
        let stack = error["stack"].as_str().expect("a stack");
        assert!(stack.contains("function.js:"), "{stack}");
        assert!(!stack.contains("declared = {"), "{stack}");
    }
}

#[test]
fn what_json_would_make_nothing_of_is_refused() {
    let mut supervisor = start(&[]);
    supervisor.load("exports.main = (what) => eval(what)");
    for (what, named) in [
        ("() => 1", "a function"),
        ("Symbol('x')", "a symbol"),
        ("new Map([[1, 2]])", "a Map"),
        ("new Set([1])", "a Set"),
    ] {
        let failure = supervisor.fail(&json!(what));
        assert_failure(&failure, "exception", &["not JSON", named]);
    }
    let told = "Object.assign(new Map(), { toJSON() { return 'told' } })";
    assert_eq!(supervisor.call(&json!(told)), "told");
    assert_eq!(supervisor.call(&json!("undefined")), Value::Null);
    rewind(&mut supervisor);
}

#[test]
fn web_assembly_is_put_back() {
    let mut supervisor = start(&[]);
    for round in 0..5 {
        supervisor.load(
            "const sum = Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0,
               7, 7, 1, 3, 115, 117, 109, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11]);
             exports.main = async (n) => (await WebAssembly.instantiate(sum)).instance.exports.sum(n, 1);",
        );
        assert_eq!(supervisor.call(&json!(round)), round + 1);
        rewind(&mut supervisor);
    }
}

#[test]
fn what_ends_the_process_is_a_crash_that_names_it() {
    let mut supervisor = start(&[]);
    supervisor.load("exports.main = (how) => eval(how)");
    assert_failure(
        &supervisor.fail(&json!("process.exit(3)")),
        "crashed",
        &["status 3"],
    );
    assert_failure(
        &supervisor.fail(&json!("process.abort()")),
        "crashed",
        &["SIGABRT"],
    );
    assert_eq!(supervisor.call(&json!("1 + 1")), 2);
}

#[test]
fn a_runtime_that_cannot_boot_says_why() {
    let fails = |arguments: &[&str], path: Option<&str>| {
        let mut supervisor =
            Supervisor::spawn(&[&["--runtime", "node"], arguments].concat(), |command| {
                if let Some(path) = path {
                    command.env("PATH", path);
                }
            });
        assert_eq!(supervisor.wait(), 1);
        eventually("the message is read", || {
            supervisor.errors().ends_with('\n')
        });
        supervisor.errors()
    };
    let errors = fails(&["--preload", "no-such-package"], None);
    assert!(errors.contains("no-such-package"), "{errors}");
    let errors = fails(&[], Some("/nowhere"));
    assert!(errors.contains("starting node"), "{errors}");
}

#[test]
fn what_a_runtime_prints_when_it_boots_is_no_tenants_and_holds_nobody_up() {
    let script = std::env::temp_dir().join(format!("refunction-loud-{}.js", std::process::id()));
    // More than a pipe holds, and no end of a line.
    std::fs::write(
        &script,
        "console.log('x'.repeat(1 << 20)); process.stdout.write('y')",
    )
    .expect("written");
    let mut supervisor = Supervisor::start_with(&["--runtime", "node"], |command| {
        command.env("NODE_OPTIONS", format!("--require {}", script.display()));
    });
    supervisor.load("exports.main = () => console.log('z')");
    supervisor.call(&Value::Null);
    let logs = supervisor.take_logs();
    std::fs::remove_file(&script).expect("removed");
    assert_eq!(logs.len(), 1, "{logs:?}");
    assert_eq!(logs[0]["line"], "z");
}

#[test]
fn another_process_takes_over_after_so_many_restores() {
    let mut supervisor = start(&["--rotate-after", "3"]);
    let mut workers = BTreeSet::new();
    let mut methods = Vec::new();
    for _ in 0..9 {
        eventually("a spare stands by", || spares(&mut supervisor).len() == 1);
        workers.insert(supervisor.worker());
        supervisor.load("exports.main = () => 1");
        supervisor.call(&Value::Null);
        methods.push(supervisor.restore().method);
    }
    assert_eq!(workers.len(), 3, "{methods:?}");
    assert_eq!(
        methods.iter().filter(|it| *it == "refork").count(),
        2,
        "{methods:?}"
    );
}
