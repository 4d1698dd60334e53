//! An image of a folder that has no Dockerfile.

mod builder;
mod context;
mod recipe;

pub(crate) use builder::Builder;
pub(crate) use context::Context;
pub(crate) use recipe::{Recipe, Said};
