//! An answer that comes in pieces, on its way to a client: each is sent when it is there,
//! and asked for when there is room for it.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, SizeHint};
use refunction_protocol::Failure;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::bridge::{Outcome, Place};

/// What an answer's body is.
pub(super) enum Content {
    Whole(Full<Bytes>),
    Pieces(Pieces),
}

/// The answer is not whole, and the connection ends so that the client sees it.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(super) struct Broken(pub(super) Option<Failure>);

/// What is still to come of an answer. Dropped before its end, it gives the call up.
pub(super) struct Pieces {
    place: Place,
    pieces: UnboundedReceiver<Bytes>,
    answer: oneshot::Receiver<Outcome>,
    /// Bytes that the client still expects, if it was told how many.
    left: Option<u64>,
    /// What came before a break is on its way.
    is_flushed: bool,
}

impl Pieces {
    pub(super) fn new(
        place: Place,
        pieces: UnboundedReceiver<Bytes>,
        answer: oneshot::Receiver<Outcome>,
        length: Option<u64>,
    ) -> Self {
        Self {
            place,
            pieces,
            answer,
            left: length,
            is_flushed: false,
        }
    }

    /// Waits for the end, and throws away what comes before it.
    pub(super) async fn end(mut self) -> Result<(), Broken> {
        while let Some(piece) = self.frame().await {
            piece?;
        }
        Ok(())
    }

    fn poll_end(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let failure = match Pin::new(&mut self.answer).poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Outcome { result: Ok(_), .. })) => {
                self.place.is_answered = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Ok(Outcome {
                result: Err(failure),
                ..
            })) => Some(failure),
            // The supervisor ends.
            Poll::Ready(Err(_)) => None,
        };
        self.place.is_answered = true;
        Poll::Ready(Some(Err(Broken(failure))))
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        match this.pieces.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(piece)) => {
                this.is_flushed = false;
                this.place.took(piece.len());
                if let Some(left) = &mut this.left {
                    *left = left.saturating_sub(piece.len() as u64);
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            // An error ends the connection at once, and with it what was not yet written.
            Poll::Ready(None) if !this.is_flushed => {
                this.is_flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => this.poll_end(context),
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        // Nobody hears what else is sent: it holds nothing up.
        self.pieces.close();
        if self.left == Some(0) && !self.place.is_answered {
            // The client has all of it; what the function does after that goes on.
            self.place.is_answered = true;
            self.place.took(0);
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Self::Pieces(pieces) => Pin::new(pieces).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}
