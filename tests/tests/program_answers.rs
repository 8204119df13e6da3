//! What the program sends itself: resets and echo replies, read back by etherparse.

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TcpHeader, TransportSlice};
use lb_common::reason::{AnswerReason, DropReason, PassReason};
use xlb_tests::kernel::{Rig, Sizes, action, ends};
use xlb_tests::model::sample::{FAMILIES, Family, ROUTER, WEB, backend, client, from_client, sample_world, snat, vip};
use xlb_tests::model::{HZ, Reason, iface_mac};
use xlb_tests::packets::flags::{ACK, FIN, PSH};
use xlb_tests::packets::{Extension, Packet, oracle};
use xlb_tests::require;

fn rig() -> Result<Rig> {
    let mut rig = Rig::new(Sizes::default())?;
    let world = sample_world(&rig.lab);
    rig.reset(world)?;
    Ok(rig)
}

fn send(rig: &mut Rig, packet: Packet) -> Result<(Option<Reason>, u32, Vec<u8>)> {
    let lab = rig.lab;
    let sent = rig.send(lab.client_side, &from_client(&lab, packet).build())?;
    Ok((sent.reason, sent.output.action, sent.output.frame))
}

/// TTL, and the TCP header of a frame that ends with it.
fn reset_of(frame: &[u8]) -> Result<(u8, TcpHeader)> {
    oracle::check(frame).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
    let sliced = SlicedPacket::from_ethernet(frame)?;
    let ttl = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            ensure!(
                ip.header().dont_fragment() && ip.header().identification() == 0,
                "DF set, id 0"
            );
            ip.header().ttl()
        }
        Some(NetSlice::Ipv6(ip)) => ip.header().hop_limit(),
        other => bail!("not IP: {other:?}"),
    };
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            ensure!(
                tcp.payload().is_empty() && tcp.options().is_empty(),
                "a reset carries nothing"
            );
            Ok((ttl, tcp.to_header()))
        }
        other => bail!("not TCP: {other:?}"),
    }
}

#[test]
fn a_segment_with_ack_is_reset_at_its_acknowledged_number() -> Result<()> {
    require!("ip");
    let mut rig = rig()?;
    for family in FAMILIES {
        let who = client(family, 1, 40_000);
        let packet = Packet::tcp(who, WEB.dial(family), ACK | PSH, 5_000, 9_000).payload(b"GET / HTTP/1.1");
        let (reason, verdict, frame) = send(&mut rig, packet)?;
        ensure!((reason, verdict) == (Some(Reason::Answer(AnswerReason::TcpReset)), action::TX));
        ensure!(
            ends(&frame)? == (WEB.dial(family), who),
            "from the service to the client"
        );
        ensure!(
            frame[..6] == ROUTER && frame[6..12] == iface_mac(rig.lab.client_side),
            "MACs"
        );
        let (ttl, tcp) = reset_of(&frame)?;
        ensure!(
            (tcp.rst, tcp.ack, tcp.syn, tcp.fin) == (true, false, false, false),
            "{tcp:?}"
        );
        ensure!(
            (tcp.sequence_number, tcp.acknowledgment_number, tcp.window_size, ttl) == (9_000, 0, 0, 64),
            "{tcp:?}"
        );
    }
    Ok(())
}

#[test]
fn a_segment_without_ack_is_reset_with_an_ack_of_all_it_carried() -> Result<()> {
    require!("ip");
    let mut rig = rig()?;
    for family in FAMILIES {
        let packet = Packet::tcp(client(family, 1, 40_000), WEB.dial(family), FIN, u32::MAX, 0).payload(b"12345");
        let (_, _, frame) = send(&mut rig, packet)?;
        let (_, tcp) = reset_of(&frame)?;
        ensure!((tcp.rst, tcp.ack) == (true, true), "{tcp:?}");
        // Sequence number 2^32-1, five bytes and a FIN: 2^32+5.
        ensure!((tcp.sequence_number, tcp.acknowledgment_number) == (0, 5), "{tcp:?}");
    }
    Ok(())
}

