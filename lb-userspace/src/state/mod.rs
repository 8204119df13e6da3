//! Checked config, health and next hops to the exact contents of the maps: pure code, time is an argument.

pub mod arena;
pub mod compile;
pub mod diff;
pub mod health;
pub mod ids;
pub mod image;
pub mod links;
pub mod maglev;
pub mod names;
pub mod ours;
pub mod panic;
mod retired;
pub mod rings;
mod spans;

#[cfg(test)]
mod tests;

pub use compile::{CompileError, Inputs, Part, changed_settings, compile, compile_settings};
pub use diff::diff;
pub use health::HealthState;
pub use ids::{Family, Ids, WaitingRing};
pub use image::{Image, Op};
pub use links::{BackendRef, Hop, Link, Links, Moved, TxWay};
