//! What went wrong, told to whoever asked for the call.

use refunction_adapter::Exception;
use rquickjs::{Coerced, Ctx, Error, Object, Value};

use crate::modules::WRAPPER_BEGIN;
use crate::prelude;
use crate::shared::Shared;

/// How much of a message or stack is passed on.
const MOST_CHARACTERS: usize = 64 * 1024;
/// How many causes of causes are told, and how many parts of an error of several.
const MOST_CAUSES: usize = 8;

/// When not even an error fits in what is left, QuickJS throws this instead of one.
const NULL_WAS_THROWN: &str = "null, which is also what comes of memory that is used up";

/// The adapter's own answer to what a tenant sent; has no frames to show.
pub(crate) fn refusal(kind: &str, message: impl Into<String>) -> Exception {
    Exception {
        error_type: kind.into(),
        message: bounded(message.into()),
        stack: String::new(),
    }
}

/// What an operation that failed in this context has to say.
pub(crate) fn of_error(shared: &Shared, ctx: &Ctx<'_>, error: &Error) -> Exception {
    match error {
        Error::Exception => of_value(shared, &ctx.catch()),
        Error::Allocation => refusal("InternalError", "out of memory"),
        other => refusal("InternalError", other.to_string()),
    }
}

/// What was thrown, whatever it is. What is odd about it must not throw again.
pub(crate) fn of_value(shared: &Shared, thrown: &Value<'_>) -> Exception {
    let Some(error) = thrown.as_object().filter(|it| is_error(it)) else {
        return Exception {
            error_type: thrown.type_name().into(),
            message: bounded(if thrown.is_object() {
                brief(shared, thrown)
            } else if thrown.is_null() {
                NULL_WAS_THROWN.into()
            } else {
                text(shared, thrown)
            }),
            stack: String::new(),
        };
    };
    let (error_type, message) = head(shared, error);
    Exception {
        stack: bounded(stack(shared, error)),
        message: bounded(message),
        error_type: bounded(error_type),
    }
}

/// An error as Node.js prints one: its name and message, its frames, its causes.
pub(crate) fn stack(shared: &Shared, error: &Object<'_>) -> String {
    let mut told = String::new();
    tell(shared, error, "", MOST_CAUSES, &mut told);
    told
}

fn tell(shared: &Shared, error: &Object<'_>, indent: &str, depth: usize, told: &mut String) {
    let (error_type, message) = head(shared, error);
    told.push_str(&error_type);
    if !message.is_empty() {
        told.push_str(": ");
        told.push_str(&message);
    }
    for frame in frames(shared, error) {
        told.push('\n');
        told.push_str(indent);
        told.push_str(&frame);
    }
    if depth == 0 {
        return;
    }
    let deeper = format!("{indent}  ");
    let parts = get(error, "errors")
        .and_then(|errors| errors.into_array())
        .into_iter()
        .flat_map(|errors| {
            errors
                .iter::<Value<'_>>()
                .take(MOST_CAUSES)
                .map_while(Result::ok)
                .map(|part| ("error", part))
                .collect::<Vec<_>>()
        });
    let cause = own(error, "cause").map(|cause| ("cause", cause));
    for (name, part) in cause.into_iter().chain(parts) {
        told.push('\n');
        told.push_str(&deeper);
        told.push_str(&format!("[{name}]: "));
        match part.as_object().filter(|it| is_error(it)) {
            Some(part) => tell(shared, part, &deeper, depth - 1, told),
            None => told.push_str(&brief(shared, &part)),
        }
    }
}

/// An error of this context or another, or what a library made to look like one.
fn is_error(thing: &Object<'_>) -> bool {
    thing.as_value().is_error()
        || get(thing, "message").is_some_and(|it| it.is_string())
            && get(thing, "name").is_some_and(|it| it.is_string())
}

