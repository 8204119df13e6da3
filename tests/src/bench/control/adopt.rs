//! A new agent over the maps of a dead one: without flows and with a million.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use lb_common::names::PROGRAM_XDP;
use serde_json::Value;

use super::super::Effort;
use super::super::report::{Report, Unit};
use super::process::add_memory;
use super::{milliseconds, row};
use crate::agent::{Agent, agent_section};
use crate::api;
use crate::config_text::ServiceText;
use crate::kernel::{action, xdp_md};
use crate::packets::Packet;
use crate::process::wait_until;
use crate::topology::{Plan, Topology, VIP4};

const INTERNAL_PORT: u16 = 5300;
const PATIENCE: Duration = Duration::from_mins(2);

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let (flows, rounds) = match effort {
        Effort::Full => (1_000_000, 5),
        Effort::Quick => (1_000, 1),
    };
    let group = "a new agent over what is pinned";
    let topology = Topology::build(Plan::gateway(1))?;
    let host = &topology.backends[0];
    let service =
        ServiceText::v4("echo", "udp", 53)
            .key("mode", "\"gateway\"")
            .backend("one", host.address4, INTERNAL_PORT);
    // Flows must not expire while they are made.
    let section = format!(
        "{}[limits]\nconnections = {}\n[timeouts]\nudp = \"1h\"\nudp_answered = \"1h\"\n",
        agent_section(&topology),
        (flows * 2).max(4_096)
    );
    let mut agent = Agent::start_with(&topology, &section, service.text())?;
    agent.client().wait_all_up()?;
    let empty = starts(&topology, &mut agent, rounds)?;
    fill(&topology, &agent, flows)?;
    let full = starts(&topology, &mut agent, rounds)?;
    let without = "without a connection: first answer";
    let with = format!("with {flows} connections: first answer");
    report.rows.push(row(group, without, Unit::Milliseconds, empty));
    let mut full = row(group, &with, Unit::Milliseconds, full);
    full.baseline = Some(without.to_owned());
    report.rows.push(full);
    let start = Instant::now();
    wait_until("all connections to be counted", PATIENCE, || {
        Ok(connections(&agent)? == u64::from(flows))
    })
    .with_context(|| format!("{:?} are", connections(&agent)))?;
    let counted = row(
        group,
        "then, until its status counts them",
        Unit::Milliseconds,
        vec![milliseconds(start.elapsed())],
    );
    report.rows.push(counted);
    add_memory(report, group, &mut agent).map(drop)
}

/// Milliseconds from the start of the process to its first answer, which the harness asks for every 10 ms.
fn starts(topology: &Topology, agent: &mut Agent, rounds: usize) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    for _ in 0..rounds {
        agent.kill()?;
        let start = Instant::now();
        agent.run(&topology.balancer)?;
        samples.push(milliseconds(start.elapsed()));
        let status = api::get(agent.client().socket(), "/v1/status")?;
        ensure!(status["program"]["adoption"] == "adopted", "{}", status["program"]);
    }
    Ok(samples)
}

fn connections(agent: &Agent) -> Result<u64> {
    let status = api::get(agent.client().socket(), "/v1/status")?;
    let tables = status["tables"].as_array().context("tables")?;
    let table = tables.iter().find(|table| table["name"] == "connections4");
    table.and_then(|table| table["used"].as_u64()).context("connections4")
}

/// Lets the agent's own program make the flows: a datagram of each client, and the backend's answer.
fn fill(topology: &Topology, agent: &Agent, flows: u32) -> Result<()> {
    // As the agent pins it: its own name, after what it is.
    let program = agent.client().pin_dir().join(format!("prog_{PROGRAM_XDP}"));
    let balancer = &topology.balancer;
    let [front, back] = [link(balancer, "front0")?, link(balancer, "back0")?];
    let backend = SocketAddr::new(IpAddr::V4(topology.backends[0].address4), INTERNAL_PORT);
    let peer = [2, 0, 0, 0, 0, 1];
    balancer.enter(|| -> Result<()> {
        let program = Xdp::from_pin(&program, XdpAttachType::Interface)?;
        let run = |frame: Vec<u8>, ifindex: u32| -> Result<u32> {
            let mut out = vec![0_u8; frame.len() + 256];
            let context = xdp_md(frame.len() as u32, ifindex);
            let mut options = TestRunOptions::new();
            options.data_in = Some(&frame);
            options.data_out = Some(&mut out);
            options.ctx_in = Some(&context);
            Ok(program.test_run(options)?.return_value)
        };
        for number in 0..flows {
            let address = Ipv4Addr::from(0x6440_0000 + (number & 0xffff));
            let client = SocketAddr::new(address.into(), 40_000 + (number >> 16) as u16);
            let ask = Packet::udp(client, SocketAddr::new(VIP4.into(), 53)).macs(peer, front.mac);
            let answer = Packet::udp(backend, client).macs(peer, back.mac);
            for (packet, ifindex) in [(ask, front.index), (answer, back.index)] {
                let verdict = run(packet.payload(b"0123456789abcdef").build(), ifindex)?;
                ensure!(
                    [action::TX, action::REDIRECT].contains(&verdict),
                    "packet of client {number}: XDP action {verdict}"
                );
            }
        }
        Ok(())
    })?
}

struct Link {
    index: u32,
    mac: [u8; 6],
}

fn link(namespace: &crate::netns::Namespace, name: &str) -> Result<Link> {
    let shown: Value = serde_json::from_str(&namespace.ip_show(&format!("-j link show {name}"))?)?;
    let text = shown[0]["address"].as_str().context("no address")?;
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).with_context(|| format!("address {text}"))?;
    }
    let index = shown[0]["ifindex"].as_u64().context("no index")?;
    Ok(Link {
        index: index.try_into()?,
        mac,
    })
}
