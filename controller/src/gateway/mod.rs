//! Functions over HTTP: deployed, called, looked at.
//!
//! [`Bound`] listens on loopback, a Unix socket, or with a [`Token`] elsewhere; [`Gateway`]
//! answers. Functions are put into and read from the [`Store`]; calls go through [`Invoke`],
//! behind which the scheduler is. Of a call's argument and result only the form is looked at:
//! both pass as they were written.

// What cannot be done is answered, however large an answer is.
#![allow(clippy::result_large_err)]

mod body;
mod calls;
mod functions;
mod health;
mod listener;
mod patient;
mod pieces;
mod place;
mod reply;
mod request;
mod results;
mod route;
mod token;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Bytes;
use refunction_protocol::MAX_LINE_BYTES;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::node::{Answer, Call, Refusal};
use crate::store::{Store, StoreError};
use body::{InHand, Text};
use reply::Reply;
use results::Results;

pub use place::{Bound, Place, PlaceError};
pub use results::Bounds;
pub use token::{Token, TokenError};

/// Bytes of a call's argument; Lambda's limit.
const MOST_PAYLOAD: usize = 6 * 1024 * 1024;

/// Bytes of a function that is deployed: what a supervisor takes, and what stands around it.
const MOST_DEPLOYED: usize = MAX_LINE_BYTES + 64 * 1024;

/// Who carries calls out.
#[tonic::async_trait]
pub trait Invoke: Send + Sync {
    /// Calls a function. A caller that leaves has this dropped, which gives the call up.
    async fn invoke(&self, call: Call) -> Result<Answer, Refusal>;

    /// The function of this name was stored, replaced or deleted; the store has which. Several
    /// changes of one name may be told in another order than they were made. Calls that come
    /// when this has returned find the change.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn changed(&self, name: &str) -> Result<(), StoreError>;

    /// Whether calls would be taken now.
    ///
    /// # Errors
    /// Why not, in a sentence.
    fn ready(&self) -> Result<(), String>;

    /// What was done and what there is, in Prometheus's text format.
    fn metrics(&self) -> String;
}

/// How the gateway is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The image for each runtime that can be named in an image's place.
    pub images: BTreeMap<String, String>,
    /// What a client gets to send the headers of a request, or its body, or to go on taking an
    /// answer.
    pub patience: Duration,
    /// What is kept of calls that nobody waits for.
    pub results: Bounds,
    /// How long calls may go on when it is told to stop.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            images: BTreeMap::new(),
            patience: Duration::from_secs(30),
            results: Bounds::default(),
            grace: Duration::from_secs(5),
        }
    }
}

/// What all requests share.
pub struct Gateway {
    store: Store,
    invoke: Arc<dyn Invoke>,
    settings: Settings,
    document: Bytes,
    results: Results,
    in_hand: InHand,
    stopping: watch::Sender<bool>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Gateway")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Over this store; calls go to `invoke`.
    #[must_use]
    pub fn new(store: Store, invoke: Arc<dyn Invoke>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            store,
            invoke,
            document: health::document(&settings.images),
            results: Results::new(settings.results),
            settings,
            in_hand: InHand::default(),
            stopping: watch::Sender::new(false),
        })
    }

    /// Answers who comes to these places, until `stop` is true or its sender gone. Then nobody
    /// else is let in, and what is under way has the [grace](Settings::grace) to end.
    pub async fn serve(self: Arc<Self>, places: Vec<Bound>, mut stop: watch::Receiver<bool>) {
        let router = route::router(Arc::clone(&self));
        let mut serving = JoinSet::new();
        for bound in places {
            serving.spawn(listener::serve(
                bound,
                router.clone(),
                self.settings.patience,
                self.stopping.subscribe(),
            ));
        }
        // An error: nobody is left who could say so.
        let _ = stop.wait_for(|stop| *stop).await;
        self.stopping.send_replace(true);
        let ended = async {
            while serving.join_next().await.is_some() {}
            self.results.settle().await;
        };
        let _ = tokio::time::timeout(self.settings.grace, ended).await;
        // What goes on is given up with its connection, or by itself.
        serving.shutdown().await;
        self.results.clear();
    }

    async fn read(&self, body: Body, most: usize) -> Result<Text, Reply> {
        let read = body::read(body, most, self.settings.patience, &self.in_hand).await;
        read.map_err(|bad| reply::bad_body(&bad))
    }
}
