//! The test harness: what the kernel and namespace tests under `tests/tests/` share, and the demo uses.

pub mod agent;
pub mod alone;
pub mod api;
pub mod bench;
pub mod binary;
pub mod by_name;
pub mod client;
pub mod config_text;
pub mod demo;
pub mod interpreter;
pub mod kernel;
pub mod model;
pub mod netns;
pub mod packets;
pub mod peers;
pub mod process;
pub mod random;
pub mod skip;
pub mod topology;
