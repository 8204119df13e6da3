//! Whole connections through the packet logic on the host. The same and much more is done to the loaded program in the
//! `tests` crate; these are the cases that fail first when a step is wrong.

use lb_common::reason::{AnswerReason, DropReason, PassReason};
use proptest::prelude::*;

use crate::{
    parse::tcp_flag::{ACK, FIN, RST, SYN},
    sweep::{Moved, sweep},
    testing::{
        BACKEND, BACKEND_MAC, CLIENT, CLIENT_MAC, Frame, HZ, Host, IFINDEX, SNAT, VIP, checksum, tcp, tcp_checksum,
    },
    verdict::{Outcome, Way},
};

const OUT: Way = Way::Redirect(IFINDEX);

fn is_sound(frame: &Frame) -> bool {
    checksum(&frame.bytes[14..34], 0) == 0 && tcp_checksum(&frame.bytes) == 0
}

fn snat_port(frame: &Frame) -> u16 {
    u16::from_be_bytes([frame.bytes[34], frame.bytes[35]])
}

/// Opens a connection and returns its SNAT port.
fn open(host: &Host, client_port: u16) -> u16 {
    let mut syn = tcp((CLIENT, client_port), (VIP, 80), SYN, 1000, 0);
    assert_eq!(host.run(&mut syn).outcome(), Outcome::ToBackend(1, OUT));
    let port = snat_port(&syn);
    let mut syn_ack = tcp((BACKEND, 8081), (SNAT, port), SYN | ACK, 5000, 1001);
    assert_eq!(host.run(&mut syn_ack).outcome(), Outcome::ToClient(1, OUT));
    let mut ack = tcp((CLIENT, client_port), (VIP, 80), ACK, 1001, 5001);
    assert_eq!(host.run(&mut ack).outcome(), Outcome::ToBackend(1, OUT));
    port
}

#[test]
fn a_syn_reaches_the_internal_port_with_sound_checksums() {
    let host = Host::full_nat();
    let mut syn = tcp((CLIENT, 40000), (VIP, 80), SYN, 1000, 0);
    assert_eq!(host.run(&mut syn).outcome(), Outcome::ToBackend(1, OUT));
    assert_eq!(&syn.bytes[..6], &BACKEND_MAC);
    assert_eq!(&syn.bytes[26..34], &[SNAT, BACKEND].concat());
    assert_eq!(&syn.bytes[36..38], &8081_u16.to_be_bytes());
    assert_eq!(syn.bytes[22], 63);
    assert!(is_sound(&syn));
}

#[test]
fn a_reply_comes_from_the_vip_and_the_service_port() {
    let host = Host::full_nat();
    let mut syn = tcp((CLIENT, 40000), (VIP, 80), SYN, 1000, 0);
    host.run(&mut syn);
    let mut syn_ack = tcp((BACKEND, 8081), (SNAT, snat_port(&syn)), SYN | ACK, 5000, 1001);
    assert_eq!(host.run(&mut syn_ack).outcome(), Outcome::ToClient(1, OUT));
    assert_eq!(&syn_ack.bytes[..6], &CLIENT_MAC);
    assert_eq!(&syn_ack.bytes[26..34], &[VIP, CLIENT].concat());
    assert_eq!(
        &syn_ack.bytes[34..38],
        &[80_u16.to_be_bytes(), 40000_u16.to_be_bytes()].concat()
    );
    assert!(is_sound(&syn_ack));
}

#[test]
fn only_an_ack_of_the_backends_isn_promotes() {
    let host = Host::full_nat();
    let mut syn = tcp((CLIENT, 40000), (VIP, 80), SYN, 1000, 0);
    host.run(&mut syn);
    let port = snat_port(&syn);
    host.run(&mut tcp((BACKEND, 8081), (SNAT, port), SYN | ACK, 5000, 1001));
    let forged = host.run(&mut tcp((CLIENT, 40000), (VIP, 80), ACK, 1001, 4999));
    assert_eq!(forged.outcome(), Outcome::Drop(DropReason::HandshakeUnproven.index()));
    assert!(host.established.borrow().is_empty());
    host.run(&mut tcp((CLIENT, 40000), (VIP, 80), ACK, 1001, 5001));
    assert_eq!(host.established.borrow().len(), 2);
    assert!(host.half.borrow().is_empty());
    assert_eq!(host.stats.borrow().flows_opened, 1);
}

#[test]
fn a_retransmitted_syn_keeps_its_tuple() {
    let host = Host::full_nat();
    let mut first = tcp((CLIENT, 40000), (VIP, 80), SYN, 1000, 0);
    let mut second = tcp((CLIENT, 40000), (VIP, 80), SYN, 1000, 0);
    host.run(&mut first);
    host.run(&mut second);
    assert_eq!(first.bytes, second.bytes);
    assert_eq!(host.stats.borrow().flows_new, 1);
}

#[test]
fn a_source_port_inside_the_range_is_kept() {
    let host = Host::full_nat();
    let mut syn = tcp((CLIENT, 20000), (VIP, 80), SYN, 1000, 0);
    host.run(&mut syn);
    assert_eq!(snat_port(&syn), 20000);
}

