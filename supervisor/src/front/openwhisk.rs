//! OpenWhisk's action interface: `/init` once, `/run` for each activation.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use hyper::body::Incoming;
use refunction_protocol::{Failure, FailureKind, Function, Request};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::bridge::{Contract, Extras};
use super::plain::{in_text, raw, value};
use super::reply::{self, Reply};
use super::route::{MOST_BODY, Site};

/// OpenWhisk's own limit for code is 48 MB, which is 64 MB in base64.
const MOST_CODE: usize = 66 * 1024 * 1024;

/// What OpenWhisk says to a second `/init`, to the client and in the log.
pub(crate) const ONCE: &str = "Cannot initialize the action more than once.";

const MISSING: &str = "Missing main/no code to execute.";
const NO_OBJECT: &str = "The action did not return a dictionary or array.";

/// Below these names an action finds what comes with an activation.
const VARIABLES: &str = "__OW_";

#[derive(Deserialize)]
struct Initialization {
    #[serde(default)]
    value: Code,
}

#[derive(Deserialize, Default)]
struct Code {
    #[serde(default)]
    main: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    binary: bool,
    #[serde(default)]
    env: BTreeMap<String, Box<RawValue>>,
}

/// Loads the action.
pub(super) async fn init(site: &Rc<Site>, body: Incoming) -> Reply {
    let text = match site.read(body, MOST_CODE).await {
        Ok(text) => text,
        Err(bad) => {
            let (status, message) = reply::why_bad_body(&bad);
            return reply::closing(error(status, &message));
        }
    };
    if let Some(handler) = &site.handler {
        let message = format!("The image is for {handler}, and takes no other code.");
        return error(StatusCode::FORBIDDEN, &message);
    }
    let given = match text.bytes.trim_ascii() {
        [] => Ok(Initialization {
            value: Code::default(),
        }),
        body => serde_json::from_slice::<Initialization>(body),
    };
    drop(text);
    let Code {
        main,
        code,
        binary,
        env,
    } = match given {
        Ok(given) => given.value,
        Err(problem) => {
            let message = format!("The initialization is not understood: {problem}");
            return error(StatusCode::BAD_REQUEST, &message);
        }
    };
    let Some(code) = code.filter(|code| !code.trim().is_empty()) else {
        return error(StatusCode::FORBIDDEN, MISSING);
    };
    let function = Box::new(Function {
        code,
        binary,
        main: main.filter(|main| !main.is_empty()),
        env: env
            .into_iter()
            .map(|(name, value)| (name, in_a_variable(&value)))
            .collect(),
        ..Function::default()
    });
    match site.bridge.init(function).await {
        Ok(Ok(())) => reply::json(StatusCode::OK, &json!({"ok": true})),
        Ok(Err(failure)) if failure.message == ONCE => error(StatusCode::FORBIDDEN, ONCE),
        Ok(Err(failure)) => error(StatusCode::BAD_GATEWAY, &in_words(&failure)),
        Err(reason) => {
            let (status, message) = reply::why_no_room(&reason);
            reply::later(error(status, message))
        }
    }
}

/// Calls the action.
pub(super) async fn run(site: &Rc<Site>, body: Incoming) -> Reply {
    let text = match site.read(body, MOST_BODY).await {
        Ok(text) => text,
        Err(bad) => {
            let (status, message) = reply::why_bad_body(&bad);
            return reply::closing(error(status, &message));
        }
    };
    let activation = match activation(&text.bytes) {
        Ok(activation) => activation,
        Err(message) => return error(StatusCode::BAD_REQUEST, &message),
    };
    drop(text);
    let (request, extras) = activation;
    let outcome = match site.bridge.call(request, extras).await {
        Ok(outcome) => outcome,
        Err(reason) => {
            let (status, message) = reply::why_no_room(&reason);
            return reply::later(error(status, message));
        }
    };
    let answered = match outcome.result {
        Ok(data) if data.get().starts_with(['{', '[']) => value(data),
        Ok(_) => error(StatusCode::BAD_GATEWAY, NO_OBJECT),
        Err(failure) if failure.kind == FailureKind::NotLoaded => {
            error(StatusCode::FORBIDDEN, "The action was not initialized.")
        }
        Err(failure) => error(StatusCode::BAD_GATEWAY, &in_words(&failure)),
    };
    reply::with(answered, "x-duration-seconds", &in_text(outcome.spent))
}

/// What an activation calls the action with.
fn activation(body: &[u8]) -> Result<(Request, Extras), String> {
    let mut given: BTreeMap<String, Box<RawValue>> = match body.trim_ascii() {
        [] => BTreeMap::new(),
        body => serde_json::from_slice(body)
            .map_err(|problem| format!("The activation is not understood: {problem}"))?,
    };
    let data = match given.remove("value") {
        Some(value) if value.get() != "null" => value,
        _ => raw(&json!({})),
    };
    let texts = given
        .iter()
        .filter(|(name, _)| is_name(name))
        .map(|(name, value)| (name.clone(), in_a_variable(value)));
    let texts: BTreeMap<String, String> = texts.collect();
    let deadline_ms = texts
        .get("deadline")
        .and_then(|deadline| left_until(deadline));
    let id = texts.get("activation_id").cloned();
    let id = id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let env = texts
        .into_iter()
        .map(|(name, text)| (format!("{VARIABLES}{}", name.to_ascii_uppercase()), text))
        .collect();
    let request = Request {
        id: Some(raw(&id)),
        deadline_ms,
        pieces: false,
        data,
    };
    let extras = Extras {
        env,
        contract: Contract::OpenWhisk,
        ..Extras::default()
    };
    Ok((request, extras))
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_part)
}

/// Milliseconds until this moment, which is in milliseconds since 1970, as a number or as
/// text.
pub(super) fn left_until(deadline: &str) -> Option<u64> {
    let deadline: u64 = deadline.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(deadline.saturating_sub(u64::try_from(now.as_millis()).ok()?))
}

/// Text as it is, other values as JSON.
fn in_a_variable(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_string())
}

fn in_words(failure: &Failure) -> String {
    match &failure.error_type {
        Some(kind) => format!("An error has occurred: {kind}: {}", failure.message),
        None => format!("An error has occurred: {}", failure.message),
    }
}

fn error(status: StatusCode, message: &str) -> Reply {
    reply::json(status, &json!({"error": message}))
}

/// The line that ends the log of an activation.
pub(crate) const SENTINEL: &str = "XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_activation_has_its_variables() {
        let body = br#"{"value":{"a":1},"namespace":"me","deadline":"9999999999999","api_host":"","activation_id":"7","bad-name":"x","is":true}"#;
        let (request, extras) = activation(body).expect("understood");
        assert_eq!(request.data.get(), r#"{"a":1}"#);
        assert_eq!(request.id.expect("an id").get(), "\"7\"");
        assert!(request.deadline_ms.expect("a deadline") > 1_000_000_000);
        let expected = [
            ("__OW_ACTIVATION_ID", "7"),
            ("__OW_API_HOST", ""),
            ("__OW_DEADLINE", "9999999999999"),
            ("__OW_IS", "true"),
            ("__OW_NAMESPACE", "me"),
        ];
        let expected = expected.map(|(name, value)| (name.to_string(), value.to_string()));
        assert_eq!(extras.env, BTreeMap::from(expected));
    }

    #[test]
    fn a_deadline_that_is_over_leaves_nothing() {
        assert_eq!(left_until("1"), Some(0));
        assert_eq!(left_until("soon"), None);
    }
}
