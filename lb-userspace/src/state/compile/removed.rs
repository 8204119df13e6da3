//! Backends that are no longer configured and that a connection may still name: kept as `REMOVED`.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{Backend, Endpoint, EndpointKey, NameKey, backend_state, endpoint_kind, name_kind};
use lb_common::net::{Addr, unmap_v4};

use crate::config::Protocol;
use crate::state::ids::Ids;
use crate::state::image::Image;

use super::{Inputs, backends, holds};

pub(super) fn keep(inputs: &Inputs<'_>, previous: &Image, ids: &mut Ids, image: &mut Image) {
    let configured = &image.backends;
    ids.removed_since
        .retain(|id, _| previous.backends.contains_key(id) && !configured.contains_key(id));
    let gone: BTreeMap<u32, Backend> = previous
        .backends
        .iter()
        .filter(|(id, _)| !image.backends.contains_key(id))
        .map(|(id, backend)| (*id, *backend))
        .collect();
    if gone.is_empty() {
        return;
    }
    // Only a ring that could not be replaced yet still names one of them.
    let slots = image.rings.values().flat_map(|ring| ring.iter());
    let in_rings: BTreeSet<u32> = slots.filter(|id| gone.contains_key(id)).copied().collect();
    let least = holds(inputs).least;
    for (id, before) in gone {
        let since = *ids.removed_since.entry(id).or_insert(inputs.now);
        let live = inputs.live_flows.get(&id).is_some_and(|flows| *flows > 0);
        if live || in_rings.contains(&id) || inputs.now.saturating_sub(since) < least {
            image.backends.insert(id, removed(inputs, &before));
            keep_gateway_endpoint(inputs, previous, image, &before);
            for name in [(name_kind::BACKEND, id), (name_kind::SERVICE, before.service_id)] {
                keep_name(previous, image, name);
            }
        }
    }
}

fn removed(inputs: &Inputs<'_>, before: &Backend) -> Backend {
    let mut entry = Backend {
        state: backend_state::REMOVED,
        hop_dst_mac: [0; 6],
        hop_src_mac: [0; 6],
        hop_ifindex: 0,
        hop_flags: 0,
        ..*before
    };
    let hop = inputs.hops.get(&unmapped(&before.address));
    backends::set_hop(inputs, hop, Some(before), &mut entry);
    entry
}

/// In gateway mode what a removed backend still sends without a flow is dropped as before, not routed untranslated, even
/// when its service went with it. Where configured endpoints need the room, they have it.
fn keep_gateway_endpoint(inputs: &Inputs<'_>, previous: &Image, image: &mut Image, backend: &Backend) {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let key = EndpointKey {
            address: backend.address,
            port: backend.internal_port,
            protocol: protocol.number(),
            reserved: 0,
        };
        let of_backend = |endpoint: &&Endpoint| {
            endpoint.kind == endpoint_kind::GATEWAY_BACKEND && endpoint.service_id == backend.service_id
        };
        let has_room = image.endpoints.len() < inputs.config.limits.endpoints as usize;
        if has_room && let Some(endpoint) = previous.endpoints.get(&key).filter(of_backend) {
            image.endpoints.entry(key).or_insert(*endpoint);
        }
    }
}

fn keep_name(previous: &Image, image: &mut Image, (kind, id): (u32, u32)) {
    let key = NameKey { kind, id };
    if let Some(name) = previous.names.get(&key) {
        image.names.entry(key).or_insert(*name);
    }
}

fn unmapped(address: &Addr) -> std::net::IpAddr {
    match unmap_v4(address) {
        Some(v4) => v4.into(),
        None => (*address).into(),
    }
}
