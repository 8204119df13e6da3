//! Which ways to balance stand side by side, and what is measured of them.

use super::network::Offloads;
use super::part::Part;
use super::ways::{Hook, Way};

/// Ways that stand at the same time, so that any two are measured seconds apart.
pub(super) struct Stand {
    /// Whose it is, as part of its groups' names.
    pub(super) name: &'static str,
    pub(super) offloads: Offloads,
    /// In the order of a round. At most one agent, and none beside a bare redirect: its tracepoint sees every frame that a
    /// program on this machine redirects, whoever's it is.
    pub(super) ways: &'static [Way],
    pub(super) parts: &'static [Part],
}

const ALL_PARTS: &[Part] = &[Part::Connections, Part::Requests, Part::Throughput, Part::FixedRate];
const RATES: &[Part] = &[Part::Connections, Part::Requests];

pub(super) const FULL_NAT: Stand = Stand {
    name: "native full_nat",
    offloads: Offloads::AtPeers,
    ways: &[
        Way::Nftables,
        Way::DirectAgain,
        Way::FullNat(Hook::Native),
        Way::Direct,
        Way::Haproxy,
        Way::NginxStream,
    ],
    parts: ALL_PARTS,
};

pub(super) const GENERIC: Stand = Stand {
    name: "generic full_nat",
    ways: &[
        Way::Nftables,
        Way::DirectAgain,
        Way::FullNat(Hook::Generic),
        Way::Direct,
        Way::Haproxy,
        Way::NginxStream,
    ],
    ..FULL_NAT
};

pub(super) const REDIRECTS: Stand = Stand {
    name: "bare redirects",
    ways: &[
        Way::Nftables,
        Way::BareRedirect(Hook::Native),
        Way::Direct,
        Way::BareRedirect(Hook::Generic),
        Way::Haproxy,
        Way::NginxStream,
    ],
    ..FULL_NAT
};

const GATEWAY: Stand = Stand {
    name: "gateway",
    ways: &[Way::Gateway, Way::Direct],
    ..FULL_NAT
};

// Proxies end connections in the balancer, gateway mode does less than full_nat, and generic XDP comes after GRO, whose long
// packets it cannot send on.
pub(super) const FULL_NAT_EVERYWHERE: Stand = Stand {
    name: "GRO everywhere, full_nat",
    offloads: Offloads::Everywhere,
    ways: &[Way::Nftables, Way::FullNat(Hook::Native), Way::Direct],
    parts: RATES,
};

pub(super) const REDIRECTS_EVERYWHERE: Stand = Stand {
    name: "GRO everywhere, bare redirect",
    ways: &[Way::Nftables, Way::BareRedirect(Hook::Native), Way::Direct],
    ..FULL_NAT_EVERYWHERE
};

/// In the table's order.
pub(super) const STANDS: [Stand; 6] = [
    FULL_NAT,
    GENERIC,
    REDIRECTS,
    GATEWAY,
    FULL_NAT_EVERYWHERE,
    REDIRECTS_EVERYWHERE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stand_has_two_agents_or_one_beside_a_bare_redirect() {
        for stand in STANDS {
            let count = |wanted: fn(&Way) -> bool| stand.ways.iter().filter(|way| wanted(way)).count();
            let agents = count(|way| matches!(way, Way::FullNat(_) | Way::Gateway));
            let redirects = count(|way| matches!(way, Way::BareRedirect(_)));
            assert!(agents <= 1 && agents * redirects == 0, "{}", stand.name);
        }
    }

    #[test]
    fn every_stand_has_what_its_rate_is_of() {
        for stand in STANDS {
            let direct = stand.ways.iter().filter(|way| **way == Way::Direct).count();
            assert_eq!(direct, 1, "{}", stand.name);
            let at = |wanted: Part| stand.parts.iter().position(|part| *part == wanted);
            assert!(at(Part::FixedRate).is_none_or(|rate| at(Part::Requests).is_some_and(|asked| asked < rate)));
        }
    }
}
