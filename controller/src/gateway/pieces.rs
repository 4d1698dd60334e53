//! Answers in pieces, on their way from a function to a client: each is sent when it is there,
//! and asked for when there is room for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use refunction_protocol::Head;
use tokio::sync::{mpsc, oneshot};

use super::reply;
use crate::channel::Part;
use crate::node::{Answer, Asked, Pieces, Refusal};

/// Parts that wait for a client, beside what the sockets on their way hold.
const MOST_WAITING: usize = 4;

type Ended = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send>>;

/// The answer is not whole, and the connection ends so that the client sees it.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
struct Broken;

/// Where an answer in pieces comes out.
pub(super) struct Taken {
    asked: oneshot::Receiver<Asked>,
    parts: mpsc::Receiver<Part>,
}

/// A way for an answer in pieces, and its end.
pub(super) fn way() -> (Pieces, Taken) {
    let (asked, is_asked) = oneshot::channel();
    let (parts, taken) = mpsc::channel(MOST_WAITING);
    let taken = Taken {
        asked: is_asked,
        parts: taken,
    };
    (Pieces { asked, parts }, taken)
}

impl Taken {
    /// The answer to a call that ends so: as a whole, or from its first piece on.
    pub(super) async fn answer(
        mut self,
        ended: impl Future<Output = Result<Answer, Refusal>> + Send + 'static,
    ) -> Response {
        let mut ending: Ended = Box::pin(ended);
        let whole = |ended| reply::of_call(ended).into_response();
        let (begun, mut ended) = tokio::select! {
            part = self.parts.recv() => (part, None),
            // What was sent before the end is there when the end is.
            ended = &mut ending => (self.parts.try_recv().ok(), Some(ended)),
        };
        let Some(Part::Head(head)) = begun else {
            // Pieces are of no use without one.
            drop(self.parts);
            return whole(match ended.take() {
                Some(ended) => ended,
                None => ending.await,
            });
        };
        let rest = Rest {
            parts: self.parts,
            end: match ended {
                Some(ended) => End::Known(ended),
                None => End::Awaited(ending),
            },
            is_flushed: false,
        };
        let mut reply = if head.is_all(false) {
            match rest.end().await {
                Ok(()) => empty(head),
                Err(ended) => return whole(ended),
            }
        } else {
            let mut reply = Response::new(Body::new(rest));
            *reply.status_mut() = head.status;
            *reply.headers_mut() = head.headers;
            reply
        };
        if let Ok(asked) = self.asked.try_recv() {
            reply::place(reply.headers_mut(), &asked);
        }
        reply
    }
}

fn empty(mut head: Head) -> Response {
    if head.status != StatusCode::NOT_MODIFIED {
        head.headers.remove(CONTENT_LENGTH);
    }
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = head.status;
    *reply.headers_mut() = head.headers;
    reply
}

/// How a call ends.
enum End {
    Awaited(Ended),
    Known(Result<Answer, Refusal>),
}

/// What is still to come of an answer. Dropped before its end, its caller has left.
struct Rest {
    parts: mpsc::Receiver<Part>,
    end: End,
    /// What came before a break is on its way.
    is_flushed: bool,
}

impl Rest {
    /// Waits for the end, and throws away what comes before it; how it ended, if badly.
    async fn end(mut self) -> Result<(), Result<Answer, Refusal>> {
        self.parts.close();
        let ended = match self.end {
            End::Awaited(ending) => ending.await,
            End::Known(ended) => ended,
        };
        if is_good(&ended) { Ok(()) } else { Err(ended) }
    }
}

fn is_good(ended: &Result<Answer, Refusal>) -> bool {
    ended.as_ref().is_ok_and(|answer| answer.outcome.is_ok())
}

