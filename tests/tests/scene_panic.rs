//! Every backend fails its checks and still accepts connections: `panic` decides what new clients get, and status, log
//! and metrics say so.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::config_text::ServiceText;
use xlb_tests::peers::{Load, Talk, TalkServer};
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4, VIP6};

/// The talk servers speak another protocol: every such check fails, and connections are accepted all the same.
const FAILING_CHECK: &str = r#"{ http = {}, interval = "200ms", timeout = "150ms", rise = 2, fall = 2 }"#;

fn service<'a>(status: &'a Value, name: &str) -> &'a Value {
    let services = status["services"].as_array().map_or(&[][..], Vec::as_slice);
    services
        .iter()
        .find(|service| service["name"] == name)
        .unwrap_or(&Value::Null)
}

/// Families of a service whose every backend is down.
fn all_down(status: &Value, name: &str) -> usize {
    service(status, name)["all_down"].as_array().map_or(0, Vec::len)
}

fn no_backend(agent: &Agent) -> Result<u64> {
    let drops = agent.client().drops()?;
    let rows = drops["drops"].as_array().context("rows")?;
    let row = rows
        .iter()
        .find(|row| row["reason"] == "no_backend")
        .context("no_backend")?;
    row["packets"].as_u64().context("packets")
}

#[test]
fn when_every_backend_is_down_use_all_serves_and_refuse_is_a_counted_drop() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let mut servers = Vec::new();
    for (index, host) in topology.backends.iter().enumerate() {
        for port in [8081, 8082] {
            servers.push(TalkServer::start(&host.namespace, &format!("h{index}"), port)?);
        }
    }
    let on = |name: &str, port: u16, internal: u16, panic: &str| {
        let service = ServiceText::new(name, "tcp", port)
            .key("check", FAILING_CHECK)
            .key("panic", panic);
        let hosts = topology.backends.iter().enumerate();
        hosts.fold(service, |service, (index, host)| {
            service.host(&format!("h{index}"), host, internal)
        })
    };
    let (all, none) = (on("all", 80, 8081, "\"use_all\""), on("none", 81, 8082, "\"refuse\""));
    let agent = Agent::start(&topology, &format!("{}\n{}", all.text(), none.text()))?;
    agent
        .client()
        .wait_for("both services without a good backend", |status| {
            all_down(status, "all") == 2 && all_down(status, "none") == 2
        })?;

    let status = agent.client().status()?;
    ensure!(
        service(&status, "all")["state"] == "degraded" && service(&status, "none")["state"] == "down",
        "{status}"
    );
    let text = String::from_utf8(agent.client().output(&["status"])?.stdout)?;
    ensure!(
        text.contains("PANIC: service all: every IPv4 backend is down since"),
        "{text}"
    );
    ensure!(
        text.contains("service none: every IPv6 backend is down since"),
        "{text}"
    );

    let targets = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];
    let load = Load::start(
        &topology.client,
        &targets.map(|vip| SocketAddr::new(vip, 80)),
        Duration::from_millis(10),
    )?;
    std::thread::sleep(Duration::from_secs(2));
    let report = load.finish()?;
    report.ensure_no_failure(20)?;
    ensure!(
        report.answers.len() == 2,
        "not both hosts are used: {:?}",
        report.answers
    );

    let before = no_backend(&agent)?;
    for vip in targets {
        let refused = Talk::connect(&topology.client, SocketAddr::new(vip, 81), Duration::from_secs(2));
        ensure!(refused.is_err(), "a service that refuses answers");
    }
    ensure!(no_backend(&agent)? >= before + 2, "the drops were not counted");

    // One good backend ends it: a check that passes, for the same backends.
    let good = FAILING_CHECK.replace("http = {}", "tcp = {}");
    let text = std::fs::read_to_string(agent.config())?.replace(FAILING_CHECK, &good);
    std::fs::write(agent.config(), text)?;
    agent.client().xlb(&["reload"])?;
    agent.client().wait_for("the end of it", |status| {
        all_down(status, "all") == 0 && all_down(status, "none") == 0
    })?;
    let log = agent.log();
    for line in [
        "new=\"panic\"",
        "old=\"panic\" new=\"up\"",
        "new=\"refusing\"",
        "old=\"refusing\" new=\"up\"",
    ] {
        ensure!(log.contains(line), "the log lacks {line}:\n{log}");
    }
    let mut talk = Talk::connect(
        &topology.client,
        SocketAddr::new(targets[0], 81),
        Duration::from_secs(5),
    )?;
    talk.ask().map(drop)?;
    // The history of a backend tells both verdicts.
    let status = agent.client().status()?;
    let backends = service(&status, "all")["backends"].as_array().context("backends")?;
    let changes = &backends[0]["health"]["changes"];
    ensure!(
        changes[0]["new"] == "open" && changes[0]["old"] == changes[1]["new"],
        "no history: {changes}"
    );
    Ok(())
}
