//! Full tables, exhausted SNAT ranges, the order in which tuples are taken, and reclaiming without an agent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use lb_common::limits::{SNAT_CROWDED_PROBES, SNAT_LARGE_RANGE};
use lb_common::reason::DropReason;
use xlb_tests::kernel::{Kernel, Key, Rig, Side, Sizes, Talk, action};
use xlb_tests::model::sample::{
    DNS, FAMILIES, Family, GATE, Sample, WEB, client, from_client, sample_world, sample_world_with, snat,
};
use xlb_tests::model::{HZ, Reason, World};
use xlb_tests::packets::Packet;
use xlb_tests::packets::flags::{ACK, FIN, RST, SYN};
use xlb_tests::require;

fn rig(sizes: Sizes) -> Result<Rig> {
    let mut rig = Rig::new(sizes)?;
    start(&mut rig, |_| {})?;
    Ok(rig)
}

fn start(rig: &mut Rig, change: impl FnOnce(&mut World)) -> Result<()> {
    let mut world = sample_world(&rig.lab);
    change(&mut world);
    rig.reset(world)
}

fn refused(rig: &mut Rig, family: Family, number: u8) -> Result<Option<Reason>> {
    let lab = rig.lab;
    let syn = Packet::tcp(client(family, number, 40_000), WEB.dial(family), SYN, 1, 0);
    Ok(rig.send(lab.client_side, &from_client(&lab, syn).build())?.reason)
}

fn close(rig: &mut Rig, talk: &Talk) -> Result<()> {
    talk.client_sends(rig, FIN | ACK)?;
    talk.backend_sends(rig, FIN | ACK)
}

const EXHAUSTED: Option<Reason> = Some(Reason::Drop(DropReason::SnatExhausted));

#[test]
fn a_source_port_inside_the_range_is_kept_where_it_is_free() -> Result<()> {
    require!("ip");
    let mut rig = rig(Sizes::default())?;
    for family in FAMILIES {
        let kept = Talk::open(&mut rig, WEB, client(family, 1, 10_244))?;
        ensure!(kept.seen.port() == 10_244 && kept.seen.ip() == snat(family), "{kept:?}");
        let taken = Talk::open(&mut rig, WEB, client(family, 2, 10_244))?;
        ensure!(taken.seen.port() != 10_244, "{taken:?}");
        let outside = Talk::open(&mut rig, WEB, client(family, 3, 50_000))?;
        ensure!((10_240..=10_247).contains(&outside.seen.port()), "{outside:?}");
    }
    Ok(())
}

#[test]
fn eight_ports_serve_eight_connections_and_the_ninth_is_told_so() -> Result<()> {
    require!("ip");
    let mut rig = rig(Sizes::default())?;
    for family in FAMILIES {
        let mut ports = BTreeSet::new();
        for number in 1..=8 {
            let talk = Talk::open(&mut rig, WEB, client(family, number, 40_000))?;
            ensure!(ports.insert(talk.seen.port()), "{talk:?} shares a tuple");
        }
        ensure!(refused(&mut rig, family, 9)? == EXHAUSTED);
        // Another backend port is another tuple space.
        Talk::begin(&mut rig, DNS, client(family, 9, 40_000))?;
        // Gateway mode needs no tuple of ours.
        Talk::open(&mut rig, GATE, client(family, 9, 40_000))?;
    }
    rig.check_state()??;
    Ok(())
}

#[test]
fn a_free_tuple_comes_first_then_the_one_closed_longest() -> Result<()> {
    require!("ip");
    let mut rig = Rig::new(Sizes::default())?;
    for family in FAMILIES {
        start(&mut rig, |world| world.settings.closing_ticks = 3_600 * HZ)?;
        let mut talks = Vec::new();
        for number in 1..=7 {
            talks.push(Talk::open(&mut rig, WEB, client(family, number, 40_000))?);
            rig.age(2 * HZ)?;
        }
        for talk in &talks[2..5] {
            close(&mut rig, talk)?;
            rig.age(10 * HZ)?;
        }
        let free = Talk::open(&mut rig, WEB, client(family, 8, 40_000))?;
        ensure!(
            talks.iter().all(|talk| talk.seen != free.seen),
            "a free tuple was there"
        );
        let reused = Talk::open(&mut rig, WEB, client(family, 9, 40_000))?;
        ensure!(
            reused.seen == talks[2].seen,
            "took {reused:?}, {:?} closed first",
            talks[2]
        );
        ensure!(
            rig.kernel.cpu_totals()?.tuples_reused_early == 1,
            "closed 30 s ago: counted"
        );
        rig.age(60 * HZ)?;
        let again = Talk::begin(&mut rig, WEB, client(family, 10, 40_000));
        ensure!(again?.seen == talks[3].seen, "then the next");
        ensure!(
            rig.kernel.cpu_totals()?.tuples_reused_early == 1,
            "closed over 60 s ago: not counted"
        );
        rig.check_state()??;
    }
    Ok(())
}

