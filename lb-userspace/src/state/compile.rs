//! Config, links, next hops and health to the desired [`Image`]. Pure: time and everything else from outside is in
//! [`Inputs`]. It decides states, rings and what stays for the sake of live connections; it must not order writes
//! (`diff` does).

mod addresses;
mod backends;
mod interfaces;
mod removed;
mod room;
mod services;
mod settings;

pub use settings::{Part, changed_settings, compile_settings};

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use lb_common::limits::MAX_ADDRESSES;
use lb_common::net::{Addr, map_v4};

use crate::config::Config;

use super::health::HealthState;
use super::ids::{Ids, RingPlaces};
use super::image::Image;
use super::links::{BackendRef, Hop, Links};
use super::retired::Holds;

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
    /// Live connections by backend id; absent is 0.
    pub live_flows: &'a HashMap<u32, u64>,
    /// Monotonic clock, for the grace period of freed ring spans.
    pub now: Duration,
    /// Kernel ticks per second.
    pub hz: u32,
}

/// Why no image could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More objects than a map has room for.
    #[error(
        "{wanted} {what} wanted, room for {limit}: raise [limits] {key}, then 'xlb unload' (drops flows) and start"
    )]
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
    /// More VIPs and SNAT addresses than the ABI has room for.
    #[error("{wanted} VIPs and SNAT addresses wanted, room for {limit}: split the services over several nodes")]
    Addresses {
        /// How many the config needs.
        wanted: usize,
        /// How many there is room for.
        limit: u32,
    },
    /// `[limits]` is not what the maps were made with.
    #[error(
        "[limits] {key} is {running} in the running maps and {wanted} in the config: 'xlb unload' (drops flows) and start"
    )]
    LimitsChanged {
        /// Key in `[limits]`.
        key: &'static str,
        /// What the maps were made with.
        running: u32,
        /// What the config says.
        wanted: u32,
    },
    /// Two interfaces share a slot of `xlb_ifaces`.
    #[error("interfaces {first} and {second} have indices that differ by a multiple of 4096: make one of them anew")]
    IfaceSlot {
        /// Name of the first.
        first: String,
        /// Name of the second.
        second: String,
    },
}

/// The image that `inputs` ask for. `previous` is what the maps hold now, as far as the agent knows; ids and ring spans
/// in `ids` are kept from call to call.
///
/// # Errors
/// When the config does not fit into the maps. `ids` stays usable; the image in force is `previous`.
pub fn compile(inputs: &Inputs<'_>, previous: &Image, ids: &mut Ids) -> Result<Image, CompileError> {
    if ids.ring_places != RingPlaces::Waiting {
        ids.waits_since = None;
    }
    ids.ring_places = RingPlaces::Placed;
    ids.waiting.clear();
    let image = image(inputs, previous, ids);
    ids.makes_room = false;
    if image.is_err() {
        ids.ring_places = RingPlaces::Unknown;
    }
    image
}

fn image(inputs: &Inputs<'_>, previous: &Image, ids: &mut Ids) -> Result<Image, CompileError> {
    let limits = inputs.config.limits;
    ids.begin(limits, previous, inputs.now)?;
    ids.makes_room = room::is_to_be_made(ids, inputs.now);
    let mut image = Image::default();
    interfaces::compile(inputs, previous, &mut image)?;
    services::compile(inputs, previous, ids, &mut image)?;
    removed::keep(inputs, previous, ids, &mut image);
    addresses::compile(inputs, previous, &mut image);
    fits(&image, limits.endpoints)?;
    let holds = holds(inputs);
    image.ours = ids.retired.bitmap(previous, &image, holds, inputs.now);
    ids.finish(&image);
    ids.due = due(ids, (previous, &image), holds, inputs.now);
    Ok(image)
}

fn fits(image: &Image, endpoints: u32) -> Result<(), CompileError> {
    if image.addrs.len() > MAX_ADDRESSES as usize {
        return Err(CompileError::Addresses {
            wanted: image.addrs.len(),
            limit: MAX_ADDRESSES,
        });
    }
    if image.endpoints.len() > endpoints as usize {
        return Err(CompileError::Limit {
            what: "endpoints (service ports by VIP, internal ports of gateway backends)",
            key: "endpoints",
            wanted: image.endpoints.len() as u64,
            limit: endpoints.into(),
        });
    }
    Ok(())
}

/// How long what is no longer configured stays for connections that may still need it.
fn holds(inputs: &Inputs<'_>) -> Holds {
    let timeouts = &inputs.config.timeouts;
    Holds {
        // No counter has half-open connections, nor UDP flows before their second packet.
        least: timeouts.half_open.max(timeouts.udp),
        most: timeouts.established.max(timeouts.udp_answered).max(timeouts.udp),
        live_flows: inputs.live_flows.values().sum(),
    }
}

fn due(ids: &mut Ids, (previous, image): (&Image, &Image), holds: Holds, now: Duration) -> Option<Duration> {
    // One past its time waits for its connections, which the caller counts.
    let removed = ids
        .removed_since
        .values()
        .map(|since| *since + holds.least)
        .filter(|due| *due > now)
        .min();
    let retired = ids.retired.next_due(holds, now);
    let placed = room::due(ids, (previous, image), now);
    [removed, retired, placed].into_iter().flatten().min()
}

/// An address as it stands in maps.
pub(super) const fn mapped(address: IpAddr) -> Addr {
    match address {
        IpAddr::V4(v4) => map_v4(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}
