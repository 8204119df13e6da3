//! A packet as a description, and its frame written by etherparse: every length and checksum right, unless the
//! description says otherwise.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpFragOffset,
    IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, TcpHeader, UdpHeader,
};
use lb_common::net::Mac;

/// Bits of the TCP flags byte.
pub mod flags {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// What stands in the UDP checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// The right one.
    Computed,
    /// Zero: "not computed" over IPv4, forbidden over IPv6.
    Zero,
}

/// What stands in the IPv4 header checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv4Checksum {
    /// The right one.
    Computed,
    /// The right one plus an error, which a rewrite must neither repair nor change.
    OffBy(u16),
}

/// The layer-4 part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// Sequence number.
        seq: u32,
        /// Acknowledgment number; written even without ACK.
        ack: u32,
        /// [`flags`] bits.
        flags: u8,
        /// Raw options; a multiple of four bytes, at most 40.
        options: Vec<u8>,
    },
    /// A UDP datagram.
    Udp(UdpChecksum),
    /// An ICMP or ICMPv6 echo request, by the family of the addresses.
    EchoRequest {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// Any other protocol: the payload stands right behind the IP header.
    Other(u8),
}

/// An IPv4 fragment's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Offset in units of eight bytes.
    pub offset: u16,
    /// MF or M.
    pub more: More,
}

/// Whether more fragments follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// They do.
    Follow,
    /// This is the last.
    Last,
}

/// An IPv6 extension header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options (0), padded with PadN; the number of eight-byte units beyond the first.
    HopByHop(u8),
    /// Destination options (60), as above.
    Destination(u8),
    /// Routing (43), type 0, with this many segments left.
    Routing(u8),
    /// Fragment (44).
    Fragment(Fragment),
    /// Anything else, eight bytes of the generic shape.
    Other(u8),
}

/// A packet to be written out by [`Packet::build`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source MAC.
    pub src_mac: Mac,
    /// Destination MAC.
    pub dst_mac: Mac,
    /// Source address and port (the port is ignored where the protocol has none).
    pub src: SocketAddr,
    /// Destination address and port, of the same family.
    pub dst: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN together: the IPv4 TOS byte without meaning here, kept by a rewrite.
    pub tos: u8,
    /// IPv4 options; a multiple of four bytes, at most 40.
    pub options: Vec<u8>,
    /// IPv4 fragment; for IPv6 use [`Extension::Fragment`].
    pub fragment: Option<Fragment>,
    /// The IPv4 header checksum.
    pub ipv4_checksum: Ipv4Checksum,
    /// IPv6 extension headers, in order.
    pub extensions: Vec<Extension>,
    /// Layer 4.
    pub transport: Transport,
    /// What follows the layer-4 header.
    pub payload: Vec<u8>,
    /// Bytes behind the IP packet (Ethernet padding).
    pub padding_bytes: usize,
}

impl Packet {
    /// A packet with everything that is not named here at its usual value.
    #[must_use]
    pub fn new(src: SocketAddr, dst: SocketAddr, transport: Transport) -> Self {
        Self {
            src_mac: [2, 0, 0, 0, 0, 1],
            dst_mac: [2, 0, 0, 0, 0, 2],
            src,
            dst,
            ttl: 64,
            tos: 0,
            options: Vec::new(),
            fragment: None,
            ipv4_checksum: Ipv4Checksum::Computed,
            extensions: Vec::new(),
            transport,
            payload: Vec::new(),
            padding_bytes: 0,
        }
    }

    /// A TCP segment without options.
    #[must_use]
    pub fn tcp(src: SocketAddr, dst: SocketAddr, flags: u8, seq: u32, ack: u32) -> Self {
        let options = Vec::new();
        Self::new(
            src,
            dst,
            Transport::Tcp {
                seq,
                ack,
                flags,
                options,
            },
        )
    }

    /// A UDP datagram with its checksum.
    #[must_use]
    pub fn udp(src: SocketAddr, dst: SocketAddr) -> Self {
        Self::new(src, dst, Transport::Udp(UdpChecksum::Computed))
    }