#[test]
fn a_packet_without_a_flow_is_answered_by_a_reset() {
    let mut host = Host::full_nat();
    host.settings.rst_per_second = 1;
    let mut ack = tcp((CLIENT, 40000), (VIP, 80), ACK, 1001, 5001);
    assert_eq!(
        host.run(&mut ack).outcome(),
        Outcome::Answer(AnswerReason::TcpReset.index(), OUT)
    );
    assert_eq!(&ack.bytes[26..34], &[VIP, CLIENT].concat());
    assert_eq!(&ack.bytes[38..42], &5001_u32.to_be_bytes());
    assert_eq!(ack.bytes[47], RST);
    assert!(is_sound(&ack));
    let mut next = tcp((CLIENT, 40001), (VIP, 80), ACK, 1001, 5001);
    assert_eq!(
        host.run(&mut next).outcome(),
        Outcome::Drop(DropReason::RstLimited.index())
    );
}

#[test]
fn a_packet_to_a_snat_tuple_without_a_flow_is_dropped() {
    let host = Host::full_nat();
    let stray = host.run(&mut tcp((BACKEND, 8081), (SNAT, 20000), ACK, 1, 1));
    assert_eq!(stray.outcome(), Outcome::Drop(DropReason::SnatNoFlow.index()));
}

#[test]
fn somebody_elses_packet_passes() {
    let host = Host::full_nat();
    let other = host.run(&mut tcp((CLIENT, 40000), ([192, 0, 2, 99], 80), SYN, 1, 0));
    assert_eq!(other.outcome(), Outcome::Pass(PassReason::NotOurs.index()));
}

#[test]
fn a_small_range_is_used_to_the_last_port_and_then_exhausted() {
    let mut host = Host::full_nat();
    (host.settings.snat_port_min, host.settings.snat_port_max) = (10240, 10243);
    let ports: std::collections::BTreeSet<u16> = (0..4).map(|n| open(&host, 40000 + n)).collect();
    assert_eq!(ports.len(), 4);
    let fifth = host.run(&mut tcp((CLIENT, 40009), (VIP, 80), SYN, 1, 0));
    assert_eq!(fifth.outcome(), Outcome::Drop(DropReason::SnatExhausted.index()));
}

#[test]
fn the_tuple_closed_longest_ago_is_taken_over_first() {
    let mut host = Host::full_nat();
    (host.settings.snat_port_min, host.settings.snat_port_max) = (10240, 10241);
    let ports = [open(&host, 40000), open(&host, 40001)];
    for (client_port, port) in [(40000, ports[0]), (40001, ports[1])] {
        host.now.set(host.now.get() + 2 * HZ);
        host.run(&mut tcp((CLIENT, client_port), (VIP, 80), FIN | ACK, 1001, 5001));
        host.run(&mut tcp((BACKEND, 8081), (SNAT, port), FIN | ACK, 5001, 1002));
    }
    host.now.set(host.now.get() + HZ);
    assert_eq!(open(&host, 40002), ports[0]);
    assert_eq!(host.cpu.borrow().tuples_reused_early, 1);
}

#[test]
fn a_client_that_uses_its_port_again_gets_the_same_tuple() {
    let host = Host::full_nat();
    let port = open(&host, 40000);
    host.run(&mut tcp((CLIENT, 40000), (VIP, 80), FIN | ACK, 1001, 5001));
    host.run(&mut tcp((BACKEND, 8081), (SNAT, port), FIN | ACK, 5001, 1002));
    let mut again = tcp((CLIENT, 40000), (VIP, 80), SYN, 90000, 0);
    assert_eq!(host.run(&mut again).outcome(), Outcome::ToBackend(1, OUT));
    assert_eq!(snat_port(&again), port);
}

#[test]
fn the_sweep_reclaims_what_has_expired_and_nothing_else() {
    let host = Host::full_nat();
    open(&host, 40000);
    host.now.set(host.now.get() + host.settings.established_ticks / 2);
    open(&host, 40001);
    host.now.set(host.now.get() + host.settings.established_ticks / 2 + HZ);
    // SAFETY: all fields are integers and arrays of them, for which zero is a value.
    let mut work = unsafe { core::mem::zeroed() };
    sweep::<crate::family::V4, Host>(&host, &mut work, 2, Moved::default());
    assert_eq!(host.established.borrow().len(), 2);
    assert_eq!(host.queue.borrow().len(), 1);
    assert_eq!(host.stats.borrow().flows_closed, 1);
}

#[test]
fn a_full_table_makes_room_by_itself() {
    let host = Host::full_nat();
    host.capacity.set(4);
    open(&host, 40000);
    open(&host, 40001);
    host.now.set(host.now.get() + host.settings.established_ticks + HZ);
    open(&host, 40002);
    assert_eq!(host.stats.borrow().flows_closed, 2);
}

