//! kubelet's side: the CRI through refunctiond, beside the same CRI without it.
//!
//! The clients were written elsewhere: bindings that are generated from Kubernetes' own
//! definition, containerd's `ctr`, and kubelet itself where one is given.

mod client;
mod conformance;
mod faults;
mod kubelet;
mod passing;
mod pods;
mod purge;
