//! Functions in this process: how they are loaded, called, and what comes back. What a
//! restore does to them is tried end to end, in tests/tests/lua.rs.

use refunction_adapter::{Adapter, Exception, Invocation};
use refunction_lua::Lua;
use refunction_protocol::Function;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A runtime as a template has it at its ready point.
fn booted() -> Lua {
    let mut lua = Lua::new();
    lua.boot().expect("boot");
    lua.preload(&[]).expect("preload");
    lua.settle().expect("settle");
    lua
}

fn invoke(lua: &mut Lua, data: &str) -> Result<Value, Exception> {
    lua.invoke(&Invocation {
        id: "request-1".into(),
        deadline_unix_ms: None,
        data: RawValue::from_string(data.into()).expect("test data is JSON"),
        ..Invocation::default()
    })
    .map(|value| serde_json::from_str(value.get()).expect("results are JSON"))
}

#[track_caller]
fn load(lua: &mut Lua, function: &Function) {
    if let Err(error) = lua.load(function) {
        panic!("{error:#?}");
    }
}

/// Loads and calls with `{"n":21}`; both must succeed.
#[track_caller]
fn call(lua: &mut Lua, code: &str) -> Value {
    load(lua, &Function::from_source(code));
    invoke(lua, r#"{"n":21}"#).unwrap_or_else(|error| panic!("{error:#?}"))
}

/// Loads and calls; the call must raise.
#[track_caller]
fn raised(lua: &mut Lua, code: &str) -> Exception {
    load(lua, &Function::from_source(code));
    invoke(lua, "{}").expect_err("the call must raise")
}

#[track_caller]
fn refused(lua: &mut Lua, function: &Function) -> Exception {
    lua.load(function).expect_err("it must not be loaded")
}

#[test]
fn nothing_works_before_boot() {
    let mut lua = Lua::new();
    assert!(lua.preload(&[]).is_err());
    assert!(lua.settle().is_err());
    assert!(lua.after_restore().is_err());
    assert_eq!(lua.runtime().version, "");
    assert!(invoke(&mut lua, "{}").is_err());
    let mut lua = booted();
    assert_eq!(lua.runtime().version, "5.4");
    let error = invoke(&mut lua, "{}").expect_err("nothing is loaded");
    assert_eq!(error.error_type, "NotLoaded");
}

#[test]
fn entries_of_every_form() {
    let mut lua = booted();
    for code in [
        "function main(args) return args.n end",
        "return function(args) return args.n end",
        "return { main = function(args) return args.n end, other = 1 }",
        "return { handler = function(event, context) return event.n + #context.aws_request_id - 9 end }",
        "function handler(event, context) return event.n + #context.aws_request_id - 9 end",
        // A global of the libraries' is none of the function's.
        "main = select('#', ...) == 0 and function(args) return args.n end",
    ] {
        assert_eq!(call(&mut lua, code), 21, "{code}");
    }
    let code = "function run(args, context) return { args, type(context) } end";
    let named = |main: Option<&str>, handler: Option<&str>| Function {
        main: main.map(str::to_owned),
        handler: handler.map(str::to_owned),
        ..Function::from_source(code)
    };
    load(&mut lua, &named(Some("run"), None));
    assert_eq!(invoke(&mut lua, "1"), Ok(json!([1, "nil"])));
    load(&mut lua, &named(None, Some("app.run")));
    assert_eq!(invoke(&mut lua, "1"), Ok(json!([1, "table"])));
    for (function, message) in [
        (named(None, None), "the function has no 'main': it has run"),
        (
            named(Some("walk"), None),
            "the function has no 'walk': it has run",
        ),
        (
            Function::from_source("local function main() end"),
            "the function has no 'main': it has no functions but local ones",
        ),
        (
            Function::from_source("return { b = print, a = print, c = 1 }"),
            "the function has no 'main': it has a, b",
        ),
        (
            Function::from_source("main = 1"),
            "the entry 'main' is no function: it is of type number",
        ),
        (
            named(None, Some("run")),
            "the handler \"run\" is not of the form module.function",
        ),
        (Function::from_source(" \n"), "there is no code to load"),
    ] {
        let error = refused(&mut lua, &function);
        assert_eq!(
            (error.error_type.as_str(), error.message.as_str()),
            ("EntryNotFound", message)
        );
    }
}

#[test]
fn only_the_tenants_frames_are_shown() {
    let mut lua = booted();
    let error = raised(
        &mut lua,
        "local function inner()\n  error('deep')\nend\nfunction main()\n  inner()\n  return 1\nend",
    );
    assert_eq!(
        error.stack,
        "function.lua:2: deep\nstack traceback:\n\t[C]: in function 'error'\n\tfunction.lua:2: in upvalue 'inner'\n\tfunction.lua:5: in function 'main'"
    );
    assert_eq!(error.message, "function.lua:2: deep");
    // Through the adapter's own functions, and from the loading.
    let error = raised(
        &mut lua,
        "function main()\n  local it = json.decode('{')\n  return it\nend",
    );
    assert!(
        error.message.starts_with("function.lua:2: EOF"),
        "{error:?}"
    );
    assert!(!error.stack.contains("refunction"), "{}", error.stack);
    let at_load = Function::from_source("local x = nil\nx.y = 1");
    let error = refused(&mut lua, &at_load);
    assert_eq!(
        error.stack,
        "function.lua:2: attempt to index a nil value (local 'x')\nstack traceback:\n\tfunction.lua:2: in main chunk"
    );
    let error = refused(
        &mut lua,
        &Function::from_source("function main(\n  return\nend"),
    );
    assert_eq!(error.error_type, "SyntaxError");
    assert!(error.message.starts_with("function.lua:2:"), "{error:?}");
}

#[test]
fn whatever_is_thrown_is_told() {
    let mut lua = booted();
    for (thrown, error_type, message) in [
        ("nil", "nil", "nil"),
        ("42", "number", "42"),
        ("{ message = 'said', code = 1 }", "table", "said"),
        (
            "setmetatable({}, { __name = 'Refusal', __tostring = function() return 'no' end })",
            "Refusal",
            "no",
        ),
        (
            "setmetatable({}, { __tostring = function() error('again') end })",
            "table",
            "it cannot be told: its own __tostring fails",
        ),
        (
            "setmetatable({}, { __metatable = 'hidden', __tostring = function() return 'no' end })",
            "table",
            "no",
        ),
        ("'\\xff'", "error", "\u{fffd}"),
    ] {
        let error = raised(&mut lua, &format!("function main() error({thrown}, 0) end"));
        assert_eq!(
            (error.error_type.as_str(), error.message.as_str()),
            (error_type, message),
            "{thrown}"
        );
    }
    let error = raised(&mut lua, "function main() error(('x'):rep(1000000)) end");
    assert!(error.message.len() < 70_000, "{}", error.message.len());
}

#[test]
fn what_json_cannot_hold_is_named_by_its_path() {
    let mut lua = booted();
    for (value, reason) in [
        ("print", "the result is a function"),
        (
            "{ a = { 1, { b = print } } }",
            "the result[\"a\"][2][\"b\"] is a function",
        ),
        ("{ coroutine.create(print) }", "the result[1] is a thread"),
        ("io.stdout", "the result is a userdata"),
        ("0/0", "the result is NaN"),
        ("{ x = math.huge }", "the result[\"x\"] is inf"),
        ("'\\xff'", "the result is not UTF-8"),
        (
            "{ ['\\xff'] = 1 }",
            "the result has a key that is not UTF-8",
        ),
        ("{ [true] = 1 }", "the result has a boolean as a key"),
        ("{ [1.5] = 1 }", "the result has a number as a key"),
        ("{ [0] = 1 }", "the result has an index below 1"),
        (
            "{ 1, nil, 3 }",
            "the result is a list of 2 with holes in it: its last index is 3",
        ),
        (
            "{ 1, a = 2 }",
            "the result is a list that has the key \"a\" too",
        ),
        (
            "json.array({ a = 2 })",
            "the result is a list that has the key \"a\" too",
        ),
    ] {
        let error = raised(&mut lua, &format!("function main() return {value} end"));
        assert_eq!(error.error_type, "NotJSON");
        assert_eq!(
            error.message,
            format!("{reason}, which JSON cannot hold").replace("NaN", &nan()),
            "{value}"
        );
    }
    let circle = "function main() local it = {} it.it = { it } return it end";
    let error = raised(&mut lua, circle);
    assert!(error.message.contains("contains itself"), "{error:?}");
    assert!(error.message.len() < 200, "{error:?}");
}

fn nan() -> String {
    f64::NAN.to_string()
}

#[test]
fn what_json_holds_keeps_its_value() {
    let mut lua = booted();
    for (value, text) in [
        ("nil", "null"),
        ("json.null", "null"),
        ("{}", "{}"),
        ("json.array()", "[]"),
        ("{ z = 1, a = json.null }", r#"{"a":null,"z":1}"#),
        ("{ [3] = 'c', [1] = 'a', [2] = 'b' }", r#"["a","b","c"]"#),
        ("{ 6 / 2, 6 // 2, 1e20, -0.0 }", "[3.0,3,1e+20,-0.0]"),
        ("math.maxinteger", "9223372036854775807"),
        ("'\\0\\n\"ü'", "\"\\u0000\\n\\\"ü\""),
        // What a table's own methods say of it does not count.
        (
            "setmetatable({ 1 }, { __index = print, __pairs = print, __len = print })",
            "[1]",
        ),
        (
            "json.decode('[[], {}, null, 18446744073709551615]')",
            "[[],{},null,1.8446744073709552e+19]",
        ),
        (
            "json.decode(json.encode({ a = { 1, json.null } }))",
            r#"{"a":[1,null]}"#,
        ),
        (
            "{ pcall(json.encode, print) }",
            r#"[false,"the value is a function, which JSON cannot hold"]"#,
        ),
        (
            "{ json.decode('null') == json.null, json.decode('[]')[1] == nil }",
            "[true,true]",
        ),
    ] {
        load(
            &mut lua,
            &Function::from_source(format!("function main() return {value} end")),
        );
        let answer = lua.invoke(&Invocation {
            id: String::new(),
            deadline_unix_ms: None,
            data: RawValue::from_string("null".into()).expect("JSON"),
            ..Invocation::default()
        });
        let answer = answer.unwrap_or_else(|error| panic!("{value}: {error:#?}"));
        assert_eq!(answer.get(), text, "{value}");
    }
    let null = "function main(args) return args == nil end";
    load(&mut lua, &Function::from_source(null));
    assert_eq!(invoke(&mut lua, "null"), Ok(json!(true)));
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let error = invoke(&mut lua, &deep).expect_err("too deep");
    assert!(
        error.message.starts_with("the argument: recursion"),
        "{error:?}"
    );
}

#[test]
fn a_large_table_comes_and_goes() {
    let mut lua = booted();
    let code = "function main() local it = {} for n = 1, 300000 do it[n] = { n } end return it end";
    let value = call(&mut lua, code);
    assert_eq!(value.as_array().map(Vec::len), Some(300_000));
    load(
        &mut lua,
        &Function::from_source("function main(args) return { #args, args[300000] } end"),
    );
    assert_eq!(
        invoke(&mut lua, &value.to_string()),
        Ok(json!([300_000, [300_000]]))
    );
}

#[test]
fn the_language_is_whole() {
    let mut lua = booted();
    for (code, expected) in [
        // Yields across `pcall`, as Lua 5.4 has it.
        (
            "coroutine.wrap(function() pcall(coroutine.yield, 'yielded') end)()",
            json!("yielded"),
        ),
        (
            "type(debug.sethook) .. type(io.popen) .. type(os.execute) .. type(load)",
            json!("functionfunctionfunctionfunction"),
        ),
        (
            "{ package.loadlib == nil, package.cpath, #package.searchers }",
            json!([true, "", 3]),
        ),
        (
            "{ pcall(os.exit, 3) }",
            json!([false, "os.exit() was called; a function ends by returning"]),
        ),
        (
            "utf8.char(228) .. string.format('%5.2f', 1 / 3)",
            json!("ä 0.33"),
        ),
    ] {
        assert_eq!(
            call(&mut lua, &format!("function main() return {code} end")),
            expected,
            "{code}"
        );
    }
    let error = raised(&mut lua, "function main() require('no.such') end");
    assert!(
        error.message.contains("module 'no.such' not found"),
        "{error:?}"
    );
}

#[test]
fn endless_recursion_and_memory_are_errors() {
    let mut lua = booted();
    let error = raised(&mut lua, "function main(args) return 1 + main(args) end");
    assert!(
        error.message.contains("stack overflow"),
        "{}",
        error.message
    );
    assert!(error.stack.len() < 10_000, "{}", error.stack.len());
    let error = raised(
        &mut lua,
        "function main() local it = {} while true do it[#it + 1] = ('x'):rep(1 << 20) .. #it end end",
    );
    assert_eq!(error.message, "not enough memory");
    assert_eq!(call(&mut lua, "function main(args) return args.n end"), 21);
}

#[test]
fn the_next_load_starts_anew() {
    let mut lua = booted();
    let changing = "mark = 1; string.mark = 1; package.loaded.mark = 1; getmetatable('').__index = nil; debug.sethook(error, 'l')
        main = math.abs; error = nil; pcall = nil; tostring = nil; json = nil; setmetatable(_G, { __index = error, __newindex = error })";
    let look = "function main() return { type(mark), type(string.mark), type(package.loaded.mark), ('x'):rep(2), type(debug.gethook()), type(json) } end";
    let expected = json!(["nil", "nil", "nil", "xx", "nil", "table"]);
    assert_eq!(call(&mut lua, look), expected);
    // Whether its hook lets it be loaded or not.
    let _ = lua.load(&Function::from_source(changing));
    assert_eq!(call(&mut lua, look), expected);
    // A failed load leaves no function of its own nor the one before.
    refused(&mut lua, &Function::from_source("error('no')"));
    let error = invoke(&mut lua, "1").expect_err("nothing is loaded");
    assert_eq!(error.error_type, "NotLoaded");
}

#[test]
fn what_a_function_replaces_does_not_confuse_the_adapter() {
    let mut lua = booted();
    let code = "
        local pairs, string, _G = pairs, string, _G
        for name in pairs(_G) do if name ~= '_G' then _G[name] = nil end end
        for name in pairs(string) do string[name] = nil end
        function main(args)
          if args.n then return args end
          local it = nil
          it()
        end";
    assert_eq!(call(&mut lua, code), json!({"n": 21}));
    let error = invoke(&mut lua, "{}").expect_err("it raises");
    assert_eq!(
        error.message,
        "function.lua:8: attempt to call a nil value (local 'it')"
    );
}