#[test]
fn a_full_table_without_room_drops_and_lets_the_client_try_again() {
    let host = Host::full_nat();
    host.capacity.set(4);
    open(&host, 40000);
    open(&host, 40001);
    let mut syn = tcp((CLIENT, 40002), (VIP, 80), SYN, 1000, 0);
    host.run(&mut syn);
    host.run(&mut tcp(
        (BACKEND, 8081),
        (SNAT, snat_port(&syn)),
        SYN | ACK,
        5000,
        1001,
    ));
    let ack = || tcp((CLIENT, 40002), (VIP, 80), ACK, 1001, 5001);
    assert_eq!(
        host.run(&mut ack()).outcome(),
        Outcome::Drop(DropReason::FlowTableFull.index())
    );
    assert_eq!(host.established.borrow().len(), 4);
    host.now.set(host.now.get() + host.settings.established_ticks + HZ);
    assert_eq!(host.run(&mut ack()).outcome(), Outcome::ToBackend(1, OUT));
}

#[test]
fn a_flood_of_unfinished_handshakes_gives_its_tuples_up_after_a_second() {
    let mut host = Host::full_nat();
    (host.settings.snat_port_min, host.settings.snat_port_max) = (10240, 10243);
    for client_port in 50000..50004 {
        host.run(&mut tcp((CLIENT, client_port), (VIP, 80), SYN, 1, 0));
    }
    let syn = || tcp((CLIENT, 40000), (VIP, 80), SYN, 1000, 0);
    assert_eq!(
        host.run(&mut syn()).outcome(),
        Outcome::Drop(DropReason::SnatExhausted.index())
    );
    host.now.set(host.now.get() + HZ);
    open(&host, 40000);
}

#[test]
fn a_port_reused_towards_a_dead_backend_is_not_bound_to_it() {
    let mut host = Host::full_nat();
    open(&host, 40000);
    host.backend.state = lb_common::abi::backend_state::DOWN;
    host.now.set(host.now.get() + 3 * HZ);
    let again = host.run(&mut tcp((CLIENT, 40000), (VIP, 80), SYN, 90000, 0));
    assert_eq!(again.outcome(), Outcome::Drop(DropReason::NoBackend.index()));
    assert!(host.established.borrow().is_empty());
}

proptest! {
    #[test]
    fn any_bytes_give_a_verdict(mut bytes in proptest::collection::vec(any::<u8>(), 0..128), ours in any::<bool>()) {
        let host = Host::full_nat();
        if ours && bytes.len() >= 34 {
            bytes[..6].copy_from_slice(&crate::testing::OWN_MAC);
            bytes[12..14].copy_from_slice(&[8, 0]);
            bytes[30..34].copy_from_slice(&VIP);
        }
        host.run(&mut Frame { bytes });
    }

    #[test]
    fn every_rewrite_keeps_a_sound_checksum_sound(port in 1_u16.., seq: u32, ttl in 2_u8..) {
        let host = Host::full_nat();
        let mut syn = tcp((CLIENT, port), (VIP, 80), SYN, seq, 0);
        syn.bytes[22] = ttl;
        syn.bytes[24..26].copy_from_slice(&[0, 0]);
        let ip = checksum(&syn.bytes[14..34], 0);
        syn.bytes[24..26].copy_from_slice(&ip.to_be_bytes());
        host.run(&mut syn);
        prop_assert!(is_sound(&syn));
    }
}

#[test]
fn an_interfaces_entry_says_whether_the_program_is_configured() {
    let syn = || tcp((CLIENT, 40000), (VIP, 80), SYN, 1000, 0);
    let mut host = Host::full_nat();
    host.iface.abi_version += 1;
    let other_abi = host.run(&mut syn()).outcome();
    assert_eq!(other_abi, Outcome::Pass(PassReason::NotConfigured.index()));
    let mut host = Host::full_nat();
    host.iface.ifindex += 1;
    let unknown = host.run(&mut syn()).outcome();
    assert_eq!(unknown, Outcome::Pass(PassReason::UnknownInterface.index()));
    host.settings.abi_version = 0;
    let nothing_yet = host.run(&mut syn()).outcome();
    assert_eq!(nothing_yet, Outcome::Pass(PassReason::NotConfigured.index()));
}

#[test]
fn resets_are_sent_whatever_the_tick_is() {
    // A kernel boots five minutes before its ticks wrap.
    for now in [1_000_000, u32::MAX / 2 + 1_000, u32::MAX - 250 * 280] {
        let mut host = Host::full_nat();
        host.settings.rst_per_second = 1;
        host.now.set(now);
        let segment = || tcp((CLIENT, 40000), (VIP, 80), ACK, 1001, 5001);
        let answered = Outcome::Answer(AnswerReason::TcpReset.index(), OUT);
        assert_eq!(host.run(&mut segment()).outcome(), answered, "at tick {now}");
        let limited = Outcome::Drop(DropReason::RstLimited.index());
        assert_eq!(host.run(&mut segment()).outcome(), limited, "at tick {now}");
        host.now.set(now.wrapping_add(HZ));
        assert_eq!(host.run(&mut segment()).outcome(), answered, "a second after {now}");
    }
}
