//! CPython, embedded: the [`Adapter`] for functions written in Python.
//!
//! What needs Python's own words is in `bootstrap.py`; here is the way there and
//! back. The interpreter belongs to the thread that called
//! [`boot`](Adapter::boot), and between calls it is released, so that threads of
//! the tenant's go on as they would in any server.

mod embed;
mod imports;
pub mod sabotage;
mod twister;

pub use imports::imported;

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use refunction_adapter::sabotage::altered;
use refunction_adapter::{Adapter, Answer, BootError, Exception, Head, Invocation, Runtime};
use refunction_protocol::Function;
use serde_json::value::RawValue;

/// Python's half of the adapter. Its file name marks the frames that no tenant sees.
const BOOTSTRAP: &str = include_str!("bootstrap.py");
/// The rest of it, in the same namespace.
const PARTS: [&str; 2] = [include_str!("streams.py"), include_str!("applications.py")];
const BOOTSTRAP_FILE: &str = "<refunction>";

/// The variables that say where an image keeps its function's files.
const ROOT_VARIABLES: [&str; 2] = ["FUNCTION_ROOT", "LAMBDA_TASK_ROOT"];

/// CPython in this process.
#[derive(Default)]
pub struct Python {
    booted: Option<Booted>,
}

struct Booted {
    version: String,
    fork_hooks: bool,
    preload: Py<PyAny>,
    installed: Py<PyAny>,
    grow: Py<PyAny>,
    import: Py<PyAny>,
    settle: Py<PyAny>,
    after_restore: Py<PyAny>,
    load: Py<PyAny>,
    invoke: Py<PyAny>,
    rehearse: Py<PyAny>,
    next_piece: Py<PyAny>,
}

impl Python {
    /// A runtime that is yet to be booted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn booted(&self, doing: &str) -> Result<&Booted, BootError> {
        self.booted
            .as_ref()
            .ok_or_else(|| failed(doing, "Python was not booted"))
    }
}

impl Adapter for Python {
    fn runtime(&self) -> Runtime {
        Runtime {
            name: "python".into(),
            version: self
                .booted
                .as_ref()
                .map(|booted| booted.version.clone())
                .unwrap_or_default(),
        }
    }

