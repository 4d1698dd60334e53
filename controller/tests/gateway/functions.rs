//! Deploying functions, and looking at what is deployed.

use serde_json::{Value, json};

use crate::client::Answer;
use crate::site::Site;

async fn put(site: &Site, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let body = body.to_string();
    site.send("PUT", path, headers, body.as_bytes()).await
}

#[tokio::test]
async fn a_function_is_deployed_looked_at_and_deleted() {
    let site = Site::start().await;
    let code = "def main(args):\n    return {'ä': args}\n";
    let body = json!({
        "code": code, "image": "registry/one:1", "main": "main", "env": {"A": "1"},
        "deadline_ms": 1000, "memory_bytes": 1 << 28, "max_concurrency": 2, "keep_warm_s": 0,
    });
    let created = put(&site, "/functions/one", &[], &body).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.header("location"), "/functions/one");
    let shown = created.json();
    for (field, value) in body.as_object().unwrap() {
        if field != "code" {
            assert_eq!(&shown[field], value);
        }
    }
    assert!(shown.get("code").is_none());
    assert_eq!(created.header("etag"), format!("\"{}\"", shown["revision"]));
    assert_eq!(site.get("/functions/one").await.json(), shown);
    let given = site.get("/functions/one/code").await;
    assert_eq!((given.status, given.text()), (200, code.to_owned()));
    assert_eq!(given.header("content-type"), "text/plain; charset=utf-8");

    // The same once more is no change.
    let same = put(&site, "/functions/one", &[], &body).await;
    assert_eq!((same.status, same.json()), (200, shown.clone()));
    let mut other = body.clone();
    other["env"] = json!({});
    let changed = put(&site, "/functions/one", &[], &other).await;
    assert_eq!(changed.status, 200);
    assert!(changed.json()["revision"].as_u64() > shown["revision"].as_u64());

    let gone = site.send("DELETE", "/functions/one", &[], b"").await;
    assert_eq!((gone.status, gone.text()), (204, String::new()));
    for path in ["/functions/one", "/functions/one/code"] {
        site.get(path).await.fails(404, "not_found", "\"one\"");
    }
    let again = site.send("DELETE", "/functions/one", &[], b"").await;
    again.fails(404, "not_found", "\"one\"");
    // Each change was told, and what changed nothing: whoever stored the same before may have
    // been ended before it was told.
    assert_eq!(*site.trial.changed.lock().unwrap(), ["one"; 4]);
}

#[tokio::test]
async fn an_archive_is_base64_on_its_way_and_itself_in_the_store() {
    let site = Site::start().await;
    let body = json!({"code": "UEsD/w==", "binary": true, "runtime": "python"});
    let created = put(&site, "/functions/zip", &[], &body).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.json()["image"], "refunction/python");
    let code = site.get("/functions/zip/code").await;
    assert_eq!(code.body, b"PK\x03\xff");
    assert_eq!(code.header("content-type"), "application/zip");
    let broken = json!({"code": "not base64!", "binary": true, "runtime": "python"});
    let refused = put(&site, "/functions/zip", &[], &broken).await;
    refused.fails(400, "bad_request", "base64");
}

