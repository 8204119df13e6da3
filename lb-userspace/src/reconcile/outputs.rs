//! What the writer asks of others: next hops, probes, VIPs. Pure functions of config, image and links.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::net::unmap_v4;

use crate::agent::Desired;
use crate::config::{CheckKind, Config};
use crate::health::{Probe, ProbeKind, TlsSetup, Trust};
use crate::neigh::Wanted;
use crate::state::{BackendRef, Image, Links};

/// What the presence task needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipsWanted {
    /// Virtual addresses of all services.
    pub vips: BTreeSet<IpAddr>,
    /// SNAT addresses in use.
    pub snat: BTreeSet<IpAddr>,
    /// Interface that gets managed VIPs; `None`: `manage_vip = false`.
    pub manage_on: Option<String>,
    /// Interface named in the command that adds an address.
    pub interface: Option<String>,
}

/// An address out of a map.
pub(super) fn address(bytes: &[u8; 16]) -> IpAddr {
    match unmap_v4(bytes) {
        Some(v4) => Ipv4Addr::from(v4).into(),
        None => Ipv6Addr::from(*bytes).into(),
    }
}

/// SNAT addresses in the order of `xlb_snat`.
pub(super) fn snat_addresses(image: &Image) -> Vec<IpAddr> {
    image.snat.values().map(|snat| address(&snat.address)).collect()
}

/// Next hops to keep: every backend of the config, and removed ones that still have flows.
pub(super) fn wanted(config: &Config, image: &Image) -> Wanted {
    let configured = config
        .services
        .iter()
        .flat_map(|service| service.backends.iter().map(|backend| backend.address));
    let in_maps = image.backends.values().map(|backend| address(&backend.address));
    let destinations: BTreeSet<IpAddr> = configured.chain(in_maps).collect();
    Wanted {
        interfaces: config.agent.interfaces.clone(),
        destinations: destinations.into_iter().collect(),
        sources: snat_addresses(image),
    }
}

/// One probe for each backend with a check that is not in maintenance, from the same source as its traffic.
pub(super) fn probes(desired: &Desired, image: &Image, links: &Links) -> Vec<Probe> {
    let config = &desired.config;
    let local: BTreeSet<IpAddr> = links.addresses.iter().map(|(_, net)| net.addr()).collect();
    let sources: Vec<IpAddr> = snat_addresses(image)
        .into_iter()
        .filter(|source| local.contains(source))
        .collect();
    let source_for = |target: IpAddr| {
        let same_family = |source: &&IpAddr| source.is_ipv4() == target.is_ipv4();
        sources.iter().find(same_family).copied()
    };
    let mut probes = Vec::new();
    for service in &config.services {
        for backend in &service.backends {
            let Some(check) = service.probed_with(backend) else {
                continue;
            };
            let target = check.target(backend);
            // Its client was made with the config.
            let Some(kind) = probe_kind(&check.kind, &desired.trust, target) else {
                continue;
            };
            probes.push(Probe {
                backend: BackendRef {
                    service: service.name.clone(),
                    backend: backend.name.clone(),
                },
                target,
                kind,
                interval: check.interval,
                timeout: check.timeout,
                source: source_for(backend.address),
                source_ports: config.agent.check_ports.ports(),
            });
        }
    }
    probes
}

/// VIPs and SNAT addresses that must be here.
pub(super) fn vips(config: &Config, image: &Image) -> VipsWanted {
    let interface = config.agent.interfaces.first().cloned();
    VipsWanted {
        vips: config
            .services
            .iter()
            .flat_map(|service| service.vips.iter().copied())
            .collect(),
        snat: snat_addresses(image).into_iter().collect(),
        manage_on: interface.clone().filter(|_| config.agent.manage_vip),
        interface,
    }
}

fn probe_kind(kind: &CheckKind, trust: &Trust, target: SocketAddr) -> Option<ProbeKind> {
    Some(match kind {
        CheckKind::Tcp => ProbeKind::Tcp,
        CheckKind::Http(http) => ProbeKind::Http(http.clone()),
        CheckKind::Https(http, tls) => {
            let setup = TlsSetup::new(trust.client(tls)?, tls, http, target);
            ProbeKind::Https(http.clone(), setup)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::reconcile::fixture::{CONFIG, Fixture};

    #[test]
    fn probes_leave_from_the_snat_address_that_is_here() {
        let mut fixture = Fixture::new(CONFIG);
        let snapshot = fixture.snapshot(1, HashMap::new());
        let found = probes(&snapshot.desired, &snapshot.image, &snapshot.links);
        assert_eq!(found.len(), 2, "dns has no check");
        let own: IpAddr = [10, 0, 0, 1].into();
        assert!(found.iter().all(|probe| probe.source == Some(own)), "{found:?}");
        let nowhere = Links::default();
        let found = probes(&snapshot.desired, &snapshot.image, &nowhere);
        assert!(found.iter().all(|probe| probe.source.is_none()), "bind would fail");
    }

    #[test]
    fn removed_backends_keep_their_next_hop_while_they_are_in_the_maps() {
        let mut fixture = Fixture::new(CONFIG);
        fixture.snapshot(1, HashMap::new());
        let text = CONFIG.replace("10.0.0.13", "10.0.0.14");
        let path = fixture.desired.path.clone();
        let desired = Desired::from_text(&path, text, crate::reconcile::fixture::START);
        fixture.desired = desired.expect("a good config").into();
        let snapshot = fixture.snapshot(2, HashMap::new());
        let destinations = wanted(&snapshot.desired.config, &snapshot.image).destinations;
        for address in [[10, 0, 0, 13], [10, 0, 0, 14]] {
            assert!(destinations.contains(&address.into()), "{destinations:?}");
        }
    }

    #[test]
    fn vips_are_managed_only_where_the_config_says_so() {
        let snapshot = Fixture::new(CONFIG).snapshot(1, HashMap::new());
        assert_eq!(vips(&snapshot.desired.config, &snapshot.image).manage_on, None);
        let managed = CONFIG.replace("[agent]", "[agent]\nmanage_vip = true");
        let snapshot = Fixture::new(&managed).snapshot(1, HashMap::new());
        let wanted = vips(&snapshot.desired.config, &snapshot.image);
        assert_eq!(wanted.manage_on.as_deref(), Some("eth0"));
        assert_eq!(wanted.vips.len(), 1, "both services share one");
    }
}
