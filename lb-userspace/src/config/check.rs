//! Checks across keys, and the checked config from what passed them.

mod addresses;
mod clashes;
mod hints;
mod host;
mod names;
mod probes;
mod sharing;

use std::net::IpAddr;
use std::sync::Arc;

use super::codes;
use super::findings::{Finding, Findings};
use super::raw::{RawAgent, RawBackend, RawConfig, RawService};
use super::{
    AgentConfig, BackendConfig, CheckKind, Config, HostFacts, LookAtRoots, NamedBackend, Protocol, ServiceConfig,
};

pub(super) use addresses::unusable;

/// Reports everything that is wrong with keys taken together.
pub(super) fn check(raw: &RawConfig, look: LookAtRoots<'_>, host: &HostFacts, found: &mut Findings) {
    ranges(&raw.agent, found);
    addresses::check(raw, found);
    clashes::check(raw, found);
    sharing::check(raw, found);
    hints::check(raw, found);
    host::check(raw, host, found);
    probes::check(raw, look, found);
    names::check(raw, found);
    sizes(raw, found);
    for service in &raw.services {
        families(service, found);
        udp_checks(service, found);
    }
    if raw.services.is_empty() {
        found.add(Finding::new(
            &codes::NO_SERVICES,
            "no [[service]] in the file",
            raw.span.clone(),
            "",
        ));
    }
}

/// The checked config; `None` where something needed could not be read.
pub(super) fn config(raw: RawConfig) -> Option<Config> {
    let agent = raw.agent;
    Some(Config {
        agent: AgentConfig {
            interfaces: agent.interfaces.into_iter().map(|name| name.value).collect(),
            xdp_mode: agent.xdp_mode,
            tx: agent.tx,
            snat_addresses: agent.snat_addresses.into_iter().map(|address| address.value).collect(),
            snat_ports: agent.snat_ports.0,
            check_ports: agent.check_ports.0,
            manage_vip: agent.manage_vip,
            hash_seed: agent.hash_seed,
            rst_per_second: agent.rst_per_second,
            socket: agent.socket,
            socket_group: agent.socket_group,
            http: agent.http.value,
            pin_dir: agent.pin_dir,
            state_dir: agent.state_dir,
            managed_by: agent.managed_by,
            watch: agent.watch,
            sandbox: agent.sandbox,
        },
        limits: raw.limits,
        timeouts: raw.timeouts,
        dns: raw.dns,
        services: raw
            .services
            .into_iter()
            .map(|raw| service(raw).map(Arc::new))
            .collect::<Option<_>>()?,
    })
}

fn service(raw: RawService) -> Option<ServiceConfig> {
    let (named, with_address): (Vec<_>, Vec<_>) = raw.backends.iter().partition(|one| one.host.is_some());
    let backends = with_address.into_iter().map(|one| backend(&raw, one));
    let backends = backends.collect::<Option<_>>()?;
    let names = named.into_iter().map(|one| named_backend(&raw, one));
    let names = names.collect::<Option<_>>()?;
    Some(ServiceConfig {
        name: raw.name?.value,
        vips: raw.vips.into_iter().map(|vip| vip.value).collect(),
        port: raw.port?.value,
        protocol: raw.protocol,
        mode: raw.mode,
        internal_port: raw.internal_port.map(|port| port.value),
        check: raw.check.map(|check| check.value),
        on_miss: raw.on_miss,
        panic: raw.panic,
        backends,
        names,
    })
}

fn backend(service: &RawService, raw: &RawBackend) -> Option<BackendConfig> {
    let address = raw.address.as_ref()?.value;
    let port = service.port_of(raw)?;
    Some(BackendConfig {
        name: name_of(service, raw)?,
        address,
        port,
        weight: raw.weight,
        state: raw.state,
        check: raw.check.as_ref().map(|check| check.value.clone()),
        from: None,
    })
}

fn named_backend(service: &RawService, raw: &RawBackend) -> Option<NamedBackend> {
    Some(NamedBackend {
        name: name_of(service, raw)?,
        host: raw.host.as_ref()?.value.clone(),
        port: service.port_of(raw)?,
        weight: raw.weight,
        state: raw.state,
        check: raw.check.as_ref().map(|check| check.value.clone()),
    })
}

/// A backend's name: its own, or `address:port` (`[v6]:port`), `host:port`.
pub(super) fn name_of(service: &RawService, raw: &RawBackend) -> Option<String> {
    if let Some(name) = &raw.name {
        return Some(name.value.clone());
    }
    let port = service.port_of(raw)?;
    if let Some(host) = &raw.host {
        return Some(format!("{}:{port}", host.value));
    }
    let address = raw.address.as_ref()?.value;
    Some(std::net::SocketAddr::new(address, port).to_string())
}