/// Ports of the SNAT address that are tried for a client one after the other.
fn candidates(rig: &mut Rig, range: u32, family: Family, of: SocketAddr, count: usize) -> Result<Vec<u16>> {
    let mut ports = Vec::new();
    while ports.len() < count {
        start_with_ports(rig, range)?;
        for port in &ports {
            Talk::open(rig, WEB, client(family, 2, *port))?;
        }
        ports.push(Talk::open(rig, WEB, of)?.seen.port());
    }
    Ok(ports)
}

fn start_with_ports(rig: &mut Rig, range: u32) -> Result<()> {
    let mut world = sample_world_with(&rig.lab, 10_240..=10_239 + range as u16);
    world.settings.closing_ticks = 60 * HZ;
    rig.reset(world)
}

#[test]
fn a_search_in_a_large_range_ends_where_all_tuples_closed_lately() -> Result<()> {
    require!("ip");
    let mut rig = Rig::new(Sizes::default())?;
    let crowd = SNAT_CROWDED_PROBES as usize;
    for family in FAMILIES {
        let newcomer = client(family, 9, 40_000);
        // (ports, connections left open, age of the closed ones, whether the search goes on)
        for (range, open, age_s, goes_on) in [
            (SNAT_LARGE_RANGE + 1, 0, 10, false),
            (SNAT_LARGE_RANGE + 1, 0, 40, true),
            (SNAT_LARGE_RANGE + 1, 1, 10, true),
            (SNAT_LARGE_RANGE, 0, 10, true),
        ] {
            let ports = candidates(&mut rig, range, family, newcomer, crowd + 1)?;
            let (free, busy) = ports.split_last().context("candidates")?;
            start_with_ports(&mut rig, range)?;
            for (index, port) in busy.iter().enumerate() {
                let talk = Talk::open(&mut rig, WEB, client(family, 2, *port))?;
                ensure!(talk.seen.port() == *port, "{talk:?} has not kept its port");
                if index >= open {
                    close(&mut rig, &talk)?;
                }
                rig.age(2 * HZ)?;
            }
            rig.age(age_s * HZ)?;
            let taken = Talk::open(&mut rig, WEB, newcomer)?.seen.port();
            let wanted = if goes_on { *free } else { busy[0] };
            ensure!(
                taken == wanted,
                "{range} ports, {open} open, {age_s} s: took {taken} out of {ports:?}"
            );
            let early = rig.kernel.cpu_totals()?.tuples_reused_early;
            ensure!(early == u64::from(!goes_on), "{early} counted as early");
            rig.check_state()??;
        }
    }
    Ok(())
}

#[test]
fn a_half_open_tuple_is_free_again_after_ten_seconds_without_an_agent() -> Result<()> {
    require!("ip");
    let mut rig = rig(Sizes::default())?;
    for family in FAMILIES {
        for number in 1..=8 {
            Talk::begin(&mut rig, WEB, client(family, number, 40_000))?;
        }
        ensure!(refused(&mut rig, family, 9)? == EXHAUSTED);
        rig.age(11 * HZ)?;
        Talk::open(&mut rig, WEB, client(family, 9, 40_000))?;
    }
    rig.check_state()??;
    Ok(())
}

#[test]
fn an_expired_connections_tuple_is_reclaimed_by_a_claim_without_an_agent() -> Result<()> {
    require!("ip");
    let mut rig = rig(Sizes::default())?;
    for family in FAMILIES {
        for number in 1..=8 {
            Talk::open(&mut rig, WEB, client(family, number, 40_000))?;
        }
        rig.age(3_601 * HZ)?;
        Talk::open(&mut rig, WEB, client(family, 9, 40_000))?;
        let closed = rig.kernel.backend(WEB.backend_id(family))?.flows_closed;
        ensure!(closed == 1, "{closed} reclaimed, one was needed");
    }
    rig.check_state()??;
    Ok(())
}

#[test]
fn a_full_table_reclaims_expired_connections_by_itself() -> Result<()> {
    require!("ip");
    let mut rig = Rig::new(Sizes {
        connections: 4,
        half_open: 1024,
    })?;
    for family in FAMILIES {
        start(&mut rig, |_| {})?;
        rig.model.connections = 4;
        for number in 1..=4 {
            Talk::open(&mut rig, GATE, client(family, number, 40_000))?;
        }
        let talk = Talk::begin(&mut rig, GATE, client(family, 5, 40_000))?;
        talk.backend_sends(&mut rig, SYN | ACK)?;
        let full = talk.client_packet(&mut rig, talk.request(ACK, 0))?;
        ensure!(
            full.reason == Some(Reason::Drop(DropReason::FlowTableFull)),
            "{:?}",
            full.reason
        );
        let [one, ..] = [client(family, 1, 40_000)];
        let first = Talk {
            client: one,
            dial: GATE.dial(family),
            backend: GATE.backend(family),
            seen: one,
        };
        first.client_sends(&mut rig, RST)?;
        rig.age(31 * HZ)?;
        // The model leaves which expired connection goes to the program: it sweeps them all.
        rig.model.sweep();
        let talk = Talk::begin(&mut rig, GATE, client(family, 6, 40_000))?;
        talk.backend_sends(&mut rig, SYN | ACK)?;
        talk.client_sends(&mut rig, ACK)?;
        rig.check_state()??;
    }
    Ok(())
}

