//! What a person sees: colour on a terminal, and one line per step with its time.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// Colours text, or leaves it alone where the reader is no terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self::for_stream(&io::stdout())
    }

    /// For standard error.
    pub(crate) fn stderr() -> Self {
        Self::for_stream(&io::stderr())
    }

    fn for_stream(stream: &impl IsTerminal) -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self {
            on: wanted && able && stream.is_terminal(),
        }
    }

    pub(crate) fn bold(self, text: impl Display) -> String {
        self.code("1", text)
    }

    pub(crate) fn dim(self, text: impl Display) -> String {
        self.code("2", text)
    }

    pub(crate) fn good(self, text: impl Display) -> String {
        self.code("32", text)
    }

    pub(crate) fn bad(self, text: impl Display) -> String {
        self.code("31", text)
    }

    fn code(self, code: &str, text: impl Display) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }
}

/// Does one step under a heading on standard error, and says how long it took.
pub(crate) fn step<T>(
    name: &str,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, Duration)> {
    let paint = Paint::stderr();
    eprintln!("{}", paint.bold(format!("==> {name}")));
    let start = Instant::now();
    let done = work()?;
    let took = start.elapsed();
    eprintln!("{}", paint.dim(format!("    {name}: {}", seconds(took))));
    Ok((done, took))
}

/// A duration for people who wait.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
