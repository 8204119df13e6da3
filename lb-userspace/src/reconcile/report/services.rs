//! Services and their backends, worst first.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use lb_common::abi::{Backend, backend_state, hop_flag};

use super::super::outputs::address;
use super::health::{check_text, health_view, without_result};
use super::{Snapshot, interface_name};
use crate::config::{BackendConfig, Panic, ServiceConfig};
use crate::state::{BackendRef, Family};
use crate::view::{
    AdminState, AllDownView, BackendState, BackendView, CountersView, FromNameView, HopView, RatesView, ServiceState,
    ServiceView, Timestamp, Verdict,
};

/// All services.
pub(super) fn services(snapshot: &Snapshot, now: Timestamp) -> Vec<ServiceView> {
    let removed = removed_ids(snapshot);
    let configured = snapshot.desired.config.services.iter();
    let mut services: Vec<ServiceView> = configured
        .map(|service| service_view(snapshot, service, &removed, now))
        .collect();
    let known: HashSet<u32> = services.iter().filter_map(|service| service.id).collect();
    let gone = removed.iter().filter(|(id, _)| !known.contains(id));
    services.extend(gone.map(|(id, backends)| removed_service(snapshot, *id, backends)));
    services.sort_by_key(|service| service.state);
    services
}

/// A service that only the maps still know, while connections of its backends go on.
fn removed_service(snapshot: &Snapshot, id: u32, backend_ids: &[u32]) -> ServiceView {
    let name = backend_ids
        .iter()
        .find_map(|id| snapshot.names.get(id)?.split_once('/'));
    let name = name.map_or_else(|| format!("id {id}"), |(service, _)| service.to_owned());
    let backends: Vec<BackendView> = backend_ids
        .iter()
        .map(|id| removed_view(snapshot, &name, *id))
        .collect();
    let (counters, rates) = sums(&backends);
    ServiceView {
        name,
        id: Some(id),
        vips: Vec::new(),
        port: 0,
        protocol: "-".to_owned(),
        mode: "-".to_owned(),
        state: ServiceState::Removed,
        all_down: Vec::new(),
        counters,
        rates,
        backends,
    }
}

fn sums(backends: &[BackendView]) -> (CountersView, RatesView) {
    let (mut counters, mut rates) = (CountersView::default(), RatesView::default());
    for backend in backends {
        counters += backend.counters;
        rates += backend.rates;
    }
    (counters, rates)
}

fn service_view(
    snapshot: &Snapshot,
    service: &ServiceConfig,
    removed: &HashMap<u32, Vec<u32>>,
    now: Timestamp,
) -> ServiceView {
    let mut backends: Vec<BackendView> = service
        .backends
        .iter()
        .map(|backend| backend_view(snapshot, service, backend, now))
        .collect();
    let id = snapshot.service_ids.get(&service.name).copied();
    let gone = id.and_then(|id| removed.get(&id)).into_iter().flatten();
    backends.extend(gone.map(|id| removed_view(snapshot, &service.name, *id)));
    backends.sort_by_key(|backend| backend.state);
    let (counters, rates) = sums(&backends);
    // A weight of 0, a drain and maintenance are wishes, not problems.
    let is_wanted = |backend: &&BackendView| {
        backend.weight > 0 && backend.admin == AdminState::Ready && backend.state != BackendState::Removed
    };
    let wanted = || backends.iter().filter(is_wanted);
    let takes_flows = |backend: &BackendView| backend.state == BackendState::Active && backend.hop.is_some();
    let all_down = all_down(snapshot, &service.name);
    let state = match (wanted().any(takes_flows), wanted().all(takes_flows)) {
        (false, _) => ServiceState::Down,
        (true, false) => ServiceState::Degraded,
        (true, true) if !every_vip_has_a_backend(&service.vips, &backends) => ServiceState::Degraded,
        (true, true) if all_down.iter().any(|down| down.panic == Panic::UseAll.as_str()) => ServiceState::Degraded,
        (true, true) => ServiceState::Up,
    };
    ServiceView {
        name: service.name.clone(),
        id,
        vips: service.vips.clone(),
        port: service.port,
        protocol: service.protocol.as_str().to_owned(),
        mode: service.mode.as_str().to_owned(),
        state,
        all_down,
        counters,
        rates,
        backends,
    }
}

/// xlb does not translate between families: a VIP without a backend of its own drops its packets.
fn every_vip_has_a_backend(vips: &[IpAddr], backends: &[BackendView]) -> bool {
    let of = |vip: IpAddr| {
        let mut there = backends.iter().filter(|backend| backend.state != BackendState::Removed);
        there.any(|backend| backend.address.is_ipv4() == vip.is_ipv4())
    };
    vips.iter().all(|vip| of(*vip))
}

