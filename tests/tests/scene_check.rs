//! `xlb check` against the host it runs on: ephemeral ports, reserved ones and servers of a real network namespace.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::binary::xlb_binary;
use xlb_tests::config_text::ServiceText;
use xlb_tests::netns::{Namespace, Room};
use xlb_tests::process::run;
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology};

const CONFIG: &str = r#"[agent]
interfaces = ["eth0"]
snat_addresses = ["10.0.0.1"]
snat_ports = "20000-29999"

[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
backend = [{ address = "10.0.0.11", port = 8080 }]
"#;

/// What `xlb check` says in the namespace, without a capability.
fn check(namespace: &Namespace, file: &Path) -> Result<String> {
    let mut command = namespace.command("setpriv");
    command.args(["--inh-caps", "-all", "--bounding-set", "-all"]);
    run(command.arg(xlb_binary()?).arg("check").arg(file))
}

/// The part of a text between two others.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Result<&'t str> {
    let rest = text
        .split_once(before)
        .with_context(|| format!("no {before:?} in:\n{text}"))?
        .1;
    Ok(rest
        .split_once(after)
        .with_context(|| format!("no {after:?} in:\n{text}"))?
        .0)
}

#[test]
fn a_listener_and_ephemeral_ports_in_snat_ports_are_named_and_the_printed_sysctl_helps() -> Result<()> {
    require!("ip", "nsenter", "setpriv", "sysctl");
    let _share = shared();
    let room = Room::for_test()?;
    let namespace = room.namespace("host")?;
    namespace.ip("link add eth0 type veth peer name peer0\naddr add 10.0.0.1/24 dev eth0\nlink set eth0 up")?;
    let range = "net/ipv4/ip_local_port_range";
    namespace.sysctl(range, "25000 26000")?;
    namespace.sysctl("net/ipv4/ip_local_reserved_ports", "5000,25500-25509")?;
    let listener = namespace.enter(|| TcpListener::bind("0.0.0.0:21000"))??;
    let loopback = namespace.enter(|| TcpListener::bind("127.0.0.1:21001"))??;
    let file = room.file("xlb.toml");
    fs::write(&file, CONFIG)?;

    let said = check(&namespace, &file)?;
    ensure!(said.contains("XLB0314") && said.contains("tcp 0.0.0.0:21000"), "{said}");
    ensure!(
        !said.contains("21001"),
        "a listener on loopback is in nobody's way:\n{said}"
    );
    ensure!(said.contains("25000-25499,25510-26000"), "{said}");
    let setting = between(&said, "sysctl -w ", "'")?;
    ensure!(
        setting == "net.ipv4.ip_local_reserved_ports=5000,20000-29999",
        "{setting}"
    );

    run(namespace.command("sysctl").args(["-w", setting]))?;
    let said = check(&namespace, &file)?;
    ensure!(!said.contains("XLB0304") && said.contains("XLB0314"), "{said}");

    drop((listener, loopback));
    let said = check(&namespace, &file)?;
    ensure!(!said.contains("XLB03"), "{said}");
    Ok(())
}

fn names_listener(status: &Value) -> bool {
    let warnings = status["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut messages = warnings.iter().filter_map(|warning| warning["message"].as_str());
    messages.any(|message| message.contains("XLB0314") && message.contains("tcp 0.0.0.0:12000"))
}

#[test]
fn the_agent_in_its_sandbox_sees_a_listener_come_and_go_when_it_reads_an_unchanged_file() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let web = ServiceText::v4("web", "tcp", 80).backend("a", topology.backends[0].address4, 8081);
    let agent = Agent::start(&topology, web.text())?;
    ensure!(!names_listener(&agent.client().status()?), "nobody listens");
    let listener = topology.balancer.enter(|| TcpListener::bind("0.0.0.0:12000"))??;
    agent.client().xlb(&["reload"])?;
    agent.client().wait_for("the listener to be named", names_listener)?;
    drop(listener);
    agent.client().xlb(&["reload"])?;
    agent
        .client()
        .wait_for("the listener to be forgotten", |status| !names_listener(status))
}
