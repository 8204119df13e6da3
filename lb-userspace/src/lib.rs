//! The xlb agent: config, desired state, reconcile, dataplane, health, API. The binary `xlb` is a
//! thin shell around it.

pub mod object;

pub use object::{BPF_OBJECT, BPF_OBJECT_LOG};
