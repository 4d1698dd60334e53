//! Answers that come in pieces: each goes on when it is there, and no more is read of the
//! worker than its client takes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use refunction_adapter::channel::{HEADER_BYTES, Kind, MOST_PIECE_BYTES};
use refunction_protocol::{Failure, FailureKind, Head, Report};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::duty::{Awaited, Call, InFlight};
use super::{Client, Fatal, Supervisor};
use crate::cause;
use crate::container::SlotId;
use crate::front::Streamed;
use crate::pipes::MAX_RESPONSE;

/// Bytes that may wait for a client before the worker does.
const MOST_WAITING: usize = 256 * 1024;

/// What a piece counts beside its bytes: small ones take room, too.
const PIECE_COST: usize = 64;

/// Where the pieces of an answer go.
pub(super) struct Pieces {
    to: UnboundedSender<Bytes>,
    waiting: usize,
}

impl Pieces {
    /// An answer with this head, and what is given to its client.
    pub(super) fn begin(head: Head) -> (Self, Streamed) {
        let (to, pieces): (_, UnboundedReceiver<Bytes>) = unbounded_channel();
        (Self { to, waiting: 0 }, Streamed { head, pieces })
    }

    fn send(&mut self, piece: Vec<u8>) {
        self.waiting += piece.len() + PIECE_COST;
        // A client that has all it expects, or has left, holds nothing up.
        let _ = self.to.send(piece.into());
    }

    /// A piece has left.
    pub(super) fn took(&mut self, bytes: usize) {
        self.waiting = self.waiting.saturating_sub(bytes + PIECE_COST);
    }

    pub(super) fn have_room(&self) -> bool {
        self.waiting < MOST_WAITING || self.to.is_closed()
    }
}

/// The pieces of an answer whose client does not take them one by one.
#[derive(Default)]
pub(super) struct Joined {
    bytes: Vec<u8>,
    /// What came through the pipe for them.
    came: usize,
}

impl Joined {
    /// Why it cannot be, if there is too much of it.
    fn add(&mut self, piece: &[u8]) -> Option<Failure> {
        self.bytes.extend_from_slice(piece);
        self.came += HEADER_BYTES + piece.len();
        let message = format!(
            "the pieces of the function's answer are more than the {MAX_RESPONSE} bytes that are allowed where they are joined"
        );
        (self.came > MAX_RESPONSE).then(|| cause::failure(FailureKind::Crashed, message))
    }

    /// Text as a JSON string; nothing if it is none.
    fn into_text(self) -> Option<Box<RawValue>> {
        to_raw_value(std::str::from_utf8(&self.bytes).ok()?).ok()
    }
}

impl Supervisor {
    /// True if the worker is to answer, and there is room for what it says.
    pub(super) fn has_room_for_answers(&self, slot: SlotId) -> bool {
        let duty = &self.duties[slot];
        match (duty.front_call(), &self.http) {
            _ if !duty.is_awaiting() => false,
            (Some(id), Some(http)) => http.has_room(id),
            _ => match duty.in_flight.as_ref().map(|it| it.client) {
                Some(Client::Peer(peer)) if duty.sends_pieces() => {
                    self.peers.unread(peer) < MOST_WAITING
                }
                _ => true,
            },
        }
    }

    /// Takes what there is of an answer in pieces, as long as there is room for it.
    pub(super) fn take_rest(&mut self, slot: SlotId) -> Result<(), Fatal> {
        loop {
            let is_begun = self.duties[slot]
                .in_flight
                .as_ref()
                .is_some_and(|it| matches!(it.awaited, Awaited::Rest { .. }));
            if !is_begun || !self.has_room_for_answers(slot) {
                return Ok(());
            }
            let Some(pipes) = self.container.pipes_mut(slot) else {
                return Ok(());
            };
            match pipes.receive() {
                Ok(None) => return Ok(()),
                Ok(Some((kind, payload))) => {
                    if !kind.goes_on() {
                        // What was printed before the end is in the pipe by now.
                        self.take_logs(slot);
                    }
                    self.take_frame(slot, kind, &payload)?;
                }
                Err(bad) => {
                    self.take_logs(slot);
                    return self.take_bad(slot, &bad);
                }
            }
        }
    }

