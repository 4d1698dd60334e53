//! A function's variables. They are the process's own, so that programs that a function
//! starts have them too.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::embed::set_variable;
use crate::sabotage::leaves_out;

/// Variables that were set, and what they were before.
#[derive(Default)]
pub(crate) struct Environment {
    before: Before,
    /// Of the last call: where nothing is put back between two, its trace would be taken for
    /// the next one's.
    before_call: Before,
}

type Before = Vec<(String, Option<OsString>)>;

impl Environment {
    /// Takes back those of the function before, and sets these.
    pub(crate) fn set(&mut self, variables: &BTreeMap<String, String>) {
        self.set_for_call(&BTreeMap::new());
        if leaves_out("lua:environment-of-a-function") {
            self.before.clear();
        }
        if !leaves_out("lua:environment") {
            replace(&mut self.before, variables);
        }
    }

    /// Takes back those of the call before, and sets these, too.
    pub(crate) fn set_for_call(&mut self, variables: &BTreeMap<String, String>) {
        if leaves_out("lua:environment-of-a-call") {
            self.before_call.clear();
        }
        replace(&mut self.before_call, variables);
    }
}

fn replace(before: &mut Before, variables: &BTreeMap<String, String>) {
    for (name, value) in before.drain(..) {
        set_variable(OsStr::new(&name), value.as_deref());
    }
    for (name, value) in variables {
        before.push((name.clone(), std::env::var_os(name)));
        set_variable(OsStr::new(name), Some(OsStr::new(value)));
    }
}
