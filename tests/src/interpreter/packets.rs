//! The packets whose cost is watched.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::{Interpreter, Trace};
use crate::kernel::{Rig, Sizes, Talk, action};
use crate::model::sample::{
    DNS, FAMILIES, Family, GATE, Sample, TIME, WEB, client, from_backend, from_client, sample_world, vip,
};
use crate::packets::flags::{ACK, FIN, SYN};
use crate::packets::{Packet, hex, oracle};

/// Runs a frame through the interpreter and then through the kernel, which must agree.
fn counted(rig: &mut Rig, interpreter: &Interpreter, ifindex: u32, frame: &[u8]) -> Result<Trace> {
    let trace = traced(rig, interpreter, ifindex, frame)?;
    agrees(rig, &trace, ifindex, frame)?;
    Ok(trace)
}

fn traced(rig: &Rig, interpreter: &Interpreter, ifindex: u32, frame: &[u8]) -> Result<Trace> {
    let entries = rig.kernel.maps.entries()?;
    let now = entries
        .iter()
        .map(|(_, _, entry)| entry.last_seen)
        .max()
        .unwrap_or(1_000);
    interpreter
        .run(ifindex, frame, now.into())
        .with_context(|| format!("interpret {}", hex(frame)))
}

fn agrees(rig: &mut Rig, trace: &Trace, ifindex: u32, frame: &[u8]) -> Result<()> {
    let sent = rig.send(ifindex, frame)?;
    ensure!(
        trace.action == sent.output.action && trace.frame == sent.output.frame,
        "the interpreter says action {} and {}, the kernel {} and {}",
        trace.action,
        hex(&trace.frame),
        sent.output.action,
        hex(&sent.output.frame)
    );
    if ![action::PASS, action::DROP].contains(&trace.action) {
        oracle::check(&trace.frame).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
    }
    Ok(())
}

fn name(family: Family, service: Sample) -> String {
    let protocol = if service.protocol == 6 { "tcp" } else { "udp" };
    let mode = if service == GATE || service == TIME {
        "gateway"
    } else {
        "full_nat"
    };
    format!("{protocol}{} {mode}", if family == Family::V4 { 4 } else { 6 })
}

/// Every kind of packet whose cost is watched, by name, through the interpreter and through the kernel, which must agree.
pub fn packets() -> Result<BTreeMap<String, Trace>> {
    let mut rig = Rig::new(Sizes::default())?;
    let lab = rig.lab;
    let interpreter = Interpreter::of(&rig.kernel)?;
    let mut rows = BTreeMap::new();
    for family in FAMILIES {
        for service in [WEB, GATE, DNS, TIME] {
            let from = client(family, 1, 10_243);
            rig.reset(sample_world(&lab))?;
            let is_tcp = service.protocol == 6;
            let name = name(family, service);
            if is_tcp {
                // The interpreter's inserts are the kernel's maps': the same SYN is new to the kernel after a reset.
                let dial = service.dial(family);
                let syn = from_client(&lab, Packet::tcp(from, dial, SYN, 1_000, 0)).build();
                let trace = traced(&rig, &interpreter, lab.client_side, &syn)?;
                rig.reset(sample_world(&lab))?;
                agrees(&mut rig, &trace, lab.client_side, &syn)?;
                rows.insert(format!("{name}, SYN"), trace);
                rig.reset(sample_world(&lab))?;
            }
            let (requests, replies) = if is_tcp {
                let talk = Talk::open(&mut rig, service, from)?;
                let requests = vec![
                    ("to backend", talk.request(ACK, 16)),
                    ("FIN to backend", talk.request(FIN | ACK, 16)),
                    ("to backend behind a FIN", talk.request(ACK, 0)),
                ];
                let replies = vec![
                    ("to client", talk.reply(ACK, 16)),
                    ("FIN to client", talk.reply(FIN | ACK, 16)),
                    ("to client behind a FIN", talk.reply(ACK, 0)),
                ];
                (requests, replies)
            } else {
                let talk = Talk::begin(&mut rig, service, from)?;
                talk.backend_says(&mut rig, b"answer")?;
                let requests = vec![("to backend", talk.datagram(b"question"))];
                (requests, vec![("to client", talk.answer(b"answer"))])
            };
            for (what, packet) in requests {
                let frame = from_client(&lab, packet).build();
                let trace = counted(&mut rig, &interpreter, lab.client_side, &frame)?;
                rows.insert(format!("{name}, {what}"), trace);
            }
            for (what, packet) in replies {
                let frame = from_backend(&lab, packet).build();
                let trace = counted(&mut rig, &interpreter, lab.backend_side, &frame)?;
                rows.insert(format!("{name}, {what}"), trace);
            }
        }
        let digit = if family == Family::V4 { 4 } else { 6 };
        let stranger = Packet::tcp(client(family, 1, 1_000), client(family, 2, 80), ACK, 1, 1);
        let stranger = from_client(&lab, stranger).build();
        let trace = counted(&mut rig, &interpreter, lab.client_side, &stranger)?;
        rows.insert(format!("not ours, IPv{digit}"), trace);
        let echo = from_client(&lab, Packet::echo(client(family, 1, 0).ip(), vip(family))).build();
        let trace = counted(&mut rig, &interpreter, lab.client_side, &echo)?;
        rows.insert(format!("echo, IPv{digit}"), trace);
    }
    Ok(rows)
}
