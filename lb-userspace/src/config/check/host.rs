//! The file against the ports of the host that it is checked on. Claims nothing about what is not known of it.

use std::net::IpAddr;

use crate::config::codes;
use crate::config::findings::{Finding, Findings, Span};
use crate::config::host::{self, HostFacts, Listener};
use crate::config::raw::{RawConfig, RawService};
use crate::config::{PortRange, Protocol, names_there};

/// Linux's default `ip_local_port_range`.
const DEFAULT_EPHEMERAL: PortRange = PortRange {
    min: 32_768,
    max: 60_999,
};
/// Listeners that one finding names.
const MAX_NAMED: usize = 4;

/// Reports what clashes with the host.
pub(super) fn check(raw: &RawConfig, host: &HostFacts, found: &mut Findings) {
    interfaces(raw, host, found);
    ephemeral(raw, host, found);
    let all = host.listeners.iter().flatten();
    // The agent's own is for XLB0216 and XLB0223, whether it runs at this moment or not.
    let own = |one: &&Listener| one.protocol == Protocol::Tcp && Some(one.at) == raw.agent.http.value;
    let others: Vec<&Listener> = all.filter(|one| !own(one)).collect();
    in_snat_ports(raw, host, &others, found);
    for service in &raw.services {
        behind_vip(service, &others, found);
    }
}

/// Where the SNAT ports stand, or could.
fn place(raw: &RawConfig) -> Span {
    raw.agent.snat_ports.1.as_ref().unwrap_or(&raw.agent.span).clone()
}

/// Interfaces that are not here. The file may be meant for another host.
fn interfaces(raw: &RawConfig, host: &HostFacts, found: &mut Findings) {
    let Some(here) = &host.interfaces else { return };
    let names: Vec<&str> = here.iter().map(String::as_str).collect();
    for name in raw.agent.interfaces.iter().filter(|name| !here.contains(&name.value)) {
        let message = format!("this host has no interface {}", name.value);
        let finding = Finding::new(&codes::NO_INTERFACE, message, name.span.clone(), "not here");
        found.add(finding.help(format!("it has: {}", names_there(&name.value, &names))));
    }
}

/// Ports that the kernel may give to the host's own connections.
fn ephemeral(raw: &RawConfig, host: &HostFacts, found: &mut Findings) {
    let snat = raw.agent.snat_ports.0;
    let ephemeral = host.ephemeral.unwrap_or(DEFAULT_EPHEMERAL);
    let reserved = host.reserved.as_deref().unwrap_or_default();
    let open = host::shared(snat, ephemeral, reserved);
    if open.is_empty() {
        return;
    }
    let whose = match host.ephemeral {
        Some(_) => "this host's ephemeral ports",
        None => "Linux's default ephemeral ports",
    };
    let message = format!("snat_ports {snat} reach into {whose} {ephemeral}");
    let label = format!("{} may be given to the host's own connections", host::list(&open));
    // The sysctl replaces the whole list.
    let wanted = host::union(reserved.iter().copied().chain([snat]).collect());
    let finding = Finding::new(&codes::SNAT_EPHEMERAL, message, place(raw), label);
    found.add(finding.help(format!(
        "run 'sysctl -w net.ipv4.ip_local_reserved_ports={}' and keep that setting in /etc/sysctl.d, or move snat_ports",
        host::list(&wanted)
    )));
}

/// Servers of the host whose port XDP takes on a SNAT address.
fn in_snat_ports(raw: &RawConfig, host: &HostFacts, listeners: &[&Listener], found: &mut Findings) {
    let snat: Vec<IpAddr> = match raw.agent.snat_addresses.as_slice() {
        [] => of_interfaces(raw, host),
        listed => listed.iter().map(|address| address.value).collect(),
    };
    let range = raw.agent.snat_ports.0;
    let reached = |one: &Listener| one.at.ip().is_unspecified() || snat.iter().any(|address| one.takes(*address));
    let there = listeners
        .iter()
        .filter(|one| range.contains(one.at.port()) && reached(one));
    let there: Vec<String> = there
        .map(|one| format!("{} {}", one.protocol.as_str(), one.at))
        .collect();
    if there.is_empty() {
        return;
    }
    let message = match there.as_slice() {
        [one] => format!("a listener of this host inside snat_ports {range}: {one}"),
        all => format!(
            "{} listeners of this host inside snat_ports {range}: {}",
            all.len(),
            named(all)
        ),
    };
    let label = "XDP takes what is sent to these ports of a SNAT address";
    let finding = Finding::new(&codes::LISTENER_IN_SNAT, message, place(raw), label);
    found.add(finding.help("let it listen on another port or address ('ss -lntup' names it), or move snat_ports"));
}

fn named(listeners: &[String]) -> String {
    let shown = listeners.iter().take(MAX_NAMED).map(String::as_str);
    let text = shown.collect::<Vec<_>>().join(", ");
    match listeners.len().saturating_sub(MAX_NAMED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Addresses of the file's interfaces: SNAT addresses by default. VIPs on them are not.
fn of_interfaces(raw: &RawConfig, host: &HostFacts) -> Vec<IpAddr> {
    let named = |interface: &String| raw.agent.interfaces.iter().any(|name| name.value == *interface);
    let is_vip = |address: &IpAddr| {
        let mut vips = raw.services.iter().flat_map(|service| &service.vips);
        vips.any(|vip| vip.value == *address)
    };
    let all = host.addresses.iter().flatten();
    all.filter(|(interface, address)| named(interface) && !is_vip(address))
        .map(|(_, address)| *address)
        .collect()
}

/// A server that listens on the very VIP and service port. One on the unspecified address is left alone: the other addresses
/// of the host still reach it.
fn behind_vip(service: &RawService, listeners: &[&Listener], found: &mut Findings) {
    let Some(port) = &service.port else {
        return;
    };
    for vip in &service.vips {
        let here = |one: &&&Listener| {
            one.protocol == service.protocol && one.at.port() == port.value && one.at.ip() == vip.value
        };
        let Some(one) = listeners.iter().find(here) else {
            continue;
        };
        let (title, protocol) = (service.title(), one.protocol.as_str());
        let message = format!("{title}: a server of this host listens on {protocol} {}", one.at);
        let label = "XDP takes its packets";
        let finding = Finding::new(&codes::LISTENER_BEHIND_VIP, message, vip.span.clone(), label);
        let finding = finding.and(port.span.clone(), "the service port");
        found.add(
            finding.help("stop that server ('ss -lntup' names it), or let it listen on an address that is no VIP"),
        );
    }
}
