//! Tenants whose functions are Lua: what one does to its state the next does not see, no
//! two draw the same, and a thousand leave nothing behind.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use refunction_tests::growth::{Sizes, end_quietly, print_times};
use refunction_tests::peer::assert_failure;
use refunction_tests::supervisor::Supervisor;
use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const LUA: &[&str] = &["--runtime", "lua"];

fn start(arguments: &[&str]) -> Supervisor {
    Supervisor::start(&[LUA, arguments].concat())
}

#[track_caller]
fn rewind(supervisor: &mut Supervisor) -> u64 {
    let restored = supervisor.restore();
    assert_eq!(restored.method, "rewind", "{}", restored.report);
    restored.report["total_us"].as_u64().expect("a duration")
}

/// What a tenant changes, and a look that shows it: an expression.
struct Case {
    name: &'static str,
    change: &'static str,
    look: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "globals",
        change: "mark = 'mine' print = nil _G[1] = true",
        look: "{ type(mark), type(print), #_G }",
    },
    Case {
        name: "the metatable of globals",
        change: "setmetatable(_G, { __index = function(_, name) return name end, __newindex = function() end })",
        look: "{ tostring(undefined), getmetatable(_G) == nil }",
    },
    Case {
        name: "the environment of the text loaded last",
        change: "local inner = load('leaked = 1') inner()",
        look: "type(leaked)",
    },
    Case {
        name: "functions of libraries",
        change: "string.rep = function() return 'mine' end table.concat = nil math.pi = 3 os.time = function() return 0 end utf8.mark = 1",
        look: "{ ('x'):rep(2), type(table.concat), math.pi > 3, os.time() > 0, type(utf8.mark) }",
    },
    Case {
        name: "the metatable of strings",
        change: "getmetatable('').__add = function(a, b) return a .. b end getmetatable('').__index = function(_, name) return name end",
        look: "{ type(getmetatable('').__add), type(('x').mark) }",
    },
    Case {
        name: "metatables of types that have none",
        change: "for _, it in ipairs({ 1, true, print, coroutine.create(print) }) do debug.setmetatable(it, { __index = { mark = 1 } }) end debug.setmetatable(nil, { __index = { mark = 1 } })",
        look: "{ debug.getmetatable(1) == nil, debug.getmetatable(true) == nil, debug.getmetatable(print) == nil, debug.getmetatable(nil) == nil, debug.getmetatable(coroutine.create(print)) == nil }",
    },
    Case {
        name: "the metatable of files",
        change: "getmetatable(io.stdout).__index.mark = 1 getmetatable(io.stdout).__gc = nil",
        look: "{ type(io.stdout.mark), type(getmetatable(io.stdout).__gc) }",
    },
    Case {
        name: "package.loaded",
        change: "package.loaded.string = { mark = 1 } package.loaded.mine = { mark = 1 }",
        look: "{ type(require('string').mark), (pcall(require, 'mine')) }",
    },
    Case {
        name: "package.preload, path and searchers",
        change: "package.preload.mine = function() return 'mine' end package.path = '/tmp/?.lua' package.searchers[4] = function() return function() return 'mine' end end",
        look: "{ (pcall(require, 'mine')), package.path:sub(1, 5) == '/tmp/', #package.searchers }",
    },
    Case {
        name: "the registry",
        change: "debug.getregistry().mark = 'mine' debug.getregistry()[12345] = {}",
        look: "{ type(debug.getregistry().mark), type(debug.getregistry()[12345]) }",
    },
    Case {
        name: "a hook",
        change: "hooked = 0 debug.sethook(function() hooked = (hooked or 0) + 1 end, 'crl', 1)",
        look: "{ type(debug.gethook()), type(hooked) }",
    },
    Case {
        name: "upvalues and the adapter's own functions",
        change: "local at = 1 while true do local name, value = debug.getupvalue(json.encode, at) if not name then break end if type(value) == 'table' then value.mark = 1 else debug.setupvalue(json.encode, at, print) end at = at + 1 end json.decode = print",
        look: "(function() local _, it = debug.getupvalue(json.encode, 1) return { type(it), type(it.mark), type(json.decode('[1]')) } end)()",
    },
    Case {
        name: "coroutines left suspended",
        change: "left = {} for n = 1, 200 do left[n] = coroutine.wrap(function(...) local kept = ('x'):rep(1000) .. n coroutine.yield(kept) end) left[n]() end",
        look: "{ type(left), coroutine.isyieldable() }",
    },
    Case {
        name: "a coroutine within its own call of C",
        change: "left = coroutine.create(function() table.sort({ 3, 2, 1 }, function(a, b) pcall(coroutine.yield) return a < b end) end) coroutine.resume(left) coroutine.wrap(function() pcall(coroutine.yield) end)()",
        look: "type(left)",
    },
    Case {
        name: "settings of the collector",
        change: "collectgarbage('generational') collectgarbage('incremental', 999, 50, 20) collectgarbage('stop')",
        look: "{ collectgarbage('isrunning'), collectgarbage('incremental') }",
    },
    Case {
        name: "finalizers and weak tables",
        change: "kept = setmetatable({}, { __gc = function() print('collected') end }) weak = setmetatable({ kept }, { __mode = 'v' }) for n = 1, 1000 do setmetatable({}, { __gc = function() print = print end }) end",
        look: "{ type(kept), type(weak) }",
    },
    Case {
        name: "a heap in pieces",
        change: "pieces = {} for n = 1, 200000 do pieces['key' .. n] = { n } end for n = 1, 200000, 2 do pieces['key' .. n] = nil end collectgarbage()",
        look: "type(pieces)",
    },
    Case {
        name: "a deep stack",
        change: "local function deep(n) return n == 0 and 0 or 1 + deep(n - 1) end depth = deep(100000) pcall(function() local function endless() return 1 + endless() end endless() end)",
        look: "type(depth)",
    },
    Case {
        name: "the locale",
        change: "os.setlocale('C.UTF-8')",
        look: "os.setlocale()",
    },
    Case {
        name: "where input and output go",
        change: "io.output('/tmp/mine') io.write('mine') io.input('/dev/zero') io.stdout:setvbuf('full') io.stdout:write('left in the buffer')",
        look: "{ io.output() == io.stdout, io.input() == io.stdin }",
    },
    Case {
        name: "a program that is still running",
        change: "program = io.popen('exec sleep 1000', 'w')",
        look: "type(program)",
    },
    Case {
        name: "the seed of the generator",
        change: "math.randomseed(1) drawn = math.random(0)",
        look: "{ type(drawn), math.random(0) == 5272463233947570727 }",
    },
    Case {
        name: "the sentinel and the lists of JSON",
        change: "getmetatable(json.array()).__index = function() return 'mine' end debug.setmetatable(json.null, { __index = { mark = 1 } }) json.null = 'mine' json.array = nil",
        look: "{ type(json.null), type(json.array), type((json.array and json.array() or {}).mark) }",
    },
];

