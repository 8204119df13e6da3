//! From the request for a backend to the first packet that it answers: a client asks a service without a backend again and
//! again.

use std::net::{SocketAddr, UdpSocket};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::super::Effort;
use super::super::report::{Report, Unit};
use super::{milliseconds, row};
use crate::agent::Agent;
use crate::api;
use crate::config_text::ServiceText;
use crate::peers::DatagramServer;
use crate::topology::{Plan, Topology, VIP4, host_port};

const GROUP: &str = "from 'backend add' to the first packet";
const PORT: u16 = 5300;
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two datagrams.
const PAUSE: Duration = Duration::from_micros(50);

/// Who asks for the backend.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Api,
    Command,
}

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let (rounds, hops): (_, &[&str]) = match effort {
        Effort::Full => (40, &["known", "new"]),
        Effort::Quick => (2, &["new"]),
    };
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let _server = DatagramServer::start(&host.namespace, "one", PORT)?;
    let alone = ServiceText::v4("echo", "udp", 53);
    let neighbour = ServiceText::v4("other", "udp", 54).backend("one", host.address4, PORT + 1);
    let both = format!("{}\n{}", alone.text(), neighbour.text());
    for hop in hops {
        let services = if *hop == "known" { both.as_str() } else { alone.text() };
        let agent = Agent::start(&topology, services)?;
        for by in [By::Api, By::Command] {
            let mut answers = Vec::new();
            let mut packets = Vec::new();
            for _ in 0..rounds {
                if *hop == "new" {
                    topology.balancer.ip_show("-4 neigh flush dev back0")?;
                }
                let (answer, packet) = one(&topology, &agent, by)?;
                answers.push(answer);
                packets.push(packet);
            }
            let name = match by {
                By::Api => "API",
                By::Command => "command",
            };
            let answered = format!("{name}, next hop {hop}: answered");
            let mut packet = row(
                GROUP,
                &format!("{name}, next hop {hop}: first packet back"),
                Unit::Milliseconds,
                packets,
            );
            packet.baseline = Some(answered.clone());
            report.rows.push(row(GROUP, &answered, Unit::Milliseconds, answers));
            report.rows.push(packet);
        }
    }
    Ok(())
}

/// Milliseconds to the answer and to the first packet.
fn one(topology: &Topology, agent: &Agent, by: By) -> Result<(f64, f64)> {
    let socket = topology.client.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    socket.set_nonblocking(true)?;
    socket.connect(SocketAddr::from((VIP4, 53)))?;
    ensure!(
        wait_for_answer(&socket, Duration::from_millis(2)).is_err(),
        "a service without a backend answers"
    );
    let client = agent.client();
    let address = topology.backends[0].address4;
    let (answered, packet) = thread::scope(|scope| -> Result<_> {
        let start = Instant::now();
        let packet = scope.spawn(|| wait_for_answer(&socket, PATIENCE));
        match by {
            By::Api => {
                let body =
                    json!({ "service": "echo", "address": address, "port": PORT, "name": "one", "runtime": true });
                api::send(client.socket(), "POST", "/v1/backends", &body)?;
            }
            By::Command => {
                let target = host_port(address, PORT);
                client.xlb(&["backend", "add", "echo", &target, "--name", "one", "--runtime"])?;
            }
        }
        let answered = start.elapsed();
        let packet = packet.join().expect("the asking thread")?;
        Ok((answered, packet - start))
    })?;
    let path = "/v1/services/echo/backends/one?runtime=true";
    api::send(client.socket(), "DELETE", path, &Value::Null)?;
    Ok((milliseconds(answered), milliseconds(packet)))
}

/// Asks until somebody answers; when.
fn wait_for_answer(socket: &UdpSocket, patience: Duration) -> Result<Instant> {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 64];
    while Instant::now() < deadline {
        socket.send(b"who").context("ask")?;
        sleep(PAUSE);
        if socket.recv(&mut buffer).is_ok() {
            return Ok(Instant::now());
        }
    }
    bail!("no answer within {patience:?}")
}
