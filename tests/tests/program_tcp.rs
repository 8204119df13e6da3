//! TCP connections through the loaded program, packet by packet, beside the model: handshake, close, reset, reopen,
//! expiry, the client's next hop. Each test runs in both families and both modes.

use anyhow::{Result, ensure};
use lb_common::abi::backend_state;
use lb_common::reason::DropReason;
use xlb_tests::kernel::{BACKEND_ISN, Rig, Side, Sizes, Talk, action, ends};
use xlb_tests::model::sample::{FAMILIES, Family, GATE, Sample, WEB, client, from_client, sample_world};
use xlb_tests::model::{HZ, Reason, iface_mac};
use xlb_tests::packets::flags::{ACK, FIN, RST, SYN};
use xlb_tests::packets::oracle;
use xlb_tests::require;

/// Runs a test in both families and modes, each from an empty program, and compares all state at the end.
fn everywhere(test: impl Fn(&mut Rig, Sample, Family) -> Result<()>) -> Result<()> {
    let mut rig = Rig::new(Sizes::default())?;
    for service in [WEB, GATE] {
        for family in FAMILIES {
            let world = sample_world(&rig.lab);
            rig.reset(world)?;
            test(&mut rig, service, family)?;
            rig.check_state()??;
        }
    }
    Ok(())
}

fn established(rig: &Rig) -> Result<usize> {
    Ok(rig
        .kernel
        .maps
        .entries()?
        .iter()
        .filter(|(side, ..)| *side == Side::Established)
        .count())
}

fn drop_of(reason: DropReason) -> Option<Reason> {
    Some(Reason::Drop(reason))
}

#[test]
fn a_handshake_is_promoted_by_the_ack_of_the_backends_first_number() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::begin(rig, service, client(family, 1, 10_243))?;
        ensure!(established(rig)? == 0, "a SYN must stay half-open");
        talk.backend_sends(rig, SYN | ACK)?;
        ensure!(established(rig)? == 0, "a SYN-ACK must stay half-open");
        talk.client_sends(rig, ACK)?;
        ensure!(established(rig)? == 2, "the ACK must make both entries");
        talk.client_sends(rig, ACK)?;
        talk.backend_sends(rig, ACK)?;
        let stats = rig.kernel.backend(service.backend_id(family))?;
        ensure!(
            (stats.flows_new, stats.flows_opened, stats.flows_closed) == (1, 1, 0),
            "{stats:?}"
        );
        ensure!((stats.packets_in, stats.packets_out) == (3, 2), "{stats:?}");
        Ok(())
    })
}

#[test]
fn a_retransmitted_syn_keeps_its_tuple() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let first = Talk::begin(rig, service, client(family, 1, 40_000))?;
        let second = Talk::begin(rig, service, client(family, 1, 40_000))?;
        ensure!(first.seen == second.seen, "{first:?} became {second:?}");
        Ok(())
    })
}

#[test]
fn an_ack_that_proves_nothing_is_dropped() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::begin(rig, service, client(family, 1, 40_000))?;
        let early = talk.client_packet(rig, talk.request(ACK, 0))?;
        ensure!(
            early.reason == drop_of(DropReason::HandshakeUnproven),
            "before the SYN-ACK: {:?}",
            early.reason
        );
        talk.backend_sends(rig, SYN | ACK)?;
        let mut wrong = talk.request(ACK, 0);
        if let xlb_tests::packets::Transport::Tcp { ack, .. } = &mut wrong.transport {
            *ack = BACKEND_ISN.wrapping_add(2);
        }
        let wrong = talk.client_packet(rig, wrong)?;
        ensure!(
            wrong.reason == drop_of(DropReason::HandshakeUnproven),
            "wrong number: {:?}",
            wrong.reason
        );
        talk.client_sends(rig, ACK)
    })
}

#[test]
fn a_backend_that_refuses_is_counted_and_the_client_hears_it() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::begin(rig, service, client(family, 1, 40_000))?;
        talk.backend_sends(rig, RST | ACK)?;
        ensure!(
            rig.kernel.backend(service.backend_id(family))?.flows_refused == 1,
            "flows_refused"
        );
        Ok(())
    })
}

#[test]
fn fins_from_both_sides_shorten_the_lifetime_and_a_syn_reopens() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        talk.client_sends(rig, FIN | ACK)?;
        talk.backend_sends(rig, FIN | ACK)?;
        talk.client_sends(rig, SYN)?;
        rig.age(31 * HZ)?;
        rig.sweep()?;
        ensure!(
            established(rig)? == 2,
            "a reopened connection lives as long as a new one"
        );
        talk.client_sends(rig, FIN | ACK)?;
        talk.backend_sends(rig, FIN | ACK)?;
        rig.age(31 * HZ)?;
        rig.sweep()?;
        ensure!(established(rig)? == 0, "30 s after both FINs it is gone");
        ensure!(
            rig.kernel.backend(service.backend_id(family))?.flows_closed == 1,
            "flows_closed"
        );
        Ok(())
    })
}

#[test]
fn one_fin_alone_keeps_the_other_direction_alive() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        talk.client_sends(rig, FIN | ACK)?;
        rig.age(100 * HZ)?;
        rig.sweep()?;
        ensure!(established(rig)? == 2, "the backend may still send for an hour");
        talk.backend_sends(rig, ACK)
    })
}

#[test]
fn a_reset_shortens_the_lifetime_until_another_packet_takes_it_back() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        talk.client_sends(rig, RST)?;
        talk.backend_sends(rig, ACK)?;
        rig.age(31 * HZ)?;
        rig.sweep()?;
        ensure!(
            established(rig)? == 2,
            "an ACK after a (forged) RST keeps the connection"
        );
        talk.backend_sends(rig, RST)?;
        rig.age(31 * HZ)?;
        rig.sweep()?;
        ensure!(established(rig)? == 0, "30 s after a RST it is gone");
        Ok(())
    })
}

