//! Interfaces come, go, and change their names while the agent runs; and what somebody else has attached stays. The name in
//! the config is what counts.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_userspace::config::{Limits, XdpMode};
use lb_userspace::dataplane::{Dataplane, LogObject, Options, kernel_hz};
use serde_json::Value;
use xlb_tests::agent::{Agent, agent_section};
use xlb_tests::alone::shared;
use xlb_tests::config_text::{QUICK_TCP_CHECK, ServiceText};
use xlb_tests::netns::{connect, offload_for_balancer};
use xlb_tests::peers::{Load, TalkServer};
use xlb_tests::process::run;
use xlb_tests::require;
use xlb_tests::topology::{Plan, SNAT4, Topology, VIP4};

/// IPv4 alone: an interface that goes down loses its IPv6 addresses.
fn services(topology: &Topology) -> String {
    let host = &topology.backends[0];
    ServiceText::v4("talk", "tcp", 80)
        .key("check", QUICK_TCP_CHECK)
        .backend("one", host.address4, 8081)
        .text()
        .to_owned()
}

fn section(topology: &Topology) -> String {
    agent_section(topology).replace(&format!("\"{SNAT4}\", \"fd00:b::1\""), &format!("\"{SNAT4}\""))
}

fn interface<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["interfaces"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|row| row["name"] == name).unwrap_or(&Value::Null)
}

/// New connections work, which takes both interfaces and their places in the device map.
fn traffic_flows(topology: &Topology, when: &str) -> Result<()> {
    let to = SocketAddr::new(VIP4.into(), 80);
    let load = Load::start(&topology.client, &[to], Duration::from_millis(5))?;
    sleep(Duration::from_millis(500));
    let report = load.finish()?;
    report.ensure_no_failure(20).with_context(|| format!("traffic {when}"))
}

/// `back0` is attached and everything is well.
fn well(agent: &Agent, topology: &Topology, when: &str) -> Result<()> {
    agent
        .client()
        .wait_for(&format!("back0 to be attached {when}"), |status| {
            let row = interface(status, "back0");
            row["xdp_mode"] == "native" && row["up"] == true && row["error"] == Value::Null
        })?;
    agent.client().wait_all_up()?;
    traffic_flows(topology, when)
}

fn missing(agent: &Agent, when: &str) -> Result<()> {
    agent
        .client()
        .wait_for(&format!("back0 to be missing {when}"), |status| {
            let row = interface(status, "back0");
            row["ifindex"] == Value::Null && row["error"].is_string() && status["overall"] == "degraded"
        })
}

/// Interfaces of the balancer that have an XDP program.
fn with_xdp(topology: &Topology) -> Result<Vec<String>> {
    let text = topology.balancer.ip_show("-j link show")?;
    let links: Value = serde_json::from_str(&text).context("ip's JSON")?;
    let links = links.as_array().cloned().unwrap_or_default();
    let attached = links.iter().filter(|link| link["xdp"]["mode"].is_number());
    Ok(attached
        .filter_map(|link| link["ifname"].as_str().map(str::to_owned))
        .collect())
}

