//! Polls Lambda's runtime API, as a runtime does there: the same calls as those of clients
//! who come by themselves, one after the other.

use std::rc::Rc;

use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use refunction_adapter::Caller;
use refunction_protocol::{Failure, FailureKind, Request};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::bridge::{Contract, Extras};
use super::lambda::{shape, too_large};
use super::openwhisk::left_until;
use super::plain::raw;
use super::reply;
use super::route::{MOST_BODY, Site, header};
use super::runtime_api::{Posted, RuntimeApi, RuntimeApiError, Ticket};
use super::stage::{Following, Stage};

/// Serves what the API gives until the container stops; or tells it why there will be no
/// function, if that is what comes.
pub(super) async fn serve(
    site: Rc<Site>,
    mut api: RuntimeApi,
    mut stage: Following,
    mut failure: oneshot::Receiver<Failure>,
) {
    // To ask for the first is to say that everything is ready.
    if stage.reaches(Stage::Serving).await != Stage::Serving {
        if let Ok(failure) = failure.try_recv() {
            tell_init_failure(api, &failure, site.is_python).await;
        }
        return;
    }
    loop {
        let given = tokio::select! {
            biased;
            _ = stage.reaches(Stage::Draining) => return,
            given = api.next() => given,
        };
        let served = match given {
            Ok(response) => serve_one(&site, &mut api, response).await,
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            site.bridge.lose(error);
            return;
        }
    }
}

async fn tell_init_failure(mut api: RuntimeApi, failure: &Failure, is_python: bool) {
    let error = match failure.kind {
        FailureKind::Exception => shape(failure, "", is_python),
        _ => unusable("", "Runtime.UnknownReason", failure.message.clone()),
    };
    match api.fail_init(&error).await {
        Ok(Posted::Taken) => {}
        Ok(Posted::NotTaken(status, said)) => eprintln!(
            "refunction-supervisor: Lambda's runtime API did not take the failed start: {status}: {said}"
        ),
        Err(error) => eprintln!("refunction-supervisor: {error}"),
    }
}

async fn serve_one(
    site: &Rc<Site>,
    api: &mut RuntimeApi,
    response: Response<Incoming>,
) -> Result<(), RuntimeApiError> {
    let (parts, body) = response.into_parts();
    let ticket = api.ticket(&parts.headers)?;
    let id = &ticket.id;
    let text = site.read(body, MOST_BODY).await;
    if text.is_err() {
        api.hang_up();
    }
    let call = text
        .map_err(|bad| unusable(id, "Runtime.UnmarshalError", reply::why_bad_body(&bad).1))
        .and_then(|text| call(id, &parts.headers, &text.bytes));
    let posted = match call {
        Err(error) => api.fail(&ticket, &error).await?,
        Ok((request, extras)) => {
            let outcome = site.bridge.call_as_promised(request, extras).await;
            let result = outcome.map_or_else(|_| Err(stopping()), |outcome| outcome.result);
            match result {
                Ok(data) => respond(api, &ticket, data).await?,
                Err(failure) => {
                    let error = shape(&failure, id, site.is_python);
                    api.fail(&ticket, &error).await?
                }
            }
        }
    };
    if let Posted::NotTaken(status, said) = posted {
        eprintln!(
            "refunction-supervisor: Lambda's runtime API did not take the answer of {id}: {status}: {said}"
        );
    }
    Ok(())
}

async fn respond(
    api: &mut RuntimeApi,
    ticket: &Ticket,
    data: Box<RawValue>,
) -> Result<Posted, RuntimeApiError> {
    let posted = api
        .respond(ticket, String::from(Box::<str>::from(data)))
        .await?;
    match posted {
        // Lambda tells its client by itself; others wait for it to be told.
        Posted::NotTaken(StatusCode::PAYLOAD_TOO_LARGE, said) => {
            api.fail(ticket, &too_large()).await?;
            Ok(Posted::NotTaken(StatusCode::PAYLOAD_TOO_LARGE, said))
        }
        posted => Ok(posted),
    }
}

/// What an invocation calls the function with, or why it cannot.
fn call(id: &str, headers: &HeaderMap, body: &[u8]) -> Result<(Request, Extras), Value> {
    let event = match body.trim_ascii() {
        [] => b"{}",
        event => event,
    };
    let data = serde_json::from_slice(event).map_err(|error| {
        let message = format!("Unable to unmarshal input: {error}");
        unusable(id, "Runtime.UnmarshalError", message)
    })?;
    let text = |name| header(headers, name).filter(|text| !text.is_empty());
    let trace = text("lambda-runtime-trace-id")
        .map(|trace| ("_X_AMZN_TRACE_ID".to_string(), trace.to_string()));
    let request = Request {
        id: Some(raw(&id)),
        deadline_ms: text("lambda-runtime-deadline-ms").and_then(left_until),
        pieces: false,
        data,
    };
    let extras = Extras {
        env: trace.into_iter().collect(),
        caller: Caller {
            client_context: object(
                id,
                headers,
                "lambda-runtime-client-context",
                "Client Context",
            )?,
            cognito_identity: object(
                id,
                headers,
                "lambda-runtime-cognito-identity",
                "Cognito Identity",
            )?,
            invoked_function_arn: text("lambda-runtime-invoked-function-arn").map(str::to_owned),
            tenant_id: text("lambda-runtime-aws-tenant-id").map(str::to_owned),
        },
        contract: Contract::RuntimeApi,
    };
    Ok((request, extras))
}

/// A header that holds a JSON object, if it is there.
fn object(
    id: &str,
    headers: &HeaderMap,
    name: &str,
    title: &str,
) -> Result<Option<Box<RawValue>>, Value> {
    let Some(value) = headers.get(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    match serde_json::from_slice::<Value>(value.as_bytes()) {
        Ok(object) if object.is_object() => Ok(Some(raw(&object))),
        Ok(_) => Err("it is no object".to_string()),
        Err(error) => Err(error.to_string()),
    }
    .map_err(|reason| {
        let message = format!("Unable to parse {title} JSON: {reason}");
        unusable(id, "Runtime.LambdaContextUnmarshalError", message)
    })
}

/// An invocation that does not get as far as the function.
fn unusable(id: &str, kind: &str, message: String) -> Value {
    json!({"errorMessage": message, "errorType": kind, "requestId": id, "stackTrace": []})
}

/// It came when the container had already been told to stop.
fn stopping() -> Failure {
    Failure {
        kind: FailureKind::Crashed,
        message: "the container is stopping".into(),
        error_type: None,
        stack: None,
    }
}
