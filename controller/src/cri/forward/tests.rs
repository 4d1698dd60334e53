//! What containerd cannot be made to do: each way in which a stream of HTTP/2 can go,
//! between a client and a server that are both ours to bend.

use std::time::Duration;

use h2::client::SendRequest;
use h2::{client, server};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// One call as containerd would see it.
struct Arrived {
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

/// A client, and the calls that come out of the proxy's other end. The directory holds
/// the server's socket.
async fn between() -> (
    SendRequest<Bytes>,
    tokio::sync::mpsc::Receiver<Arrived>,
    tempfile::TempDir,
) {
    let directory = tempfile::tempdir().unwrap();
    let address: Arc<Path> = directory.path().join("upstream.sock").into();
    let listener = UnixListener::bind(&address).unwrap();
    let (arrivals, arrived) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let arrivals = arrivals.clone();
            tokio::spawn(async move {
                let mut connection = server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    // The test may be over.
                    if arrivals.send(Arrived { request, respond }).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (through(address).await, arrived, directory)
}

/// A client of a proxy in front of this address.
async fn through(address: Arc<Path>) -> SendRequest<Bytes> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(async move {
        let mut connection = server::handshake(theirs).await.unwrap();
        let upstream = Arc::new(Upstream::new(address));
        while let Some(Ok((request, respond))) = connection.accept().await {
            let upstream = Arc::clone(&upstream);
            tokio::spawn(async move {
                let (parts, body) = request.into_parts();
                pass_on(Request::from_parts(parts, ()), body, respond, &upstream).await;
            });
        }
    });
    let (client, connection) = client::handshake(ours).await.unwrap();
    tokio::spawn(connection);
    client
}

fn call() -> Request<()> {
    Request::post("http://localhost/future.v9.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "5S")
        .header("mine-bin", "AAEC")
        .body(())
        .unwrap()
}

fn reason(error: &h2::Error) -> Option<Reason> {
    error.reason().filter(|_| error.is_reset())
}

#[tokio::test]
async fn headers_and_trailers_are_the_same_at_the_other_end() {
    let (mut client, mut arrived, _directory) = between().await;
    let (answer, mut body) = client.send_request(call(), false).unwrap();
    body.send_data(Bytes::from_static(b"up"), true).unwrap();
    let mut there = arrived.recv().await.unwrap();
    assert_eq!(there.request.uri(), call().uri());
    assert_eq!(there.request.headers(), call().headers());
    let data = there.request.body_mut().data().await.unwrap().unwrap();
    assert_eq!(&data[..], b"up");
    assert!(there.request.body_mut().data().await.is_none());
    let head = Response::builder().header("own", "1").body(()).unwrap();
    let mut sink = there.respond.send_response(head, false).unwrap();
    sink.send_data(Bytes::from_static(b"down"), false).unwrap();
    let mut trailers = HeaderMap::new();
    for (name, value) in [
        ("grpc-status", "5"),
        ("grpc-message", "no%20such"),
        ("grpc-status-details-bin", "CAUSBG5vbmU"),
    ] {
        trailers.insert(name, value.parse().unwrap());
    }
    sink.send_trailers(trailers.clone()).unwrap();
    let (head, mut body) = answer.await.unwrap().into_parts();
    assert_eq!(head.headers.len(), 1, "{head:?}");
    assert_eq!(head.headers["own"], "1");
    assert_eq!(&body.data().await.unwrap().unwrap()[..], b"down");
    assert!(body.data().await.is_none());
    assert_eq!(body.trailers().await.unwrap(), Some(trailers));
}

#[tokio::test]
async fn an_answer_that_is_only_trailers_stays_one() {
    let (mut client, mut arrived, _directory) = between().await;
    let (answer, _) = client.send_request(call(), true).unwrap();
    let mut there = arrived.recv().await.unwrap();
    // What the client ended with its headers is ended so here, too.
    assert!(there.request.body().is_end_stream());
    let head = Response::builder()
        .header("grpc-status", "12")
        .body(())
        .unwrap();
    there.respond.send_response(head, true).unwrap();
    let answer = answer.await.unwrap();
    assert!(answer.body().is_end_stream());
    assert_eq!(answer.headers()["grpc-status"], "12");
}

#[tokio::test]
async fn a_reset_says_the_same_at_the_other_end() {
    let (mut client, mut arrived, _directory) = between().await;
    // Before any answer, and in the middle of one: a clean end would be a lie.
    for reset in [
        Reason::CANCEL,
        Reason::REFUSED_STREAM,
        Reason::ENHANCE_YOUR_CALM,
    ] {
        let (answer, _) = client.send_request(call(), true).unwrap();
        arrived.recv().await.unwrap().respond.send_reset(reset);
        assert_eq!(reason(&answer.await.unwrap_err()), Some(reset));

        let (answer, _) = client.send_request(call(), true).unwrap();
        let mut there = arrived.recv().await.unwrap();
        let mut sink = there
            .respond
            .send_response(Response::new(()), false)
            .unwrap();
        sink.send_data(Bytes::from_static(b"some"), false).unwrap();
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(&body.data().await.unwrap().unwrap()[..], b"some");
        sink.send_reset(reset);
        let error = body.data().await.unwrap().unwrap_err();
        assert_eq!(reason(&error), Some(reset));
    }
    // And from the client.
    let (_answer, mut body) = client.send_request(call(), false).unwrap();
    let mut there = arrived.recv().await.unwrap();
    body.send_reset(Reason::INTERNAL_ERROR);
    let error = there.request.body_mut().data().await.unwrap().unwrap_err();
    assert_eq!(reason(&error), Some(Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn a_client_that_gives_up_is_given_up() {
    let (mut client, mut arrived, _directory) = between().await;
    // It waits for the head of an answer, or for more of one that has begun.
    for has_begun in [false, true] {
        let (answer, body) = client.send_request(call(), true).unwrap();
        let mut there = arrived.recv().await.unwrap();
        let reset = if has_begun {
            let mut sink = there
                .respond
                .send_response(Response::new(()), false)
                .unwrap();
            let answer = answer.await.unwrap();
            drop((answer, body));
            timeout(PATIENCE, poll_fn(|cx| sink.poll_reset(cx))).await
        } else {
            drop((answer, body));
            timeout(PATIENCE, poll_fn(|cx| there.respond.poll_reset(cx))).await
        };
        assert_eq!(reset.unwrap().unwrap(), Reason::CANCEL);
    }
}

#[tokio::test]
async fn both_sides_speak_while_both_are_open() {
    let (mut client, mut arrived, _directory) = between().await;
    let (answer, mut body) = client.send_request(call(), false).unwrap();
    let mut there = arrived.recv().await.unwrap();
    let mut sink = there
        .respond
        .send_response(Response::new(()), false)
        .unwrap();
    let mut down = answer.await.unwrap().into_body();
    for turn in 0..50u8 {
        body.send_data(vec![turn; 3].into(), false).unwrap();
        let data = there.request.body_mut().data().await.unwrap().unwrap();
        sink.send_data(data, false).unwrap();
        assert_eq!(down.data().await.unwrap().unwrap(), vec![turn; 3]);
    }
    // The client's end of speaking is not the end of the call.
    body.send_data(Bytes::new(), true).unwrap();
    let end = there.request.body_mut().data().await.unwrap().unwrap();
    assert!(end.is_empty());
    assert!(there.request.body_mut().data().await.is_none());
    sink.send_data(Bytes::from_static(b"last"), true).unwrap();
    assert_eq!(&down.data().await.unwrap().unwrap()[..], b"last");
    assert!(down.data().await.is_none());
}

#[tokio::test]
async fn what_nobody_reads_is_not_fetched_and_holds_nobody_up() {
    let (mut client, mut arrived, _directory) = between().await;
    let (unread, _) = client.send_request(call(), true).unwrap();
    let mut there = arrived.recv().await.unwrap();
    let mut sink = there
        .respond
        .send_response(Response::new(()), false)
        .unwrap();
    let unread = unread.await.unwrap();
    let (counted, mut count) = oneshot::channel();
    tokio::spawn(async move {
        let mut sent = 0usize;
        // Until no more is taken for a while.
        while let Ok(Ok(())) = timeout(
            Duration::from_millis(500),
            send(vec![0; 64 * 1024].into(), false, &mut sink),
        )
        .await
        {
            sent += 64 * 1024;
            assert!(sent < 64 << 20, "it takes whatever there is");
        }
        let _ = counted.send(sent);
        // Kept open.
        std::future::pending::<()>().await;
    });
    let sent = timeout(PATIENCE, &mut count).await.unwrap().unwrap();
    assert!(sent < 4 << 20, "{sent} bytes are under way unread");
    let (answer, _) = client.send_request(call(), true).unwrap();
    let mut there = arrived.recv().await.unwrap();
    there
        .respond
        .send_response(Response::new(()), true)
        .unwrap();
    timeout(PATIENCE, answer).await.unwrap().unwrap();
    drop(unread);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_until_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let address: Arc<Path> = directory.path().join("later.sock").into();
    let mut client = through(Arc::clone(&address)).await;
    let (answer, _) = client.send_request(call(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.body().is_end_stream());
    assert_eq!(answer.headers()["grpc-status"], "14");
    let message = answer.headers()["grpc-message"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("later.sock"), "{message}");

    let listener = UnixListener::bind(&address).unwrap();
    for _ in 0..2 {
        // A connection that ends under a call, whose answer has begun, and the next.
        let (answer, _) = client.send_request(call(), true).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let _sink = respond.send_response(Response::new(()), false).unwrap();
        let mut body = tokio::select! {
            answer = answer => answer.unwrap().into_body(),
            _ = connection.accept() => panic!("it goes on"),
        };
        drop(connection);
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "14");
    }
}