/// A function that changes something when it is told to, and looks.
fn function(case: &Case) -> String {
    format!(
        "function main(step)\n  if step == 'change' then\n    {}\n    return 'changed'\n  end\n  return {}\nend",
        case.change, case.look
    )
}

fn isolate(arguments: &[&str], method: &str) {
    let mut supervisor = start(arguments);
    let mut names = BTreeSet::new();
    for case in CASES {
        assert!(names.insert(case.name), "{} is there twice", case.name);
        let source = function(case);
        supervisor.load(&source);
        let before = supervisor.call(&json!("look"));
        assert_eq!(supervisor.restore().method, method, "{}", case.name);

        supervisor.load(&source);
        // What it changed may keep it from telling so.
        supervisor.answer(&json!("change"));
        // The function's own look: one that sees nothing proves nothing.
        let own = supervisor.answer(&json!("look"));
        assert!(
            own["type"] != "response" || own["data"] != before,
            "{}: not seen in {own}",
            case.name
        );
        let restored = supervisor.restore();
        assert_eq!(
            restored.method, method,
            "{}: {}",
            case.name, restored.report
        );
        supervisor.take_logs();

        supervisor.load(&source);
        assert_eq!(supervisor.call(&json!("look")), before, "{}", case.name);
        assert_eq!(supervisor.take_logs(), [] as [Value; 0], "{}", case.name);
        assert_eq!(supervisor.restore().method, method, "{}", case.name);
    }
    assert_eq!(supervisor.errors(), "");
}

