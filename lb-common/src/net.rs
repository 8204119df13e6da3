//! Addresses, MACs and ports as they stand in maps.
//!
//! Byte order lives in the type: an [`Addr`], an [`Addr4`] and a [`Mac`] are bytes in wire order, a port is a plain
//! `u16` in host order. (Readable in `bpftool map dump`: `"address":[10,0,0,11],"internal_port":8081`.)

/// An IPv4 address in wire order.
pub type Addr4 = [u8; 4];

/// An IPv6 address, or an IPv4 address mapped into `::ffff:0:0/96`, in wire order.
pub type Addr = [u8; 16];

/// An Ethernet address in wire order.
pub type Mac = [u8; 6];

/// The first twelve bytes of every IPv4-mapped [`Addr`] (RFC 4291, 2.5.5.2).
pub const V4_MAPPED_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// IPv4 address to its mapped form.
#[inline(always)]
#[must_use]
pub const fn map_v4(addr: Addr4) -> Addr {
    // By a number: an array of bytes is cleared byte by byte in BPF, at the price of a lookup.
    ((0xffff << 32) | u32::from_be_bytes(addr) as u128).to_be_bytes()
}

/// The IPv4 address inside a mapped one, or `None` for a real IPv6 address.
#[inline]
#[must_use]
pub fn unmap_v4(addr: &Addr) -> Option<Addr4> {
    match addr {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([*a, *b, *c, *d]),
        _ => None,
    }
}

/// IP protocol number of TCP.
pub const IPPROTO_TCP: u8 = 6;
/// IP protocol number of UDP.
pub const IPPROTO_UDP: u8 = 17;
/// IP protocol number of ICMP.
pub const IPPROTO_ICMP: u8 = 1;
/// IPv6 next-header number of `ICMPv6`.
pub const IPPROTO_ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapping_and_unmapping_give_the_same_address() {
        assert_eq!(unmap_v4(&map_v4([192, 0, 2, 7])), Some([192, 0, 2, 7]));
    }

    #[test]
    fn a_real_ipv6_address_is_not_mapped() {
        let mut addr = [0_u8; 16];
        addr[0] = 0x20;
        assert_eq!(unmap_v4(&addr), None);
    }
}
