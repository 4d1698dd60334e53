//! Reading what a request says beside its body.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::header::{HeaderMap, HeaderName};
use axum::http::request::Parts;

use super::reply::{self, Reply};

/// The variable part of a path.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Reply;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Reply> {
        let found = Path::<String>::from_request_parts(parts, state).await;
        let Path(name) = found.map_err(|error| {
            reply::bad_request(&format!("the path cannot be read: {}", error.body_text()))
        })?;
        Ok(Self(name))
    }
}

/// What stands behind the question mark; each is taken once, and none may be left.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of(uri: &Uri) -> Result<Self, Reply> {
        let Query(pairs) = Query::try_from_uri(uri).map_err(|error| {
            reply::bad_request(&format!("the query cannot be read: {}", error.body_text()))
        })?;
        Ok(Self(pairs))
    }

    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, Reply> {
        let Some(place) = self.0.iter().position(|(it, _)| it == name) else {
            return Ok(None);
        };
        let (_, value) = self.0.remove(place);
        if self.0.iter().any(|(it, _)| it == name) {
            return Err(reply::bad_request(&format!(
                "the query has {name:?} more than once"
            )));
        }
        Ok(Some(value))
    }

    /// One that is there or not, whichever way that is said.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Reply> {
        match self.take(name)?.as_deref() {
            Some("" | "true" | "1") => Ok(true),
            None | Some("false" | "0") => Ok(false),
            Some(_) => Err(reply::bad_request(&format!(
                "{name:?} in the query stands by itself, or is true or false"
            ))),
        }
    }

    /// A misspelt one is not to pass for one that is absent.
    pub(super) fn end(self) -> Result<(), Reply> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(reply::bad_request(&format!(
                "{name:?} in the query is not known here"
            ))),
        }
    }
}

/// A header's value as text, if it is there and is text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// True for a content type that is JSON.
pub(super) fn is_json(kind: &str) -> bool {
    let (kind, _) = kind.split_once(';').unwrap_or((kind, ""));
    let kind = kind.trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}