#[test]
fn an_interface_may_appear_later_be_renamed_and_be_made_again() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let _server = TalkServer::start(&topology.backends[0].namespace, "one", 8081)?;
    let rename = |from: &str, to: &str| {
        let lines = format!("link set {from} down\nlink set {from} name {to}\nlink set {to} up\n");
        topology.balancer.ip(&lines)
    };
    rename("back0", "other0")?;
    let agent = Agent::start_with(&topology, &section(&topology), &services(&topology))?;
    missing(&agent, "at the start")?;
    rename("other0", "back0")?;
    well(&agent, &topology, "when it appears")?;

    rename("back0", "away0")?;
    missing(&agent, "when it is renamed")?;
    ensure!(with_xdp(&topology)? == ["front0"], "{:?}", with_xdp(&topology)?);
    rename("away0", "back0")?;
    well(&agent, &topology, "under its old name")?;

    topology.balancer.ip("link set back0 down\n")?;
    agent.client().wait_for("back0 to be down", |status| {
        let row = interface(status, "back0");
        row["up"] == false && row["xdp_mode"] == "native" && status["overall"] == "degraded"
    })?;
    topology.balancer.ip("link set back0 up\n")?;
    well(&agent, &topology, "when it is up again")?;

    let index = |status: &Value| interface(status, "back0")["ifindex"].as_u64();
    let before = index(&agent.client().status()?);
    topology.balancer.ip("link del back0\n")?;
    missing(&agent, "when it is deleted")?;
    connect(&topology.balancer, "back0", &topology.switch, "lb")?;
    topology.switch.ip("link set lb master br0\n")?;
    offload_for_balancer(&topology.switch, "lb")?;
    topology.balancer.ip(&format!("addr add {SNAT4}/24 dev back0\n"))?;
    well(&agent, &topology, "when it is made again")?;
    ensure!(index(&agent.client().status()?) != before, "the same index");
    let log = agent.log();
    for change in [
        "object=\"back0\" old=\"new\" new=\"missing\" cause=\"no such interface\"",
        "object=\"back0\" old=\"missing\" new=\"attached\" cause=\"native\"",
        "object=\"back0\" old=\"attached\" new=\"missing\" cause=\"no such interface\"",
    ] {
        ensure!(log.contains(change), "no line with {change}: {log}");
    }
    Ok(())
}

#[test]
fn a_foreign_program_stays_and_is_named_with_the_commands_that_show_it_and_take_it_off() -> Result<()> {
    require!("ip", "ethtool", "bpftool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let _server = TalkServer::start(&topology.backends[0].namespace, "one", 8081)?;
    let options = Options {
        pin_dir: topology.room.bpffs().join("strange"),
        limits: Limits::default(),
        hz: kernel_hz()?,
        log: LogObject::Off,
        xdp_mode: XdpMode::Native,
    };
    let strange = topology.balancer.enter(|| -> Result<_> {
        let (mut strange, _) = Dataplane::open(&options)?;
        let index = nix::net::if_::if_nametoindex("back0").context("index of back0")?;
        strange.attach("back0", index)?;
        strange.attached()?.first().cloned().context("not attached")
    })??;
    let agent = Agent::start_with(&topology, &section(&topology), &services(&topology))?;
    let status = agent.client().status()?;
    let error = interface(&status, "back0")["error"].as_str().unwrap_or_default();
    let (program, link) = (strange.program_id, strange.link_id);
    let remedy = format!("bpftool link detach id {link}");
    for part in [
        "'xlb'",
        &format!("(id {program})"),
        &format!("bpftool prog show id {program}"),
        &remedy,
    ] {
        ensure!(error.contains(part), "no {part} in: {error}");
    }
    ensure!(status["overall"] == "degraded", "{status}");
    run(std::process::Command::new("bpftool").args(["link", "detach", "id", &link.to_string()]))?;
    well(&agent, &topology, "when the other program is gone")
}

#[test]
fn a_second_agent_on_one_pin_directory_is_refused_with_the_firsts_pid_and_disturbs_nothing() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let _server = TalkServer::start(&topology.backends[0].namespace, "one", 8081)?;
    let mut agent = Agent::start_with(&topology, &section(&topology), &services(&topology))?;
    agent.client().wait_all_up()?;
    let pid = agent.process()?.pid();
    let config = topology.room.file("second.toml");
    let text = std::fs::read_to_string(agent.config())?.replace("api.sock", "second.sock");
    std::fs::write(&config, text).context("write the second config")?;
    let binary = xlb_tests::binary::xlb_binary()?;
    let mut second = topology.balancer.command(&binary.to_string_lossy());
    let output = second
        .args(["run", "--config"])
        .arg(&config)
        .output()
        .context("run a second agent")?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(error.contains(&format!("in use by process {pid}")), "{error}");
    well(&agent, &topology, "beside a refused agent")
}