    /// An echo request.
    #[must_use]
    pub fn echo(src: IpAddr, dst: IpAddr) -> Self {
        let transport = Transport::EchoRequest { id: 7, seq: 1 };
        Self::new(SocketAddr::new(src, 0), SocketAddr::new(dst, 0), transport)
    }

    /// Sets both MACs.
    #[must_use]
    pub fn macs(mut self, src_mac: Mac, dst_mac: Mac) -> Self {
        (self.src_mac, self.dst_mac) = (src_mac, dst_mac);
        self
    }

    /// Sets the TTL or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// Sets the IPv4 options.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// Adds an IPv6 extension header.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Makes it a fragment, in either family.
    #[must_use]
    pub fn fragment(mut self, fragment: Fragment) -> Self {
        if self.src.is_ipv4() {
            self.fragment = Some(fragment);
        } else {
            self.extensions.push(Extension::Fragment(fragment));
        }
        self
    }

    /// The frame.
    ///
    /// # Panics
    /// When the description is impossible (mixed families, an option length that is no multiple of four): a mistake in
    /// the test.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut frame = Vec::with_capacity(128 + segment.len());
        let ether_type = if self.src.is_ipv4() {
            EtherType::IPV4
        } else {
            EtherType::IPV6
        };
        let ethernet = Ethernet2Header {
            source: self.src_mac,
            destination: self.dst_mac,
            ether_type,
        };
        frame.extend_from_slice(&ethernet.to_bytes());
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(&mut frame, src.octets(), dst.octets(), segment.len()),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(&mut frame, src.octets(), dst.octets(), segment.len()),
            mixed => panic!("source and destination are of different families: {mixed:?}"),
        }
        frame.extend_from_slice(&segment);
        frame.resize(frame.len() + self.padding_bytes, 0xa5);
        frame
    }

    fn ipv4(&self, frame: &mut Vec<u8>, src: [u8; 4], dst: [u8; 4], segment_bytes: usize) {
        let protocol = IpNumber(self.protocol());
        let mut header =
            Ipv4Header::new(segment_bytes as u16, self.ttl, protocol, src, dst).expect("a segment below 64 KiB");
        header.options = self
            .options
            .as_slice()
            .try_into()
            .expect("options in words of four bytes");
        header.total_len = (header.header_len() + segment_bytes) as u16;
        header.identification = 0x1234;
        header.dscp = (self.tos >> 2).try_into().expect("six bits");
        header.ecn = (self.tos & 3).try_into().expect("two bits");
        header.dont_fragment = self.fragment.is_none();
        if let Some(fragment) = self.fragment {
            header.fragment_offset = IpFragOffset::try_new(fragment.offset).expect("13 bits");
            header.more_fragments = fragment.more == More::Follow;
        }
        header.header_checksum = header.calc_header_checksum();
        if let Ipv4Checksum::OffBy(error) = self.ipv4_checksum {
            header.header_checksum = header.header_checksum.wrapping_add(error);
        }
        frame.extend_from_slice(&header.to_bytes());
    }

    fn ipv6(&self, frame: &mut Vec<u8>, src: [u8; 16], dst: [u8; 16], segment_bytes: usize) {
        let mut chain = Vec::new();
        let mut next = self.protocol();
        for extension in self.extensions.iter().rev() {
            let (number, bytes) = extension_bytes(extension, next);
            chain.splice(0..0, bytes);
            next = number;
        }
        let header = Ipv6Header {
            traffic_class: self.tos,
            flow_label: 0x54321.try_into().expect("20 bits"),
            payload_length: (chain.len() + segment_bytes) as u16,
            next_header: IpNumber(next),
            hop_limit: self.ttl,
            source: src,
            destination: dst,
        };
        frame.extend_from_slice(&header.to_bytes());
        frame.extend_from_slice(&chain);
    }

    /// The IP protocol number of the transport.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        match (&self.transport, self.src.is_ipv4()) {
            (Transport::Tcp { .. }, _) => 6,
            (Transport::Udp(_), _) => 17,
            (Transport::EchoRequest { .. }, true) => 1,
            (Transport::EchoRequest { .. }, false) => 58,
            (Transport::Other(protocol), _) => *protocol,
        }
    }

    fn segment(&self) -> Vec<u8> {
        let mut bytes = match &self.transport {
            Transport::Tcp { .. } => self.tcp_header().to_bytes().to_vec(),
            Transport::Udp(checksum) => self.udp_header(*checksum).to_bytes().to_vec(),
            Transport::EchoRequest { id, seq } => self.echo_header(IcmpEchoHeader { id: *id, seq: *seq }),
            Transport::Other(_) => Vec::new(),
        };
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    fn tcp_header(&self) -> TcpHeader {
        let Transport::Tcp {
            seq,
            ack,
            flags,
            options,
        } = &self.transport
        else {
            panic!("called for TCP only");
        };
        let mut header = TcpHeader::new(self.src.port(), self.dst.port(), *seq, 0xfaf0);
        header.acknowledgment_number = *ack;
        header.fin = flags & flags::FIN != 0;
        header.syn = flags & flags::SYN != 0;
        header.rst = flags & flags::RST != 0;
        header.psh = flags & flags::PSH != 0;
        header.ack = flags & flags::ACK != 0;
        header.set_options_raw(options).expect("options in words of four bytes");
        header.checksum = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), &self.payload)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), &self.payload)
            }
            mixed => panic!("source and destination are of different families: {mixed:?}"),
        }
        .expect("a segment below 64 KiB");
        header
    }

    fn udp_header(&self, checksum: UdpChecksum) -> UdpHeader {
        let length = (8 + self.payload.len()) as u16;
        let (source_port, destination_port) = (self.src.port(), self.dst.port());
        let mut header = UdpHeader {
            source_port,
            destination_port,
            length,
            checksum: 0,
        };
        if checksum == UdpChecksum::Computed {
            header.checksum = match (self.src.ip(), self.dst.ip()) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), &self.payload)
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), &self.payload)
                }
                mixed => panic!("source and destination are of different families: {mixed:?}"),
            }
            .expect("a datagram below 64 KiB");
        }
        header
    }

    fn echo_header(&self, echo: IcmpEchoHeader) -> Vec<u8> {
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let kind = Icmpv6Type::EchoRequest(echo);
                Icmpv6Header::with_checksum(kind, src.octets(), dst.octets(), &self.payload)
                    .expect("a message below 64 KiB")
                    .to_bytes()
                    .to_vec()
            }
            _ => Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &self.payload)
                .to_bytes()
                .to_vec(),
        }
    }
}