#[tokio::test]
async fn what_is_no_function_is_refused_with_the_reason() {
    let site = Site::start().await;
    for (body, words) in [
        (json!({}), "code"),
        (json!({"code": "x"}), "either an \"image\" or a \"runtime\""),
        (
            json!({"code": "x", "image": "a", "runtime": "python"}),
            "either",
        ),
        (
            json!({"code": "x", "runtime": "cobol"}),
            "there are: python",
        ),
        (
            json!({"code": "x", "image": "a", "deadline": 1}),
            "unknown field `deadline`",
        ),
        (json!({"code": "x", "image": "a", "deadline_ms": -1}), "-1"),
        (json!({"code": "x", "image": "a", "runtime": null}), "null"),
        (
            json!({"code": "x", "image": "a", "keep_warm_s": null}),
            "null",
        ),
        (
            json!({"code": "x", "image": "a", "keep_warm_s": 1.5}),
            "1.5 is no number",
        ),
        (
            json!({"code": "x", "image": "a", "max_concurrency": 1u64 << 32}),
            "4294967296 is no number",
        ),
        (
            json!({"code": "x", "image": "a", "deadline_ms": 0}),
            "deadline_ms",
        ),
        (
            json!({"code": "x", "image": "a", "env": {"A=": "1"}}),
            "environment",
        ),
        (json!({"code": "x", "image": "", "env": {}}), "image"),
        (json!(["code"]), "body"),
    ] {
        let refused = put(&site, "/functions/f", &[], &body).await;
        refused.fails(400, "bad_request", words);
    }
    let whole = json!({"code": "x", "image": "a", "deadline_ms": 2e3});
    let taken = put(&site, "/functions/whole", &[], &whole).await;
    assert_eq!(taken.json()["deadline_ms"], 2000);
    site.send("DELETE", "/functions/whole", &[], b"").await;
    site.trial.changed.lock().unwrap().clear();
    let malformed = b"{\n  \"code\": \"x\",,\n}";
    let refused = site.send("PUT", "/functions/f", &[], malformed).await;
    let error = refused.fails(400, "bad_request", "line 2 column 15");
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(15)));
    let body = json!({"code": "x", "image": "a"});
    let refused = put(&site, "/functions/-f", &[], &body).await;
    refused.fails(400, "bad_request", "\"-f\" cannot be a name");
    let xml = [("content-type", "text/xml")];
    let refused = put(&site, "/functions/f", &xml, &body).await;
    refused.fails(415, "bad_request", "text/xml");
    // Escaped, it is longer than a supervisor takes.
    let large = json!({"code": "\u{1}".repeat(6_305_000), "image": "a"});
    let refused = put(&site, "/functions/f", &[], &large).await;
    refused.fails(413, "too_large", "too large");
    assert_eq!(site.get("/functions").await.json()["functions"], json!([]));
    assert!(site.trial.changed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_change_depends_on_what_the_client_has_seen() {
    let site = Site::start().await;
    let body = |number: u32| json!({"code": number.to_string(), "runtime": "python"});
    let new = [("if-none-match", "*")];
    let absent = put(&site, "/functions/f", &[("if-match", "*")], &body(1)).await;
    absent.fails(412, "conflict", "is not there");
    let first = put(&site, "/functions/f", &new, &body(1)).await;
    assert_eq!(first.status, 201);
    let taken = put(&site, "/functions/f", &new, &body(2)).await;
    taken.fails(412, "conflict", "has changed meanwhile");
    let seen = first.header("etag");
    let second = put(&site, "/functions/f", &[("if-match", seen)], &body(2)).await;
    assert_eq!(second.status, 200);
    let late = put(&site, "/functions/f", &[("if-match", seen)], &body(3)).await;
    late.fails(412, "conflict", "revision");
    let late = [("if-match", seen)];
    let late = site.send("DELETE", "/functions/f", &late, b"").await;
    late.fails(412, "conflict", "revision");
    for foreign in ["\"abc\"", "W/\"1\"", "2", ""] {
        let headers = [("if-match", foreign)];
        let foreign = put(&site, "/functions/f", &headers, &body(3)).await;
        foreign.fails(412, "conflict", "revision");
    }
    let odd = put(
        &site,
        "/functions/f",
        &[("if-none-match", "\"1\"")],
        &body(3),
    )
    .await;
    odd.fails(400, "bad_request", "If-None-Match");
    let both = [("if-none-match", "*"), ("if-match", second.header("etag"))];
    let both = put(&site, "/functions/f", &both, &body(3)).await;
    both.fails(412, "conflict", "revision");
    let several = format!("\"abc\", {}", second.header("etag"));
    let third = put(&site, "/functions/f", &[("if-match", &several)], &body(3)).await;
    assert_eq!(third.status, 200);

    let known = [("if-none-match", third.header("etag"))];
    let unchanged = site.send("GET", "/functions/f", &known, b"").await;
    assert_eq!((unchanged.status, unchanged.text()), (304, String::new()));
    let stale = [("if-none-match", seen)];
    assert_eq!(
        site.send("GET", "/functions/f", &stale, b"").await.status,
        200
    );
    let seen = [("if-match", third.header("etag"))];
    let gone = site.send("DELETE", "/functions/f", &seen, b"").await;
    assert_eq!(gone.status, 204);
    let again = site.send("DELETE", "/functions/f", &seen, b"").await;
    again.fails(404, "not_found", "\"f\"");
}

#[tokio::test]
async fn functions_are_listed_page_by_page() {
    let site = Site::start().await;
    for name in ["c", "a", "b"] {
        site.deploy(name).await;
    }
    let names = |answer: &Answer| -> Vec<String> {
        let functions = answer.json()["functions"].clone();
        let functions = functions.as_array().unwrap().clone();
        let name = |it: &Value| it["name"].as_str().unwrap().to_owned();
        functions.iter().map(name).collect()
    };
    let first = site.get("/functions?limit=2").await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first.json()["next"], "b");
    let second = site.get("/functions?limit=2&after=b").await;
    assert_eq!(names(&second), ["c"]);
    assert_eq!(second.json()["next"], Value::Null);
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=",
        "limit=1&limit=2",
        "page=2",
    ] {
        let refused = site.get(&format!("/functions?{query}")).await;
        refused.fails(400, "bad_request", "");
    }
}
