//! `refunction-supervisor`: PID 1 of a function container. It boots a template,
//! keeps a worker forked from it, hands functions and requests to the worker, and
//! puts it back in between. No tenant code ever runs in its address space.

#![forbid(unsafe_code)]

mod authority;
mod cause;
mod container;
mod front;
mod init;
mod launch;
mod lifecycle;
mod logs;
mod memory;
mod output;
mod peers;
mod pipes;
mod private;
mod runtime;
mod sabotage;
mod sandbox;
mod settings;
mod staff;
mod sweep;
mod template;

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    let settings = settings::Settings::read();
    #[cfg(feature = "sabotage")]
    {
        if settings.handlers {
            sabotage::list();
            return ExitCode::SUCCESS;
        }
        sabotage::settle(&settings);
    }
    if settings.as_template {
        return template::run(&settings);
    }
    match lifecycle::run(settings, started) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("refunction-supervisor: {error}");
            ExitCode::FAILURE
        }
    }
}
