//! IPv4 and IPv6 behind one trait: address type, flow table types, and the few header fields that differ.
//!
//! Nothing is decided here.

use lb_common::{
    abi::{
        AddrKey, EndpointKey, FlowKey4, FlowKey6, FlowValue4, FlowValue6, Service, Settings, SweepItem4, SweepItem6,
    },
    csum::Sum,
    hash,
    limits::MAX_SNAT_ADDRESSES,
    net::{Addr, map_v4},
};

use crate::{
    flow::{EntryValue, Flow, Life, Tail, Words4, Words6},
    packet::{MacWords, Offset, Packet},
};

/// One IP family.
pub trait Family: Sized {
    /// An address as headers and maps have it.
    type Wire: Copy;
    /// An address in registers: wire bytes in native words.
    type Addr: Copy + Eq;
    /// Key of the flow tables.
    type Key: Copy + Eq;
    /// Value of the flow tables.
    type Value: EntryValue;
    /// Source and destination address as they follow each other in a header and in a flow's value.
    type Pair: Copy;
    /// Item of the sweep queue.
    type SweepItem: Copy;

    /// From a header or map.
    fn from_wire(wire: &Self::Wire) -> Self::Addr;
    /// Into a header or map.
    fn put(addr: Self::Addr, wire: &mut Self::Wire);
    /// As a header or map has it.
    fn to_wire(addr: Self::Addr) -> Self::Wire;
    /// An address as one word for the hashes.
    fn word(addr: Self::Addr) -> u32;
    /// An address as maps that hold both families have it.
    fn mapped(addr: Self::Addr) -> Addr;
    /// The inverse of [`Self::mapped`], for an address known to be of this family.
    fn unmapped(addr: &Addr) -> Self::Addr;
    /// Adds an address to a checksum.
    fn add(sum: Sum, addr: Self::Addr) -> Sum;
    /// Takes an address away from a checksum.
    fn sub(sum: Sum, addr: Self::Addr) -> Sum;
    /// Loopback, multicast, broadcast, unspecified, or (IPv6) an IPv4-mapped address: never a sender on a wire.
    fn is_invalid_source(addr: Self::Addr) -> bool;

    /// A flow key.
    fn key(src: Self::Addr, dst: Self::Addr, src_port: u16, dst_port: u16, protocol: u8) -> Self::Key;
    /// The protocol in a key.
    fn protocol(key: &Self::Key) -> u8;
    /// The tag that a value under this key must carry.
    fn tag(key: &Self::Key) -> u32;
    /// Map value to flow, in memory that is not the stack.
    fn unpack_into(value: &Self::Value, flow: &mut Flow<Self::Addr>);
    /// The part that says how the connection is doing, and the key's tag.
    fn life(value: &Self::Value) -> (Life, u32);
    /// The addresses to write.
    fn pair(value: &Self::Value) -> Self::Pair;
    /// The words behind the addresses, alike in both families.
    fn tail(value: &Self::Value) -> &Tail;
    /// Writes both addresses of a packet without options.
    fn put_pair<P: Packet>(packet: &mut P, pair: Self::Pair) -> Option<()>;
    /// Key of the other direction's entry.
    fn peer_key(value: &Self::Value, protocol: u8, key: &mut Self::Key);
    /// Flow to map value.
    fn pack_into(flow: &Flow<Self::Addr>, value: &mut Self::Value);
    /// An item of the sweep queue.
    fn sweep_item(key: Self::Key, conn_id: u64) -> Self::SweepItem;
    /// Writes the key of an item to `key`, and returns its connection id.
    fn sweep_parts(item: &Self::SweepItem, key: &mut Self::Key) -> u64;

    /// Offset and size of this family's ring.
    fn ring(service: &Service) -> (u32, u32);
    /// Index of the first SNAT address of this family in `xlb_snat`, and their number.
    fn snat_span(settings: &Settings) -> (u32, u32);

    /// Key of `xlb_endpoints`.
    #[inline(always)]
    fn endpoint_key(addr: Self::Addr, port: u16, protocol: u8) -> EndpointKey {
        EndpointKey {
            address: Self::mapped(addr),
            port,
            protocol,
            reserved: 0,
        }
    }

    /// Key of `xlb_addrs`.
    #[inline(always)]
    fn addr_key(addr: Self::Addr) -> AddrKey {
        AddrKey {
            address: Self::mapped(addr),
        }
    }
}

/// IPv4.
pub struct V4;
/// IPv6.
pub struct V6;

