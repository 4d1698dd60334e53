//! The HTTP front: what a container speaks on its port, and to Lambda. It has a thread of
//! its own, which knows nothing of workers; no tenant's code runs in either, and its sockets
//! are closed in every program that is executed.

mod application;
mod body;
mod bridge;
mod cloudevents;
mod health;
mod lambda;
mod listener;
mod moment;
mod openwhisk;
mod pieces;
mod place;
mod plain;
mod poll;
mod reply;
mod route;
mod runtime_api;
mod stage;

pub(crate) use bridge::{CallId, Contract, Counts, Extras, Message, Outcome, Picture, Streamed};
pub(crate) use listener::{Front, FrontError, Manners};
pub(crate) use moment::now_in_words;
pub(crate) use openwhisk::{ONCE, SENTINEL};
pub(crate) use place::Place;