#[test]
fn what_a_tenant_does_to_its_state_the_next_does_not_see() {
    isolate(&[], "rewind");
}

#[test]
fn what_a_tenant_does_to_its_state_the_next_does_not_see_in_the_pagemap_file() {
    isolate(&["--scan", "file"], "rewind");
}

#[test]
fn what_a_tenant_does_to_its_state_another_worker_does_not_see() {
    isolate(&["--method", "refork"], "refork");
}

/// How many restores no number may come twice in.
const DRAWS: usize = 1000;

#[test]
fn no_two_tenants_draw_the_same_in_a_thousand_rewinds() {
    let mut supervisor = start(&[]);
    let worker = supervisor.worker();
    let draw = "local at_load = math.random(0)
        function main() return { at_load, math.random(0), math.random(0), math.random() } end";
    let mut seen = BTreeSet::new();
    let mut least = f64::INFINITY;
    for round in 0..DRAWS {
        supervisor.load(draw);
        let drawn = supervisor.call(&Value::Null);
        let drawn = drawn.as_array().expect("a list");
        assert_eq!(drawn.len(), 4);
        for value in drawn {
            assert!(
                seen.insert(value.to_string()),
                "{value} again, in round {round}"
            );
        }
        least = least.min(drawn[3].as_f64().expect("a number"));
        rewind(&mut supervisor);
    }
    assert!(least < 0.1, "a thousand numbers, and the least is {least}");
    assert_eq!(supervisor.worker(), worker);
}

#[test]
fn a_tenant_that_asks_for_a_seed_gets_the_same_numbers_each_time() {
    let mut supervisor = start(&[]);
    let mut drawn = BTreeSet::new();
    for _ in 0..3 {
        supervisor.load("math.randomseed(42) function main() return math.random(0) end");
        drawn.insert(supervisor.call(&Value::Null).to_string());
        rewind(&mut supervisor);
    }
    assert_eq!(drawn.len(), 1, "{drawn:?}");
}

#[test]
fn programs_find_the_variables_of_their_function() {
    let mut supervisor = start(&[]);
    let code = "function main() return { os.getenv('MARK') or 'none', io.popen('echo ${MARK-none}'):read('l') } end";
    for (env, expected) in [
        (json!({"MARK": "grün"}), "grün"),
        (json!({}), "none"),
        (json!({"MARK": ""}), ""),
    ] {
        let answer = supervisor.try_load(&json!({"code": code, "env": env}));
        assert_eq!(answer["data"], true, "{answer}");
        assert_eq!(supervisor.call(&Value::Null), json!([expected, expected]));
        rewind(&mut supervisor);
    }
}

#[test]
fn what_is_written_arrives_before_the_answer() {
    let mut supervisor = start(&[]);
    let code = "function main(how)
            if how ~= 'as it is' then io.stdout:setvbuf(how) end
            io.write('without an end of line')
            if how == 'full' then error('and then it failed') end
        end";
    for how in ["as it is", "full", "line", "no"] {
        // Each with a stream of its own: what was unbuffered once does not buffer again.
        supervisor.load(code);
        supervisor.ask(&json!("it"), &json!(how));
        supervisor.expect(if how == "full" { "error" } else { "response" });
        let logs = supervisor.take_logs();
        let lines: Vec<_> = logs.iter().map(|log| (&log["id"], &log["line"])).collect();
        assert_eq!(
            lines,
            [(&json!("it"), &json!("without an end of line"))],
            "{how}"
        );
        rewind(&mut supervisor);
    }
    // A line is there before the call is over, if it ever is.
    supervisor.load("function main() io.write('begun\\n') while true do end end");
    supervisor.send(&json!({"type": "request", "id": 1, "data": null, "deadline_ms": 300}));
    supervisor.expect("error");
    let logs = supervisor.take_logs();
    assert_eq!(logs.len(), 1, "{logs:?}");
    assert_eq!(logs[0]["line"], "begun");
}