    fn boot(&mut self) -> Result<(), BootError> {
        const DOING: &str = "starting Python";
        if self.booted.is_some() {
            return Ok(());
        }
        embed::initialize().map_err(|cause| failed(DOING, cause))?;
        let root = ROOT_VARIABLES
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|value| !value.is_empty()));
        self.booted = Some(pyo3::Python::attach(|py| {
            bootstrap(py, root).map_err(|error| failed(DOING, error))
        })?);
        Ok(())
    }

    fn preload(&mut self, libraries: &[String]) -> Result<(), BootError> {
        import_by(&self.booted("preloading")?.preload, libraries)
    }

    fn installed(&self) -> Vec<String> {
        let Some(booted) = &self.booted else {
            return Vec::new();
        };
        // What cannot be listed is not offered.
        pyo3::Python::attach(|py| booted.installed.call0(py)?.extract(py)).unwrap_or_default()
    }

    fn grow(&mut self, libraries: &[String]) -> Result<(), BootError> {
        self.after_fork();
        import_by(&self.booted("importing")?.grow, libraries)
    }

    fn import(&mut self, handler: &str) -> Result<(), Exception> {
        let Some(booted) = &self.booted else {
            return Err(not_booted());
        };
        let outcome = pyo3::Python::attach(|py| {
            let failure = booted
                .import
                .call1(py, (handler,))
                .map_err(|error| ours(py, &error))?;
            failed_or_not(failure.bind(py))
        });
        embed::flush_c_streams();
        outcome
    }

    fn settle(&mut self) -> Result<(), BootError> {
        const DOING: &str = "settling Python";
        let booted = self.booted(DOING)?;
        let fork_hooks = pyo3::Python::attach(|py| {
            let fork_hooks = booted.settle.call0(py)?.extract(py)?;
            embed::fill_holes(py);
            Ok(fork_hooks)
        })
        .map_err(|error: PyErr| failed(DOING, error))?;
        if let Some(booted) = &mut self.booted {
            booted.fork_hooks = fork_hooks;
        }
        Ok(())
    }

    fn after_fork(&mut self) {
        // What CPython mends is what another thread may have held or been: locks,
        // the GIL, the list of threads. Nothing was: the template has one thread
        // and is at rest. So only libraries that asked to be told are reason to
        // write to the two hundred pages that the protocol touches.
        if self.booted.as_ref().is_some_and(|it| it.fork_hooks) {
            pyo3::Python::attach(embed::after_fork);
        }
    }

    fn after_restore(&mut self) -> Result<(), BootError> {
        const DOING: &str = "reseeding Python";
        let booted = self.booted(DOING)?;
        pyo3::Python::attach(|py| booted.after_restore.call0(py).map(drop))
            .map_err(|error| failed(DOING, error))
    }

    fn load(&mut self, function: &Function) -> Result<(), Exception> {
        let Some(booted) = &self.booted else {
            return Err(not_booted());
        };
        let outcome = pyo3::Python::attach(|py| {
            let env = variables(py, &function.env)?;
            let failure = booted
                .load
                .call1(
                    py,
                    (
                        &function.code,
                        function.binary,
                        &function.main,
                        &function.handler,
                        env,
                    ),
                )
                .map_err(|error| ours(py, &error))?;
            failed_or_not(failure.bind(py))?;
            // Says nothing of the function.
            let _ = rehearse(py, booted);
            Ok(())
        });
        embed::flush_c_streams();
        outcome
    }

    fn invoke(&mut self, invocation: &Invocation) -> Result<Box<RawValue>, Exception> {
        match self.answer(invocation)? {
            Answer::Whole(value) => Ok(value),
            Answer::Streamed(_) => Err(plain("TypeError", "the result comes in pieces")),
        }
    }

    fn answer(&mut self, invocation: &Invocation) -> Result<Answer, Exception> {
        let Some(booted) = &self.booted else {
            return Err(not_booted());
        };
        let outcome = pyo3::Python::attach(|py| call(py, &booted.invoke, invocation));
        embed::flush_c_streams();
        outcome
    }

    fn next_piece(&mut self) -> Result<Option<Vec<u8>>, Exception> {
        let Some(booted) = &self.booted else {
            return Err(not_booted());
        };
        let outcome = pyo3::Python::attach(|py| {
            let piece = booted.next_piece.call0(py);
            let piece = piece.map_err(|error| ours(py, &error))?.into_bound(py);
            match piece.cast::<PyBytes>() {
                Ok(bytes) => Ok(Some(bytes.as_bytes().to_vec())),
                Err(_) if piece.is_none() => Ok(None),
                Err(_) => Err(failure(&piece)),
            }
        });
        embed::flush_c_streams();
        outcome
    }
}

/// Has one of `bootstrap.py`'s functions make a call.
fn call(
    py: pyo3::Python<'_>,
    hook: &Py<PyAny>,
    invocation: &Invocation,
) -> Result<Answer, Exception> {
    let env = variables(py, &invocation.env)?;
    let caller = invocation.caller.told();
    let answer = hook
        .call1(
            py,
            (
                &invocation.id,
                invocation.deadline_unix_ms,
                invocation.data.get(),
                env,
                caller,
            ),
        )
        .map_err(|error| ours(py, &error))?;
    let answer = answer.bind(py);
    match answer.cast::<PyString>() {
        Ok(text) => result(text).map(Answer::Whole),
        Err(_) => match answer.extract() {
            Ok((status, headers)) => Ok(Answer::Streamed(Head { status, headers })),
            Err(_) => Err(failure(answer)),
        },
    }
}

/// Makes a call of a function of ours in the way of all calls, as the channel has it: a load
/// leaves little of that in the processor's caches, and the first call would have to wait for it.
fn rehearse(py: pyo3::Python<'_>, booted: &Booted) -> Result<Answer, Exception> {
    const FRAME: &str = r#"{"id":"0","deadline_unix_ms":1,"data":{"name":["value",1]}}"#;
    let invocation =
        serde_json::from_str(FRAME).map_err(|error| plain("SystemError", &error.to_string()))?;
    call(py, &booted.rehearse, &invocation)
}

/// Has one of `bootstrap.py`'s functions import libraries; it answers which failed, and why.
fn import_by(hook: &Py<PyAny>, libraries: &[String]) -> Result<(), BootError> {
    let refused = pyo3::Python::attach(|py| {
        hook.call1(py, (libraries,))?
            .extract::<Option<(String, String)>>(py)
    });
    embed::flush_c_streams();
    match refused {
        Ok(None) => Ok(()),
        Ok(Some((library, reason))) => Err(failed(format!("importing {library}"), reason)),
        Err(error) => Err(failed("importing", error)),
    }
}