impl HttpBody for Rest {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        // Before the parts are looked at: what was sent before the end is there when it is.
        if let End::Awaited(ending) = &mut this.end
            && let Poll::Ready(ended) = ending.as_mut().poll(context)
        {
            this.end = End::Known(ended);
        }
        let is_good = match &this.end {
            End::Awaited(_) => None,
            End::Known(ended) => Some(is_good(ended)),
        };
        match (this.parts.poll_recv(context), is_good) {
            (Poll::Ready(Some(Part::Piece(piece))), _) => {
                this.is_flushed = false;
                Poll::Ready(Some(Ok(Frame::data(piece.into()))))
            }
            // There is one head.
            (Poll::Ready(Some(Part::Head(_))), _) => Poll::Ready(Some(Err(Broken))),
            (Poll::Pending | Poll::Ready(None), None) => Poll::Pending,
            (_, Some(true)) => Poll::Ready(None),
            // An error ends the connection at once, and with it what was not yet written.
            (_, Some(false)) if !this.is_flushed => {
                this.is_flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            (_, Some(false)) => Poll::Ready(Some(Err(Broken))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use refunction_protocol::{Failure, FailureKind};
    use serde_json::value::RawValue;

    use super::*;
    use crate::node::Start;

    fn asked() -> Asked {
        Asked {
            container: "python-1".into(),
            start: Start::Warm,
            waited: Duration::ZERO,
        }
    }

    fn ended(outcome: Result<(), FailureKind>) -> Result<Answer, Refusal> {
        let outcome = outcome.map(|()| RawValue::NULL.to_owned());
        Ok(Answer {
            outcome: outcome.map_err(|kind| Failure {
                kind,
                message: "it is".into(),
                error_type: None,
                stack: None,
            }),
            asked: asked(),
            ran: Duration::ZERO,
        })
    }

    fn head(status: u16) -> Part {
        let text = format!("{{\"status\":{status},\"headers\":[[\"x-own\",\"1\"]]}}");
        Part::Head(Head::parse(text.as_bytes()).unwrap())
    }

    /// Sends these parts and then ends so.
    async fn answer(parts: Vec<Part>, outcome: Result<(), FailureKind>) -> Response {
        let (pieces, taken) = way();
        taken
            .answer(async move {
                pieces.asked.send(asked()).unwrap();
                for part in parts {
                    let _ = pieces.parts.send(part).await;
                }
                ended(outcome)
            })
            .await
    }

    fn pieces(count: u8) -> impl Iterator<Item = Part> {
        (0..count).map(|number| Part::Piece(vec![number]))
    }

    #[tokio::test]
    async fn all_pieces_come_under_the_functions_head() {
        // More than wait at a time.
        let parts = std::iter::once(head(201)).chain(pieces(100)).collect();
        let reply = answer(parts, Ok(())).await;
        assert_eq!(reply.status(), 201);
        assert_eq!(reply.headers()["x-own"], "1");
        assert_eq!(reply.headers()["x-refunction-container"], "python-1");
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, (0..100).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn what_goes_wrong_in_the_middle_breaks_it_and_nothing_before_is_lost() {
        let parts = std::iter::once(head(200)).chain(pieces(3)).collect();
        let mut body = answer(parts, Err(FailureKind::Crashed)).await.into_body();
        for number in 0..3 {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), vec![number]);
        }
        assert!(body.frame().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn without_a_head_it_is_an_answer_as_any() {
        let reply = answer(Vec::new(), Ok(())).await;
        assert_eq!(reply.status(), 200);
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "null");
        let reply = answer(pieces(100).collect(), Err(FailureKind::Timeout)).await;
        assert_eq!(reply.status(), 504);
    }

    #[tokio::test]
    async fn an_answer_that_has_no_body_is_its_head_once_it_has_ended() {
        let parts = || std::iter::once(head(204)).chain(pieces(100)).collect();
        let reply = answer(parts(), Ok(())).await;
        assert_eq!(
            (reply.status().as_u16(), reply.headers()["x-own"].as_bytes()),
            (204, b"1".as_slice())
        );
        assert!(
            reply
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .is_empty()
        );
        assert_eq!(
            answer(parts(), Err(FailureKind::Crashed)).await.status(),
            502
        );
    }
}
