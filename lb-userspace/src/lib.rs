//! The xlb agent: config, desired state, reconcile, dataplane, health, API. The binary `xlb` is a
//! thin shell around it.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod flows;
pub mod health;
mod host;
pub mod init;
pub mod metrics;
pub mod neigh;
pub mod object;
pub mod reconcile;
mod spread;
pub mod state;
pub mod view;

pub use object::{BPF_OBJECT, BPF_OBJECT_BENCH, BPF_OBJECT_LOG};
