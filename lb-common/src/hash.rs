//! The hashes that kernel program and agent must compute alike: where an address and port stand in the `xlb_ours`
//! bitmap, and which ring slot a new flow takes.
//!
//! Words are addresses and ports loaded in *native* order from wire bytes, so both sides must build them with the
//! helpers here. The mixing is that of `MurmurHash3` (Austin Appleby, public domain): cheap in BPF, with multiplies of
//! 32 bits (that of a key's tag takes words of 64, as the key stands in memory). It is not keyed against an attacker: a
//! bad guess costs a lookup or an uneven ring, never a wrong backend.

use crate::abi::OURS_BLOCKS;

/// One round over a 32-bit word.
#[inline(always)]
const fn round(hash: u32, word: u32) -> u32 {
    let k = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// Final avalanche.
#[inline(always)]
const fn finish(hash: u32) -> u32 {
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// An IPv4 address as the word the hashes take.
#[inline(always)]
#[must_use]
pub const fn word4(addr: [u8; 4]) -> u32 {
    u32::from_ne_bytes(addr)
}

/// An IPv6 address as four words.
#[inline(always)]
#[must_use]
pub fn words6(addr: [u8; 16]) -> [u32; 4] {
    // Four loads; taken apart byte by byte it would be sixteen, and as many stores.
    bytemuck::cast(addr)
}

/// An IPv6 address folded to one word (xor of its four words).
#[inline(always)]
#[must_use]
pub fn word6(addr: [u8; 16]) -> u32 {
    let [a, b, c, d] = words6(addr);
    a ^ b ^ c ^ d
}

/// Hash of a new flow, for its ring slot (`hash & (ring_size - 1)`) and its first SNAT candidate.
///
/// `client` and `vip` are [`word4`] or [`word6`] of the addresses; ports are host order.
#[inline(always)]
#[must_use]
pub const fn flow(seed: u32, client: u32, client_port: u16, vip: u32, service_port: u16) -> u32 {
    let ports = ((client_port as u32) << 16) | service_port as u32;
    finish(round(round(round(seed, client), ports), vip))
}

/// Mix of a flow key, stored in its value as `key_tag`: an entry that was deleted and reused between lookup and read
/// shows another tag.
///
/// `words` are all words of a [`crate::abi::FlowKey4`] or [`crate::abi::FlowKey6`], in native order. Keys that differ in their
/// ports alone never share a tag, nor do those that differ in protocol alone.
#[inline(always)]
#[must_use]
pub fn key_tag<const N: usize>(words: [u64; N]) -> u32 {
    let mixed = words
        .into_iter()
        .reduce(|mixed, word| mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word)
        .unwrap_or_default();
    mixed as u32 ^ (mixed >> 32) as u32
}

/// Which side of a packet an `xlb_ours` bit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OursSide {
    /// Destination address and port: a VIP's service port, a SNAT tuple.
    Destination,
    /// Source address and port: a gateway-mode backend's internal port.
    Source,
}

/// Where one (address, port) stands in `xlb_ours`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OursBit {
    /// Index of the block in the array map.
    pub block: u32,
    /// Bit inside the block's 64-bit word.
    pub bit: u32,
}

impl OursBit {
    /// The bit's mask in the block's word.
    #[inline(always)]
    #[must_use]
    pub const fn mask(self) -> u64 {
        1_u64 << (self.bit & 63)
    }
}

/// The `xlb_ours` bit of an address word and a port.
///
/// A block holds the ports of one 1,024-port group of one address, folded to 64 bits by `port % 64`, so that a SNAT
/// range costs one full block per 1,024 ports and a VIP costs one bit.
#[inline(always)]
#[must_use]
pub const fn ours(side: OursSide, addr: u32, port: u16) -> OursBit {
    let salt = match side {
        OursSide::Destination => 0,
        OursSide::Source => 0x9e37_79b9,
    };
    let group = (port >> 10) as u32;
    OursBit {
        block: ours_block(addr ^ salt, group),
        bit: port as u32 & 63,
    }
}

/// The `xlb_ours` bit that says "this destination address is a VIP or a SNAT address", whatever the port: for ICMP,
/// fragments and packets too short to hold a port.
#[inline(always)]
#[must_use]
pub const fn ours_address(addr: u32) -> OursBit {
    OursBit {
        block: ours_block(addr, 64),
        bit: 0,
    }
}

#[inline(always)]
const fn ours_block(addr: u32, group: u32) -> u32 {
    let hash = (addr ^ group.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0x9e37_79b1);
    (hash >> 16) & (OURS_BLOCKS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_hash_does_not_move_between_releases() {
        // A fleet mixes releases during an upgrade: all of them must pick the same slot.
        assert_eq!(
            flow(0, word4([10, 0, 0, 1]), 40000, word4([203, 0, 113, 10]), 80),
            FLOW_GOLDEN
        );
    }
    const FLOW_GOLDEN: u32 = 2_553_983_365;

    #[test]
    fn keys_that_differ_in_one_bit_have_other_tags() {
        let key = [0x0a00_0001_c000_020a_u64, 0x0006_1f90_9c40];
        for word in 0..2 {
            for bit in 0..64 {
                let mut other = key;
                other[word] ^= 1 << bit;
                assert_ne!(key_tag(other), key_tag(key), "bit {bit} of word {word}");
            }
        }
        let long = [1_u64, 2, 3, 4, 5];
        for word in 0..5 {
            for bit in 0..64 {
                let mut other = long;
                other[word] ^= 1 << bit;
                assert_ne!(key_tag(other), key_tag(long), "bit {bit} of word {word}");
            }
        }
    }

    #[test]
    fn a_snat_group_of_1024_ports_is_one_block() {
        let addr = word4([192, 0, 2, 10]);
        let first = ours(OursSide::Destination, addr, 10240);
        for port in 10240..10240 + 1024 {
            assert_eq!(ours(OursSide::Destination, addr, port).block, first.block);
        }
        assert_eq!(first.bit, 0);
    }

    #[test]
    fn source_and_destination_bits_differ() {
        let addr = word4([192, 0, 2, 10]);
        assert_ne!(ours(OursSide::Destination, addr, 80), ours(OursSide::Source, addr, 80));
    }
}
