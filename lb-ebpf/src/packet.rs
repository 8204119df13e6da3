//! The first seam: a frame as "this header at this offset, if the frame reaches that far".
//!
//! It decides nothing about protocols. Implemented by the XDP program over packet pointers and by the tests over a
//! buffer.

use bytemuck::{Pod, Zeroable, cast_mut, cast_ref};
use lb_common::net::Mac;
use network_types::{
    icmp::Icmpv6Hdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
};

/// Bytes from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(u32);

impl Offset {
    /// The Ethernet header.
    pub const START: Self = Self(0);
    /// The IP header of an untagged frame.
    pub const IP: Self = Self(14);

    /// Highest offset a header may start at: what the verifier needs to see a bound.
    const MASK: u32 = 0x3fff;

    /// This offset moved on by `bytes`.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes) & Self::MASK)
    }

    /// As a number. Masked again: an offset that went through memory has lost its bound for the verifier.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0 & Self::MASK
    }
}

/// A header that may be read at any address.
///
/// # Safety
/// The type has alignment 1, no padding, and every bit pattern is a value of it.
pub unsafe trait Header: Copy {}

/// Ethernet header, without VLAN tag. (`network_types::eth::EthHdr` has alignment 2.)
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Eth {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// `EtherType`, wire order.
    pub ether_type: [u8; 2],
}

/// A MAC in registers: two loads, two stores. As six bytes it would be six of each, by way of the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacWords {
    /// First four bytes, native order.
    head: u32,
    /// Last two bytes, native order.
    tail: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MacParts {
    head: [u8; 4],
    tail: [u8; 2],
}

impl MacWords {
    /// Reads a MAC.
    #[inline(always)]
    #[must_use]
    pub fn of(mac: &Mac) -> Self {
        let parts: &MacParts = cast_ref(mac);
        Self {
            head: u32::from_ne_bytes(parts.head),
            tail: u16::from_ne_bytes(parts.tail),
        }
    }

    /// Writes it.
    #[inline(always)]
    pub fn write(self, mac: &mut Mac) {
        let parts: &mut MacParts = cast_mut(mac);
        parts.head = self.head.to_ne_bytes();
        parts.tail = self.tail.to_ne_bytes();
    }
}

/// TCP header without options. (`network_types::tcp::TcpHdr` reads flags through a bit loop that can panic.)
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tcp {
    /// Source port, wire order.
    pub src: [u8; 2],
    /// Destination port, wire order.
    pub dst: [u8; 2],
    /// Sequence number, wire order.
    pub seq: [u8; 4],
    /// Acknowledgment number, wire order.
    pub ack: [u8; 4],
    /// Data offset in 32-bit words, in the upper four bits.
    pub data_offset: u8,
    /// Flags, see [`crate::parse::tcp_flag`].
    pub flags: u8,
    /// Window, wire order.
    pub window: [u8; 2],
    /// Checksum, wire order.
    pub check: [u8; 2],
    /// Urgent pointer, wire order.
    pub urgent: [u8; 2],
}

/// Ethernet and IPv4 header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EthIpv4 {
    /// Ethernet.
    pub eth: Eth,
    /// IPv4 without options.
    pub ip: Ipv4Hdr,
}

/// Ethernet and IPv6 header.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EthIpv6 {
    /// Ethernet.
    pub eth: Eth,
    /// IPv6 without extension headers.
    pub ip: Ipv6Hdr,
}

/// Ethernet, IPv4 without options and UDP: no frame off a wire is shorter, and what of TCP is balanced is longer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EthIpv4Udp {
    /// Ethernet and IPv4.
    pub head: EthIpv4,
    /// UDP.
    pub udp: UdpHdr,
}

/// Ethernet, IPv6 without extension headers and UDP.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EthIpv6Udp {
    /// Ethernet and IPv6.
    pub head: EthIpv6,
    /// UDP.
    pub udp: UdpHdr,
}

macro_rules! headers {
    ($($ty:ty => $size:literal),* $(,)?) => {$(
        const _: () = assert!(size_of::<$ty>() == $size && align_of::<$ty>() == 1);
        // SAFETY: the assertion above proves size (no padding) and alignment; all fields are bytes.
        unsafe impl Header for $ty {}
    )*};
}

headers! {
    Eth => 14, EthIpv4 => 34, EthIpv6 => 54, Ipv4Hdr => 20, Ipv6Hdr => 40, Tcp => 20, UdpHdr => 8,
    Icmpv6Hdr => 8, EthIpv4Udp => 42, EthIpv6Udp => 62, [u8; 2] => 2, [u8; 4] => 4, [u8; 8] => 8,
}

/// One frame.
pub trait Packet {
    /// The header at an offset, if the frame's linear part reaches that far.
    fn get<T: Header>(&self, at: Offset) -> Option<&T>;

    /// The same, to be written.
    fn get_mut<T: Header>(&mut self, at: Offset) -> Option<&mut T>;

    /// Bytes that [`Self::get`] can reach.
    fn linear_bytes(&self) -> u32;

    /// Bytes of the whole frame; more than [`Self::linear_bytes`] in a multi-buffer frame.
    fn frame_bytes(&self) -> u32;

    /// Interface the frame came in on.
    fn ingress_ifindex(&self) -> u32;

    /// Cuts the frame to `bytes`. After a failure the frame is as it was.
    fn cut(&mut self, bytes: u32) -> Result<(), CutError>;
}

/// The kernel refused to cut the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutError;
