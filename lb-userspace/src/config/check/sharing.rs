//! Backend ports that two services, or two VIPs, send to: safe or not by mode.
//!
//! In full NAT every flow has a SNAT tuple of its own towards (backend, internal port), whatever its service: flows never
//! collide, but the services share the tuples. In gateway mode an answer shows only the backend's side and the client's. Source:
//! docs/packet-path.md 5.6, docs/decisions/0003-flow-tables.md.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::config::codes;
use crate::config::findings::{Finding, Findings, Located, Span};
use crate::config::raw::{RawConfig, RawService};
use crate::config::{Mode, Protocol};

/// Reports backends behind two services, VIPs whose flows can collide, and internal ports that a mode would ignore.
pub(super) fn check(raw: &RawConfig, found: &mut Findings) {
    shared_backends(raw, found);
    for service in &raw.services {
        gateway_vips(service, found);
        ignored_ports(service, found);
    }
}

/// What a pair of services shares: its first backend's two places, and how many more there are.
struct Shared<'a> {
    target: SocketAddr,
    first: &'a Span,
    again: &'a Span,
    more: usize,
}

/// One finding a pair: of the first service with a backend port and a later one.
fn shared_backends(raw: &RawConfig, found: &mut Findings) {
    let mut first: HashMap<(SocketAddr, Protocol), (usize, &Span)> = HashMap::new();
    let mut pairs: BTreeMap<(usize, usize), Shared<'_>> = BTreeMap::new();
    for (index, service) in raw.services.iter().enumerate().filter(|(_, one)| one.dsr.is_none()) {
        for (target, place) in targets(service) {
            let (owner, at) = *first.entry((target, service.protocol)).or_insert((index, place));
            let other = raw.services.get(owner).filter(|_| owner != index);
            // Twice in one service and twice behind the gateway are errors of their own.
            if other.is_none_or(|other| other.mode == Mode::Gateway && service.mode == Mode::Gateway) {
                continue;
            }
            let new = Shared {
                target,
                first: at,
                again: place,
                more: 0,
            };
            pairs
                .entry((owner, index))
                .and_modify(|shared| shared.more += 1)
                .or_insert(new);
        }
    }
    for ((owner, index), shared) in pairs {
        if let (Some(one), Some(other)) = (raw.services.get(owner), raw.services.get(index)) {
            found.add(finding(one, other, &shared));
        }
    }
}

fn targets(service: &RawService) -> impl Iterator<Item = (SocketAddr, &Span)> {
    service.backends.iter().filter_map(|backend| {
        let address = backend.address.as_ref()?;
        Some((SocketAddr::new(address.value, service.port_of(backend)?), &address.span))
    })
}

fn finding(one: &RawService, other: &RawService, shared: &Shared<'_>) -> Finding {
    let protocol = one.protocol.as_str();
    let more = match shared.more {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let (first, second) = (one.title(), other.title());
    let message = format!("{first} and {second} both send to {protocol} {}{more}", shared.target);
    let safe = if one.mode == other.mode {
        "flows never collide in full_nat, but the two share its SNAT ports and the backend cannot tell them apart"
    } else {
        "flows never collide, since those of full_nat have SNAT addresses, but the backend cannot tell the services apart"
    };
    let label = "used again here";
    let finding = Finding::new(&codes::SHARED_BACKEND, message, shared.again.clone(), label);
    let finding = finding.and(shared.first.clone(), "first used here");
    finding.help(format!(
        "{safe}; let it listen on a second port, or silence this with a reason"
    ))
}

fn gateway_vips(service: &RawService, found: &mut Findings) {
    if service.mode != Mode::Gateway {
        return;
    }
    for is_v4 in [true, false] {
        let has_backend = service.backends.iter().any(|backend| {
            let address = backend.address.as_ref();
            address.is_some_and(|address| address.value.is_ipv4() == is_v4)
        });
        if let Some((one, other)) = two(&service.vips, is_v4).filter(|_| has_backend) {
            let message = format!(
                "{}: VIPs {} and {} on the same backend ports in gateway mode",
                service.title(),
                one.value,
                other.value
            );
            let label = "a client that dials both from one source port is dropped";
            let finding = Finding::new(&codes::GATEWAY_VIPS, message, other.span.clone(), label);
            found.add(finding.and(one.span.clone(), "the first VIP").help(
                "safe in full_nat, where SNAT ports tell them apart; or a service with an internal port of its own for each \
                 VIP; or silence this with a reason",
            ));
        }
    }
}

/// The first two different VIPs of a family.
fn two(vips: &[Located<IpAddr>], is_v4: bool) -> Option<(&Located<IpAddr>, &Located<IpAddr>)> {
    let mut vips = vips.iter().filter(|vip| vip.value.is_ipv4() == is_v4);
    let one = vips.next()?;
    let other = vips.find(|vip| vip.value != one.value)?;
    Some((one, other))
}

/// DSR leaves the packet's port as it is.
fn ignored_ports(service: &RawService, found: &mut Findings) {
    let (Some(dsr), Some(port)) = (&service.dsr, &service.port) else {
        return;
    };
    let own = service.backends.iter().filter_map(|backend| backend.port.as_ref());
    let all = service.internal_port.iter().chain(own);
    for internal in all.filter(|internal| internal.value != port.value) {
        let message = format!(
            "{}: mode {} would ignore internal port {}",
            service.title(),
            dsr.value,
            internal.value
        );
        let label = format!("packets would arrive at port {}", port.value);
        let finding = Finding::new(&codes::PORT_IGNORED, message, internal.span.clone(), label);
        let finding = finding.and(dsr.span.clone(), "leaves the port as it is");
        found.add(finding.help("use \"full_nat\" or \"gateway\", which translate ports"));
    }
}
