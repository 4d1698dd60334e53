//! Which path and method is whose.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::routing::{MethodRouter, delete, get, post, put};

use super::reply::{self, Reply};
use super::{Gateway, calls, functions, health};

/// Asked for by whoever keeps the daemon alive, without a token.
pub(super) const OPEN: [&str; 2] = ["/healthz", "/readyz"];

type Handler = MethodRouter<Arc<Gateway>>;

/// All there is; the OpenAPI document has the same.
pub(super) fn routes() -> Vec<(Method, &'static str, Handler)> {
    vec![
        (Method::GET, "/functions", get(functions::list)),
        (Method::GET, "/functions/{name}", get(functions::get)),
        (Method::PUT, "/functions/{name}", put(functions::put)),
        (
            Method::DELETE,
            "/functions/{name}",
            delete(functions::delete),
        ),
        (Method::POST, "/functions/{name}", post(calls::call)),
        (Method::GET, "/functions/{name}/code", get(functions::code)),
        (Method::GET, "/results/{id}", get(calls::result)),
        (Method::DELETE, "/results/{id}", delete(calls::forget)),
        (Method::GET, "/healthz", get(health::health)),
        (Method::GET, "/readyz", get(health::ready)),
        (Method::GET, "/metrics", get(health::metrics)),
        (Method::GET, "/openapi.json", get(health::openapi)),
    ]
}

pub(super) fn router(gateway: Arc<Gateway>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (_, path, handler)| {
            router.route(path, handler)
        })
        .method_not_allowed_fallback(wrong_method)
        .fallback(nothing)
        .with_state(gateway)
}

/// The router adds the header.
async fn wrong_method(request: Request) -> Reply {
    let message = format!(
        "this path does not take {}; the header Allow says what it takes",
        request.method()
    );
    let status = StatusCode::METHOD_NOT_ALLOWED;
    reply::refusal(status, "bad_request", &message)
}

async fn nothing() -> Reply {
    reply::not_found(
        "there is nothing under this path: a function is called by POST /functions/{name}, and GET /openapi.json says what else there is",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_has_what_is_served_and_nothing_else() {
        let document: Value = serde_json::from_str(health::OPENAPI).unwrap();
        let served: BTreeSet<_> = routes()
            .into_iter()
            .map(|(method, path, _)| (method.to_string(), path.to_owned()))
            .collect();
        let documented: BTreeSet<_> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().unwrap().keys();
                methods
                    .filter(|it| *it != "parameters")
                    .map(|method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        assert_eq!(served, documented);
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn what_the_document_refers_to_is_there() {
        fn references<'a>(value: &'a Value, all: &mut Vec<&'a str>) {
            match value {
                Value::Object(fields) => {
                    all.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|it| references(it, all));
                }
                Value::Array(items) => items.iter().for_each(|it| references(it, all)),
                _ => {}
            }
        }
        let document: Value = serde_json::from_str(health::OPENAPI).unwrap();
        let mut all = Vec::new();
        references(&document, &mut all);
        assert!(all.len() > 10);
        for reference in all {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
