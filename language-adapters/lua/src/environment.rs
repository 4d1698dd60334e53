//! A function's variables. They are the process's own, so that programs that a function
//! starts have them too.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::embed::set_variable;

/// Variables that were set, and what they were before.
#[derive(Default)]
pub(crate) struct Environment {
    before: Vec<(String, Option<OsString>)>,
}

impl Environment {
    /// Takes back those of the function before, and sets these.
    pub(crate) fn set(&mut self, variables: &BTreeMap<String, String>) {
        // In the order that leads back: one that was set twice has two entries.
        for (name, value) in self.before.drain(..).rev() {
            set_variable(OsStr::new(&name), value.as_deref());
        }
        self.add(variables);
    }

    /// Sets these, too.
    pub(crate) fn add(&mut self, variables: &BTreeMap<String, String>) {
        for (name, value) in variables {
            self.before.push((name.clone(), std::env::var_os(name)));
            set_variable(OsStr::new(name), Some(OsStr::new(value)));
        }
    }
}
