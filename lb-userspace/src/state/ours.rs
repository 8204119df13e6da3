//! What is ours, and the `xlb_ours` bitmap made of it. The program asks the bitmap before anything else, so a flow
//! whose bit is missing is lost to the kernel: claims that are withdrawn stay for as long as flows may need them (see
//! `retired`).

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{endpoint_kind, role};
use lb_common::hash::{self, OursBit, OursSide};
use lb_common::net::{Addr, unmap_v4};

use super::image::Image;

/// One reason to look at a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// Destination address with ports `min` to `max`: a service port, or a SNAT address's range.
    Destination {
        /// VIP or SNAT address.
        address: Addr,
        /// Lowest port.
        min: u16,
        /// Highest port.
        max: u16,
    },
    /// Source address and port: the internal port of a gateway-mode backend.
    Source {
        /// The backend.
        address: Addr,
        /// Its internal port.
        port: u16,
    },
    /// Destination address whatever the port: a VIP or SNAT address, for ICMP and fragments.
    Address {
        /// VIP or SNAT address.
        address: Addr,
    },
}

/// Everything that an image's endpoints, addresses and settings claim.
pub fn claims(image: &Image) -> BTreeSet<Claim> {
    let endpoints = image.endpoints.iter().map(|(key, endpoint)| {
        let (address, port) = (key.address, key.port);
        if endpoint.kind == endpoint_kind::GATEWAY_BACKEND {
            Claim::Source { address, port }
        } else {
            Claim::Destination {
                address,
                min: port,
                max: port,
            }
        }
    });
    let (min, max) = (image.settings.snat_port_min, image.settings.snat_port_max);
    let addresses = image.addrs.iter().flat_map(|(key, value)| {
        let address = key.address;
        let snat = (value.roles & role::SNAT != 0).then_some(Claim::Destination { address, min, max });
        let any = (value.roles & (role::VIP | role::SNAT) != 0).then_some(Claim::Address { address });
        any.into_iter().chain(snat)
    });
    endpoints.chain(addresses).collect()
}

/// The bitmap of these claims; blocks without a bit are absent.
pub fn bitmap<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> BTreeMap<u32, u64> {
    let mut blocks = BTreeMap::new();
    for claim in claims {
        match *claim {
            Claim::Destination { address, min, max } => ports(&mut blocks, word(&address), min, max),
            Claim::Source { address, port } => set(&mut blocks, hash::ours(OursSide::Source, word(&address), port)),
            Claim::Address { address } => set(&mut blocks, hash::ours_address(word(&address))),
        }
    }
    blocks
}

/// The word that the hashes take for an address.
pub fn word(address: &Addr) -> u32 {
    match unmap_v4(address) {
        Some(v4) => hash::word4(v4),
        None => hash::word6(*address),
    }
}

fn set(blocks: &mut BTreeMap<u32, u64>, bit: OursBit) {
    *blocks.entry(bit.block).or_default() |= bit.mask();
}

/// Sets the bits of a range of ports. 64 ports in a row within one group fill its block, so no group needs more.
fn ports(blocks: &mut BTreeMap<u32, u64>, word: u32, min: u16, max: u16) {
    for group in min >> 10..=max >> 10 {
        let first = min.max(group << 10);
        let last = max.min((group << 10) | 0x3ff);
        for port in first..=last.min(first.saturating_add(63)) {
            set(blocks, hash::ours(OursSide::Destination, word, port));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::net::map_v4;
    use proptest::prelude::*;

    fn is_set(blocks: &BTreeMap<u32, u64>, bit: OursBit) -> bool {
        blocks.get(&bit.block).is_some_and(|bits| bits & bit.mask() != 0)
    }

    #[test]
    fn a_full_range_costs_one_block_a_group() {
        let address = map_v4([192, 0, 2, 10]);
        let claim = Claim::Destination {
            address,
            min: 10_240,
            max: 32_767,
        };
        let blocks = bitmap([&claim]);
        assert_eq!(blocks.len(), 22);
        assert!(blocks.values().all(|bits| *bits == u64::MAX));
    }

    #[test]
    fn source_and_address_claims_set_their_own_bits() {
        let address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let blocks = bitmap([&Claim::Source { address, port: 8080 }, &Claim::Address { address }]);
        let word = hash::word6(address);
        assert!(is_set(&blocks, hash::ours(OursSide::Source, word, 8080)));
        assert!(is_set(&blocks, hash::ours_address(word)));
        assert_eq!(blocks.values().map(|bits| bits.count_ones()).sum::<u32>(), 2);
    }

    proptest! {
        #[test]
        fn every_port_of_a_range_has_its_bit(address: [u8; 4], a: u16, b: u16) {
            let (min, max) = (a.min(b), a.max(b));
            let claim = Claim::Destination { address: map_v4(address), min, max };
            let blocks = bitmap([&claim]);
            let mut exact = BTreeMap::new();
            for port in min..=max {
                set(&mut exact, hash::ours(OursSide::Destination, hash::word4(address), port));
            }
            prop_assert_eq!(blocks, exact);
        }
    }
}
