//! A connection in a program test: both peers' packets, with what the backend sees as its client learnt from the
//! program's own output.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::{Rig, Sent, action};
use crate::model::sample::{Family, Sample, from_backend, from_client};
use crate::packets::{Packet, flags};

/// The client's first sequence number.
pub const CLIENT_ISN: u32 = 1_000;
/// The backend's first sequence number, at the end of the number space.
pub const BACKEND_ISN: u32 = u32::MAX;

/// One connection through a [`Rig`].
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    /// Whom.
    pub client: SocketAddr,
    /// What it dials.
    pub dial: SocketAddr,
    /// Who answers.
    pub backend: SocketAddr,
    /// What the backend sees as its client.
    pub seen: SocketAddr,
}

impl Talk {
    /// Sends the first packet (SYN or a datagram), which must be forwarded to the service's backend.
    pub fn begin(rig: &mut Rig, service: Sample, client: SocketAddr) -> Result<Self> {
        let family = if client.is_ipv4() { Family::V4 } else { Family::V6 };
        let dial = service.dial(family);
        let mut talk = Self {
            client,
            dial,
            backend: service.backend(family),
            seen: client,
        };
        let packet = if service.protocol == 6 {
            talk.request(flags::SYN, 0)
        } else {
            talk.datagram(b"hello")
        };
        let sent = talk.client_packet(rig, packet)?;
        ensure!(
            sent.output.action > action::PASS,
            "the first packet was not forwarded: {:?}",
            sent.reason
        );
        let (src, dst) = ends(&sent.output.frame)?;
        ensure!(dst == talk.backend, "sent to {dst}, the backend is {}", talk.backend);
        talk.seen = src;
        Ok(talk)
    }

    /// A whole handshake.
    pub fn open(rig: &mut Rig, service: Sample, client: SocketAddr) -> Result<Self> {
        let talk = Self::begin(rig, service, client)?;
        talk.backend_sends(rig, flags::SYN | flags::ACK)?;
        talk.client_sends(rig, flags::ACK)?;
        Ok(talk)
    }

    /// A TCP segment from the client, acknowledging the backend's first number.
    #[must_use]
    pub fn request(&self, tcp_flags: u8, payload_bytes: usize) -> Packet {
        let (seq, ack) = if tcp_flags & flags::SYN != 0 {
            (CLIENT_ISN, 0)
        } else {
            (CLIENT_ISN + 1, BACKEND_ISN.wrapping_add(1))
        };
        Packet::tcp(self.client, self.dial, tcp_flags, seq, ack).payload(&vec![0x5a; payload_bytes])
    }

    /// A TCP segment from the backend.
    #[must_use]
    pub fn reply(&self, tcp_flags: u8, payload_bytes: usize) -> Packet {
        let seq = if tcp_flags & flags::SYN != 0 {
            BACKEND_ISN
        } else {
            BACKEND_ISN.wrapping_add(1)
        };
        Packet::tcp(self.backend, self.seen, tcp_flags, seq, CLIENT_ISN + 1).payload(&vec![0xa5; payload_bytes])
    }

    /// A datagram from the client.
    #[must_use]
    pub fn datagram(&self, payload: &[u8]) -> Packet {
        Packet::udp(self.client, self.dial).payload(payload)
    }

    /// A datagram from the backend.
    #[must_use]
    pub fn answer(&self, payload: &[u8]) -> Packet {
        Packet::udp(self.backend, self.seen).payload(payload)
    }

    /// Sends the client's packet through the client-side interface.
    pub fn client_packet(&self, rig: &mut Rig, packet: Packet) -> Result<Sent> {
        let lab = rig.lab;
        rig.send(lab.client_side, &from_client(&lab, packet).build())
    }

    /// Sends the backend's packet through the backend-side interface.
    pub fn backend_packet(&self, rig: &mut Rig, packet: Packet) -> Result<Sent> {
        let lab = rig.lab;
        rig.send(lab.backend_side, &from_backend(&lab, packet).build())
    }

    /// A segment of the client that must reach the backend, translated.
    pub fn client_sends(&self, rig: &mut Rig, tcp_flags: u8) -> Result<()> {
        let sent = self.client_packet(rig, self.request(tcp_flags, 3))?;
        self.arrived(&sent, self.seen, self.backend)
    }

    /// A segment of the backend that must reach the client, translated.
    pub fn backend_sends(&self, rig: &mut Rig, tcp_flags: u8) -> Result<()> {
        let sent = self.backend_packet(rig, self.reply(tcp_flags, 5))?;
        self.arrived(&sent, self.dial, self.client)
    }

    /// A datagram of the client that must reach the backend, translated.
    pub fn client_says(&self, rig: &mut Rig, payload: &[u8]) -> Result<()> {
        let sent = self.client_packet(rig, self.datagram(payload))?;
        self.arrived(&sent, self.seen, self.backend)
    }

    /// A datagram of the backend that must reach the client, translated.
    pub fn backend_says(&self, rig: &mut Rig, payload: &[u8]) -> Result<()> {
        let sent = self.backend_packet(rig, self.answer(payload))?;
        self.arrived(&sent, self.dial, self.client)
    }

    fn arrived(&self, sent: &Sent, src: SocketAddr, dst: SocketAddr) -> Result<()> {
        ensure!(
            sent.output.action > action::PASS,
            "not forwarded: {:?} in {self:?}",
            sent.reason
        );
        let found = ends(&sent.output.frame)?;
        ensure!(
            found == (src, dst),
            "left as {found:?}, must be {:?} in {self:?}",
            (src, dst)
        );
        crate::packets::oracle::check(&sent.output.frame).map_err(|fault| anyhow::anyhow!("etherparse: {fault:?}"))
    }
}

/// Source and destination of a TCP or UDP frame, read by etherparse.
pub fn ends(frame: &[u8]) -> Result<(SocketAddr, SocketAddr)> {
    let sliced = SlicedPacket::from_ethernet(frame).context("read a frame")?;
    let (src, dst): (IpAddr, IpAddr) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        Some(NetSlice::Ipv6(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        _ => anyhow::bail!("no IP header"),
    };
    let (src_port, dst_port) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
        _ => anyhow::bail!("no ports"),
    };
    Ok((SocketAddr::new(src, src_port), SocketAddr::new(dst, dst_port)))
}
