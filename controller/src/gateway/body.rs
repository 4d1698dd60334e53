//! Reading a request's body, of which nothing is known before it is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Body as _;
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
    Broken(axum::Error),
}

/// A body.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    /// What is made of the bytes counts as in hand until this is dropped.
    pub(super) room: Room,
}

/// What all bodies take together.
#[derive(Debug, Clone, Default)]
pub(super) struct InHand(Arc<AtomicUsize>);

/// A part of what may be in hand.
#[derive(Debug)]
pub(super) struct Room {
    in_hand: InHand,
    taken: usize,
}

impl Room {
    fn grow(&mut self, bytes: usize) -> bool {
        self.taken += bytes;
        let before = self.in_hand.0.fetch_add(bytes, Ordering::Relaxed);
        before + bytes <= MOST_IN_HAND
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.in_hand.0.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// Reads a body of at most so many bytes, for which the client has so much time.
pub(super) async fn read(
    mut body: Body,
    most: usize,
    limit: Duration,
    in_hand: &InHand,
) -> Result<Text, BadBody> {
    let deadline = Instant::now() + limit;
    let announced = body.size_hint().lower();
    if announced > most as u64 + MOST_THROWN_AWAY {
        return Err(BadBody::TooLarge(most));
    }
    let mut bytes = Vec::new();
    let mut room = Room {
        in_hand: in_hand.clone(),
        taken: 0,
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
        if thrown_away > 0 || bytes.len() + data.len() > most {
            bytes = Vec::new();
            thrown_away += data.len() as u64;
            if thrown_away > MOST_THROWN_AWAY {
                break;
            }
        } else if room.grow(data.len()) {
            bytes.extend_from_slice(&data);
        } else {
            return Err(BadBody::NoRoom);
        }
    }
    if thrown_away > 0 {
        return Err(BadBody::TooLarge(most));
    }
    Ok(Text { bytes, room })
}
