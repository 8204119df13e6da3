//! A snapshot as people and programs see it: [`crate::view`] types, worst first, with what to do next. Pure.

mod drops;
mod health;
mod services;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use lb_common::abi::ABI_VERSION;
use lb_common::limits::MAX_SNAT_ADDRESSES;

pub use drops::drops_view;

use super::outputs::{address, snat_addresses};
use super::ports::{Port, PortState};
use super::snapshot::{FailedOp, Snapshot};
use super::warnings;
use crate::agent::ReloadFailure;
use crate::config::TxChoice;
use crate::state::TxWay;
use crate::view::{
    AgentView, ConfigView, ConfinementView, FailedOpView, InterfaceView, Overall, ProgramView, SCHEMA, ServiceState,
    SnatView, StatusView, TableView, Timestamp,
};

/// Everything on the status screen.
pub fn status_view(snapshot: &Snapshot, reload: Option<&ReloadFailure>, now: Timestamp) -> StatusView {
    let services = services::services(snapshot, now);
    let interfaces: Vec<InterfaceView> = snapshot
        .ports
        .iter()
        .map(|port| interface_view(snapshot, port))
        .collect();
    let tables = tables(snapshot);
    let warnings = warnings::collect(snapshot, reload, &tables, &services, now);
    let settings = &snapshot.image.settings;
    let healthy = warnings.iter().all(|warning| !warnings::degrades(warning))
        && snapshot.failed_ops.is_empty()
        && interfaces
            .iter()
            .all(|interface| interface.error.is_none() && interface.up)
        && services.iter().all(|service| service.state >= ServiceState::Up);
    StatusView {
        schema: SCHEMA,
        overall: if healthy { Overall::Ok } else { Overall::Degraded },
        now,
        agent: agent_view(snapshot, reload),
        program: ProgramView {
            abi_version: ABI_VERSION,
            pin_dir: snapshot.origin.pin_dir.clone(),
            features: snapshot.origin.features.clone(),
            adoption: snapshot.origin.adoption.to_owned(),
        },
        interfaces,
        snat: SnatView {
            addresses: snat_addresses(&snapshot.image),
            port_min: settings.snat_port_min,
            port_max: settings.snat_port_max,
        },
        addresses: snapshot.presence.to_vec(),
        tables,
        warnings,
        failed_ops: snapshot.failed_ops.iter().map(failed_view).collect(),
        overrides: snapshot.desired.override_views(),
        names: Vec::new(),
        services,
    }
}

fn agent_view(snapshot: &Snapshot, reload: Option<&ReloadFailure>) -> AgentView {
    AgentView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: snapshot.origin.pid,
        started: snapshot.origin.started,
        generation: snapshot.generation,
        applied: snapshot.applied,
        config: ConfigView {
            path: snapshot.desired.path.clone(),
            loaded: snapshot.desired.loaded,
            revision: snapshot.desired.revision,
            last_error: reload.map(|failure| failure.message.clone()),
            last_error_at: reload.map(|failure| failure.at),
        },
        confinement: ConfinementView {
            capabilities: snapshot.origin.confinement.capabilities.clone(),
            files: snapshot.origin.confinement.files.to_owned(),
        },
    }
}

fn failed_view(failed: &FailedOp) -> FailedOpView {
    FailedOpView {
        op: failed.op.clone(),
        error: failed.error.clone(),
        attempts: failed.backoff.attempts,
        since: failed.since,
        retry_in_ms: failed.retry_in_ms(std::time::Instant::now()),
    }
}

fn interface_name(snapshot: &Snapshot, ifindex: u32) -> String {
    let known = snapshot.links.by_name.values().find(|link| link.ifindex == ifindex);
    known.map_or_else(|| format!("#{ifindex}"), |link| link.name.clone())
}

fn interface_view(snapshot: &Snapshot, port: &Port) -> InterfaceView {
    let link = snapshot.links.by_name.get(&port.name);
    let way = link.map(|link| match (snapshot.desired.config.agent.tx, link.tx) {
        (TxChoice::Tx, _) | (TxChoice::Auto, TxWay::Tx) => "tx",
        (TxChoice::Redirect, _) | (TxChoice::Auto, TxWay::Redirect) => "redirect",
    });
    InterfaceView {
        name: port.name.clone(),
        ifindex: link.map(|link| link.ifindex),
        up: link.is_some_and(|link| link.up),
        xdp_mode: match &port.state {
            PortState::Attached { mode, .. } => Some(mode.to_string()),
            PortState::Adopted | PortState::Missing | PortState::Failed { .. } => None,
        },
        tx_way: way.map(str::to_owned),
        driver: link.map(|link| link.driver.clone()).filter(|driver| !driver.is_empty()),
        mtu_bytes: link.map(|link| link.mtu_bytes),
        error: match &port.state {
            PortState::Attached { .. } | PortState::Adopted => None,
            PortState::Missing => Some(format!("there is no interface {}; see 'ip link'", port.name)),
            PortState::Failed { error, .. } => Some(error.clone()),
        },
    }
}

fn tables(snapshot: &Snapshot) -> Vec<TableView> {
    let image = &snapshot.image;
    // Sizes are fixed when the maps are made, so those of the start hold.
    let limits = &snapshot.origin.config.limits;
    let live = |wanted: fn(&IpAddr) -> bool| {
        let of_family = image
            .backends
            .iter()
            .filter(|(_, entry)| wanted(&address(&entry.address)));
        of_family.map(|(id, _)| snapshot.sample.live(*id)).sum()
    };
    let table = |name: &str, used: u64, capacity: u32| TableView {
        name: name.to_owned(),
        used,
        capacity: u64::from(capacity),
    };
    let ring_slots: usize = image.rings.values().map(|ring| ring.len()).sum();
    vec![
        table("connections4", live(IpAddr::is_ipv4), limits.connections),
        table("connections6", live(IpAddr::is_ipv6), limits.connections),
        table("services", image.services.len() as u64, limits.services),
        table("backends", image.backends.len() as u64, limits.backends),
        table("ring_slots", ring_slots as u64, limits.ring_slots),
        table("endpoints", image.endpoints.len() as u64, limits.endpoints),
        table("snat_addresses", image.snat.len() as u64, 2 * MAX_SNAT_ADDRESSES),
    ]
}