macro_rules! flow_tables {
    ($key:ident, $value:ident, $words:ident, $item:ident) => {
        type Key = $key;
        type Value = $value;
        type SweepItem = $item;

        #[inline(always)]
        fn key(src: Self::Addr, dst: Self::Addr, src_port: u16, dst_port: u16, protocol: u8) -> $key {
            // Whole words: what is stored in halves and then hashed in words waits for the store buffer.
            let ports = dst_port as u64 | (src_port as u64) << 16 | (protocol as u64) << 32;
            bytemuck::cast(Self::key_words(src, dst, ports))
        }

        #[inline(always)]
        fn protocol(key: &$key) -> u8 {
            key.protocol as u8
        }

        #[inline(always)]
        fn tag(key: &$key) -> u32 {
            hash::key_tag::<{ size_of::<$key>() / 8 }>(bytemuck::cast(*key))
        }

        #[inline(always)]
        fn unpack_into(value: &$value, flow: &mut Flow<Self::Addr>) {
            flow.conn_id = value.conn_id;
            flow.new_src = Self::from_wire(&value.new_src);
            flow.new_dst = Self::from_wire(&value.new_dst);
            flow.new_src_port = value.new_src_port;
            flow.new_dst_port = value.new_dst_port;
            flow.l3_delta = value.l3_delta;
            flow.l4_delta = value.l4_delta;
            flow.last_seen = value.last_seen;
            flow.backend_id = value.backend_id;
            flow.peer_mac = MacWords::of(&value.peer_mac);
            flow.own_mac = MacWords::of(&value.own_mac);
            flow.ifindex = value.ifindex;
            flow.direction = value.direction;
            flow.tcp_seen = value.tcp_seen;
            flow.mode = value.mode;
            flow.flags = value.flags;
            flow.backend_isn = value.backend_isn;
            flow.created = value.created;
            flow.key_tag = value.key_tag;
        }

        #[inline(always)]
        fn pack_into(flow: &Flow<Self::Addr>, value: &mut $value) {
            value.conn_id = flow.conn_id;
            Self::put(flow.new_src, &mut value.new_src);
            Self::put(flow.new_dst, &mut value.new_dst);
            value.new_src_port = flow.new_src_port;
            value.new_dst_port = flow.new_dst_port;
            value.l3_delta = flow.l3_delta;
            value.l4_delta = flow.l4_delta;
            value.last_seen = flow.last_seen;
            value.backend_id = flow.backend_id;
            flow.peer_mac.write(&mut value.peer_mac);
            flow.own_mac.write(&mut value.own_mac);
            value.ifindex = flow.ifindex;
            value.direction = flow.direction;
            value.tcp_seen = flow.tcp_seen;
            value.mode = flow.mode;
            value.flags = flow.flags;
            value.backend_isn = flow.backend_isn;
            value.created = flow.created;
            value.key_tag = flow.key_tag;
        }

        #[inline(always)]
        fn life(value: &$value) -> (Life, u32) {
            let life = Life {
                conn_id: value.conn_id,
                last_seen: value.last_seen,
                created: value.created,
                backend_id: value.backend_id,
                tcp_seen: value.tcp_seen,
                flags: value.flags,
            };
            (life, value.key_tag)
        }

        #[inline(always)]
        fn tail(value: &$value) -> &Tail {
            let words: &$words = bytemuck::cast_ref(value);
            &words.tail
        }

        #[inline(always)]
        fn pair(value: &$value) -> Self::Pair {
            let words: &$words = bytemuck::cast_ref(value);
            words.pair
        }

        #[inline(always)]
        fn peer_key(value: &$value, protocol: u8, key: &mut $key) {
            Self::put(Self::from_wire(&value.new_dst), &mut key.src);
            Self::put(Self::from_wire(&value.new_src), &mut key.dst);
            key.src_port = value.new_dst_port;
            key.dst_port = value.new_src_port;
            key.protocol = protocol as u32;
        }

        #[inline(always)]
        fn sweep_item(key: $key, conn_id: u64) -> $item {
            $item { key, conn_id }
        }

        #[inline(always)]
        fn sweep_parts(item: &$item, key: &mut $key) -> u64 {
            *key = item.key;
            item.conn_id
        }
    };
}

impl V4 {
    #[inline(always)]
    fn key_words(src: [u8; 4], dst: [u8; 4], ports: u64) -> [u64; 2] {
        [hash::word4(src) as u64 | (hash::word4(dst) as u64) << 32, ports]
    }
}

impl V6 {
    #[inline(always)]
    fn key_words(src: [u64; 2], dst: [u64; 2], ports: u64) -> [u64; 5] {
        [src[0], src[1], dst[0], dst[1], ports]
    }
}

impl Family for V4 {
    type Wire = [u8; 4];
    type Addr = [u8; 4];
    type Pair = u64;

    #[inline(always)]
    fn put_pair<P: Packet>(packet: &mut P, pair: u64) -> Option<()> {
        *packet.get_mut::<[u8; 8]>(Offset::IP.plus(12))? = pair.to_ne_bytes();
        Some(())
    }

