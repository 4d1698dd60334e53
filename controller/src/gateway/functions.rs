//! Deploying functions, and looking at what is deployed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::calls::unknown;
use super::reply::{self, Reply};
use super::request::{Name, Parameters, header, is_json};
use super::{Gateway, MOST_DEPLOYED};
use crate::store::{Change, Condition, Definition, Function, StoreError, check_name};

/// Functions on a page where nobody says how many.
const LISTED: usize = 100;

/// What they may be asked for.
const MOST_LISTED: usize = 1000;

/// Revisions begin with 1.
const NEVER: Condition = Condition::Revision(0);

/// A function as it is deployed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deployment {
    code: String,
    #[serde(default)]
    binary: bool,
    #[serde(default, deserialize_with = "given")]
    image: Option<String>,
    #[serde(default, deserialize_with = "given")]
    runtime: Option<String>,
    #[serde(default, deserialize_with = "given")]
    main: Option<String>,
    #[serde(default, deserialize_with = "given")]
    handler: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "whole")]
    deadline_ms: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    memory_bytes: Option<u64>,
    #[serde(default, deserialize_with = "whole")]
    max_concurrency: Option<u32>,
    #[serde(default, deserialize_with = "whole")]
    keep_warm_s: Option<u64>,
}

/// What is absent is left out, not null.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

/// A whole number, which JSON also writes as `2.0` or `2e3`.
fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<Option<T>, D::Error> {
    let number = serde_json::Number::deserialize(from)?;
    let as_float = || {
        let float = number.as_f64()?;
        // Of what is larger not every number is one.
        let is_whole = float.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&float);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        is_whole.then_some(float as u64)
    };
    let whole = number.as_u64().or_else(as_float);
    whole
        .and_then(|whole| T::try_from(whole).ok())
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("{number} is no number that can be here")))
}

/// `PUT /functions/{name}`
pub(super) async fn put(
    State(gateway): State<Arc<Gateway>>,
    Name(name): Name,
    request: Request,
) -> Result<Reply, Reply> {
    // Before the body: one that is of no use need not come.
    check_name(&name).map_err(|error| reply::of_store(&error))?;
    let (parts, body) = request.into_parts();
    Parameters::of(&parts.uri)?.end()?;
    let kind = header(&parts.headers, &CONTENT_TYPE).unwrap_or("");
    if !kind.is_empty() && !is_json(kind) {
        return Err(reply::wrong_type(kind));
    }
    let text = gateway.read(body, MOST_DEPLOYED).await?;
    // A list of the fields' values would do, too.
    if text
        .bytes
        .trim_ascii_start()
        .first()
        .is_some_and(|it| *it != b'{')
    {
        return Err(reply::bad_request(
            "the body is no function: it is no JSON object",
        ));
    }
    let deployment: Deployment = serde_json::from_slice(&text.bytes)
        .map_err(|error| reply::bad_json("the body is no function", &error))?;
    drop(text);
    let (definition, code) = resolve(deployment, &gateway.settings.images)?;
    let condition = condition(&gateway, &name, &parts.headers).await?;
    let put = to_its_end({
        let (gateway, name) = (Arc::clone(&gateway), name.clone());
        async move {
            let put = gateway
                .store
                .put(&name, definition, code, condition)
                .await?;
            gateway.invoke.changed(&name).await?;
            Ok(put)
        }
    })
    .await?;
    let reply = shown(
        match put.change {
            Change::Created => StatusCode::CREATED,
            Change::Updated | Change::Unchanged => StatusCode::OK,
        },
        &put.function,
    );
    // The name was checked: it needs no escaping.
    Ok(match put.change {
        Change::Created => reply::with(reply, LOCATION, &format!("/functions/{name}")),
        Change::Updated | Change::Unchanged => reply,
    })
}

/// Carries a change out though its client may leave: who calls must hear of all that is stored.
async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, Reply> {
    // It ends early only with the daemon.
    let changed = tokio::spawn(change)
        .await
        .unwrap_or(Err(StoreError::Closed));
    changed.map_err(|error| reply::of_store(&error))
}

/// `GET /functions/{name}`
pub(super) async fn get(
    State(gateway): State<Arc<Gateway>>,
    Name(name): Name,
    request: Request,
) -> Result<Reply, Reply> {
    Parameters::of(request.uri())?.end()?;
    let function = find(&gateway, &name).await?;
    if is_known(request.headers(), &function) {
        let reply = reply::empty(StatusCode::NOT_MODIFIED);
        return Ok(reply::with(reply, ETAG, &etag(&function)));
    }
    Ok(shown(StatusCode::OK, &function))
}

/// `GET /functions/{name}/code`
pub(super) async fn code(
    State(gateway): State<Arc<Gateway>>,
    Name(name): Name,
    request: Request,
) -> Result<Reply, Reply> {
    Parameters::of(request.uri())?.end()?;
    let function = find(&gateway, &name).await?;
    let code = gateway.store.code(function.code).await;
    let code = code.map_err(|error| reply::of_store(&error))?;
    // Gone between the two looks, and with it the function as it was.
    let code = code.ok_or_else(|| unknown(&name))?;
    let kind = if function.definition.binary {
        "application/zip"
    } else {
        "text/plain; charset=utf-8"
    };
    let reply = reply::of_type(StatusCode::OK, kind, code);
    Ok(reply::with(reply, ETAG, &etag(&function)))
}

