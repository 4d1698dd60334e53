//! The same program in the place of a runtime that is a program of its own: it gives up
//! what a worker may not have, and is replaced by the runtime.

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use refunction_snapshot::inside::Launch;

use crate::runtime::Program;
use crate::sandbox::Sandbox;
use crate::settings::Settings;
use crate::template::Description;

pub(crate) fn run(settings: &Settings, program: Program) -> ExitCode {
    let launch = match Launch::adopt() {
        Ok(launch) => launch,
        Err(error) => {
            eprintln!(
                "refunction-supervisor: --as-template is for the supervisor's own use: {error}"
            );
            return ExitCode::FAILURE;
        }
    };
    let reason = become_runtime(settings, program, &launch);
    launch.fail(&reason);
    ExitCode::FAILURE
}

/// Comes back only with the reason why it could not.
fn become_runtime(settings: &Settings, program: Program, launch: &Launch) -> String {
    let sandbox =
        Sandbox::close(settings).and_then(|sandbox| sandbox.enter_before_exec().map(|()| sandbox));
    let sandbox = match sandbox {
        Ok(sandbox) => sandbox,
        Err(error) => return error.to_string(),
    };
    let description = Description {
        runtime: None,
        closes_proc: sandbox.closes_proc,
        leaves_open: sandbox.leaves_open,
        installed: Vec::new(),
    };
    let announced = serde_json::to_vec(&description)
        .map_err(Into::into)
        .and_then(|description| launch.announce(&description));
    if let Err(error) = announced {
        return error.to_string();
    }
    // Not before: what it opens is not to be where the worker's descriptors belong.
    match program(&settings.libraries(), settings.handler.as_deref()) {
        Ok(mut program) => {
            let error = program.exec();
            format!("starting {}: {error}", program.get_program().display())
        }
        Err(error) => format!("preparing the runtime: {error}"),
    }
}