fn bootstrap(py: pyo3::Python<'_>, root: Option<std::ffi::OsString>) -> PyResult<Booted> {
    let builtins = py.import("builtins")?;
    // No module: whatever is registered under a name, a tenant could import.
    let globals = PyDict::new(py);
    globals.set_item("__name__", BOOTSTRAP_FILE)?;
    globals.set_item("_twister", wrap_pyfunction!(twister::twister, py)?)?;
    let source = altered(BOOTSTRAP, sabotage::LINES);
    let code = builtins.call_method1("compile", (&*source, BOOTSTRAP_FILE, "exec"))?;
    builtins.call_method1("exec", (code, &globals))?;
    for part in PARTS {
        let code = builtins.call_method1("compile", (part, BOOTSTRAP_FILE, "exec"))?;
        builtins.call_method1("exec", (code, &globals))?;
    }
    let hook =
        |name: &str| -> PyResult<Py<PyAny>> { Ok(globals.as_any().get_item(name)?.unbind()) };
    hook("boot")?.call1(py, (root,))?;
    let version = pyo3::Python::version_str();
    Ok(Booted {
        version: version.split(' ').next().unwrap_or(version).to_owned(),
        fork_hooks: false,
        preload: hook("preload")?,
        installed: hook("installed")?,
        grow: hook("grow")?,
        import: hook("import_function")?,
        settle: hook("settle")?,
        after_restore: hook("after_restore")?,
        load: hook("load")?,
        invoke: hook("invoke")?,
        rehearse: hook("rehearse")?,
        next_piece: hook("next_piece")?,
    })
}

fn variables<'py>(
    py: pyo3::Python<'py>,
    env: &BTreeMap<String, String>,
) -> Result<Bound<'py, PyDict>, Exception> {
    let variables = PyDict::new(py);
    for (name, value) in env {
        variables
            .set_item(name, value)
            .map_err(|error| ours(py, &error))?;
    }
    Ok(variables)
}

/// What `bootstrap.py` answers where there is nothing to tell but a failure.
fn failed_or_not(failure: &Bound<'_, PyAny>) -> Result<(), Exception> {
    match failure.cast::<PyTuple>() {
        Ok(failure) => Err(exception(failure)),
        Err(_) => Ok(()),
    }
}

/// The call's result; `bootstrap.py` encoded it, so anything wrong here is ours.
fn result(text: &Bound<'_, PyString>) -> Result<Box<RawValue>, Exception> {
    let text = text.to_str().map_err(|error| ours(text.py(), &error))?;
    RawValue::from_string(text.to_owned())
        .map_err(|error| plain("ValueError", &format!("the result is not JSON: {error}")))
}

/// What `bootstrap.py` answers where it could not do what it was to.
fn failure(answer: &Bound<'_, PyAny>) -> Exception {
    answer.cast::<PyTuple>().map_or_else(
        |_| plain("SystemError", "the adapter gave no answer"),
        exception,
    )
}

/// What `bootstrap.py` made of a tenant's exception: type, message and stack.
fn exception(failure: &Bound<'_, PyTuple>) -> Exception {
    match failure.extract() {
        Ok((error_type, message, stack)) => Exception {
            error_type,
            message,
            stack,
        },
        Err(error) => ours(failure.py(), &error),
    }
}

/// An exception that got past `bootstrap.py`, as when memory is out.
fn ours(py: pyo3::Python<'_>, error: &PyErr) -> Exception {
    let error_type = error
        .get_type(py)
        .name()
        .map_or_else(|_| "SystemError".into(), |name| name.to_string());
    plain(&error_type, &error.value(py).to_string())
}

fn plain(error_type: &str, message: &str) -> Exception {
    Exception {
        error_type: error_type.into(),
        message: message.into(),
        stack: String::new(),
    }
}

fn not_booted() -> Exception {
    plain("SystemError", "Python was not booted")
}

fn failed(doing: impl Into<String>, cause: impl ToString) -> BootError {
    BootError {
        doing: doing.into(),
        cause: cause.to_string(),
    }
}
