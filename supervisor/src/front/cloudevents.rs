//! CloudEvents 1.0 over HTTP. A function sees an event as the structured mode writes it,
//! whichever mode it came in.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::plain::{media_type, raw, value};
use super::reply::{self, Reply};

const STRUCTURED: &str = "application/cloudevents+json";
const PREFIX: &str = "ce-";
const REQUIRED: [&str; 4] = ["id", "source", "specversion", "type"];

/// How an event came.
pub(super) enum Mode {
    /// Its attributes are headers, the body is its data.
    Binary,
    /// The body is all of it.
    Structured,
}

/// The mode, if it is an event.
pub(super) fn mode_of(kind: &str, headers: &HeaderMap) -> Option<Mode> {
    if media_type(kind) == STRUCTURED {
        return Some(Mode::Structured);
    }
    headers
        .contains_key("ce-specversion")
        .then_some(Mode::Binary)
}

/// True if this type is JSON.
pub(super) fn is_json(media_type: &str) -> bool {
    let (_, subtype) = media_type.split_once('/').unwrap_or_default();
    // A batch is none, nor is any other format of events.
    subtype == "json"
        || subtype.ends_with("+json") && !media_type.starts_with("application/cloudevents")
}

/// The event.
pub(super) fn event(
    mode: &Mode,
    kind: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Box<RawValue>, String> {
    match mode {
        Mode::Binary => binary(kind, headers, body),
        Mode::Structured => {
            let event: Box<RawValue> = serde_json::from_slice(body)
                .map_err(|error| format!("the event is not JSON: {error}"))?;
            let attributes: Map<String, Value> = serde_json::from_str(event.get())
                .map_err(|error| format!("the event is not a JSON object: {error}"))?;
            check(&attributes)?;
            Ok(event)
        }
    }
}

fn binary(kind: &str, headers: &HeaderMap, body: &[u8]) -> Result<Box<RawValue>, String> {
    let mut event = Map::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        let is_name = !attribute.is_empty()
            && attribute
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !is_name {
            return Err(format!("an event has no attribute {attribute:?}"));
        }
        let value = std::str::from_utf8(value.as_bytes())
            .ok()
            .and_then(decoded)
            .ok_or_else(|| format!("the event's {attribute} is not UTF-8"))?;
        event.insert(attribute.to_string(), value.into());
    }
    check(&event)?;
    if !kind.is_empty() {
        event.insert("datacontenttype".into(), kind.into());
    }
    let media_type = media_type(kind);
    let trimmed = body.trim_ascii();
    // JSON is what is meant where nothing is said.
    if trimmed.is_empty() {
        return Ok(raw(&event));
    }
    if media_type.is_empty() || is_json(&media_type) {
        // As it came: numbers that are read and written again may be others.
        let data: Box<RawValue> = serde_json::from_slice(body)
            .map_err(|error| format!("the event's data is not JSON: {error}"))?;
        return Ok(raw(&WithData { event, data }));
    }
    match std::str::from_utf8(body) {
        Ok(text) if media_type.starts_with("text/") => event.insert("data".into(), text.into()),
        _ => event.insert("data_base64".into(), STANDARD.encode(body).into()),
    };
    Ok(raw(&event))
}

#[derive(Serialize)]
struct WithData {
    #[serde(flatten)]
    event: Map<String, Value>,
    data: Box<RawValue>,
}

fn check(event: &Map<String, Value>) -> Result<(), String> {
    for name in REQUIRED {
        match event.get(name) {
            Some(Value::String(value)) if !value.is_empty() => {}
            Some(_) => return Err(format!("the event's {name} is not a text, or is empty")),
            None => return Err(format!("the event has no {name}")),
        }
    }
    match &event["specversion"] {
        Value::String(version) if version == "1.0" => Ok(()),
        other => Err(format!(
            "events of version {other} are not known here: 1.0 is"
        )),
    }
}

/// A header's value, in which what no header can hold is percent-encoded; nothing if it is
/// not UTF-8 then.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hexadecimal = |byte: &u8| char::from(*byte).to_digit(16);
        if let (b'%', [high, low, after @ ..]) = (byte, after)
            && let (Some(high), Some(low)) = (hexadecimal(high), hexadecimal(low))
        {
            bytes.push(u8::try_from(high * 16 + low).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// The answer to an event: nothing, another event, or any JSON.
pub(super) fn reply(data: Box<RawValue>) -> Reply {
    if data.get() == "null" {
        return reply::empty(StatusCode::NO_CONTENT);
    }
    let is_event = serde_json::from_str::<Map<String, Value>>(data.get())
        .is_ok_and(|event| check(&event).is_ok());
    if !is_event {
        return value(data);
    }
    let text: Cow<'_, str> = data.get().into();
    reply::of_type(StatusCode::OK, STRUCTURED, text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_headers_are_decoded() {
        for (value, expected) in [
            ("plain", Some("plain")),
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", Some("Euro € 😀")),
            ("100%", Some("100%")),
            ("%zz%4", Some("%zz%4")),
            ("%ff", None),
        ] {
            assert_eq!(decoded(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn a_batch_is_no_json_to_call_with() {
        for (kind, expected) in [
            ("application/json", true),
            ("text/json", true),
            ("application/vnd.x+json", true),
            ("application/cloudevents-batch+json", false),
            ("application/cloudevents+json", false),
            ("text/plain", false),
            ("json", false),
        ] {
            assert_eq!(is_json(kind), expected, "{kind}");
        }
    }
}
