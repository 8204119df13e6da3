//! What a reload does to connections that are open: nothing. Their service, their source address, their source ports
//! and the seed may all leave the config; new connections follow the new one.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xlb_tests::agent::{Agent, agent_section};
use xlb_tests::alone::shared;
use xlb_tests::client::backends;
use xlb_tests::config_text::{QUICK_TCP_CHECK, ServiceText};
use xlb_tests::peers::{Load, Talk, TalkServer};
use xlb_tests::require;
use xlb_tests::topology::{BackendHost, Plan, Topology, VIP4, VIP6};

const PATIENCE: Duration = Duration::from_secs(5);
const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];

fn targets(port: u16) -> [SocketAddr; 2] {
    VIPS.map(|vip| SocketAddr::new(vip, port))
}

/// A service on both VIPs over all hosts.
fn service(name: &str, port: u16, hosts: &[BackendHost]) -> ServiceText {
    let service = ServiceText::new(name, "tcp", port).key("check", QUICK_TCP_CHECK);
    hosts.iter().enumerate().fold(service, |service, (index, host)| {
        service.host(&format!("h{index}"), host, 8081)
    })
}

fn reload(agent: &Agent, text: &str) -> Result<()> {
    fs::write(agent.config(), text)?;
    agent.client().xlb(&["reload"]).map(drop)
}

/// Connections to every target, five each, with the backend that answers.
fn hold(topology: &Topology, port: u16) -> Result<Vec<(String, Talk)>> {
    let mut held = Vec::new();
    for target in targets(port) {
        for _ in 0..5 {
            let mut talk = Talk::connect(&topology.client, target, PATIENCE)?;
            held.push((talk.ask()?, talk));
        }
    }
    Ok(held)
}

fn ask_again(held: &mut [(String, Talk)], after: &str) -> Result<()> {
    for (name, talk) in held {
        let answer = talk
            .ask()
            .with_context(|| format!("a connection ended after {after}"))?;
        ensure!(
            answer == *name,
            "a connection moved from {name} to {answer} after {after}"
        );
    }
    Ok(())
}

fn new_ones_work(topology: &Topology, port: u16, after: &str) -> Result<()> {
    let load = Load::start(&topology.client, &targets(port), Duration::from_millis(5))?;
    sleep(Duration::from_millis(500));
    load.finish()?
        .ensure_no_failure(30)
        .with_context(|| format!("new connections after {after}"))
}

#[test]
fn open_connections_outlive_their_service_their_source_and_the_agent() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let hosts = &topology.backends;
    let servers: Vec<TalkServer> = hosts
        .iter()
        .enumerate()
        .map(|(index, host)| TalkServer::start(&host.namespace, &format!("h{index}"), 8081))
        .collect::<Result<_>>()?;
    topology
        .balancer
        .ip("addr add 10.0.0.2/24 dev back0\naddr add fd00:b::2/64 dev back0 nodad\n")?;
    let section = agent_section(&topology);
    let (stays, goes) = (service("stays", 80, hosts), service("goes", 81, hosts));
    let both = format!("{}\n{}", stays.text(), goes.text());
    let mut agent = Agent::start(&topology, &both)?;
    agent.client().wait_all_up()?;
    let (mut held, mut orphans) = (hold(&topology, 80)?, hold(&topology, 81)?);

    let other_source = section.replace("\"10.0.0.1\", \"fd00:b::1\"", "\"10.0.0.2\", \"fd00:b::2\"");
    ensure!(other_source != section, "{section}");
    reload(&agent, &format!("{other_source}\n{both}"))?;
    new_ones_work(&topology, 80, "another SNAT address")?;
    ensure!(
        servers.iter().any(|server| server
            .peers()
            .iter()
            .any(|peer| peer.ip().to_canonical().to_string() == "10.0.0.2")),
        "no connection came from the new SNAT address"
    );
    ask_again(&mut held, "another SNAT address")?;

    let other_ports = format!("{other_source}snat_ports = \"20000-20999\"\nhash_seed = 7\n");
    reload(&agent, &format!("{other_ports}\n{both}"))?;
    new_ones_work(&topology, 80, "other SNAT ports and another seed")?;
    ask_again(&mut held, "other SNAT ports and another seed")?;
    ask_again(&mut orphans, "other SNAT ports and another seed")?;

    reload(&agent, &format!("{other_ports}\n{}", stays.text()))?;
    ask_again(&mut orphans, "the removal of their service")?;
    let refused =
        Talk::connect(&topology.client, targets(81)[0], Duration::from_secs(2)).and_then(|mut talk| talk.ask());
    ensure!(refused.is_err(), "a removed service answers: {refused:?}");

    agent.kill()?;
    agent.run(&topology.balancer)?;
    sleep(Duration::from_secs(1));
    ask_again(&mut held, "a restart")?;
    ask_again(&mut orphans, "a restart")?;
    new_ones_work(&topology, 80, "a restart")
}

