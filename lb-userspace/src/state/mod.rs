//! Checked config, health and next hops to the exact contents of the maps: pure code, time is an argument.

pub mod compile;
pub mod health;
pub mod ids;
pub mod image;
pub mod links;

pub use compile::{AdminState, CompileError, Inputs, compile};
pub use health::HealthState;
pub use ids::Ids;
pub use image::{Image, Op, diff};
pub use links::{BackendRef, Hop, Link, Links, TxWay};