fn all_down(snapshot: &Snapshot, service: &str) -> Vec<AllDownView> {
    let of_family = |family: Family| {
        let (policy, since) = snapshot.all_down.get(&(service.to_owned(), family))?;
        Some(AllDownView {
            family: family.as_str().to_owned(),
            panic: policy.as_str().to_owned(),
            since: *since,
        })
    };
    [Family::V4, Family::V6].into_iter().filter_map(of_family).collect()
}

fn backend_view(snapshot: &Snapshot, service: &ServiceConfig, backend: &BackendConfig, now: Timestamp) -> BackendView {
    let key = BackendRef {
        service: service.name.clone(),
        backend: backend.name.clone(),
    };
    let id = snapshot.backend_ids.get(&key).copied();
    let entry = id.and_then(|id| snapshot.image.backends.get(&id));
    let check = service.check_of(backend);
    let health = match (check, snapshot.health.get(&key)) {
        _ if backend.state == AdminState::Maint => without_result(
            Verdict::Unchecked,
            "in maintenance: it is not probed and takes no new connections",
        ),
        (Some(_), Some(record)) => health_view(record, backend.port, now),
        (Some(_), None) => without_result(Verdict::Unknown, "no check has ended yet"),
        (None, _) => without_result(
            Verdict::Unchecked,
            "no check is configured: it always takes connections",
        ),
    };
    let counted = counted(snapshot, id, entry);
    BackendView {
        name: backend.name.clone(),
        address: backend.address,
        internal_port: backend.port,
        weight: backend.weight,
        state: match (backend.state, counted.state) {
            (AdminState::Maint, BackendState::Draining | BackendState::Down) => BackendState::Maint,
            (_, state) => state,
        },
        admin: backend.state,
        health,
        check: check.map_or_else(|| "none".to_owned(), check_text),
        from: backend.from.as_ref().map(|from| FromNameView {
            entry: from.entry.clone(),
            host: from.host.to_string(),
        }),
        ..counted
    }
}

/// Ids of backends that only the maps still know, by service id.
fn removed_ids(snapshot: &Snapshot) -> HashMap<u32, Vec<u32>> {
    let mut removed: HashMap<u32, Vec<u32>> = HashMap::new();
    for (id, entry) in &snapshot.image.backends {
        if entry.state == backend_state::REMOVED {
            removed.entry(entry.service_id).or_default().push(*id);
        }
    }
    removed
}

fn removed_view(snapshot: &Snapshot, service: &str, id: u32) -> BackendView {
    let name = snapshot.names.get(&id).and_then(|name| name.split_once('/'));
    BackendView {
        name: name.map_or_else(|| format!("id {id}"), |(_, backend)| backend.to_owned()),
        health: without_result(Verdict::Unchecked, &format!("removed from service {service}")),
        check: "none".to_owned(),
        ..counted(snapshot, Some(id), snapshot.image.backends.get(&id))
    }
}

/// What the maps say about a backend.
fn counted(snapshot: &Snapshot, id: Option<u32>, entry: Option<&Backend>) -> BackendView {
    let sample = &snapshot.sample;
    BackendView {
        name: String::new(),
        id,
        address: entry.map_or(IpAddr::from([0, 0, 0, 0]), |entry| address(&entry.address)),
        internal_port: entry.map_or(0, |entry| entry.internal_port),
        weight: entry.map_or(0, |entry| entry.weight),
        state: state_of(entry),
        admin: AdminState::Ready,
        health: without_result(Verdict::Unknown, ""),
        since: id.and_then(|id| snapshot.since.get(&id).copied()),
        check: String::new(),
        flows: id.map_or(0, |id| sample.live(id)),
        counters: id.map(|id| sample.counters(id)).unwrap_or_default(),
        rates: id.map(|id| sample.rates(id)).unwrap_or_default(),
        hop: entry.and_then(|entry| hop_view(snapshot, entry)),
        from: None,
    }
}

fn state_of(entry: Option<&Backend>) -> BackendState {
    match entry.map_or(backend_state::EMPTY, |entry| entry.state) {
        backend_state::ACTIVE => BackendState::Active,
        backend_state::DRAINING => BackendState::Draining,
        backend_state::DOWN => BackendState::Down,
        backend_state::REMOVED => BackendState::Removed,
        _ => BackendState::Pending,
    }
}

fn hop_view(snapshot: &Snapshot, entry: &Backend) -> Option<HopView> {
    (entry.hop_flags & hop_flag::VALID != 0).then(|| HopView {
        mac: mac_text(&entry.hop_dst_mac),
        interface: interface_name(snapshot, entry.hop_ifindex),
    })
}

fn mac_text(mac: &[u8; 6]) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
