//! Checksums of a finished frame, judged by etherparse: code that neither the program nor the model uses.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// Why a frame is not what a good sender sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// etherparse cannot read it.
    Unreadable(String),
    /// A checksum field differs from the computed one.
    Checksum {
        /// `ipv4`, `tcp`, `udp`, `icmp` or `icmpv6`.
        layer: &'static str,
        /// What the frame says.
        found: u16,
        /// What it should say.
        wanted: u16,
    },
}

/// Checks every checksum of an unfragmented IPv4 or IPv6 frame with TCP, UDP, ICMP or ICMPv6.
///
/// A UDP checksum of 0 over IPv4 is "not computed" and good; over IPv6 it is a fault.
pub fn check(frame: &[u8]) -> Result<(), Fault> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| Fault::Unreadable(error.to_string()))?;
    let pseudo = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            // etherparse leaves the reserved flag out of its sum.
            if header.to_bytes().get(6) != ip.header().slice().get(6) {
                return Err(Fault::Unreadable("the reserved flag is set".into()));
            }
            compare("ipv4", header.header_checksum, header.calc_header_checksum())?;
            Pseudo::V4(header.source, header.destination)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            Pseudo::V6(header.source, header.destination)
        }
        _ => return Err(Fault::Unreadable("no IP header".into())),
    };
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let header = tcp.to_header();
            let wanted = match pseudo {
                Pseudo::V4(src, dst) => header.calc_checksum_ipv4_raw(src, dst, tcp.payload()),
                Pseudo::V6(src, dst) => header.calc_checksum_ipv6_raw(src, dst, tcp.payload()),
            };
            compare("tcp", header.checksum, wanted.map_err(unreadable)?)
        }
        Some(TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let wanted = match pseudo {
                Pseudo::V4(..) if header.checksum == 0 => return Ok(()),
                Pseudo::V4(src, dst) => header.calc_checksum_ipv4_raw(src, dst, udp.payload()),
                Pseudo::V6(src, dst) => header.calc_checksum_ipv6_raw(src, dst, udp.payload()),
            };
            compare("udp", header.checksum, wanted.map_err(unreadable)?)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let mut header = icmp.header();
            let found = header.checksum;
            header.update_checksum(icmp.payload());
            compare("icmp", found, header.checksum)
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let mut header = icmp.header();
            let found = header.checksum;
            let Pseudo::V6(src, dst) = pseudo else {
                return Err(Fault::Unreadable("ICMPv6 over IPv4".into()));
            };
            header.update_checksum(src, dst, icmp.payload()).map_err(unreadable)?;
            compare("icmpv6", found, header.checksum)
        }
        other => Err(Fault::Unreadable(format!("no transport header: {other:?}"))),
    }
}

enum Pseudo {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

fn compare(layer: &'static str, found: u16, wanted: u16) -> Result<(), Fault> {
    if found == wanted {
        Ok(())
    } else {
        Err(Fault::Checksum { layer, found, wanted })
    }
}

fn unreadable(error: impl std::fmt::Display) -> Fault {
    Fault::Unreadable(error.to_string())
}
