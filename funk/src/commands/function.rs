//! Loading a function and calling it.

use std::collections::BTreeMap;
use std::io::Write;

use refunction_protocol::LIBRARIES_VARIABLE;
use refunction_protocol::host::{self as api, send_request_reply::Outcome};
use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::Show;
use crate::cli::{Format, FunctionArguments};
use crate::client::Client;
use crate::display::duration_us;
use crate::error::{Error, Exit};
use crate::payload::Code;

pub(super) async fn load(
    show: Show,
    client: &mut Client,
    container: String,
    code: Code,
    given: FunctionArguments,
) -> Result<Exit, Error> {
    let reply = send(
        client,
        api::SendFunctionRequest {
            container,
            code: code.text,
            binary: code.binary,
            env: variables(&given)?,
            main: given.main,
            handler: given.handler,
            deadline_ms: given.deadline_ms,
        },
    )
    .await?;
    show.result(
        || json!({"loaded": true, "duration_us": reply}),
        |out| writeln!(out, "loaded in {}", duration_us(reply)),
    )?;
    Ok(Exit::Ok)
}

/// A function's variables, the one that names its libraries among them.
///
/// # Errors
/// They are named twice.
pub(super) fn variables(given: &FunctionArguments) -> Result<BTreeMap<String, String>, Error> {
    let mut variables: BTreeMap<_, _> = given.env.iter().cloned().collect();
    if given.library.is_empty() {
        return Ok(variables);
    }
    match variables.insert(LIBRARIES_VARIABLE.into(), given.library.join(",")) {
        None => Ok(variables),
        Some(_) => Err(Error::Usage(format!(
            "its libraries are named by --library, and by its variable {LIBRARIES_VARIABLE}"
        ))),
    }
}

/// Loads, and returns the microseconds that it took.
pub(super) async fn send(
    client: &mut Client,
    function: api::SendFunctionRequest,
) -> Result<u64, Error> {
    let reply = client.send_function(function).await?.into_inner();
    match reply.failure {
        Some(failure) => Err(failure.into()),
        None => Ok(reply.duration_us),
    }
}

pub(super) async fn request(
    show: Show,
    client: &mut Client,
    container: String,
    json: String,
    deadline_ms: Option<u64>,
) -> Result<Exit, Error> {
    let answer = call(client, container, json, deadline_ms).await?;
    answer.show(show)?;
    Ok(Exit::Ok)
}

/// What a function returned.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) request_id: String,
    pub(super) json: String,
    pub(super) duration_us: u64,
}

/// Raw, so that no digit of a number is lost on its way to the terminal either.
#[derive(Serialize)]
struct Document<'a> {
    request_id: &'a str,
    duration_us: u64,
    value: &'a RawValue,
}

impl Answer {
    pub(super) fn show(&self, show: Show) -> Result<(), Error> {
        if show.format == Format::Text {
            return show.result(|| (), |out| writeln!(out, "{}", self.json));
        }
        let value = serde_json::from_str::<&RawValue>(&self.json)
            .map_err(|error| Error::Here(format!("the answer is not JSON: {error}")))?;
        show.result(
            || Document {
                request_id: &self.request_id,
                duration_us: self.duration_us,
                value,
            },
            |_| Ok(()),
        )
    }
}

/// Calls the function.
pub(super) async fn call(
    client: &mut Client,
    container: String,
    json: String,
    deadline_ms: Option<u64>,
) -> Result<Answer, Error> {
    let reply = client
        .send_request(api::SendRequestRequest {
            container,
            json,
            deadline_ms,
        })
        .await?
        .into_inner();
    match reply.outcome {
        Some(Outcome::Json(json)) => Ok(Answer {
            request_id: reply.request_id,
            json,
            duration_us: reply.duration_us,
        }),
        Some(Outcome::Failure(failure)) => Err(failure.into()),
        None => Err(Error::Here(
            "the answer has neither a result nor an error; funk and refunctiond are of different versions".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// A command line that takes a function.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        function: FunctionArguments,
    }

    fn variables_of(arguments: &[&str]) -> Result<BTreeMap<String, String>, Error> {
        let words = ["funk", "-f", "f.py"].iter().chain(arguments);
        variables(&Line::parse_from(words).function)
    }

    #[test]
    fn libraries_are_a_variable_of_the_function() {
        let named = variables_of(&[
            "--library",
            "numpy,pandas",
            "--library",
            "scipy",
            "-e",
            "A=1",
        ]);
        let expected = [("A", "1"), (LIBRARIES_VARIABLE, "numpy,pandas,scipy")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(named.expect("named once"), BTreeMap::from(expected));
        assert!(variables_of(&[]).expect("none are named").is_empty());
        let twice = variables_of(&["--library", "numpy", "-e", "REFUNCTION_LIBRARIES=pandas"]);
        let error = twice.expect_err("they are named twice").to_string();
        assert!(
            error.contains("--library") && error.contains(LIBRARIES_VARIABLE),
            "{error}"
        );
    }
}
