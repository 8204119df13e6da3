//! From bytes to [`Facts`]: what the packet says about itself, checked as far as the program relies on it.
//!
//! The plain case (no options, no extension headers, no fragment) is decided in `fast`; everything else goes
//! through [`v4`] or [`v6`]. Sources: RFC 791, RFC 8200, RFC 9293, RFC 768.

pub mod v4;
pub mod v6;

use lb_common::{net::IPPROTO_TCP, reason::DropReason};
use network_types::udp::UdpHdr;

use crate::{
    family::Family,
    packet::{Offset, Packet, Tcp},
};

/// Whether the IP header is followed at once by TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Yes.
    Plain,
    /// IPv4 options or IPv6 extension headers stand between.
    Extended,
}

/// What is known of a TCP or UDP packet.
#[derive(Debug)]
pub struct Facts<F: Family> {
    /// Source address.
    pub src: F::Addr,
    /// Destination address.
    pub dst: F::Addr,
    /// Source port, host order.
    pub src_port: u16,
    /// Destination port, host order.
    pub dst_port: u16,
    /// 6 or 17.
    pub protocol: u8,
    /// Where the TCP or UDP header starts.
    pub l4: Offset,
    /// Where the IP datagram ends, in bytes from the start of the frame.
    pub ip_end: u32,
    /// How the header is built.
    pub shape: Shape,
}

impl<F: Family> Clone for Facts<F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<F: Family> Copy for Facts<F> {}

impl<F: Family> Facts<F> {
    /// Key of this packet in the flow tables.
    #[inline(always)]
    pub fn key(&self) -> F::Key {
        F::key(self.src, self.dst, self.src_port, self.dst_port, self.protocol)
    }

    /// Whether it is TCP.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.protocol == IPPROTO_TCP
    }
}

/// Flag bits of a TCP header, as in its 14th byte.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset.
    pub const RST: u8 = 4;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 16;
}

/// What the TCP or UDP header says.
#[derive(Clone, Copy, Debug)]
pub struct L4 {
    /// TCP flags; 0 for UDP.
    pub tcp_flags: u8,
    /// The checksum field, native order.
    pub check: u16,
    /// TCP sequence number, host order; 0 for UDP.
    pub seq: u32,
    /// TCP acknowledgment number, host order; 0 for UDP.
    pub ack: u32,
}

impl L4 {
    /// A SYN without ACK: it opens a connection.
    #[inline(always)]
    pub fn is_opening(self) -> bool {
        self.tcp_flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN
    }

    /// Whether any of these flags is set.
    #[inline(always)]
    pub fn has(self, flags: u8) -> bool {
        self.tcp_flags & flags != 0
    }
}

/// Reads the ports at an offset.
#[inline(always)]
pub fn ports<P: Packet>(packet: &P, at: Offset) -> Option<(u16, u16)> {
    // One load: whoever wants both in one word gets them without taking them apart.
    let both = u32::from_be_bytes(*packet.get::<[u8; 4]>(at)?);
    Some(((both >> 16) as u16, both as u16))
}

/// Checks lengths and reads the TCP or UDP header (section 3 of docs/packet-path.md).
#[inline(always)]
pub fn layer4<F: Family, P: Packet>(packet: &P, facts: &Facts<F>) -> Result<L4, DropReason> {
    let end = facts.ip_end;
    // The linear part is the whole frame but for multi-buffer frames; asking for those costs a helper call.
    if end > packet.linear_bytes() && end > packet.frame_bytes() {
        return Err(DropReason::BadIpLength);
    }
    let least = if facts.is_tcp() { 20 } else { 8 };
    let room = end.wrapping_sub(facts.l4.bytes());
    // One question for the fast path, to which it is all one.
    if end < facts.l4.bytes().wrapping_add(least) {
        return Err(if end < facts.l4.bytes() {
            DropReason::BadIpLength
        } else {
            DropReason::TruncatedL4
        });
    }
    if facts.is_tcp() {
        let header = packet.get::<Tcp>(facts.l4).ok_or(DropReason::TruncatedL4)?;
        let header_bytes = ((header.data_offset >> 4) as u32) << 2;
        if header_bytes < 20 || header_bytes > room {
            return Err(DropReason::BadTcpOffset);
        }
        Ok(L4 {
            tcp_flags: header.flags,
            check: u16::from_ne_bytes(header.check),
            seq: u32::from_be_bytes(header.seq),
            ack: u32::from_be_bytes(header.ack),
        })
    } else {
        let header = packet.get::<UdpHdr>(facts.l4).ok_or(DropReason::TruncatedL4)?;
        let udp_bytes = u16::from_be_bytes(header.len) as u32;
        if udp_bytes < 8 || udp_bytes > room {
            return Err(DropReason::BadUdpLength);
        }
        Ok(L4 {
            tcp_flags: 0,
            check: u16::from_ne_bytes(header.check),
            seq: 0,
            ack: 0,
        })
    }
}
