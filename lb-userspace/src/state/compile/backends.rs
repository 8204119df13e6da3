//! One entry of `xlb_backends`: its state and where it is on the wire.

use lb_common::abi::{Backend, backend_state, hop_flag};

use crate::config::{AdminState, BackendConfig, ServiceConfig};
use crate::state::health::HealthState;
use crate::state::image::Image;
use crate::state::links::{BackendRef, Hop, Link, TxWay};

use super::interfaces::way;
use super::{Inputs, mapped};

/// The entry of a configured backend.
pub(super) fn entry(
    inputs: &Inputs<'_>,
    previous: &Image,
    service_id: u32,
    (id, service, backend): (u32, &ServiceConfig, &BackendConfig),
) -> Backend {
    let before = previous.backends.get(&id);
    let mut entry = Backend {
        address: mapped(backend.address),
        service_id,
        internal_port: backend.port,
        state: state(inputs, service, backend, before),
        weight: backend.weight,
        ..Backend::default()
    };
    set_hop(inputs, inputs.hops.get(&backend.address), before, &mut entry);
    entry
}

/// Fills in the next hop. One that is not known (any more) stays as it was: right after a start netlink has not
/// answered yet, and a host that is gone fails its checks.
pub(super) fn set_hop(inputs: &Inputs<'_>, hop: Option<&Hop>, before: Option<&Backend>, entry: &mut Backend) {
    if let Some(hop) = hop {
        entry.hop_dst_mac = hop.dst_mac;
        entry.hop_src_mac = hop.src_mac;
        entry.hop_ifindex = hop.ifindex;
    } else if let Some(before) = before.filter(|before| before.hop_flags & hop_flag::VALID != 0) {
        entry.hop_dst_mac = before.hop_dst_mac;
        entry.hop_src_mac = before.hop_src_mac;
        entry.hop_ifindex = before.hop_ifindex;
    } else {
        return;
    }
    let link: Option<&Link> = inputs
        .links
        .by_name
        .values()
        .find(|link| link.ifindex == entry.hop_ifindex);
    match link {
        Some(link) => {
            entry.hop_flags = hop_flag::VALID;
            if way(inputs, link) == TxWay::Tx {
                entry.hop_flags |= hop_flag::TX;
            }
        }
        // Nothing is known of the network yet.
        None if inputs.links.by_name.is_empty() => {
            entry.hop_flags = before.map_or(hop_flag::VALID, |before| before.hop_flags | hop_flag::VALID);
        }
        // Its interface is gone.
        None => (entry.hop_dst_mac, entry.hop_src_mac, entry.hop_ifindex) = Default::default(),
    }
}

fn state(inputs: &Inputs<'_>, service: &ServiceConfig, backend: &BackendConfig, before: Option<&Backend>) -> u8 {
    let health = || {
        let name = BackendRef {
            service: service.name.clone(),
            backend: backend.name.clone(),
        };
        inputs.health.get(&name).copied().unwrap_or_default()
    };
    let takes_flows = |before: &Backend| matches!(before.state, backend_state::ACTIVE | backend_state::DRAINING);
    let health = service.check_of(backend).map_or(HealthState::Up, |_| health());
    let healthy = match health {
        HealthState::Up => true,
        HealthState::Down => false,
        // A new one waits for its first good probe; one that took flows under the last agent goes on.
        HealthState::Unknown => before.is_some_and(takes_flows),
    };
    match backend.state {
        // Nobody probes it: what it was stays, and its connections go on.
        AdminState::Maint if before.is_none_or(takes_flows) => backend_state::DRAINING,
        AdminState::Maint => backend_state::DOWN,
        _ if !healthy => backend_state::DOWN,
        AdminState::Drain => backend_state::DRAINING,
        AdminState::Ready if backend.weight == 0 => backend_state::DRAINING,
        AdminState::Ready => backend_state::ACTIVE,
    }
}