#[test]
fn the_sweep_reclaims_thousands_and_leaves_the_living() -> Result<()> {
    require!("ip");
    let mut rig = rig(Sizes {
        connections: 2048,
        half_open: 8192,
    })?;
    for family in FAMILIES {
        for number in 0..4_u8 {
            for port in 0..250 {
                Talk::open(&mut rig, GATE, client(family, number + 1, 20_000 + port))?;
            }
        }
    }
    rig.age(3_000 * HZ)?;
    for family in FAMILIES {
        let who = client(family, 1, 20_100);
        let talk = Talk {
            client: who,
            dial: GATE.dial(family),
            backend: GATE.backend(family),
            seen: who,
        };
        talk.client_sends(&mut rig, ACK)?;
    }
    rig.age(700 * HZ)?;
    rig.sweep()?;
    let left = rig
        .kernel
        .maps
        .entries()?
        .iter()
        .filter(|(side, ..)| *side == Side::Established)
        .count();
    ensure!(left == 4, "{left} entries left, one connection in each family was used");
    rig.check_state()??;
    Ok(())
}

/// The LRU of half-open connections churns under a flood; established connections must not notice.
#[test]
fn a_syn_flood_evicts_half_open_connections_only() -> Result<()> {
    require!("ip");
    let mut rig = rig(Sizes {
        connections: 64,
        half_open: 128,
    })?;
    let kept = [WEB, GATE].map(|service: Sample| (service, FAMILIES));
    let mut talks = Vec::new();
    for (service, families) in kept {
        for family in families {
            talks.push(Talk::open(&mut rig, service, client(family, 1, 10_240))?);
        }
    }
    for family in FAMILIES {
        for n in 0..20_000_u32 {
            let who = client(family, 2 + (n % 200) as u8, 20_000 + (n / 200) as u16);
            let syn = Packet::tcp(who, GATE.dial(family), SYN, n, 0);
            let frame = from_client(&rig.lab, syn).build();
            // Past the model: it does not know when an LRU evicts.
            let output = rig.kernel.run(rig.lab.client_side, &frame)?;
            let is_known = matches!(output.action, action::REDIRECT | action::DROP);
            ensure!(is_known, "SYN {n}: action {}", output.action);
        }
    }
    for talk in talks {
        talk.client_sends(&mut rig, ACK)?;
        talk.backend_sends(&mut rig, ACK)?;
    }
    ensure!(half_open(&rig.kernel)? <= 2 * 256, "the small tables stay small");
    // The one drop reason no case of program_reasons.rs reaches: an LRU evicts instead of refusing.
    let refused = rig.kernel.reason(DropReason::HalfTableFull.index())?.packets;
    ensure!(refused == 0, "the LRU refused {refused} entries");
    Ok(())
}

/// The LRU evicts first what nobody has asked for, and one of its two entries is not enough for a connection.
#[test]
fn answered_handshakes_outlive_a_flood_that_nobody_answers() -> Result<()> {
    require!("ip");
    const ANSWERED: u16 = 50;
    let mut rig = rig(Sizes {
        connections: 1024,
        half_open: 1024,
    })?;
    for family in FAMILIES {
        let flood = |rig: &mut Rig, ports: Range<u16>| -> Result<()> {
            for port in ports {
                let syn = Packet::tcp(client(family, 2, port), GATE.dial(family), SYN, 1, 0);
                // Past the model: it does not know when an LRU evicts.
                rig.kernel
                    .run(rig.lab.client_side, &from_client(&rig.lab, syn).build())?;
            }
            Ok(())
        };
        flood(&mut rig, 10_000..12_000)?;
        let mut talks = Vec::new();
        for n in 0..ANSWERED {
            let talk = Talk::begin(&mut rig, GATE, client(family, 1, 10_000 + n))?;
            talk.backend_sends(&mut rig, SYN | ACK)?;
            talks.push(talk);
        }
        flood(&mut rig, 12_000..15_000)?;
        for talk in &talks {
            let proof = from_client(&rig.lab, talk.request(ACK, 0)).build();
            rig.kernel.run(rig.lab.client_side, &proof)?;
        }
        let entries = rig.kernel.maps.entries()?;
        let of_family = |key: &Key| key.src.is_ipv4() == (family == Family::V4);
        let established = entries
            .iter()
            .filter(|(side, key, _)| *side == Side::Established && of_family(key))
            .count();
        ensure!(
            established > usize::from(ANSWERED),
            "{established} established entries: fewer than half of {ANSWERED} handshakes survived"
        );
    }
    Ok(())
}

fn half_open(kernel: &Kernel) -> Result<usize> {
    Ok(kernel
        .maps
        .entries()?
        .iter()
        .filter(|(side, ..)| *side == Side::HalfOpen)
        .count())
}
