//! One call of a function of this machine's.

use std::time::Instant;

use super::Show;
use super::function::Answer;
use super::interruption::Interruption;
use crate::cli::{LocalArguments, Run};
use crate::error::{Error, Exit};
use crate::local::{self, Local, Output, Plan};
use crate::payload;
use crate::source::Source;

/// The function that was named.
pub(super) fn source(given: &LocalArguments) -> Result<Source, Error> {
    let named = given.handler.as_deref().or(given.main.as_deref());
    Source::of_file(&given.file, given.runtime, named)
}

pub(super) async fn run(show: Show, given: &Run) -> Result<Exit, Error> {
    let mut interruption = Interruption::new()?;
    let source = source(&given.function)?;
    let supervisor = local::find(given.function.supervisor.as_deref())?;
    let json = payload::request(&given.event)?;
    let plan = Plan {
        supervisor: &supervisor,
        source: &source,
        env: &given.function.env,
        output: Output::Errors,
    };
    let mut local = tokio::select! {
        started = Local::start(&plan) => started?,
        () = interruption.comes() => return Err(Error::Interrupted),
    };
    let request_id = uuid::Uuid::new_v4().to_string();
    let began = Instant::now();
    let outcome = tokio::select! {
        outcome = local.call(&request_id, &json, given.deadline_ms) => outcome,
        () = interruption.comes() => Err(Error::Interrupted),
    };
    let spent = began.elapsed();
    local.stop().await;
    let answer = Answer {
        request_id,
        json: outcome?,
        duration_us: u64::try_from(spent.as_micros()).unwrap_or(u64::MAX),
    };
    answer.show(show)?;
    Ok(Exit::Ok)
}