#[test]
fn without_snat_addresses_the_ones_next_to_the_backends_are_taken() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let servers: Vec<TalkServer> = topology
        .backends
        .iter()
        .enumerate()
        .map(|(index, host)| TalkServer::start(&host.namespace, &format!("h{index}"), 8081))
        .collect::<Result<_>>()?;
    let section = agent_section(&topology);
    let section: Vec<&str> = section
        .lines()
        .filter(|line| !line.starts_with("snat_addresses"))
        .collect();
    let section = section.join("\n");
    let agent = Agent::start_with(&topology, &section, service("talk", 80, &topology.backends).text())?;
    agent.client().wait_all_up()?;
    new_ones_work(&topology, 80, "a start")?;
    let mut sources: Vec<String> = servers
        .iter()
        .flat_map(TalkServer::peers)
        .map(|peer| peer.ip().to_canonical().to_string())
        .collect();
    sources.sort();
    sources.dedup();
    ensure!(sources == ["10.0.0.1", "fd00:b::1"], "{sources:?}");
    Ok(())
}

/// Names of those that answer new connections to a port.
fn who_answers(topology: &Topology, port: u16) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for target in targets(port) {
        for _ in 0..20 {
            names.insert(Talk::connect(&topology.client, target, PATIENCE)?.ask()?);
        }
    }
    Ok(names)
}

#[test]
fn an_agent_that_was_killed_starts_with_another_config_and_open_connections_stay() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(3))?;
    let [first, second, third] = topology.backends.as_slice() else {
        bail!("three hosts were asked for");
    };
    let mut servers = Vec::new();
    for (index, host) in topology.backends.iter().enumerate() {
        servers.push(TalkServer::start(&host.namespace, &format!("h{index}"), 8081)?);
    }
    // The same host on another internal port.
    servers.push(TalkServer::start(&first.namespace, "h0-moved", 8082)?);
    let talk = |name: &str, port| ServiceText::new(name, "tcp", port).key("check", QUICK_TCP_CHECK);
    let stays = talk("stays", 80).host("h0", first, 8081).host("h1", second, 8081);
    let goes = talk("goes", 81).host("h0", first, 8081);
    let mut agent = Agent::start(&topology, &format!("{}\n{}", stays.text(), goes.text()))?;
    agent.client().wait_all_up()?;
    let (mut held, mut orphans) = (hold(&topology, 80)?, hold(&topology, 81)?);

    agent.kill()?;
    let stays = talk("stays", 80).host("h0", first, 8082).host("h2", third, 8081);
    let comes = talk("comes", 82).host("h2", third, 8081);
    let section = agent_section(&topology);
    fs::write(agent.config(), format!("{section}\n{}\n{}", comes.text(), stays.text()))?;
    agent.run(&topology.balancer)?;
    agent
        .client()
        .wait_for("the new config's six backends to be up", |status| {
            backends(status).iter().filter(|backend| backend.is_up()).count() == 6
        })?;
    let status = agent.client().status()?;
    ensure!(status["program"]["adoption"] == "adopted", "{status}");
    ask_again(&mut held, "a crash and a start with another config")?;
    ask_again(&mut orphans, "a crash and the removal of their service")?;
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let (old, new) = (who_answers(&topology, 80)?, who_answers(&topology, 82)?);
    ensure!(
        old == names(&["h0-moved", "h2"]) && new == names(&["h2"]),
        "{old:?} and {new:?}"
    );
    let refused =
        Talk::connect(&topology.client, targets(81)[0], Duration::from_secs(2)).and_then(|mut talk| talk.ask());
    ensure!(refused.is_err(), "a removed service answers: {refused:?}");
    Ok(())
}

/// A ring of half the slots cannot be built anew beside the old one. Nobody would see that the new weights are not in force.
#[test]
fn a_ring_without_room_is_said_and_the_former_one_serves() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let hosts = &topology.backends;
    let _servers: Vec<TalkServer> = hosts
        .iter()
        .map(|host| TalkServer::start(&host.namespace, "any", 8081))
        .collect::<Result<_>>()?;
    let section = agent_section(&topology) + "\n[limits]\nring_slots = 1024\n";
    let weighted = |heavy: u32| {
        let service = ServiceText::v4("web", "tcp", 80)
            .key("check", QUICK_TCP_CHECK)
            .weighted_host("light", &hosts[0], 8081, 1)
            .weighted_host("heavy", &hosts[1], 8081, heavy);
        format!("{section}{}", service.text())
    };
    let agent = Agent::start_with(&topology, "", &weighted(100))?;
    let client = agent.client();
    client.wait_all_up()?;
    let warning = |status: &Value| {
        let all = status["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|warning| warning["code"] == "no_ring_room").cloned()
    };
    ensure!(warning(&client.status()?).is_none(), "512 of 1,024 slots are free");

    // Twice as many slots: the ring would fit if the old one were not there.
    reload(&agent, &weighted(200))?;
    let mut seen = Value::Null;
    client.wait_for("a word about the ring", |status| {
        seen = status.clone();
        warning(status).is_some()
    })?;
    let said = warning(&seen).context("no warning")?;
    ensure!(
        said["message"]
            == "service web: no room for its IPv4 ring of 1024 slots: its former one serves on, without new backends and \
                weights",
        "{said}"
    );
    ensure!(
        said["next"].to_string().contains("ring_slots") && seen["overall"] == "degraded",
        "{seen}"
    );
    let target = SocketAddr::new(VIP4.into(), 80);
    ensure!(Talk::connect(&topology.client, target, PATIENCE)?.ask()? == "any");

    reload(&agent, &weighted(1))?;
    client.wait_for("a smaller ring, which has room", |status| {
        warning(status).is_none() && status["overall"] == "ok"
    })
}
