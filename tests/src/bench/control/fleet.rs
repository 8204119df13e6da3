//! 10,000 services of 10 backends each: from nothing, and one change among them.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::Effort;
use super::super::report::{Bar, Limit, Report, Unit};
use super::process::add_memory;
use super::{milliseconds, row};
use crate::agent::{Agent, agent_section};
use crate::api;
use crate::topology::{Plan, Topology};

const BACKENDS: u8 = 10;
/// Services of one VIP.
const PORTS: u32 = 1_000;

/// Where a change is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Runtime,
    File,
}

struct Size {
    services: u32,
    rounds: u32,
    changes: u32,
}

impl Size {
    const fn of(effort: Effort) -> Self {
        match effort {
            Effort::Full => Self {
                services: 10_000,
                rounds: 3,
                changes: 5,
            },
            Effort::Quick => Self {
                services: 50,
                rounds: 1,
                changes: 1,
            },
        }
    }

    /// Room for them, and for each ring once more.
    fn limits(&self) -> String {
        let backends = self.services * u32::from(BACKENDS);
        format!(
            "[limits]\nservices = {}\nbackends = {}\nring_slots = {}\nendpoints = {}\nconnections = 4096\nhalf_open = 4096\n",
            self.services + 1,
            backends * 2,
            (self.services * 2048).max(1 << 20),
            self.services * 2
        )
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for service in 0..self.services {
            let vip = Ipv4Addr::new(203, 0, 113, (service / PORTS + 100) as u8);
            let (port, internal_port) = (1_000 + service % PORTS, 33_000 + service);
            // Writing to a String does not fail.
            let _ = writeln!(
                text,
                "[[service]]\nname = \"s{service}\"\nvip = \"{vip}\"\nport = {port}\ninternal_port = {internal_port}"
            );
            for backend in 0..BACKENDS {
                let _ = writeln!(
                    text,
                    "[[service.backend]]\nname = \"b{backend}\"\naddress = \"10.0.0.{}\"",
                    100 + backend
                );
            }
        }
        text
    }
}

pub(super) fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    let size = Size::of(effort);
    let group = format!("{} services of {BACKENDS} backends", size.services);
    let topology = Topology::build(Plan::full_nat(1))?;
    let lines = (0..BACKENDS).fold(String::new(), |lines, backend| {
        format!("{lines}addr add 10.0.0.{}/24 dev eth0\n", 100 + backend)
    });
    topology.backends[0].namespace.ip(&lines)?;
    let nothing = format!("{}watch = false\n{}", agent_section(&topology), size.limits());
    let all = format!("{nothing}{}", size.text());

    let mut checked = Vec::new();
    let mut applied = Vec::new();
    let mut running = None;
    for _ in 0..size.rounds {
        // What was there before would be kept for a while: each time from nothing.
        drop(running.take());
        let agent = Agent::start_with(&topology, &nothing, "")?;
        let start = Instant::now();
        let parsed = lb_userspace::config::parse(Path::new("xlb.toml"), &all);
        checked.push(milliseconds(start.elapsed()));
        ensure!(parsed.is_ok(), "the config does not pass its check");
        applied.push(reload(&agent, &all)?);
        let status = api::get(agent.client().socket(), "/v1/services")?;
        let services = status.as_array().map_or(0, |rows| {
            rows.iter()
                .filter(|row| row["state"] != "removed" && row["id"].is_u64())
                .count()
        });
        ensure!(services == size.services as usize, "{services} services are applied");
        running = Some(agent);
    }
    let mut agent = running.context("no round")?;
    let mut runtime = Vec::new();
    let mut file = Vec::new();
    for round in 0..size.changes {
        runtime.push(change(&agent, size.services, 50 + round, Store::Runtime)?);
        file.push(change(&agent, size.services, 150 + round, Store::File)?);
    }
    let alone = "the config's check alone, in this process";
    let mut rows = vec![
        row(&group, alone, Unit::Milliseconds, checked),
        row(&group, "from nothing, answered", Unit::Milliseconds, applied),
        row(&group, "one weight, --runtime, answered", Unit::Milliseconds, runtime),
        row(&group, "one weight, into the file, answered", Unit::Milliseconds, file),
    ];
    for row in rows.iter_mut().skip(1) {
        row.baseline = Some(alone.to_owned());
    }
    let (all, one) = (rows[1].minimum(), rows[2].minimum());
    report.rows.extend(rows);
    for (name, value, limit) in [("applied from nothing, ms", all, 2_000.0), ("one change, ms", one, 5.0)] {
        report
            .bars
            .push(Bar::new(format!("{group}: {name}"), value, Limit::AtMost(limit)));
    }
    add_memory(report, &group, &mut agent).map(drop)
}

/// Milliseconds from the request to the answer.
fn reload(agent: &Agent, text: &str) -> Result<f64> {
    fs::write(agent.config(), text)?;
    let start = Instant::now();
    let answer = api::send(agent.client().socket(), "POST", "/v1/reload", &Value::Null)?;
    let took = milliseconds(start.elapsed());
    ensure!(answer["message"].is_string(), "{answer}");
    Ok(took)
}

fn change(agent: &Agent, services: u32, weight: u32, store: Store) -> Result<f64> {
    // Not the same: an override would hide what the file says.
    let (service, runtime) = match store {
        Store::Runtime => (services / 2, true),
        Store::File => (services / 2 + 1, false),
    };
    let path = format!("/v1/services/s{service}/backends/b3");
    let body = json!({ "weight": weight, "runtime": runtime });
    let start = Instant::now();
    api::send(agent.client().socket(), "PATCH", &path, &body)?;
    Ok(milliseconds(start.elapsed()))
}