    #[inline(always)]
    fn from_wire(wire: &[u8; 4]) -> [u8; 4] {
        *wire
    }

    #[inline(always)]
    fn put(addr: [u8; 4], wire: &mut [u8; 4]) {
        *wire = addr;
    }

    #[inline(always)]
    fn to_wire(addr: [u8; 4]) -> [u8; 4] {
        addr
    }

    #[inline(always)]
    fn word(addr: [u8; 4]) -> u32 {
        hash::word4(addr)
    }

    flow_tables!(FlowKey4, FlowValue4, Words4, SweepItem4);

    #[inline(always)]
    fn mapped(addr: [u8; 4]) -> Addr {
        map_v4(addr)
    }

    #[inline(always)]
    fn unmapped(addr: &Addr) -> [u8; 4] {
        let [.., a, b, c, d] = *addr;
        [a, b, c, d]
    }

    #[inline(always)]
    fn add(sum: Sum, addr: [u8; 4]) -> Sum {
        sum.add32(u32::from_ne_bytes(addr))
    }

    #[inline(always)]
    fn sub(sum: Sum, addr: [u8; 4]) -> Sum {
        sum.sub32(u32::from_ne_bytes(addr))
    }

    #[inline(always)]
    fn is_invalid_source([first, ..]: [u8; 4]) -> bool {
        first == 0 || first == 127 || first >= 224
    }

    #[inline(always)]
    fn ring(service: &Service) -> (u32, u32) {
        (service.ring4_offset, service.ring4_size)
    }

    #[inline(always)]
    fn snat_span(settings: &Settings) -> (u32, u32) {
        (0, settings.snat4_count)
    }
}

impl Family for V6 {
    type Wire = [u8; 16];
    type Addr = [u64; 2];
    type Pair = [u64; 4];

    #[inline(always)]
    fn put_pair<P: Packet>(packet: &mut P, [a, b, c, d]: [u64; 4]) -> Option<()> {
        *packet.get_mut::<[u8; 8]>(Offset::IP.plus(8))? = a.to_ne_bytes();
        *packet.get_mut::<[u8; 8]>(Offset::IP.plus(16))? = b.to_ne_bytes();
        *packet.get_mut::<[u8; 8]>(Offset::IP.plus(24))? = c.to_ne_bytes();
        *packet.get_mut::<[u8; 8]>(Offset::IP.plus(32))? = d.to_ne_bytes();
        Some(())
    }

    #[inline(always)]
    fn from_wire(wire: &[u8; 16]) -> [u64; 2] {
        // Two loads; assigned whole, sixteen bytes of alignment 1 are copied one by one.
        let [first, second]: &[[u8; 8]; 2] = bytemuck::cast_ref(wire);
        [u64::from_ne_bytes(*first), u64::from_ne_bytes(*second)]
    }

    #[inline(always)]
    fn put([first, second]: [u64; 2], wire: &mut [u8; 16]) {
        let [to_first, to_second]: &mut [[u8; 8]; 2] = bytemuck::cast_mut(wire);
        *to_first = first.to_ne_bytes();
        *to_second = second.to_ne_bytes();
    }

    #[inline(always)]
    fn to_wire(addr: [u64; 2]) -> [u8; 16] {
        bytemuck::cast(addr)
    }

    #[inline(always)]
    fn word([first, second]: [u64; 2]) -> u32 {
        let folded = first ^ second;
        folded as u32 ^ (folded >> 32) as u32
    }

    flow_tables!(FlowKey6, FlowValue6, Words6, SweepItem6);

    #[inline(always)]
    fn mapped(addr: [u64; 2]) -> Addr {
        Self::to_wire(addr)
    }

    #[inline(always)]
    fn unmapped(addr: &Addr) -> [u64; 2] {
        Self::from_wire(addr)
    }

    #[inline(always)]
    fn add(sum: Sum, [first, second]: [u64; 2]) -> Sum {
        sum.add64(first).add64(second)
    }

    #[inline(always)]
    fn sub(sum: Sum, [first, second]: [u64; 2]) -> Sum {
        sum.add64(!first).add64(!second)
    }

    #[inline(always)]
    fn is_invalid_source([first, second]: [u64; 2]) -> bool {
        let (first, second) = (u64::from_be(first), u64::from_be(second));
        let unspecified_or_loopback = second <= 1;
        let v4_mapped = second >> 32 == 0xffff;
        first >> 56 == 0xff || (first == 0 && (unspecified_or_loopback || v4_mapped))
    }

    #[inline(always)]
    fn ring(service: &Service) -> (u32, u32) {
        (service.ring6_offset, service.ring6_size)
    }

    #[inline(always)]
    fn snat_span(settings: &Settings) -> (u32, u32) {
        (MAX_SNAT_ADDRESSES, settings.snat6_count)
    }
}
