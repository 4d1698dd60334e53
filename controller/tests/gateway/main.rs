//! The gateway, spoken to over its sockets.

mod calls;
mod client;
mod functions;
mod manners;
mod site;
