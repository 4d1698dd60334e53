//! Being told to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

/// Ctrl-C, what ends a service, and the end of a terminal: from when it is made.
pub(super) struct Interruption([Signal; 3]);

impl Interruption {
    pub(super) fn new() -> Result<Self, Error> {
        let take =
            |kind| signal(kind).map_err(|error| Error::Here(format!("taking signals: {error}")));
        Ok(Self([
            take(SignalKind::interrupt())?,
            take(SignalKind::terminate())?,
            take(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one.
    pub(super) async fn comes(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
