//! `xlb_flows4`, `xlb_flows6` (HASH, preallocated, established connections) and `xlb_half4`, `xlb_half6` (LRU_HASH,
//! half-open ones). A connection is two entries, one a direction, in the same table; both carry its id.
//!
//! The entry of packets *from* the client has direction `FORWARD` and key (client, VIP, client port, service port);
//! the entry of packets from the backend has direction `REPLY` and key (backend, SNAT address or client, internal
//! port, SNAT port or client port).

use bytemuck::{Pod, Zeroable};

/// Key of `xlb_flows4` and `xlb_half4`: the packet as it arrives.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct FlowKey4 {
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Destination port, host order. It stands first: the two ports of a header are one big-endian word.
    pub dst_port: u16,
    /// Source port, host order.
    pub src_port: u16,
    /// IP protocol number: 6 or 17.
    pub protocol: u32,
}

super::layout!(FlowKey4, size 16, align 8, { src: 0, dst: 4, dst_port: 8, src_port: 10, protocol: 12 });

/// Key of `xlb_flows6` and `xlb_half6`: the packet as it arrives.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct FlowKey6 {
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Destination port, host order. It stands first: the two ports of a header are one big-endian word.
    pub dst_port: u16,
    /// Source port, host order.
    pub src_port: u16,
    /// IP protocol number: 6 or 17.
    pub protocol: u32,
}

super::layout!(FlowKey6, size 40, align 8, { src: 0, dst: 16, dst_port: 32, src_port: 34, protocol: 36 });

/// Value of `xlb_flows4` and `xlb_half4`. With the kernel's 48-byte element header and the key it fills exactly two
/// cache lines, and the value is the second.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowValue4 {
    /// Connection id, the same in both directions, never 0 and never used twice; 0 marks an entry being deleted.
    pub conn_id: u64,
    /// Source address to write.
    pub new_src: [u8; 4],
    /// Destination address to write.
    pub new_dst: [u8; 4],
    /// Destination port to write, host order.
    pub new_dst_port: u16,
    /// Source port to write, host order.
    pub new_src_port: u16,
    /// Difference for the IPv4 header checksum, the TTL's decrement included, native order.
    pub l3_delta: u16,
    /// Difference for the TCP or UDP checksum, native order.
    pub l4_delta: u16,
    /// Low 32 bits of the tick of the last packet, at most about a second old.
    pub last_seen: u32,
    /// Backend (membership) of the connection.
    pub backend_id: u32,
    /// `REPLY`: MAC of the next hop towards the client. `FORWARD`: source MAC the client's packets come with.
    pub peer_mac: [u8; 6],
    /// MAC of our interface on the client's side.
    pub own_mac: [u8; 6],
    /// Interface on the client's side.
    pub ifindex: u32,
    /// One of [`direction`].
    pub direction: u8,
    /// [`tcp_seen`] bits seen in this direction (`RST`: in either).
    pub tcp_seen: u8,
    /// One of [`super::mode`].
    pub mode: u8,
    /// [`flow_flag`] bits.
    pub flags: u8,
    /// The backend's initial sequence number, host order; meaningful with [`flow_flag::ISN_KNOWN`].
    pub backend_isn: u32,
    /// Low 32 bits of the tick at which the connection was made.
    pub created: u32,
    /// Mix of the key ([`crate::hash::key_tag`]): proves that the entry found is the entry asked for.
    pub key_tag: u32,
}

super::layout!(FlowValue4, size 64, align 8, {
    new_src: 8, new_dst: 12, new_dst_port: 16, l3_delta: 20, last_seen: 24, backend_id: 28, peer_mac: 32, own_mac: 38,
    ifindex: 44, direction: 48, backend_isn: 52, created: 56, key_tag: 60,
});

/// Value of `xlb_flows6` and `xlb_half6`; the fields of [`FlowValue4`] with IPv6 addresses.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct FlowValue6 {
    /// See [`FlowValue4::conn_id`].
    pub conn_id: u64,
    /// Source address to write.
    pub new_src: [u8; 16],
    /// Destination address to write.
    pub new_dst: [u8; 16],
    /// Destination port to write, host order.
    pub new_dst_port: u16,
    /// Source port to write, host order.
    pub new_src_port: u16,
    /// Zero: IPv6 has no header checksum.
    pub l3_delta: u16,
    /// Difference for the TCP or UDP checksum, native order.
    pub l4_delta: u16,
    /// See [`FlowValue4::last_seen`].
    pub last_seen: u32,
    /// Backend (membership) of the connection.
    pub backend_id: u32,
    /// See [`FlowValue4::peer_mac`].
    pub peer_mac: [u8; 6],
    /// MAC of our interface on the client's side.
    pub own_mac: [u8; 6],
    /// Interface on the client's side.
    pub ifindex: u32,
    /// One of [`direction`].
    pub direction: u8,
    /// See [`FlowValue4::tcp_seen`].
    pub tcp_seen: u8,
    /// One of [`super::mode`].
    pub mode: u8,
    /// [`flow_flag`] bits.
    pub flags: u8,
    /// See [`FlowValue4::backend_isn`].
    pub backend_isn: u32,
    /// See [`FlowValue4::created`].
    pub created: u32,
    /// See [`FlowValue4::key_tag`].
    pub key_tag: u32,
}

super::layout!(FlowValue6, size 88, align 8, {
    new_src: 8, new_dst: 24, new_dst_port: 40, l3_delta: 44, last_seen: 48, backend_id: 52, peer_mac: 56, own_mac: 62,
    ifindex: 68, direction: 72, backend_isn: 76, created: 80, key_tag: 84,
});

/// Values of `direction`.
pub mod direction {
    /// From the client to the backend.
    pub const FORWARD: u8 = 0;
    /// From the backend to the client.
    pub const REPLY: u8 = 1;
}

/// Bits of `tcp_seen`.
pub mod tcp_seen {
    /// A FIN in this direction.
    pub const FIN: u8 = 1;
    /// A RST in either direction; a later packet without RST takes it back.
    pub const RST: u8 = 4;
}

/// Bits of `flags`.
pub mod flow_flag {
    /// `backend_isn` is known (half-open, `REPLY` entry).
    pub const ISN_KNOWN: u8 = 1;
    /// The client's interface sends by `XDP_TX` what came in on it.
    pub const TX: u8 = 2;
    /// The other side has answered (UDP: the longer lifetime).
    pub const ANSWERED: u8 = 4;
    /// Made from a packet in mid-connection (gateway mode): a reply promotes it, not a handshake.
    pub const RECOVERED: u8 = 8;
}
