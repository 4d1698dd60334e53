//! One call, from a client to containerd and back.

use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::uri::Authority;
use http::{HeaderMap, Request, Response, Uri};

use super::grpc::{self, Code, Refusal, Unread};
use super::pods::{Outcome, Pods};
use super::pump::{Broken, pump, send};
use super::touched::Touched;
use super::upstream::Upstream;

/// Answers a call with what containerd answers.
pub(super) async fn forward(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    upstream: &Upstream,
    pods: &Arc<Pods>,
) {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, ());
    match Touched::of(request.uri().path()) {
        None => pass_on(request, body, respond, upstream).await,
        Some(call) => look_at(call, request, body, respond, upstream, pods).await,
    }
}

async fn pass_on(
    request: Request<()>,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    upstream: &Upstream,
) {
    let ends = body.is_end_stream();
    let (response, mut sink) = match begin(request, ends, upstream).await {
        Ok(begun) => begun,
        Err(refusal) => return refusal.answer(&mut respond),
    };
    let mut upwards = pin!(async {
        if ends {
            return true;
        }
        match pump(&mut body, &mut sink).await {
            // containerd wants no more of it; its answer says why.
            Ok(()) | Err(Broken::Reader) => true,
            Err(Broken::Source(error)) => {
                sink.send_reset(error.reason().unwrap_or(Reason::CANCEL));
                false
            }
        }
    });
    let mut downwards = pin!(answer(response, &mut respond, upstream.address()));
    tokio::select! {
        // First, for it knows the client's reason.
        biased;
        is_whole = &mut upwards => if is_whole { downwards.await },
        () = &mut downwards => {}
    }
    // What is dropped unfinished is cancelled: the client's going reaches containerd.
}

/// Opens a stream to containerd.
async fn begin(
    mut request: Request<()>,
    ends: bool,
    upstream: &Upstream,
) -> Result<(ResponseFuture, SendStream<Bytes>), Refusal> {
    let mut connection = upstream.ready().await.map_err(|error| {
        let address = upstream.address().display();
        Refusal::new(
            Code::Unavailable,
            format!("containerd does not answer at {address}: {error}"),
        )
    })?;
    if request.uri().authority().is_none() {
        // A client may leave it out, and the library does not.
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.authority = Some(Authority::from_static("localhost"));
        *request.uri_mut() = Uri::from_parts(parts)
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    }
    connection
        .send_request(request, ends)
        .map_err(|error| lost(&error, upstream.address()))
}

fn lost(error: &h2::Error, address: &Path) -> Refusal {
    Refusal::new(
        Code::Unavailable,
        format!(
            "the connection to containerd at {} ended during the call: {error}",
            address.display()
        ),
    )
}

/// containerd's own reason, if it was containerd that broke the call off and not the
/// connection that ended.
fn reset(error: &h2::Error) -> Option<Reason> {
    error.reason().filter(|_| error.is_reset())
}

/// Passes an answer on as it comes.
async fn answer(response: ResponseFuture, respond: &mut SendResponse<Bytes>, address: &Path) {
    let response = tokio::select! {
        biased;
        response = response => response,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let (head, mut body) = match response {
        Ok(response) => response.into_parts(),
        Err(error) => {
            return match reset(&error) {
                Some(reason) => respond.send_reset(reason),
                None => lost(&error, address).answer(respond),
            };
        }
    };
    let ends = body.is_end_stream();
    let Ok(mut sink) = respond.send_response(Response::from_parts(head, ()), ends) else {
        return;
    };
    if ends {
        return;
    }
    if let Err(Broken::Source(error)) = pump(&mut body, &mut sink).await {
        match reset(&error) {
            Some(reason) => sink.send_reset(reason),
            None => drop(sink.send_trailers(lost(&error, address).trailers())),
        }
    }
}

async fn look_at(
    call: Touched,
    mut request: Request<()>,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    upstream: &Upstream,
    pods: &Arc<Pods>,
) {
    let message = match grpc::read_message(&mut body).await {
        Ok(message) => message,
        Err(Unread::Broken(_)) => return,
        Err(Unread::Refused(refusal)) => return refusal.answer(&mut respond),
    };
    let (message, task) = match pods.before(call, message).await {
        Ok(prepared) => prepared,
        Err(refusal) => return refusal.answer(&mut respond),
    };
    // It may have grown.
    request.headers_mut().remove("content-length");
    let (response, mut sink) = match begin(request, false, upstream).await {
        Ok(begun) => begun,
        Err(refusal) => {
            if let Some(task) = task {
                pods.after(task, Outcome::Refused).await;
            }
            return refusal.answer(&mut respond);
        }
    };
    // Where containerd wants no more of it, its answer says why.
    let _ = send(grpc::framed(&message), true, &mut sink).await;
    let Some(task) = task else {
        return answer(response, &mut respond, upstream.address()).await;
    };
    let held = tokio::select! {
        biased;
        held = hold(response) => Some(held),
        _ = poll_fn(|cx| respond.poll_reset(cx)) => None,
    };
    drop(sink);
    let outcome = match &held {
        Some(Ok(held)) => held.outcome(),
        _ => Outcome::Unknown,
    };
    // On its own: whoever hangs up now does not undo what containerd did.
    let mut following = tokio::spawn({
        let pods = Arc::clone(pods);
        async move { pods.after(task, outcome).await }
    });
    tokio::select! {
        _ = &mut following => {}
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    }
    match held {
        None => {}
        Some(Ok(held)) => held.give(&mut respond).await,
        Some(Err(Unread::Refused(refusal))) => refusal.answer(&mut respond),
        Some(Err(Unread::Broken(error))) => match reset(&error) {
            Some(reason) => respond.send_reset(reason),
            None => lost(&error, upstream.address()).answer(&mut respond),
        },
    }
}

/// An answer that waits until what it means was taken care of.
struct Held {
    head: Response<()>,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

async fn hold(response: ResponseFuture) -> Result<Held, Unread> {
    let (head, mut body) = response.await.map_err(Unread::Broken)?.into_parts();
    Ok(Held {
        head: Response::from_parts(head, ()),
        body: grpc::read_body(&mut body).await?,
        trailers: body.trailers().await.map_err(Unread::Broken)?,
    })
}

impl Held {
    fn outcome(&self) -> Outcome {
        // An answer without a message has its status where others have headers.
        let status = self.trailers.as_ref().unwrap_or(self.head.headers());
        match status.get("grpc-status").map(|status| status.as_bytes()) {
            Some(b"0") => grpc::message_of(&self.body).map_or(Outcome::Unknown, Outcome::Done),
            Some(_) => Outcome::Refused,
            None => Outcome::Unknown,
        }
    }

    async fn give(self, respond: &mut SendResponse<Bytes>) {
        let has_nothing_else = self.body.is_empty() && self.trailers.is_none();
        let Ok(mut sink) = respond.send_response(self.head, has_nothing_else) else {
            return;
        };
        if has_nothing_else {
            return;
        }
        let ends = self.trailers.is_none();
        if !self.body.is_empty() && send(self.body, ends, &mut sink).await.is_err() {
            return;
        }
        if let Some(trailers) = self.trailers {
            let _ = sink.send_trailers(trailers);
        }
    }
}

#[cfg(test)]
mod tests;
