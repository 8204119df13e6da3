//! Addresses that can never be right, and addresses in two roles.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::config::Protocol;
use crate::config::codes;
use crate::config::findings::{Finding, Findings, Located, Span};
use crate::config::raw::{RawConfig, RawService};

/// Most SNAT addresses of one family.
const MAX_SNAT: usize = lb_common::limits::MAX_SNAT_ADDRESSES as usize;

/// Reports unusable addresses and clashes of roles.
pub(super) fn check(raw: &RawConfig, found: &mut Findings) {
    for address in all(raw) {
        if let Some(why) = unusable(address.value) {
            let message = format!("{} is {why}", address.value);
            let place = address.span.clone();
            let finding = Finding::new(&codes::UNUSABLE_ADDRESS, message, place, "cannot be used");
            found.add(finding.help(match mapped(address.value) {
                Some(v4) => format!("write \"{v4}\""),
                None => "write a unicast address that other hosts can reach".to_owned(),
            }));
        }
    }
    roles(raw, found);
    snat(raw, found);
    listener(raw, found);
    listener_in_snat_ports(raw, found);
}

fn all(raw: &RawConfig) -> impl Iterator<Item = &Located<IpAddr>> {
    let services = raw.services.iter().flat_map(|service| {
        let backends = service.backends.iter().filter_map(|backend| backend.address.as_ref());
        service.vips.iter().chain(backends)
    });
    raw.agent.snat_addresses.iter().chain(services)
}

/// What an address is that can be neither VIP nor SNAT address nor backend.
pub(in crate::config) fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of 0.0.0.0/8, which no packet may carry"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("a reserved or broadcast address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4 address in IPv6 notation"),
        _ => None,
    }
}

fn mapped(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
    }
}

/// A VIP is no backend's address; neither is a SNAT address.
fn roles(raw: &RawConfig, found: &mut Findings) {
    let mut vips: HashMap<IpAddr, (&Span, &RawService)> = HashMap::new();
    for service in &raw.services {
        for vip in &service.vips {
            vips.entry(vip.value).or_insert((&vip.span, service));
        }
    }
    let snat: HashMap<IpAddr, &Span> = raw.agent.snat_addresses.iter().map(|a| (a.value, &a.span)).collect();
    for service in &raw.services {
        for address in service.backends.iter().filter_map(|backend| backend.address.as_ref()) {
            if let Some((place, owner)) = vips.get(&address.value) {
                let message = format!(
                    "backend {} has the address of a VIP of {}",
                    address.value,
                    owner.title()
                );
                let finding = Finding::new(
                    &codes::VIP_IS_BACKEND,
                    message,
                    address.span.clone(),
                    "a backend's address",
                );
                found.add(
                    finding
                        .and((*place).clone(), "the VIP")
                        .help("give the service an address of its own"),
                );
            }
            if let Some(place) = snat.get(&address.value) {
                let message = format!("backend {} has the address of a SNAT address", address.value);
                let finding = Finding::new(
                    &codes::SNAT_IS_BACKEND,
                    message,
                    address.span.clone(),
                    "a backend's address",
                );
                found.add(
                    finding
                        .and((*place).clone(), "the SNAT address")
                        .help("list addresses of this node only"),
                );
            }
        }
    }
}

/// Not too many SNAT addresses, and no service port among their ports.
fn snat(raw: &RawConfig, found: &mut Findings) {
    let of = |v4: bool| {
        raw.agent
            .snat_addresses
            .iter()
            .filter(move |address| address.value.is_ipv4() == v4)
    };
    for v4 in [true, false] {
        if let Some(address) = of(v4).nth(MAX_SNAT) {
            let message = format!("{} SNAT addresses of one family", of(v4).count());
            let finding = Finding::new(
                &codes::TOO_MANY,
                message,
                address.span.clone(),
                "the first one too many",
            );
            found.add(finding.help(format!("list at most {MAX_SNAT} of each family")));
        }
    }
    let range = raw.agent.snat_ports.0;
    for service in &raw.services {
        let Some(port) = service.port.as_ref().filter(|port| range.contains(port.value)) else {
            continue;
        };
        for vip in &service.vips {
            if let Some(snat) = raw.agent.snat_addresses.iter().find(|snat| snat.value == vip.value) {
                let title = service.title();
                let message = format!(
                    "{title}: {} is a SNAT address and port {} inside snat_ports {range}",
                    vip.value, port.value
                );
                let finding = Finding::new(
                    &codes::VIP_PORT_IN_SNAT,
                    message,
                    port.span.clone(),
                    "inside snat_ports",
                );
                let finding = finding.and(snat.span.clone(), "the SNAT address");
                found.add(finding.help("move snat_ports away from this port, or use another SNAT address"));
            }
        }
    }
}

/// The agent's own HTTP listener is not a service.
fn listener(raw: &RawConfig, found: &mut Findings) {
    let Some(http) = raw.agent.http.value else {
        return;
    };
    // A wildcard IPv6 listener takes IPv4, too.
    let listens = |vip: IpAddr| http.ip() == vip || (http.ip().is_unspecified() && (http.is_ipv6() || vip.is_ipv4()));
    for service in raw.services.iter().filter(|service| service.protocol == Protocol::Tcp) {
        let port = service.port.as_ref().filter(|port| port.value == http.port());
        let vip = service.vips.iter().find(|vip| listens(vip.value));
        let (Some(port), Some(vip)) = (port, vip) else {
            continue;
        };
        let (title, vip) = (service.title(), vip.value);
        let message = format!(
            "{title}: {vip} port {} is the agent's own HTTP listener {http}",
            port.value
        );
        let finding = Finding::new(&codes::LISTENER_CLASH, message, port.span.clone(), "taken by the agent");
        let finding = if raw.agent.http.span.is_empty() {
            finding
        } else {
            finding.and(raw.agent.http.span.clone(), "the listener")
        };
        found.add(finding.help("set [agent] http to another port or to \"127.0.0.1:9180\""));
    }
}

/// The agent's own HTTP listener stays out of the ports that XDP takes.
fn listener_in_snat_ports(raw: &RawConfig, found: &mut Findings) {
    let range = raw.agent.snat_ports.0;
    let Some(http) = raw.agent.http.value.filter(|http| range.contains(http.port())) else {
        return;
    };
    let snat = raw.agent.snat_addresses.iter().find(|snat| snat.value == http.ip());
    if snat.is_none() && !http.ip().is_unspecified() {
        return;
    }
    let message = format!("the agent's own HTTP listener {http} is inside snat_ports {range}");
    let (place, other) = match &raw.agent.snat_ports.1 {
        // The default listener stands nowhere.
        Some(ports) if raw.agent.http.span.is_empty() => (ports.clone(), None),
        ports => (raw.agent.http.span.clone(), ports.clone()),
    };
    let finding = Finding::new(&codes::HTTP_IN_SNAT, message, place, "XDP takes what is sent there");
    let finding = other
        .into_iter()
        .fold(finding, |finding, ports| finding.and(ports, "snat_ports"));
    let finding = snat.into_iter().fold(finding, |finding, snat| {
        finding.and(snat.span.clone(), "the SNAT address")
    });
    found.add(finding.help("set [agent] http to a port outside of snat_ports, or to \"127.0.0.1:9180\""));
}
