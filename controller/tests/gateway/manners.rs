//! Paths, methods, tokens, and clients that are slow, wrong or gone.

use std::time::Duration;

use tokio::time::timeout;

use crate::client::{Connection, PATIENCE};
use crate::site::Site;

const TOKEN: &str = "0123456789abcdef";

#[tokio::test]
async fn it_says_how_it_is_and_what_it_speaks() {
    let site = Site::start().await;
    assert_eq!(site.get("/healthz").await.json()["status"], "ok");
    assert_eq!(site.get("/readyz").await.json()["status"], "ready");
    *site.trial.readiness.lock().unwrap() = Err("containerd is not there".into());
    let unready = site.get("/readyz").await;
    unready.fails(503, "not_ready", "containerd is not there");
    assert_eq!(unready.header("retry-after"), "1");
    assert_eq!(site.get("/healthz").await.status, 200);
    *site.trial.readiness.lock().unwrap() = Ok(());
    site.store.close().await;
    site.get("/readyz").await.fails(503, "not_ready", "closed");
    site.get("/functions")
        .await
        .fails(503, "stopping", "ending");
    let document = site.get("/openapi.json").await;
    assert_eq!(document.json()["openapi"], "3.1.0");
    let deployment = &document.json()["components"]["schemas"]["Deployment"];
    let runtimes = &deployment["properties"]["runtime"]["enum"];
    assert_eq!(*runtimes, serde_json::json!(["python"]));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_with_those_that_there_are() {
    let site = Site::start().await;
    for path in [
        "/",
        "/functions/",
        "/functions/a/b",
        "/nothing",
        "//",
        "/results",
    ] {
        site.get(path).await.fails(404, "not_found", "openapi.json");
    }
    let document = site.get("/openapi.json").await.json();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods: Vec<_> = methods.as_object().unwrap().keys().collect();
        let path = path.replace("{name}", "f").replace("{id}", "i");
        for method in [
            "GET", "PUT", "POST", "DELETE", "PATCH", "TRACE", "OPTIONS", "ODD",
        ] {
            if methods.iter().any(|it| it.eq_ignore_ascii_case(method)) {
                continue;
            }
            let refused = site.send(method, &path, &[], b"").await;
            refused.fails(405, "bad_request", method);
            let allowed = refused.header("allow").to_ascii_lowercase();
            for method in methods.iter().filter(|it| **it != "parameters") {
                assert!(allowed.contains(*method), "{path}: {allowed:?}");
            }
        }
    }
    // HEAD is GET without the body.
    let head = site.send("HEAD", "/healthz", &[], b"").await;
    let whole = site.get("/healthz").await;
    assert_eq!(head.status, 200);
    assert_eq!(
        head.header("content-length"),
        whole.header("content-length")
    );
}

#[tokio::test]
async fn a_token_is_asked_for_on_addresses() {
    let site = Site::with(Some(TOKEN), |_| ()).await;
    let bearer = format!("Bearer {TOKEN}");
    let shown = [("authorization", bearer.as_str())];
    for path in ["/functions", "/openapi.json", "/nothing"] {
        for wrong in [&[][..], &[("authorization", "Bearer 0123456789abcdeX")]] {
            let refused = site.send("GET", path, wrong, b"").await;
            refused.fails(401, "unauthorized", "Authorization: Bearer");
            assert_eq!(refused.header("www-authenticate"), "Bearer");
        }
    }
    let call = site.post("/functions/echo", "1").await;
    call.fails(401, "unauthorized", "");
    assert!(site.trial.calls.lock().unwrap().is_empty());
    assert_eq!(
        site.send("GET", "/functions", &shown, b"").await.status,
        200
    );
    let called = site.send("POST", "/functions/echo", &shown, b"1").await;
    assert_eq!(called.text(), "1");
    // Whoever keeps it alive needs none; on a socket the file says who may come.
    assert_eq!(site.get("/healthz").await.status, 200);
    assert_eq!(site.get("/readyz").await.status, 200);
    let mut socket = Connection::to_socket(&site.root.path().join("gateway.sock")).await;
    socket.request("POST", "/functions/echo", &[], b"1").await;
    assert_eq!(socket.answer().await.text(), "1");
}