#[test]
fn resets_are_limited_and_the_bucket_fills_again() -> Result<()> {
    require!("ip");
    let mut rig = rig()?;
    rig.configure(|world| world.settings.rst_per_second = 5)?;
    let burst = |rig: &mut Rig| -> Result<usize> {
        let mut answered = 0;
        for n in 0..50 {
            let packet = Packet::tcp(client(Family::V4, 1, 40_000 + n), WEB.dial(Family::V4), ACK, 1, 1);
            let (reason, ..) = send(rig, packet)?;
            match reason {
                Some(Reason::Answer(AnswerReason::TcpReset)) => answered += 1,
                Some(Reason::Drop(DropReason::RstLimited)) => {}
                other => bail!("{other:?}"),
            }
        }
        Ok(answered)
    };
    let first = burst(&mut rig)?;
    ensure!((1..=6).contains(&first), "5 a second, {first} in the first burst");
    rig.age(10 * HZ)?;
    let second = burst(&mut rig)?;
    ensure!((4..=6).contains(&second), "5 a second, {second} after a pause of ten");
    Ok(())
}

#[test]
fn a_long_header_is_never_answered_by_a_reset() -> Result<()> {
    require!("ip");
    let mut rig = rig()?;
    let tcp = |family| Packet::tcp(client(family, 1, 40_000), WEB.dial(family), ACK, 1, 1);
    let four = tcp(Family::V4).options(&[1, 1, 1, 0]);
    let six = tcp(Family::V6).extension(Extension::Destination(0));
    for packet in [four, six] {
        let (reason, ..) = send(&mut rig, packet)?;
        ensure!(reason == Some(Reason::Drop(DropReason::TcpNoFlow)), "{reason:?}");
    }
    Ok(())
}

#[test]
fn an_echo_request_to_a_vip_is_answered_with_its_own_payload() -> Result<()> {
    require!("ip");
    let mut rig = rig()?;
    for family in FAMILIES {
        for len in [0, 1, 56, 57, 1400] {
            let payload: Vec<u8> = (0..len).map(|i: u32| i as u8).collect();
            let who = client(family, 1, 0).ip();
            let (_, verdict, frame) = send(&mut rig, Packet::echo(who, vip(family)).payload(&payload).ttl(3))?;
            ensure!(verdict == action::TX);
            oracle::check(&frame).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
            let sliced = SlicedPacket::from_ethernet(&frame)?;
            let found = match sliced.transport.context("an ICMP header")? {
                TransportSlice::Icmpv4(icmp) => {
                    ensure!(matches!(icmp.icmp_type(), Icmpv4Type::EchoReply(echo) if (echo.id, echo.seq) == (7, 1)));
                    icmp.payload().to_vec()
                }
                TransportSlice::Icmpv6(icmp) => {
                    ensure!(matches!(icmp.icmp_type(), Icmpv6Type::EchoReply(echo) if (echo.id, echo.seq) == (7, 1)));
                    icmp.payload().to_vec()
                }
                other => bail!("{other:?}"),
            };
            ensure!(found == payload, "the payload changed");
            let (ttl, src, dst) = match sliced.net.context("an IP header")? {
                NetSlice::Ipv4(ip) => {
                    let header = ip.header();
                    (
                        header.ttl(),
                        header.source_addr().into(),
                        header.destination_addr().into(),
                    )
                }
                NetSlice::Ipv6(ip) => {
                    let header = ip.header();
                    let ends: [std::net::IpAddr; 2] = [header.source_addr().into(), header.destination_addr().into()];
                    (header.hop_limit(), ends[0], ends[1])
                }
                NetSlice::Arp(_) => bail!("ARP"),
            };
            ensure!((ttl, src, dst) == (64, vip(family), who), "{ttl} {src} {dst}");
        }
    }
    Ok(())
}

#[test]
fn echo_for_any_other_address_is_the_kernels() -> Result<()> {
    require!("ip");
    let mut rig = rig()?;
    for family in FAMILIES {
        let who = client(family, 1, 0).ip();
        for (address, wanted) in [
            (snat(family), PassReason::OtherProtocol),
            (backend(family), PassReason::NotOurs),
        ] {
            let (reason, verdict, _) = send(&mut rig, Packet::echo(who, address))?;
            ensure!(
                (reason, verdict) == (Some(Reason::Pass(wanted)), action::PASS),
                "{address}: {reason:?}"
            );
        }
    }
    Ok(())
}
