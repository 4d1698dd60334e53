//! How far the container's life has come, for whoever has to behave accordingly.

use tokio::sync::watch;

/// A stage of it; they come in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// There is no worker yet.
    Booting,
    Serving,
    /// What is in hand is finished, and nothing more is taken.
    Draining,
    /// It ends.
    Over,
}

/// The end that says it.
#[derive(Debug)]
pub(super) struct Course(watch::Sender<Stage>);

/// The end that listens.
#[derive(Debug, Clone)]
pub(super) struct Following(watch::Receiver<Stage>);

impl Course {
    pub(super) fn begin() -> (Self, Following) {
        let (sender, receiver) = watch::channel(Stage::Booting);
        (Self(sender), Following(receiver))
    }

    /// Says that it is here now, if it was not further.
    pub(super) fn reach(&self, stage: Stage) {
        self.0.send_if_modified(|reached| {
            let is_further = stage > *reached;
            if is_further {
                *reached = stage;
            }
            is_further
        });
    }
}

impl Following {
    /// Waits until it is here or further; where it is.
    pub(super) async fn reaches(&mut self, stage: Stage) -> Stage {
        match self.0.wait_for(|reached| *reached >= stage).await {
            Ok(reached) => reached.clone(),
            // The main thread is gone without a word: an end, too.
            Err(_) => Stage::Over,
        }
    }
}
