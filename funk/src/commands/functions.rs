//! Functions that are called by their names: deployed, called, listed, deleted.

use std::io::Write;
use std::path::Path;

use refunction_protocol::host::put_function_request::Condition;
use refunction_protocol::host::{self as api, invoke_reply::Outcome};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Show;
use super::containers::now_ms;
use super::function::variables;
use crate::cli::{Deploy, Format};
use crate::client::Functions;
use crate::display::{age, duration_us, table};
use crate::error::{Error, Exit};
use crate::payload;
use crate::source::Runtime;

/// What is to be deployed.
pub(super) fn described(given: Deploy) -> Result<api::PutFunctionRequest, Error> {
    let function = given.function;
    let image = match given.image {
        Some(image) => image,
        None => {
            let runtime = given
                .runtime
                .or_else(|| Runtime::of(Path::new(&function.source)));
            let runtime = runtime.ok_or_else(|| {
                Error::Usage(
                    "nothing says what the function is for: name an image with --image, or a runtime with --runtime".into(),
                )
            })?;
            format!("refunction/{runtime}")
        }
    };
    let code = payload::code(&function.source, function.binary)?;
    let condition = match (given.new, given.revision) {
        (true, _) => Some(Condition::Absent(true)),
        (false, revision) => revision.map(Condition::Revision),
    };
    Ok(api::PutFunctionRequest {
        name: given.name,
        image,
        binary: code.binary,
        code: code.into_bytes()?,
        env: variables(&function)?,
        main: function.main,
        handler: function.handler,
        deadline_ms: function.deadline_ms,
        memory_bytes: given.memory.map(|size| size.0),
        max_concurrency: given.max_concurrency,
        keep_warm_s: given.keep_warm,
        condition,
    })
}

/// The names are those of the HTTP API. Values of variables are not for every log.
fn document(function: &api::NamedFunction) -> Value {
    json!({
        "name": function.name,
        "image": function.image,
        "binary": function.binary,
        "main": function.main,
        "handler": function.handler,
        "env": function.env.keys().collect::<Vec<_>>(),
        "deadline_ms": function.deadline_ms,
        "memory_bytes": function.memory_bytes,
        "max_concurrency": function.max_concurrency,
        "keep_warm_s": function.keep_warm_s,
        "code": function.code_digest,
        "revision": function.revision,
        "created_unix_ms": function.created_unix_ms,
        "updated_unix_ms": function.updated_unix_ms,
    })
}

pub(super) async fn deploy(
    show: Show,
    client: &mut Functions,
    function: api::PutFunctionRequest,
) -> Result<Exit, Error> {
    let put = client.put_function(function).await?.into_inner();
    let function = put.function.unwrap_or_default();
    show.result(
        || json!({"change": put.change, "function": document(&function)}),
        |out| {
            let (name, revision) = (&function.name, function.revision);
            writeln!(out, "{name} {}, revision {revision}", put.change)
        },
    )?;
    Ok(Exit::Ok)
}

/// Raw, so that no digit of a number is lost on its way to the terminal either.
#[derive(Serialize)]
struct Document<'a> {
    request_id: &'a str,
    container: &'a str,
    start: &'a str,
    waited_us: u64,
    ran_us: u64,
    value: &'a RawValue,
}

pub(super) async fn invoke(
    show: Show,
    client: &mut Functions,
    function: String,
    json: String,
    deadline_ms: Option<u64>,
) -> Result<Exit, Error> {
    let reply = client
        .invoke(api::InvokeRequest {
            function,
            json,
            deadline_ms,
        })
        .await?
        .into_inner();
    let json = match reply.outcome {
        Some(Outcome::Json(json)) => json,
        Some(Outcome::Failure(failure)) => return Err(failure.into()),
        None => {
            return Err(Error::Here(
                "the answer has neither a result nor an error; funk and refunctiond are of different versions".into(),
            ));
        }
    };
    if show.format == Format::Text {
        show.result(|| (), |out| writeln!(out, "{json}"))?;
        return Ok(Exit::Ok);
    }
    let value = serde_json::from_str::<&RawValue>(&json)
        .map_err(|error| Error::Here(format!("the answer is not JSON: {error}")))?;
    show.result(
        || Document {
            request_id: &reply.request_id,
            container: &reply.container,
            start: &reply.start,
            waited_us: reply.waited_us,
            ran_us: reply.ran_us,
            value,
        },
        |_| Ok(()),
    )?;
    Ok(Exit::Ok)
}