    /// Takes a part of an answer, if it is the one that can come now.
    pub(super) fn take_part(
        &mut self,
        slot: SlotId,
        kind: Kind,
        payload: &[u8],
    ) -> Result<(), Fatal> {
        let Some(in_flight) = self.duties[slot].in_flight.take() else {
            return Ok(());
        };
        let InFlight {
            client,
            awaited,
            limit,
        } = in_flight;
        let (awaited, failure) = match (awaited, kind) {
            (Awaited::Value(call), Kind::Head) => match Head::parse(payload) {
                Some(head) => {
                    let is_taken = match (client, &mut self.http) {
                        (Client::Front(id), Some(http)) => http.begin_pieces(id, head),
                        (Client::Peer(peer), _) if call.request.pieces => {
                            let id = call.request.id.clone();
                            let data = serde_json::from_slice(payload);
                            let data = data.unwrap_or_else(|_| RawValue::NULL.to_owned());
                            self.peers.tell(peer, &Report::Head { id, data });
                            true
                        }
                        _ => false,
                    };
                    let joined = (!is_taken).then(Joined::default);
                    (Awaited::Rest { call, joined }, None)
                }
                None => {
                    let what = "its answer begins with no head";
                    (Awaited::Value(call), Some(cause::broken_channel(what)))
                }
            },
            (Awaited::Rest { call, mut joined }, Kind::Piece) => {
                let failure = if payload.is_empty() || payload.len() > MOST_PIECE_BYTES {
                    let what = format!("it sent a piece of {} bytes", payload.len());
                    Some(cause::broken_channel(what))
                } else if let Some(joined) = &mut joined {
                    joined.add(payload)
                } else {
                    self.send_piece(client, &call, payload);
                    None
                };
                (Awaited::Rest { call, joined }, failure)
            }
            (Awaited::Rest { call, joined }, Kind::End) => {
                let awaited = Awaited::Rest { call, joined };
                self.duties[slot].in_flight = Some(InFlight {
                    client,
                    awaited,
                    limit,
                });
                self.end_lines(slot);
                return self.end_answer(slot);
            }
            (awaited, _) => {
                let what = "it sent something else than the answer";
                (awaited, Some(cause::broken_channel(what)))
            }
        };
        self.duties[slot].in_flight = Some(InFlight {
            client,
            awaited,
            limit,
        });
        failure.map_or(Ok(()), |failure| self.give_up(slot, failure))
    }

    fn send_piece(&mut self, client: Client, call: &Call, piece: &[u8]) {
        match (client, &mut self.http) {
            (Client::Front(id), Some(http)) => {
                if let Some(pieces) = http.pieces(id) {
                    pieces.send(piece.to_vec());
                }
            }
            (Client::Peer(peer), _) => {
                let id = call.request.id.clone();
                let data = STANDARD.encode(piece);
                self.peers.tell(peer, &Report::Piece { id, data });
            }
            _ => {}
        }
    }

    /// Goes on with answers in pieces whose peers took what they had.
    pub(super) fn take_rests(&mut self) -> Result<(), Fatal> {
        for slot in self.container.slots() {
            if self.duties[slot].sends_pieces() {
                self.take_rest(slot)?;
            }
        }
        Ok(())
    }

    /// The last piece was there.
    fn end_answer(&mut self, slot: SlotId) -> Result<(), Fatal> {
        let Some(in_flight) = self.duties[slot].in_flight.take() else {
            return Ok(());
        };
        self.call_is_over(slot);
        let Awaited::Rest { call, joined } = in_flight.awaited else {
            return Ok(());
        };
        let data = match joined {
            None => Some(RawValue::NULL.to_owned()),
            Some(joined) => joined.into_text(),
        };
        self.counts.requests += 1;
        let id = call.request.id;
        let report = match data {
            Some(data) => Report::Response { id, data },
            None => Report::Error {
                id,
                failure: cause::failure(
                    FailureKind::Exception,
                    "the function's answer came in pieces that are no text together, and an answer here is JSON: call it over HTTP",
                ),
            },
        };
        self.tell(slot, in_flight.client, report);
        Ok(())
    }
}
