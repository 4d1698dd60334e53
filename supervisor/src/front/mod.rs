//! The HTTP front: what a container speaks on its port. It has a thread of its own, which
//! knows nothing of workers; no tenant's code runs in either, and its sockets are closed
//! in every program that is executed.

mod body;
mod bridge;
mod cloudevents;
mod health;
mod lambda;
mod listener;
mod moment;
mod openwhisk;
mod place;
mod plain;
mod reply;
mod route;

pub(crate) use bridge::{CallId, Contract, Counts, Extras, Message, Outcome, Picture};
pub(crate) use listener::{Front, FrontError, Manners};
pub(crate) use moment::now_in_words;
pub(crate) use openwhisk::{ONCE, SENTINEL};
pub(crate) use place::Place;