#[test]
fn a_syn_on_a_living_connection_is_the_backends_to_answer() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        talk.client_sends(rig, SYN)?;
        ensure!(established(rig)? == 2, "nothing changes");
        Ok(())
    })
}

#[test]
fn a_closed_connection_to_a_draining_backend_is_not_reopened() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        rig.set_state(service.backend_id(family), backend_state::DRAINING)?;
        talk.client_sends(rig, ACK)?;
        talk.client_sends(rig, RST)?;
        let again = talk.client_packet(rig, talk.request(SYN, 0))?;
        ensure!(again.reason == drop_of(DropReason::NoBackend), "{:?}", again.reason);
        ensure!(established(rig)? == 0, "the old pair is deleted");
        Ok(())
    })
}

#[test]
fn an_established_connection_outlives_its_backends_failed_checks() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        for state in [backend_state::DOWN, backend_state::REMOVED, backend_state::DRAINING] {
            rig.set_state(service.backend_id(family), state)?;
            talk.client_sends(rig, ACK)?;
            talk.backend_sends(rig, ACK)?;
        }
        Ok(())
    })
}

#[test]
fn an_idle_connection_expires_after_an_hour_and_not_before() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        rig.age(3_599 * HZ)?;
        rig.sweep()?;
        ensure!(established(rig)? == 2, "an hour is not over");
        talk.client_sends(rig, ACK)?;
        rig.age(3_599 * HZ)?;
        rig.sweep()?;
        ensure!(established(rig)? == 2, "one direction was used: the pair stays");
        rig.age(3 * HZ)?;
        rig.sweep()?;
        ensure!(established(rig)? == 0, "an hour after the last packet it is gone");
        Ok(())
    })
}

#[test]
fn replies_follow_the_clients_router() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        let lab = rig.lab;
        let moved_mac = [2, 0xc1, 0, 0, 0, 9];
        let packet = talk.request(ACK, 1).macs(moved_mac, iface_mac(lab.other_side));
        ensure!(rig.send(lab.other_side, &packet.build())?.output.action == action::REDIRECT);
        let reply = talk.backend_packet(rig, talk.reply(ACK, 9))?;
        ensure!(reply.output.frame[..6] == moved_mac, "the reply goes to the new router");
        ensure!(
            reply.output.frame[6..12] == iface_mac(lab.other_side),
            "from the interface on its side"
        );
        ensure!(rig.kernel.cpu_totals()?.hops_moved == 1, "counted once");
        Ok(())
    })
}

#[test]
fn gateway_mode_recovers_a_connection_it_never_saw_begin() -> Result<()> {
    require!("ip");
    let mut rig = Rig::new(Sizes::default())?;
    for family in FAMILIES {
        let world = sample_world(&rig.lab);
        rig.reset(world)?;
        let who = client(family, 1, 40_000);
        let talk = Talk {
            client: who,
            dial: GATE.dial(family),
            backend: GATE.backend(family),
            seen: who,
        };
        talk.client_sends(&mut rig, ACK)?;
        talk.client_sends(&mut rig, ACK)?;
        ensure!(established(&rig)? == 0, "a client alone promotes nothing");
        talk.backend_sends(&mut rig, ACK)?;
        ensure!(established(&rig)? == 2, "the backend's packet promotes");
        talk.client_sends(&mut rig, ACK)?;
        rig.check_state()??;
    }
    Ok(())
}

#[test]
fn a_port_reused_at_once_reaches_the_backend_on_the_same_tuple() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let who = client(family, 1, 10_241);
        let first = Talk::open(rig, service, who)?;
        first.client_sends(rig, FIN | ACK)?;
        first.backend_sends(rig, FIN | ACK)?;
        first.client_sends(rig, ACK)?;
        let syn = first.client_packet(rig, first.request(SYN, 0))?;
        ensure!(
            ends(&syn.output.frame)? == (first.seen, first.backend),
            "the backend decides about TIME_WAIT"
        );
        first.backend_sends(rig, SYN | ACK)?;
        first.client_sends(rig, ACK)
    })
}

#[test]
fn a_frame_keeps_its_padding_and_type_of_service() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        let lab = rig.lab;
        let mut packet = from_client(&lab, talk.request(ACK, 1));
        (packet.padding_bytes, packet.tos) = (5, 0xb9);
        let frame = packet.build();
        let sent = rig.send(lab.client_side, &frame)?;
        ensure!(sent.output.frame.len() == frame.len(), "the frame's length changed");
        Ok(())
    })
}

/// A 9,000-byte frame comes in several buffers; the program sees the first one only, and must still count them all.
#[test]
fn a_jumbo_frame_is_forwarded_and_counted_whole() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::open(rig, service, client(family, 1, 40_000))?;
        let before = rig.kernel.backend(service.backend_id(family))?;
        let there = talk.client_packet(rig, talk.request(ACK, 8_900))?;
        let back = talk.backend_packet(rig, talk.reply(ACK, 8_901))?;
        for sent in [&there, &back] {
            ensure!(
                sent.output.frame.len() > 8_900,
                "{} bytes left",
                sent.output.frame.len()
            );
            oracle::check(&sent.output.frame).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
        }
        let after = rig.kernel.backend(service.backend_id(family))?;
        let counted = (after.bytes_in - before.bytes_in, after.bytes_out - before.bytes_out);
        let lengths = (there.output.frame.len() as u64, back.output.frame.len() as u64);
        ensure!(counted == lengths, "counted {counted:?} of {lengths:?}");
        Ok(())
    })
}
