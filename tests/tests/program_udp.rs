//! UDP flows through the loaded program beside the model: promotion, lifetimes, choosing again, checksum zero.

use anyhow::{Result, ensure};
use lb_common::abi::backend_state;
use lb_common::reason::DropReason;
use xlb_tests::kernel::{Rig, Side, Sizes, Talk};
use xlb_tests::model::sample::{DNS, FAMILIES, Family, Sample, TIME, client, sample_world, without_checksum};
use xlb_tests::model::{HZ, Reason};
use xlb_tests::require;

fn everywhere(test: impl Fn(&mut Rig, Sample, Family) -> Result<()>) -> Result<()> {
    let mut rig = Rig::new(Sizes::default())?;
    for service in [DNS, TIME] {
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

#[test]
fn a_reply_promotes() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::begin(rig, service, client(family, 1, 40_000))?;
        talk.client_says(rig, b"again")?;
        ensure!(
            established(rig)? == 0,
            "within a second a client alone promotes nothing"
        );
        talk.backend_says(rig, b"odd")?;
        ensure!(established(rig)? == 2);
        talk.client_says(rig, b"even")?;
        talk.backend_says(rig, b"")
    })
}

#[test]
fn a_second_packet_after_a_second_promotes() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::begin(rig, service, client(family, 1, 40_000))?;
        rig.age(2 * HZ)?;
        talk.client_says(rig, b"still here")?;
        ensure!(established(rig)? == 2);
        Ok(())
    })
}

#[test]
fn an_answered_flow_lives_three_times_as_long() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let silent = Talk::begin(rig, service, client(family, 1, 40_000))?;
        rig.age(2 * HZ)?;
        silent.client_says(rig, b"promoted by time")?;
        let answered = Talk::begin(rig, service, client(family, 2, 40_000))?;
        answered.backend_says(rig, b"answer")?;
        rig.age(61 * HZ)?;
        rig.sweep()?;
        ensure!(
            established(rig)? == 2,
            "60 s: the silent one is gone, the answered one stays"
        );
        rig.age(120 * HZ)?;
        rig.sweep()?;
        ensure!(established(rig)? == 0, "180 s: so is the other");
        Ok(())
    })
}

#[test]
fn a_flow_whose_backend_failed_chooses_again() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::begin(rig, service, client(family, 1, 40_000))?;
        talk.backend_says(rig, b"answer")?;
        rig.set_state(service.backend_id(family), backend_state::DRAINING)?;
        talk.client_says(rig, b"draining goes on")?;
        rig.set_state(service.backend_id(family), backend_state::DOWN)?;
        let sent = talk.client_packet(rig, talk.datagram(b"down"))?;
        ensure!(
            sent.reason == Some(Reason::Drop(DropReason::NoBackend)),
            "{:?}",
            sent.reason
        );
        ensure!(established(rig)? == 0, "the flow was deleted");
        Ok(())
    })
}

#[test]
fn udp_zero_checksum_stays_zero_over_ipv4_and_is_a_named_drop_over_ipv6() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::begin(rig, service, client(family, 1, 40_000))?;
        let there = talk.client_packet(rig, without_checksum(talk.datagram(b"abc")))?;
        let back = talk.backend_packet(rig, without_checksum(talk.answer(b"abc")))?;
        if family == Family::V4 {
            ensure!(there.output.frame[40..42] == [0, 0] && back.output.frame[40..42] == [0, 0]);
        } else {
            let wanted = Some(Reason::Drop(DropReason::Udp6ZeroChecksum));
            ensure!(
                (there.reason, back.reason) == (wanted, wanted),
                "{:?} {:?}",
                there.reason,
                back.reason
            );
        }
        Ok(())
    })
}

/// Tries payloads until the translated checksum is 0, which must then be sent as 0xffff (RFC 768).
#[test]
fn a_computed_udp_zero_is_sent_as_all_ones() -> Result<()> {
    require!("ip");
    everywhere(|rig, service, family| {
        let talk = Talk::begin(rig, service, client(family, 1, 40_000))?;
        let at = if family == Family::V4 { 40 } else { 60 };
        let probe = talk.client_packet(rig, talk.datagram(&[0, 0]))?;
        // Adding the complement of the sum to a payload word that was 0 makes the new sum all ones.
        let word = [probe.output.frame[at], probe.output.frame[at + 1]];
        let sent = talk.client_packet(rig, talk.datagram(&word))?;
        ensure!(
            sent.output.frame[at..at + 2] == [0xff, 0xff],
            "{:02x?}",
            &sent.output.frame[at..at + 2]
        );
        xlb_tests::packets::oracle::check(&sent.output.frame).map_err(|fault| anyhow::anyhow!("{fault:?}"))
    })
}
