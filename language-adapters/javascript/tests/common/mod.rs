//! What the tests share. A runtime belongs to one thread and one process, and
//! a template has but one thread: so each file runs its cases one after another
//! in `main`, without the usual harness.

#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)]

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::FromRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use refunction_adapter::{Adapter, Exception, Invocation};
use refunction_javascript::JavaScript;
use refunction_protocol::Function;
use serde_json::Value;
use serde_json::value::RawValue;

/// A test: its name and what it does.
pub type Case = (&'static str, fn(&mut JavaScript));

/// Cases named after their functions.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        &[$((stringify!($case), $case as fn(&mut JavaScript))),*]
    };
}
pub(crate) use cases;

/// A runtime as a template has it at its ready point.
pub fn booted() -> JavaScript {
    let mut javascript = JavaScript::new();
    javascript.boot().expect("boot");
    javascript.preload(&[]).expect("preload");
    javascript.settle().expect("settle");
    javascript
}

/// Runs the cases that the command line asks for, all by default.
pub fn run(javascript: &mut JavaScript, cases: &[Case]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|it| it == "--list") {
        // None of them is to be run when only the ignored ones are.
        if !arguments.iter().any(|it| it == "--ignored") {
            for (name, _) in cases {
                println!("{name}: test");
            }
        }
        return;
    }
    let filters: Vec<_> = arguments.iter().filter(|it| !it.starts_with('-')).collect();
    let mut failed = Vec::new();
    for (name, case) in cases {
        if !filters.is_empty() && !filters.iter().any(|it| name.contains(it.as_str())) {
            continue;
        }
        let passed = catch_unwind(AssertUnwindSafe(|| case(javascript))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

pub fn source(code: &str) -> Function {
    Function::from_source(code)
}

pub fn try_invoke(javascript: &mut JavaScript, data: &str) -> Result<Value, Exception> {
    javascript
        .invoke(&Invocation {
            id: "request-1".into(),
            deadline_unix_ms: None,
            data: RawValue::from_string(data.into()).expect("test data is JSON"),
            ..Invocation::default()
        })
        .map(|value| serde_json::from_str(value.get()).expect("results are JSON"))
}

/// Loads and calls; both must succeed.
pub fn call(javascript: &mut JavaScript, code: &str, data: &str) -> Value {
    load(javascript, &source(code));
    match try_invoke(javascript, data) {
        Ok(value) => value,
        Err(error) => panic!("{error:#?}"),
    }
}

pub fn load(javascript: &mut JavaScript, function: &Function) {
    if let Err(error) = javascript.load(function) {
        panic!("{error:#?}");
    }
}

/// Loads; that must fail.
pub fn refused(javascript: &mut JavaScript, function: &Function) -> Exception {
    javascript
        .load(function)
        .expect_err("it must not be loaded")
}

/// Loads and calls; the call must raise.
pub fn raised(javascript: &mut JavaScript, code: &str) -> Exception {
    load(javascript, &source(code));
    try_invoke(javascript, "{}").expect_err("the call must raise")
}

/// What reaches descriptors 1 and 2 while `work` runs.
pub fn output_of<T>(work: impl FnOnce() -> T) -> (T, String) {
    // SAFETY: plain calls with descriptors that this function opens and closes.
    unsafe {
        let memory = libc::memfd_create(c"output".as_ptr(), 0);
        assert!(memory >= 0);
        let kept = [libc::dup(1), libc::dup(2)];
        libc::dup2(memory, 1);
        libc::dup2(memory, 2);
        let result = work();
        libc::dup2(kept[0], 1);
        libc::dup2(kept[1], 2);
        libc::close(kept[0]);
        libc::close(kept[1]);
        let mut file = File::from_raw_fd(memory);
        file.rewind().expect("rewind");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("UTF-8");
        (result, text)
    }
}

/// Runs `work` in a child made as the snapshot engine makes one, with the system
/// call and nothing around it; answers what it returned, or how it died. `None`
/// if the kernel refused the flags.
pub fn in_child(flags: i32, work: impl FnOnce() -> String) -> Option<String> {
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    // SAFETY: both were just opened and belong to nobody else.
    let (mut reader, mut writer) =
        unsafe { (File::from_raw_fd(pipe[0]), File::from_raw_fd(pipe[1])) };
    // SAFETY: this process has one thread; the child goes on as its copy.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    if child == 0 {
        let answer = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| "panicked".into());
        let _ = writer.write_all(answer.as_bytes());
        // SAFETY: ends the child without the parent's exit handlers.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    if child < 0 {
        return None;
    }
    let mut answer = String::new();
    reader.read_to_string(&mut answer).expect("UTF-8");
    let mut status = 0;
    // SAFETY: waits for the child made above, with room for its status.
    unsafe { libc::waitpid(i32::try_from(child).expect("a pid"), &raw mut status, 0) };
    if status != 0 {
        answer = format!("{answer} (wait status {status:#x})");
    }
    Some(answer)
}