/// `DELETE /functions/{name}`
pub(super) async fn delete(
    State(gateway): State<Arc<Gateway>>,
    Name(name): Name,
    request: Request,
) -> Result<Reply, Reply> {
    Parameters::of(request.uri())?.end()?;
    find(&gateway, &name).await?;
    let condition = condition(&gateway, &name, request.headers()).await?;
    let deleted = to_its_end({
        let (gateway, name) = (Arc::clone(&gateway), name.clone());
        async move {
            let deleted = gateway.store.delete(&name, condition).await?;
            gateway.invoke.changed(&name).await?;
            Ok(deleted)
        }
    })
    .await?;
    deleted.ok_or_else(|| unknown(&name))?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `GET /functions`
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Reply, Reply> {
    let mut parameters = Parameters::of(request.uri())?;
    let after = parameters.take("after")?;
    let limit = match parameters.take("limit")? {
        None => LISTED,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MOST_LISTED).contains(limit))
            .ok_or_else(|| {
                reply::bad_request(&format!("\"limit\" is a number from 1 to {MOST_LISTED}"))
            })?,
    };
    parameters.end()?;
    let page = gateway.store.list(after.as_deref(), limit).await;
    let page = page.map_err(|error| reply::of_store(&error))?;
    Ok(reply::json(
        StatusCode::OK,
        &json!({"functions": page.functions, "next": page.next}),
    ))
}

async fn find(gateway: &Gateway, name: &str) -> Result<Function, Reply> {
    let found = gateway.store.get(name).await;
    let found = found.map_err(|error| reply::of_store(&error))?;
    found.ok_or_else(|| unknown(name))
}

fn etag(function: &Function) -> String {
    format!("\"{}\"", function.revision)
}

fn shown(status: StatusCode, function: &Function) -> Reply {
    reply::with(reply::json(status, function), ETAG, &etag(function))
}

/// What is stored of a deployment.
fn resolve(
    deployment: Deployment,
    images: &BTreeMap<String, String>,
) -> Result<(Definition, Vec<u8>), Reply> {
    let image = match (deployment.image, deployment.runtime) {
        (Some(image), None) => image,
        (None, Some(runtime)) => images.get(&runtime).cloned().ok_or_else(|| {
            let known: Vec<_> = images.keys().map(String::as_str).collect();
            reply::bad_request(&format!(
                "there is no runtime {runtime:?}; there are: {}",
                known.join(", ")
            ))
        })?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(reply::bad_request(
                "a function has either an \"image\" or a \"runtime\"",
            ));
        }
    };
    let code = if deployment.binary {
        STANDARD.decode(&deployment.code).map_err(|error| {
            reply::bad_request(&format!(
                "the code is to be binary, and is not base64: {error}"
            ))
        })?
    } else {
        deployment.code.into_bytes()
    };
    let definition = Definition {
        image,
        binary: deployment.binary,
        main: deployment.main,
        handler: deployment.handler,
        env: deployment.env,
        deadline_ms: deployment.deadline_ms,
        memory_bytes: deployment.memory_bytes,
        max_concurrency: deployment.max_concurrency,
        keep_warm_s: deployment.keep_warm_s,
    };
    Ok((definition, code))
}

/// The tags in a header that may come more than once; None if it is not there.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let mut all = None;
    for value in headers.get_all(name) {
        let text = value.to_str().unwrap_or("");
        let tags = text.split(',').map(|tag| tag.trim().to_owned());
        all.get_or_insert_with(Vec::new).extend(tags);
    }
    all
}

/// True if the client says that it has this state already.
fn is_known(headers: &HeaderMap, function: &Function) -> bool {
    let current = etag(function);
    tags(headers, &IF_NONE_MATCH).is_some_and(|tags| {
        let same = |tag: &String| tag == "*" || tag.trim_start_matches("W/") == current;
        tags.iter().any(same)
    })
}

/// What a change depends on, as the headers say.
async fn condition(gateway: &Gateway, name: &str, headers: &HeaderMap) -> Result<Condition, Reply> {
    let if_none_match = tags(headers, &IF_NONE_MATCH);
    let if_match = tags(headers, &IF_MATCH);
    if if_none_match.as_ref().is_some_and(|tags| tags != &["*"]) {
        return Err(reply::bad_request(
            "the header If-None-Match can only be *, for a function that is not there yet",
        ));
    }
    Ok(match (if_match, if_none_match) {
        (None, None) => Condition::None,
        (None, Some(_)) => Condition::Absent,
        (Some(tags), None) if tags == ["*"] => Condition::Present,
        // What a client calls a tag need not be one of ours; only one that is can hold.
        (Some(tags), None) => {
            let found = gateway.store.get(name).await;
            let found = found.map_err(|error| reply::of_store(&error))?;
            match found {
                Some(function) if tags.contains(&etag(&function)) => {
                    Condition::Revision(function.revision)
                }
                _ => NEVER,
            }
        }
        // No function is there and is not.
        (Some(_), Some(_)) => NEVER,
    })
}
