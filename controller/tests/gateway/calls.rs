//! Calling functions, and fetching what became of calls.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::site::Site;

#[tokio::test]
async fn any_json_passes_as_it_is_written() {
    let site = Site::start().await;
    for text in [
        "1.00000000000000000000000000001",
        "123456789012345678901234567890e999",
        "-0",
        "{\"b\":1,\"a\":{\"b\":  2, \"b\":3}}",
        "\"\\u0000\\ud83d\\ude00\\u00e4 \u{e4}\"",
        "[[[]],{}]",
        "null",
        "true",
    ] {
        let answer = site.post("/functions/echo", text).await;
        assert_eq!((answer.status, answer.text()), (200, text.to_owned()));
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(site.post("/functions/echo", &deep).await.text(), deep);
    // Nothing is null, and what stands around a value is none of it.
    assert_eq!(site.post("/functions/echo", "").await.text(), "null");
    assert_eq!(site.post("/functions/echo", " \n1\t ").await.text(), "1");
}

#[tokio::test]
async fn an_answer_says_how_it_came_about() {
    let site = Site::start().await;
    let headers = [("x-request-id", "mine-1"), ("x-deadline-ms", "2500")];
    let answer = site.send("POST", "/functions/echo", &headers, b"1").await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(answer.header("x-refunction-start"), "restored");
    assert_eq!(answer.header("x-refunction-container"), "python-1");
    assert_eq!(answer.header("x-refunction-waited-seconds"), "0.000012");
    assert_eq!(answer.header("x-duration-seconds"), "0.003000");
    let long = "x".repeat(129);
    let mut ids = vec!["mine-1".to_owned()];
    for given in ["", "with space", "ä", &long] {
        let headers = [("x-request-id", given)];
        let answer = site.send("POST", "/functions/echo", &headers, b"1").await;
        let id = answer.header("x-request-id").to_owned();
        assert!(
            id != given && id.len() == 36,
            "{id:?} in the place of {given:?}"
        );
        assert!(!ids.contains(&id));
        ids.push(id);
    }
    let calls = site.trial.calls.lock().unwrap().clone();
    let seen: Vec<_> = calls.iter().map(|(_, id, _)| id.clone()).collect();
    assert_eq!(seen, ids);
    assert_eq!((calls[0].2, calls[1].2), (Some(2500), None));
}

#[tokio::test]
async fn each_end_has_a_status_of_its_own() {
    let site = Site::start().await;
    for (name, status) in [
        ("exception", 500),
        ("timeout", 504),
        ("out_of_memory", 507),
        ("crashed", 502),
    ] {
        let answer = site.post(&format!("/functions/{name}"), "1").await;
        let error = answer.fails(status, name, "it is");
        assert_eq!(error["error_type"], "ValueError");
        assert_eq!(error["stack"], "line 1\nline 2");
        assert_eq!(answer.header("x-refunction-container"), "python-1");
    }
    for (name, status, words, retry) in [
        ("busy", 429, "4 containers", "2"),
        ("backing_off", 503, "it crashed 5 times", "2"),
        ("no_container", 503, "containerd is not there", "1"),
        ("not_loaded", 502, "does not load: it is exception", ""),
    ] {
        let answer = site.post(&format!("/functions/{name}"), "1").await;
        answer.fails(status, name, words);
        assert_eq!(answer.header("retry-after"), retry, "{name}");
        assert!(!answer.header("x-request-id").is_empty());
    }
    let error = site.post("/functions/not_loaded", "1").await.json()["error"].clone();
    assert_eq!(
        (&error["cause"], &error["stack"]),
        (&json!("exception"), &json!("line 1\nline 2"))
    );
    let ending = site.post("/functions/ending", "1").await;
    ending.fails(503, "stopping", "ending");
    assert_eq!(ending.header("retry-after"), "1");
    let unknown = site.post("/functions/unknown", "1").await;
    unknown.fails(404, "not_found", "\"unknown\"");
}

#[tokio::test]
async fn what_is_no_call_is_refused_with_the_reason() {
    let site = Site::start().await;
    let path = "/functions/echo";
    let malformed = site.post(path, "{\"a\": 1,\n \"b\" 2}").await;
    let error = malformed.fails(400, "bad_request", "line 2 column 6");
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(6)));
    for wrong in ["1 2", "{", "nul", "'a'", "NaN", "\u{feff}1"] {
        site.post(path, wrong)
            .await
            .fails(400, "bad_request", "not JSON");
    }
    let latin = site.send("POST", path, &[], b"\"\xe4\"").await;
    latin.fails(400, "bad_request", "not JSON");
    for kind in ["text/plain", "multipart/form-data", "application/jsonx"] {
        let refused = site
            .send("POST", path, &[("content-type", kind)], b"1")
            .await;
        refused.fails(415, "bad_request", kind);
    }
    for kind in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x+json",
    ] {
        let taken = site
            .send("POST", path, &[("content-type", kind)], b"1")
            .await;
        assert_eq!(taken.status, 200, "{kind}");
    }
    for deadline in ["0", "-1", "soon", "1.5", "604800001"] {
        let headers = [("x-deadline-ms", deadline)];
        let refused = site.send("POST", path, &headers, b"1").await;
        refused.fails(400, "bad_request", "X-Deadline-Ms");
    }
    for query in ["async=maybe", "asnyc", "async&async", "a=%ff"] {
        let refused = site.post(&format!("{path}?{query}"), "1").await;
        refused.fails(400, "bad_request", "query");
    }
    site.post("/functions/%ff", "1")
        .await
        .fails(400, "bad_request", "path");
    // Exactly the limit, and a byte more.
    let most = format!("\"{}\"", "x".repeat(6 * 1024 * 1024 - 2));
    assert_eq!(site.post(path, &most).await.status, 200);
    let more = site.post(path, &format!("{most} ")).await;
    more.fails(413, "too_large", "6291456");
    assert_eq!(site.trial.calls.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn an_id_is_one_calls_at_a_time() {
    let site = Site::start().await;
    let headers = [("x-request-id", "one")];
    let mut first = site.connect().await;
    first
        .request("POST", "/functions/waits", &headers, b"1")
        .await;
    site.begun(1).await;
    let second = site.send("POST", "/functions/echo", &headers, b"2").await;
    second.fails(409, "conflict", "\"one\"");
    assert_eq!(second.header("x-request-id"), "one");
    site.trial.ends.add_permits(1);
    assert_eq!(first.answer().await.text(), "1");
    let third = site.send("POST", "/functions/echo", &headers, b"3").await;
    assert_eq!(third.text(), "3");
}

#[tokio::test]
async fn the_call_of_a_client_that_left_is_given_up() {
    let site = Site::start().await;
    let headers = [("x-request-id", "one")];
    let mut client = site.connect().await;
    client
        .request("POST", "/functions/waits", &headers, b"1")
        .await;
    site.begun(1).await;
    drop(client);
    site.given_up(1).await;
    // Its id is free again.
    let next = site.send("POST", "/functions/echo", &headers, b"2").await;
    assert_eq!(next.text(), "2");
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_has_its_outcome_fetched() {
    let site = Site::start().await;
    site.deploy("waits").await;
    site.deploy("exception").await;
    let headers = [("x-request-id", "a/b?c")];
    let path = "/functions/waits?async";
    let begun = site.send("POST", path, &headers, b"[1.50]").await;
    assert_eq!(
        (begun.status, begun.json()["status"].clone()),
        (202, json!("pending"))
    );
    assert_eq!(begun.json()["id"], "a/b?c");
    let place = begun.header("location").to_owned();
    assert_eq!(place, "/results/a%2Fb%3Fc");
    site.begun(1).await;
    for query in ["", "?wait=0", "?wait=0.05"] {
        let pending = site.get(&format!("{place}{query}")).await;
        assert_eq!(
            (pending.status, pending.json()["status"].clone()),
            (202, json!("pending"))
        );
        assert_eq!(pending.header("retry-after"), "1");
    }
    let taken = site
        .send("POST", "/functions/waits?async=true", &headers, b"2")
        .await;
    taken.fails(409, "conflict", "a/b?c");
    let mut waiting = site.connect().await;
    waiting
        .request("GET", &format!("{place}?wait=60"), &[], b"")
        .await;
    site.trial.ends.add_permits(1);
    let outcome = waiting.answer().await;
    assert_eq!((outcome.status, outcome.text()), (200, "[1.50]".to_owned()));
    assert_eq!(outcome.header("x-request-id"), "a/b?c");
    assert_eq!(outcome.header("x-refunction-start"), "restored");
    // It can be fetched again, and its id is not used again meanwhile.
    assert_eq!(site.get(&place).await.text(), "[1.50]");
    let taken = site.send("POST", path, &headers, b"2").await;
    taken.fails(409, "conflict", "a/b?c");
    assert_eq!(site.send("DELETE", &place, &[], b"").await.status, 204);
    for method in ["GET", "DELETE"] {
        let gone = site.send(method, &place, &[], b"").await;
        gone.fails(404, "not_found", "a/b?c");
    }

    let begun = site.post("/functions/exception?async=1", "1").await;
    let failed = site
        .get(&format!("{}?wait=10", begun.header("location")))
        .await;
    failed.fails(500, "exception", "it is exception");
    let unknown = site.post("/functions/unknown?async", "1").await;
    unknown.fails(404, "not_found", "\"unknown\"");
    for wait in ["-1", "61", "x", "NaN"] {
        let refused = site.get(&format!("{place}?wait={wait}")).await;
        refused.fails(400, "bad_request", "wait");
    }
}

#[tokio::test]
async fn a_result_that_is_deleted_gives_its_call_up() {
    let site = Site::start().await;
    site.deploy("waits").await;
    let begun = site.post("/functions/waits?async", "1").await;
    let place = begun.header("location").to_owned();
    site.begun(1).await;
    let mut waiting = site.connect().await;
    waiting
        .request("GET", &format!("{place}?wait=60"), &[], b"")
        .await;
    // The client that begins it may leave.
    assert_eq!(site.trial.given_up.load(Ordering::SeqCst), 0);
    assert_eq!(site.send("DELETE", &place, &[], b"").await.status, 204);
    site.given_up(1).await;
    waiting.answer().await.fails(404, "not_found", "deleted");
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_may_be_that_nobody_waits_for() {
    let site = Site::with(None, |settings| settings.results.most = 2).await;
    site.deploy("waits").await;
    let mut places = Vec::new();
    for _ in 0..2 {
        let begun = site.post("/functions/waits?async", "1").await;
        places.push(begun.header("location").to_owned());
    }
    let full = site.post("/functions/waits?async", "1").await;
    full.fails(429, "busy", "as many calls");
    assert_eq!(full.header("retry-after"), "1");
    site.begun(2).await;
    site.trial.ends.add_permits(2);
    for place in &places {
        let outcome = site.get(&format!("{place}?wait=10")).await;
        assert_eq!(outcome.status, 200);
    }
    // Who comes now has the oldest outcome's place.
    let next = site.post("/functions/waits?async", "1").await;
    assert_eq!(next.status, 202);
    let left = [site.get(&places[0]).await, site.get(&places[1]).await];
    let mut statuses = left.map(|answer| answer.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 404]);
}

#[tokio::test]
async fn an_outcome_has_its_time() {
    let age = Duration::from_millis(50);
    let site = Site::with(None, |settings| settings.results.age = age).await;
    site.deploy("echo").await;
    let begun = site.post("/functions/echo?async", "1").await;
    let place = begun.header("location").to_owned();
    let gone = async {
        while site.get(&place).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
    assert!(gone.is_ok(), "it is still there");
}

#[tokio::test]
async fn many_clients_are_each_answered_with_their_own() {
    let site = std::sync::Arc::new(Site::start().await);
    let clients = (0..50).map(|client| {
        let site = std::sync::Arc::clone(&site);
        tokio::spawn(async move {
            let mut connection = site.connect().await;
            for number in 0..40 {
                let text = format!("[{client},{number}]");
                let path = "/functions/echo";
                connection.request("POST", path, &[], text.as_bytes()).await;
                assert_eq!(connection.answer().await.text(), text);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let calls = site.trial.calls.lock().unwrap();
    let ids: std::collections::HashSet<_> = calls.iter().map(|(_, id, _)| id).collect();
    assert_eq!((calls.len(), ids.len()), (2000, 2000));
}

#[tokio::test]
async fn arguments_that_wait_are_bounded() {
    let site = Site::start().await;
    site.deploy("waits").await;
    let large = format!("\"{}\"", "x".repeat(6 * 1024 * 1024 - 2));
    let mut begun = 0;
    let refused = loop {
        let answer = site.post("/functions/waits?async", &large).await;
        if answer.status != 202 {
            break answer;
        }
        begun += 1;
        assert!(begun < 100, "it takes any number of them");
    };
    refused.fails(503, "busy", "bodies");
    assert_eq!(refused.header("retry-after"), "1");
    assert!(begun > 20, "only {begun} have room");
    assert_eq!(site.get("/functions").await.status, 200);
    // When they are over there is room again.
    site.begun(begun).await;
    site.trial.ends.add_permits(begun + 1);
    let last = async {
        while site.post("/functions/waits", &large).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let last = tokio::time::timeout(Duration::from_secs(20), last).await;
    assert!(last.is_ok(), "there is no room");
}
