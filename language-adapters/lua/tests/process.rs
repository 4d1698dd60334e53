//! What belongs to the whole process: its memory and its environment. One test, because
//! they would meet in another's.

use refunction_adapter::{Adapter, Invocation};
use refunction_lua::Lua;
use refunction_protocol::Function;
use serde_json::value::RawValue;

/// Loads a function of some size so many times; the memory that is resident then, in kB.
fn loaded(lua: &mut Lua, times: usize) -> u64 {
    let code = "kept = {} for n = 1, 1000 do kept[n] = { n } end function main() return 1 end";
    for _ in 0..times {
        lua.load(&Function::from_source(code)).expect("loaded");
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("a size")
}

/// What a function finds of two variables that was given these.
fn variables(lua: &mut Lua, given: &[(&str, &str)]) -> String {
    let code = "function main() return { os.getenv('REFUNCTION_LUA_MARK') or 'none', os.getenv('PATH') or 'none' } end";
    let env = given
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()));
    lua.load(&Function {
        env: env.collect(),
        ..Function::from_source(code)
    })
    .expect("loaded");
    let answer = lua.invoke(&Invocation {
        id: String::new(),
        deadline_unix_ms: None,
        data: RawValue::from_string("null".into()).expect("JSON"),
        ..Invocation::default()
    });
    answer.expect("a value").get().to_owned()
}

#[test]
fn functions_that_follow_each_other_without_a_restore_leave_nothing() {
    let mut lua = Lua::new();
    lua.boot().expect("boot");
    let before = variables(&mut lua, &[]);
    let given = [("REFUNCTION_LUA_MARK", "grün"), ("PATH", "")];
    assert_eq!(variables(&mut lua, &given), r#"["grün",""]"#);
    assert_eq!(variables(&mut lua, &[]), before);
    let refused = Function {
        env: [("A=B".to_owned(), "x".to_owned())].into(),
        ..Function::default()
    };
    let error = lua.load(&refused).expect_err("it cannot be set");
    assert_eq!(error.error_type, "BadEnvironment");

    let early = loaded(&mut lua, 50);
    let late = loaded(&mut lua, 500);
    // That many states would be forty megabytes.
    assert!(late < early + 2 * 1024, "{early} kB and {late} kB");
}
