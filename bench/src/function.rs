//! The function that every part runs, and the runtime that runs it.

use refunction_adapter::{Adapter, BootError, Invocation};
use refunction_protocol::Function;
use refunction_python::Python;
use serde_json::value::RawValue;

/// Gives back what it is given.
const SOURCE: &str = "def main(args):\n    return args\n";
const ARGUMENT: &str = r#"{"name":"x"}"#;

/// The function.
#[must_use]
pub fn no_op() -> Function {
    Function::from_source(SOURCE)
}

/// One call of it.
///
/// # Panics
/// Never: the argument is JSON.
#[must_use]
pub fn call() -> Invocation {
    Invocation {
        id: "1".into(),
        deadline_unix_ms: None,
        data: RawValue::from_string(ARGUMENT.into()).expect("the argument is JSON"),
        ..Invocation::default()
    }
}

/// CPython as a template has it.
///
/// # Errors
/// It does not start, or a library is not there.
pub fn python() -> Result<Python, BootError> {
    let mut python = Python::new();
    python.boot()?;
    python.preload(&crate::libraries())?;
    python.settle()?;
    Ok(python)
}
