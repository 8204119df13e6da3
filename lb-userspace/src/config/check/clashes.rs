//! The same thing twice: names, list entries, service ports, backends.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::hash::Hash;
use std::net::IpAddr;

use super::name_of;
use crate::config::codes::{self, Code};
use crate::config::findings::{Finding, Findings, Located, Span};
use crate::config::raw::{RawConfig, RawService};
use crate::config::{Mode, Protocol};

/// Reports everything that stands twice.
pub(super) fn check(raw: &RawConfig, found: &mut Findings) {
    listed_twice("interface", &raw.agent.interfaces, found);
    listed_twice("SNAT address", &raw.agent.snat_addresses, found);
    let mut names = Seen::default();
    let mut ports = Seen::default();
    let mut gateways = Seen::default();
    for service in &raw.services {
        listed_twice("VIP", &service.vips, found);
        if let Some(name) = &service.name {
            let message = || format!("two services are named {}", name.value);
            names.see(name.value.clone(), &name.span, &codes::NAME_CLASH, message, found);
        }
        service_ports(service, &mut ports, found);
        backends(service, found);
        if service.mode == Mode::Gateway {
            gateway_backends(service, &mut gateways, found);
        }
    }
}

/// First places of keys that may stand only once.
struct Seen<K>(HashMap<K, Span>);

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Seen<K> {
    fn see(&mut self, key: K, place: &Span, code: &'static Code, message: impl Fn() -> String, found: &mut Findings) {
        match self.0.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(place.clone());
            }
            Entry::Occupied(first) => {
                let finding = Finding::new(code, message(), place.clone(), "used again here");
                found.add(finding.and(first.get().clone(), "first used here"));
            }
        }
    }
}

fn listed_twice<T: Eq + Hash + Clone + Display>(what: &str, list: &[Located<T>], found: &mut Findings) {
    let mut seen = Seen::default();
    for entry in list {
        let message = || format!("{what} {} is listed twice", entry.value);
        seen.see(entry.value.clone(), &entry.span, &codes::LISTED_TWICE, message, found);
    }
}

fn service_ports(service: &RawService, seen: &mut Seen<(IpAddr, Protocol, u16)>, found: &mut Findings) {
    let Some(port) = &service.port else {
        return;
    };
    let mut own = HashSet::new();
    for vip in &service.vips {
        // Twice in one list is said by listed_twice.
        if !own.insert(vip.value) {
            continue;
        }
        let protocol = service.protocol;
        let message = || {
            let protocol = protocol.as_str();
            format!("{} {protocol} port {} belongs to two services", vip.value, port.value)
        };
        seen.see(
            (vip.value, protocol, port.value),
            &vip.span,
            &codes::SERVICE_CLASH,
            message,
            found,
        );
    }
}

fn backends(service: &RawService, found: &mut Findings) {
    let title = service.title();
    let mut targets = Seen::default();
    let mut names = Seen::default();
    for backend in &service.backends {
        let place = backend.place();
        if let (Some(address), Some(port)) = (&backend.address, service.port_of(backend)) {
            let message = || format!("{title} has backend {} port {port} twice", address.value);
            targets.see((address.value, port), &place, &codes::BACKEND_CLASH, message, found);
        }
        // Two default names clash only where the backends do.
        let given = backend.name.is_some();
        if let Some(name) = name_of(service, backend) {
            let place = backend.name.as_ref().map_or(&place, |name| &name.span);
            let message = || format!("two backends of {title} are named {name}");
            let mut ignored = Findings::default();
            let into = if given { &mut *found } else { &mut ignored };
            names.see(name.clone(), place, &codes::NAME_CLASH, message, into);
        }
    }
}

fn gateway_backends(service: &RawService, seen: &mut Seen<(IpAddr, u16, Protocol)>, found: &mut Findings) {
    let mut own = HashSet::new();
    for backend in &service.backends {
        let (Some(address), Some(port)) = (&backend.address, service.port_of(backend)) else {
            continue;
        };
        // Twice in one service is said by backends().
        if !own.insert((address.value, port)) {
            continue;
        }
        let message = || format!("backend {} port {port} is in two gateway services", address.value);
        let key = (address.value, port, service.protocol);
        seen.see(key, &address.span, &codes::GATEWAY_SHARED, message, found);
    }
}