#[tokio::test]
async fn pages_from_elsewhere_do_not_come_in_without_a_token() {
    let site = Site::start().await;
    let rebound = [("host", "evil.example")];
    let refused = site.send("POST", "/functions/echo", &rebound, b"1").await;
    refused.fails(403, "forbidden", "Host");
    let foreign = [("origin", "http://evil.example")];
    let refused = site.send("POST", "/functions/echo", &foreign, b"1").await;
    refused.fails(403, "forbidden", "Origin");
    assert!(site.trial.calls.lock().unwrap().is_empty());
    // With a token it is the token that counts.
    let site = Site::with(Some(TOKEN), |_| ()).await;
    let bearer = format!("Bearer {TOKEN}");
    let shown = [("authorization", bearer.as_str()), ("host", "node.example")];
    let taken = site.send("POST", "/functions/echo", &shown, b"1").await;
    assert_eq!(taken.status, 200);
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_others_are_served() {
    let site = Site::start().await;
    for (bytes, statuses) in [
        (&b"hello\r\n\r\n"[..], &[400][..]),
        (b"GET / HTTP/9.9\r\n\r\n", &[400, 505]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", &[400]),
        (b"GET /healthz HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n", &[400]),
        (b"POST /functions/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n", &[400]),
        (b"POST /functions/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", &[400]),
        (b"GET * HTTP/1.1\r\nhost: localhost\r\n\r\n", &[400, 404]),
    ] {
        let mut client = site.connect().await;
        client.send(bytes).await;
        let answer = client.answer().await;
        assert!(statuses.contains(&answer.status), "{answer:?} to {bytes:?}");
    }
    let mut client = site.connect().await;
    client.send(b"GET /healthz HTTP/1.1\r\nx: ").await;
    client.send(&[b'x'; 100_000]).await;
    assert_eq!(client.answer().await.status, 431);
    assert_eq!(site.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_body_may_come_in_pieces_and_behind_another_request() {
    let site = Site::start().await;
    let mut client = site.connect().await;
    client
        .send(b"POST /functions/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status, 100);
    client.send(b"3\r\n[1,\r\n3\r\n 2]\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.text(), "[1, 2]");
    for number in 0..3 {
        let body = number.to_string();
        let path = "/functions/echo";
        client.request("POST", path, &[], body.as_bytes()).await;
    }
    for number in 0..3 {
        assert_eq!(client.answer().await.text(), number.to_string());
    }
}

#[tokio::test]
async fn slow_clients_are_given_up() {
    let patience = Duration::from_millis(300);
    let site = Site::with(None, |settings| settings.patience = patience).await;
    let mut head = site.connect().await;
    head.send(b"GET /healthz HTTP/1.1\r\nhost").await;
    assert_eq!(head.answer().await.status, 408);
    assert!(head.is_closed().await);
    let mut body = site.connect().await;
    body.send(b"POST /functions/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n[1")
        .await;
    body.answer().await.fails(408, "too_slow", "300 ms");
    assert!(body.is_closed().await);
    // A connection that is kept for later is only closed.
    let mut idle = site.connect().await;
    idle.request("GET", "/healthz", &[], b"").await;
    assert_eq!(idle.answer().await.status, 200);
    assert!(idle.is_closed().await);
    // A call may take longer than that.
    let mut call = site.connect().await;
    call.request("POST", "/functions/waits", &[], b"1").await;
    site.begun(1).await;
    tokio::time::sleep(patience * 2).await;
    site.trial.ends.add_permits(1);
    assert_eq!(call.answer().await.text(), "1");
}

#[tokio::test]
async fn who_does_not_take_its_answer_is_given_up() {
    let patience = Duration::from_millis(300);
    let grace = PATIENCE * 2;
    let site = Site::with(None, |settings| {
        settings.patience = patience;
        settings.grace = grace;
    })
    .await;
    let mut client = site.connect().await;
    client.request("POST", "/functions/large", &[], b"1").await;
    // It is more than the kernel holds, and is not read on.
    assert_eq!(client.head().await.status, 200);
    // It would wait for the connection as long as its grace.
    timeout(PATIENCE, site.stopped())
        .await
        .expect("it is given up");
    drop(client);
}

#[tokio::test]
async fn what_is_announced_too_large_is_not_read() {
    let site = Site::start().await;
    let mut client = site.connect().await;
    client
        .send(b"POST /functions/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999999999\r\n\r\n")
        .await;
    client.answer().await.fails(413, "too_large", "6291456");
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn it_answers_what_is_under_way_and_ends() {
    let site = Site::start().await;
    site.deploy("waits").await;
    let mut idle = site.connect().await;
    idle.request("GET", "/healthz", &[], b"").await;
    assert_eq!(idle.answer().await.status, 200);
    let mut call = site.connect().await;
    call.request("POST", "/functions/waits", &[], b"1").await;
    let begun = site.post("/functions/waits?async", "2").await;
    let mut outcome = site.connect().await;
    let path = format!("{}?wait=60", begun.header("location"));
    outcome.request("GET", &path, &[], b"").await;
    site.begun(2).await;
    // When others are answered that came later, these have come.
    assert_eq!(site.get("/healthz").await.status, 200);
    site.stop.send_replace(true);
    assert!(idle.is_closed().await);
    let port = site.port;
    let socket = site.root.path().join("gateway.sock");
    let closed = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it lets nobody in");
    assert!(!socket.exists());
    site.trial.ends.add_permits(2);
    assert_eq!(call.answer().await.text(), "1");
    assert_eq!(outcome.answer().await.text(), "2");
    site.stopped().await;
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_ends_before_it_does() {
    let site = Site::start().await;
    site.deploy("waits").await;
    let begun = site.post("/functions/waits?async", "1").await;
    assert_eq!(begun.status, 202);
    site.begun(1).await;
    let trial = std::sync::Arc::clone(&site.trial);
    site.stop.send_replace(true);
    let socket = site.root.path().join("gateway.sock");
    let closed = async {
        while socket.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it lets nobody in");
    assert!(!site.serving.is_finished());
    trial.ends.add_permits(1);
    site.stopped().await;
    assert_eq!(trial.given_up.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_does_not_end_is_ended_with_its_grace() {
    let grace = Duration::from_millis(200);
    let site = Site::with(None, |settings| settings.grace = grace).await;
    site.deploy("waits").await;
    let mut call = site.connect().await;
    call.request("POST", "/functions/waits", &[], b"1").await;
    assert_eq!(site.post("/functions/waits?async", "2").await.status, 202);
    site.begun(2).await;
    let trial = std::sync::Arc::clone(&site.trial);
    site.stopped().await;
    assert!(call.is_closed().await);
    let given_up = async {
        while trial.given_up.load(std::sync::atomic::Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, given_up)
        .await
        .expect("both are given up");
}