/// The extension's own protocol number and its bytes, with `next` as its next header.
fn extension_bytes(extension: &Extension, next: u8) -> (u8, Vec<u8>) {
    let raw = |payload: &[u8]| {
        let header = Ipv6RawExtHeader::new_raw(IpNumber(next), payload).expect("eight-byte units");
        let mut bytes = Vec::new();
        header.write(&mut bytes).expect("a Vec takes every byte");
        bytes
    };
    match extension {
        Extension::HopByHop(units) => (0, raw(&pad_n(*units))),
        Extension::Destination(units) => (60, raw(&pad_n(*units))),
        Extension::Routing(left) => (43, raw(&[0, *left, 0, 0, 0, 0])),
        Extension::Other(number) => (*number, raw(&[0; 6])),
        Extension::Fragment(fragment) => {
            let offset = IpFragOffset::try_new(fragment.offset).expect("13 bits");
            let more = fragment.more == More::Follow;
            let header = Ipv6FragmentHeader {
                next_header: IpNumber(next),
                fragment_offset: offset,
                more_fragments: more,
                identification: 0x00c0_ffee,
            };
            (44, header.to_bytes().to_vec())
        }
    }
}

/// One PadN option (RFC 8200, 4.2) filling a header of `units + 1` eight-byte units. Its length is one byte.
fn pad_n(units: u8) -> Vec<u8> {
    let total = 6 + usize::from(units.min(30)) * 8;
    let mut payload = vec![0_u8; total];
    payload[0] = 1;
    payload[1] = (total - 2) as u8;
    payload
}