pub(super) async fn list(show: Show, client: &mut Functions) -> Result<Exit, Error> {
    let mut functions = Vec::new();
    let mut after = String::new();
    loop {
        let asked = api::ListFunctionsRequest { after, limit: 0 };
        let page = client.list_functions(asked).await?.into_inner();
        functions.extend(page.functions);
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    show.result(
        || json!({"functions": functions.iter().map(document).collect::<Vec<_>>()}),
        |out| {
            let now = now_ms();
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            let rows: Vec<_> = functions
                .iter()
                .map(|it| {
                    let digest = it.code_digest.trim_start_matches("sha256:");
                    [
                        it.name.clone(),
                        it.image.clone(),
                        or_dash(it.handler.clone().or_else(|| it.main.clone())),
                        digest.get(..12).unwrap_or(digest).to_owned(),
                        it.revision.to_string(),
                        or_dash(
                            it.deadline_ms
                                .map(|ms| duration_us(ms.saturating_mul(1000))),
                        ),
                        age(it.updated_unix_ms, now),
                    ]
                })
                .collect();
            let headings = [
                "NAME", "IMAGE", "ENTRY", "CODE", "REVISION", "DEADLINE", "CHANGED",
            ];
            table(out, headings, &rows)
        },
    )?;
    Ok(Exit::Ok)
}

/// Deletes each, whatever becomes of the others.
pub(super) async fn delete(
    show: Show,
    client: &mut Functions,
    names: Vec<String>,
) -> Result<Exit, Error> {
    let mut exit = Exit::Ok;
    let mut deleted = Vec::new();
    let mut failed = Vec::new();
    for name in names {
        let asked = api::DeleteFunctionRequest {
            name: name.clone(),
            revision: None,
        };
        match client.delete_function(asked).await {
            Ok(_) => deleted.push(name),
            Err(status) => {
                let error = Error::from(status);
                if exit == Exit::Ok {
                    exit = error.exit();
                }
                // The document tells it too, and there is only to be one.
                error.report(Format::Text);
                failed.push(json!({"name": name, "message": error.to_string()}));
            }
        }
    }
    show.result(
        || json!({"deleted": deleted, "failed": failed}),
        |out| deleted.iter().try_for_each(|name| writeln!(out, "{name}")),
    )?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn request(line: &[&str]) -> Result<api::PutFunctionRequest, Error> {
        let line = ["funk", "deploy", "f"].iter().chain(line);
        match Arguments::try_parse_from(line).unwrap().command {
            Command::Deploy(given) => described(given),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_said_is_what_is_sent() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("app.lua");
        std::fs::write(&file, "return 1").unwrap();
        let file = file.to_str().unwrap();
        let sent = request(&["-f", file]).unwrap();
        assert_eq!(
            (sent.image.as_str(), sent.code.as_slice(), sent.binary),
            ("refunction/lua", &b"return 1"[..], false)
        );
        assert_eq!(sent.condition, None);
        let line = "--runtime python --memory 64M --keep-warm 0 --max-concurrency 2 --deadline-ms 50 --new --handler a.b -e A=b=c";
        let line: Vec<_> = ["-f", file].into_iter().chain(line.split(' ')).collect();
        let sent = request(&line).unwrap();
        assert_eq!(sent.image, "refunction/python");
        assert_eq!(sent.memory_bytes, Some(64 << 20));
        assert_eq!((sent.keep_warm_s, sent.max_concurrency), (Some(0), Some(2)));
        assert_eq!(sent.deadline_ms, Some(50));
        assert_eq!(sent.handler.as_deref(), Some("a.b"));
        assert_eq!(sent.env["A"], "b=c");
        assert_eq!(sent.condition, Some(Condition::Absent(true)));
        // An archive goes as it is.
        let zip = directory.path().join("app.zip");
        std::fs::write(&zip, b"PK\x03\x04\xff").unwrap();
        let sent = request(&["-f", zip.to_str().unwrap(), "-i", "x"]).unwrap();
        assert_eq!((&*sent.code, sent.binary), (&b"PK\x03\x04\xff"[..], true));
    }

    #[test]
    fn what_nothing_says_the_runtime_of_is_asked_about() {
        let error = request(&["-f", "def main(a): return a"]).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains("--runtime"), "{error}");
        assert!(request(&["-f", "missing.py"]).is_err());
    }
}
