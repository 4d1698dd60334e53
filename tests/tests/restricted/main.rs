//! Containers with less than an ordinary one has, or with several workers, each made by runc of
//! the image: what works in them, what does not, and that the supervisor says so in one line.

#![forbid(unsafe_code)]

mod beside;
mod container;
mod image;
mod runtimes;
mod tenants;
