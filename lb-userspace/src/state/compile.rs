//! Config, links, next hops and health to the desired [`Image`]. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Config;

use super::health::HealthState;
use super::ids::Ids;
use super::image::Image;
use super::links::{BackendRef, Hop, Links};

/// Everything an image is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The checked config.
    pub config: &'a Config,
    /// Interfaces and addresses.
    pub links: &'a Links,
    /// Next hop of each backend address that has one.
    pub hops: &'a HashMap<IpAddr, Hop>,
    /// What the checks say; absent is [`HealthState::Unknown`].
    pub health: &'a HashMap<BackendRef, HealthState>,
    /// What the operator says; absent is [`AdminState::Ready`].
    pub admin: &'a HashMap<BackendRef, AdminState>,
    /// Live connections by backend id; absent is 0.
    pub live_flows: &'a HashMap<u32, u64>,
    /// Monotonic clock, for the grace period of freed ring spans.
    pub now: Duration,
    /// Kernel ticks per second.
    pub hz: u32,
}

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AdminState {
    /// Takes flows when healthy.
    #[default]
    Ready,
    /// No new flows, old ones finish.
    Drain,
    /// Treated as down.
    Maint,
}

/// Why no image could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Not enough ids.
    #[error("{wanted} {what} wanted, [limits] {key} = {limit}; raise it and restart the agent")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// Key in `[limits]`.
        key: &'static str,
        /// How many the config needs.
        wanted: u64,
        /// How many there is room for.
        limit: u64,
    },
}

/// The image that `inputs` ask for. Ids and ring spans in `ids` are kept from call to call.
pub fn compile(_inputs: &Inputs<'_>, previous: &Image, _ids: &mut Ids) -> Result<Image, CompileError> {
    Ok(previous.clone())
}