fn head(shared: &Shared, error: &Object<'_>) -> (String, String) {
    let name = get(error, "name").filter(|it| !it.is_undefined() && !it.is_object());
    let name = name.map_or_else(|| "Error".into(), |it| text(shared, &it));
    let message = get(error, "message").filter(|it| !it.is_undefined());
    let message = message.map_or_else(String::new, |it| text(shared, &it));
    (
        if name.is_empty() {
            "Error".into()
        } else {
            name
        },
        message,
    )
}

/// The frames that are the tenant's.
fn frames(shared: &Shared, error: &Object<'_>) -> Vec<String> {
    let stack = told_by(shared, "framesOf", error.as_value());
    let wrapped = shared.wrapped.borrow();
    let mut frames: Vec<String> = stack
        .lines()
        .filter(|line| line.starts_with("    at ") && !line.contains(prelude::FILE_PREFIX))
        .map(|line| match place(line) {
            Some((file, 1, column)) if wrapped.contains(file) => {
                let shown = column.saturating_sub(WRAPPER_BEGIN.len()).max(1);
                line.replace(&format!("{file}:1:{column}"), &format!("{file}:1:{shown}"))
            }
            _ => line.to_owned(),
        })
        .collect();
    // What QuickJS itself did between the adapter and the function.
    while frames
        .last()
        .is_some_and(|line| line.ends_with(" (native)"))
    {
        frames.pop();
    }
    frames
}

/// File, line and column of a frame.
fn place(frame: &str) -> Option<(&str, usize, usize)> {
    let place = frame.rsplit_once(" (").map_or_else(
        || frame.trim_start().strip_prefix("at "),
        |(_, it)| it.strip_suffix(')'),
    )?;
    let (place, column) = place.rsplit_once(':')?;
    let (file, line) = place.rsplit_once(':')?;
    Some((file, line.parse().ok()?, column.parse().ok()?))
}

/// Where this text could not be read any further, if that is what the error says: line
/// and column.
pub(crate) fn syntax_error_place(error: &Value<'_>, name: &str) -> Option<(usize, usize)> {
    let error = error.as_object()?;
    let kind: String = get(error, "name")?.get().ok()?;
    let stack: String = get(error, "stack")?.get().ok()?;
    let (file, line, column) = place(stack.lines().next()?)?;
    (kind == "SyntaxError" && file == name).then_some((line, column))
}

/// A property, unless looking at it throws.
fn get<'js>(object: &Object<'js>, name: &str) -> Option<Value<'js>> {
    object.get(name).map_err(|_| object.ctx().catch()).ok()
}

fn own<'js>(object: &Object<'js>, name: &str) -> Option<Value<'js>> {
    let has = object.contains_key(name).map_err(|_| object.ctx().catch());
    has.is_ok_and(|has| has).then(|| get(object, name))?
}

/// Any value as text.
fn text(shared: &Shared, value: &Value<'_>) -> String {
    if value.is_string()
        && let Ok(Coerced(text)) = value.get::<Coerced<String>>()
    {
        return text;
    }
    told_by(shared, "text", value)
}

fn brief(shared: &Shared, value: &Value<'_>) -> String {
    told_by(shared, "brief", value)
}

fn told_by(shared: &Shared, tool: &str, value: &Value<'_>) -> String {
    let ctx = value.ctx();
    shared
        .call(ctx, tool, (value.clone(),))
        .unwrap_or_else(|_| {
            ctx.catch();
            "<not to be told>".into()
        })
}

/// The beginning, and the longer end.
fn bounded(text: String) -> String {
    let count = text.chars().count();
    if count <= MOST_CHARACTERS {
        return text;
    }
    let head: String = text.chars().take(MOST_CHARACTERS / 4).collect();
    let tail: String = text
        .chars()
        .skip(count - (MOST_CHARACTERS - MOST_CHARACTERS / 4))
        .collect();
    format!(
        "{head}\n... {} characters left out ...\n{tail}",
        count - MOST_CHARACTERS
    )
}