/// Counts what a tenant held wherever this process's memory can be read. Written so that
/// this text, in memory itself, is not what it finds.
const SEARCH: &str = "
local PIECE <const> = 256 * 1024
function main(secret)
  if secret then
    kept = { secret, coroutine.create(function(it) local upper = it .. '!' coroutine.yield(upper) end) }
    coroutine.resume(kept[2], secret)
    print(#secret)
  end
  local copies, searched = 0, 0
  local memory = io.open('/proc/self/mem', 'rb')
  memory:setvbuf('no')
  for line in io.lines('/proc/self/maps') do
    local from, to = line:match('^(%x+)-(%x+) r')
    if from and not line:find('[v', 1, true) then
      local at, stop = tonumber(from, 16), tonumber(to, 16)
      while at < stop and memory:seek('set', at) do
        -- And what begins in this piece and ends in the next.
        local piece = memory:read(math.min(PIECE + 40, stop - at))
        if not piece then break end
        for _ in piece:gmatch('s[e]cret%-of%-a%-tenant%-%d%d%d%d') do copies = copies + 1 end
        at, searched = at + PIECE, searched + #piece
      end
    end
  end
  return { copies, searched }
end";

#[test]
fn nothing_that_a_tenant_held_is_in_the_memory_that_the_next_can_read() {
    let mut supervisor = start(&[]);
    for round in 0..5 {
        supervisor.load(SEARCH);
        let secret = format!("secret-of-a-tenant-{}", 1000 + round);
        let own = supervisor.call(&json!(secret));
        assert!(own[0].as_u64() > Some(2), "it does not find its own: {own}");
        rewind(&mut supervisor);
        supervisor.load(SEARCH);
        let found = supervisor.call(&Value::Null);
        assert_eq!(found[0], 0, "{found}");
        assert!(found[1].as_u64() > Some(1024 * 1024), "{found}");
        rewind(&mut supervisor);
    }
}

#[test]
fn the_image_has_modules_and_functions() {
    let root = std::env::temp_dir().join(format!("refunction-lua-{}", std::process::id()));
    fs::create_dir_all(root.join("lib")).expect("a directory");
    for (name, text) in [
        (
            "app.lua",
            "local it = require('lib') return { run = function(event) return { event, it.n, it.counted() } end }",
        ),
        (
            "lib/init.lua",
            "loads = (loads or 0) + 1 local count = 0 return { n = loads, counted = function() count = count + 1 return count end }",
        ),
    ] {
        fs::write(root.join(name), text).expect("written");
    }
    let mut supervisor =
        Supervisor::start_with(&[LUA, &["--preload", "lib"]].concat(), |command| {
            command.env("FUNCTION_ROOT", &root);
        });
    let function = json!({"code": "", "handler": "app.run"});
    let answers: Vec<_> = (0..2)
        .map(|_| {
            let loaded = supervisor.try_load(&function)["data"].clone();
            let called = supervisor.call(&json!(1));
            json!([loaded, called, supervisor.restore().method])
        })
        .collect();
    let absent = supervisor.try_load(&json!({"code": "", "handler": "gone.run"}));
    fs::remove_dir_all(&root).expect("removed");
    // Loaded once, in the template, and each tenant's as it was there.
    assert_eq!(answers, vec![json!([true, [1, 1, 1], "rewind"]); 2]);
    assert_failure(&absent["error"], "exception", &["no module 'gone'"]);
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
fn an_archives_modules_are_found_and_named() {
    let mut supervisor = start(&[]);
    let code = archive(&[
        (
            "src/app.lua",
            "local parts = require('src.parts')\nlocal module = {}\nfunction module.run(event) return parts.take(event) end\nreturn module",
        ),
        (
            "src/parts/init.lua",
            "local file = ...\nreturn { take = function(event)\n  if event then return { file, event } end\n  require(file .. '.gone')\nend }",
        ),
        ("broken.lua", "return (\n"),
        ("asking.lua", "require('broken')"),
    ]);
    for (field, name) in [
        ("handler", "src.app.run"),
        ("handler", "src/app.run"),
        ("main", "src.app.run"),
    ] {
        let answer = supervisor.try_load(&json!({"code": code, "binary": true, field: name}));
        assert_eq!(answer["data"], true, "{answer}");
        assert_eq!(supervisor.call(&json!(1)), json!(["src.parts", 1]));
        let failure = supervisor.fail(&Value::Null);
        let missing = "no file 'src/parts/gone.lua' or 'src/parts/gone/init.lua' in the archive";
        assert_failure(
            &failure,
            "exception",
            &[
                "src/parts/init.lua:4: module 'src.parts.gone' not found",
                missing,
            ],
        );
        rewind(&mut supervisor);
    }
    for (field, name, words) in [
        (
            "handler",
            "src.gone.run",
            &[
                "src/gone.lua or src/gone/init.lua",
                "broken.lua, src/app.lua",
            ][..],
        ),
        (
            "handler",
            "src.app.walk",
            &["the function has no 'walk': it has run"],
        ),
        ("handler", "broken.run", &["broken.lua:2:"]),
        (
            "handler",
            "asking.run",
            &["error loading module 'broken'", "broken.lua:2:"],
        ),
        (
            "main",
            "main",
            &["the archive has no main.lua or main/init.lua"],
        ),
    ] {
        let answer = supervisor.try_load(&json!({"code": code, "binary": true, field: name}));
        assert_failure(&answer["error"], "exception", words);
        rewind(&mut supervisor);
    }
}

#[test]
fn a_template_that_cannot_load_a_library_says_which() {
    let mut supervisor = Supervisor::spawn(
        &[LUA, &["--preload", "string,no.such.library"]].concat(),
        |_| {},
    );
    assert_ne!(supervisor.wait(), 0);
    let said = supervisor.errors();
    assert!(said.contains("importing no.such.library"), "{said}");
}

struct Tenant {
    source: &'static str,
    /// What it answers to a number.
    answer: fn(u64) -> Value,
}

/// Says whether it found the mark that the one before it left.
const HEAD: &str = "
local found = type(mark) .. type(string.mark) .. type(package.loaded.mark) .. type(debug.getregistry().mark)
if found ~= 'nilnilnilnil' then error('found ' .. found) end
mark, string.mark, package.loaded.mark, debug.getregistry().mark = 'left', 'left', 'left', 'left'
";

const TENANTS: &[Tenant] = &[
    Tenant {
        source: "function main(n) return n + 1 end",
        answer: |n| json!(n + 1),
    },
    Tenant {
        source: "local calls = 0 return { main = function(n) calls = calls + 1 return { n, calls > 0 } end }",
        answer: |n| json!([n, true]),
    },
    Tenant {
        source: "function main(n)
            local data = {} for key = 1, 1000 do data['k' .. key] = { key, tostring(key) } end
            local count = 0 for _ in pairs(json.decode(json.encode(data))) do count = count + 1 end
            return count + n
        end",
        answer: |n| json!(1000 + n),
    },
    Tenant {
        source: "local left = {} function main(n)
            for at = 1, 50 do left[at] = coroutine.wrap(function() coroutine.yield(at) end) left[at]() end
            return n * 2
        end",
        answer: |n| json!(n * 2),
    },
    Tenant {
        source: "kept = {} function main(n)
            for at = 1, n % 50 do kept[#kept + 1] = ('x'):rep(200000) .. at end
            return { n % 50, ('größe %d'):format(n) }
        end",
        answer: |n| json!([n % 50, format!("größe {n}")]),
    },
    Tenant {
        source: "local Shape = {} Shape.__index = Shape function Shape:area() return self.n * self.n end
            function handler(event, context) return { area = setmetatable({ n = event }, Shape):area(), id = context.aws_request_id } end",
        answer: |n| json!({"area": n * n, "id": "the-call"}),
    },
    Tenant {
        source: "function main(n) local file = io.popen('echo ' .. n) local line = file:read('n') file:close() return line end",
        answer: |n| json!(n),
    },
    Tenant {
        source: "function main(n) debug.sethook(function() end, 'crl', 3) local sum = 0 for word in ('a b c'):gmatch('%a') do sum = sum + word:byte() end return { sum, n } end",
        answer: |n| json!([294, n]),
    },
    Tenant {
        source: "local function deep(n) return n == 0 and 0 or 1 + deep(n - 1) end
            function main(n)
                local depth = deep(20000 + n)
                return { pcall(error, { depth, n }) }
            end",
        answer: |n| json!([false, [20_000 + n, n]]),
    },
    Tenant {
        source: "collectgarbage('generational') getmetatable('').__index = function(_, name) return string[name] end math.randomseed(1)
            setmetatable(_G, { __gc = function() print('collected') end })
            function main(n) io.write('tenant ', n) return { n, (('x'):rep(3)) } end",
        answer: |n| json!([n, "xxx"]),
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
