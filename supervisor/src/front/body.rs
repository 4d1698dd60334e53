//! Reading a request's body, of which nothing is known before it is there.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout_at};

/// Bytes of bodies that may be in hand at a time.
const MOST_IN_HAND: usize = 256 * 1024 * 1024;

/// How much more than allowed is read, to be thrown away: a client that is still writing
/// does not read its answer.
const MOST_THROWN_AWAY: u64 = 64 * 1024 * 1024;

/// Why there is no body.
#[derive(Debug)]
pub(super) enum BadBody {
    TooLarge(usize),
    TooSlow(Duration),
    NoRoom,
    Broken(hyper::Error),
}

/// A body, which counts as in hand until it is dropped.
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    room: Room,
}

/// What all bodies take together.
#[derive(Clone, Default)]
pub(super) struct InHand(Rc<Cell<usize>>);

struct Room {
    in_hand: InHand,
    taken: usize,
}

impl Room {
    fn grow(&mut self, bytes: usize) -> bool {
        let all = self.in_hand.0.get() + bytes;
        if all > MOST_IN_HAND {
            return false;
        }
        self.in_hand.0.set(all);
        self.taken += bytes;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.in_hand.0.set(self.in_hand.0.get() - self.taken);
    }
}

/// Reads a body of at most so many bytes, for which the client has so much time.
pub(super) async fn read(
    mut body: Incoming,
    most: usize,
    limit: Duration,
    in_hand: &InHand,
) -> Result<Text, BadBody> {
    let deadline = Instant::now() + limit;
    let announced = body.size_hint().lower();
    if announced > most as u64 + MOST_THROWN_AWAY {
        return Err(BadBody::TooLarge(most));
    }
    let mut text = Text {
        bytes: Vec::new(),
        room: Room {
            in_hand: in_hand.clone(),
            taken: 0,
        },
    };
    let mut thrown_away = 0;
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(BadBody::TooSlow(limit)),
            Ok(None) => break,
            Ok(Some(frame)) => frame.map_err(BadBody::Broken)?,
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if thrown_away > 0 || text.bytes.len() + data.len() > most {
            text.bytes = Vec::new();
            thrown_away += data.len() as u64;
            if thrown_away > MOST_THROWN_AWAY {
                break;
            }
        } else if text.room.grow(data.len()) {
            text.bytes.extend_from_slice(&data);
        } else {
            return Err(BadBody::NoRoom);
        }
    }
    if thrown_away > 0 {
        return Err(BadBody::TooLarge(most));
    }
    Ok(text)
}