fn ranges(agent: &RawAgent, found: &mut Findings) {
    let ((snat, snat_at), (checks, checks_at)) = (&agent.snat_ports, &agent.check_ports);
    if snat.min <= checks.max && checks.min <= snat.max {
        let message = format!("snat_ports {snat} and check_ports {checks} overlap");
        // At least one was written: the defaults do not overlap.
        let (place, other) = match (snat_at, checks_at) {
            (Some(snat_at), other) => (snat_at.clone(), other.clone()),
            (None, other) => (other.clone().unwrap_or_default(), None),
        };
        let finding = Finding::new(&codes::RANGES_OVERLAP, message, place, "overlaps");
        let finding = match other {
            Some(other) => finding.and(other, "with this"),
            None => finding,
        };
        found.add(finding.help("set both so that no port is in both"));
    }
}

fn sizes(raw: &RawConfig, found: &mut Findings) {
    let limit = raw.limits.services as usize;
    if let Some(service) = raw.services.get(limit) {
        let message = format!("{} services, [limits] services = {limit}", raw.services.len());
        let finding = Finding::new(
            &codes::TOO_MANY,
            message,
            service.span.clone(),
            "the first one too many",
        );
        found.add(finding.help("raise [limits] services; 'xlb unload' and a start make the maps anew"));
    }
    let limit = raw.limits.backends as usize;
    let mut backends = raw.services.iter().flat_map(|service| &service.backends);
    if let Some(backend) = backends.clone().nth(limit) {
        let message = format!("{} backends, [limits] backends = {limit}", backends.by_ref().count());
        let finding = Finding::new(&codes::TOO_MANY, message, backend.place(), "the first one too many");
        found.add(finding.help("raise [limits] backends; 'xlb unload' and a start make the maps anew"));
    }
}

const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// Each VIP has a backend of its family, and each backend a VIP.
fn families(service: &RawService, found: &mut Findings) {
    let title = service.title();
    if service.backends.is_empty() {
        let finding = Finding::new(
            &codes::NO_BACKENDS,
            format!("{title} has no backends"),
            service.span.clone(),
            "",
        );
        found.add(finding.help("add a [[service.backend]] with its address"));
        return;
    }
    // Something that could not be read might have been what is missing, or be among the addresses of a name.
    let all_read = service.backends.iter().all(|backend| backend.address.is_some());
    let of = |vip: IpAddr| {
        move |backend: &&RawBackend| {
            backend
                .address
                .as_ref()
                .is_some_and(|a| a.value.is_ipv4() == vip.is_ipv4())
        }
    };
    for vip in &service.vips {
        let mut backends = service.backends.iter().filter(of(vip.value)).peekable();
        if backends.peek().is_none() && all_read {
            let message = format!("{title}: VIP {} has no {} backend", vip.value, family(vip.value));
            let finding = Finding::new(
                &codes::FAMILY_WITHOUT_BACKEND,
                message,
                vip.span.clone(),
                "its packets are dropped (no_backend)",
            );
            found.add(finding.help(format!("add an {} backend, or remove this VIP", family(vip.value))));
        } else if backends.all(|backend| backend.weight == 0) && all_read {
            let message = format!("{title}: every {} backend has weight 0", family(vip.value));
            found.add(Finding::new(
                &codes::NO_WEIGHT,
                message,
                vip.span.clone(),
                "takes no new connections",
            ));
        }
    }
    for address in service.backends.iter().filter_map(|backend| backend.address.as_ref()) {
        let used = service
            .vips
            .iter()
            .any(|vip| vip.value.is_ipv4() == address.value.is_ipv4());
        if !used && !service.vips.is_empty() {
            let message = format!(
                "{title}: no {} VIP for backend {}",
                family(address.value),
                address.value
            );
            found.add(Finding::new(
                &codes::BACKEND_UNUSED,
                message,
                address.span.clone(),
                "gets no traffic",
            ));
        }
    }
}

fn udp_checks(service: &RawService, found: &mut Findings) {
    if service.protocol != Protocol::Udp {
        return;
    }
    let own = service.backends.iter().filter_map(|backend| backend.check.as_ref());
    for check in own.chain(service.check.as_ref()) {
        let kind = match check.value.kind {
            CheckKind::Tcp => "a TCP connect",
            CheckKind::Http(_) => "HTTP over TCP",
            CheckKind::Https(..) => "HTTPS over TCP",
        };
        let message = format!("{} is UDP, its check is {kind}", service.title());
        let finding = Finding::new(&codes::UDP_CHECK, message, check.span.clone(), "says nothing about UDP");
        found.add(finding.help("keep it if the backend serves TCP on this port, too"));
    }
}
