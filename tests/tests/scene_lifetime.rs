//! What the agent's and the backends' lives do to traffic: death and return of a backend, kill -9, restart, SIGTERM and
//! unload of the agent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::client::{BackendStatus, backends};
use xlb_tests::config_text::{QUICK_HTTP_CHECK, QUICK_TCP_CHECK, ServiceText};
use xlb_tests::peers::{Load, Nginx, Talk, TalkServer};
use xlb_tests::peers::{make_file, sha256_of, start_download, start_upload};
use xlb_tests::process::{run, wait_until};
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4, VIP6, host_port};

const PATIENCE: Duration = Duration::from_secs(5);
const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];
const REQUEST_INTERVAL: Duration = Duration::from_millis(5);

fn targets(port: u16) -> [SocketAddr; 2] {
    VIPS.map(|vip| SocketAddr::new(vip, port))
}

/// The row of one backend.
fn backend_row<'a>(status: &'a Value, name: &str) -> Result<BackendStatus<'a>> {
    backends(status)
        .into_iter()
        .find(|backend| backend.name() == name)
        .with_context(|| format!("no backend {name} in {status}"))
}

#[test]
fn a_dead_backend_goes_out_with_its_reason_and_comes_back() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(3))?;
    let mut service = ServiceText::new("talk", "tcp", 80).key("check", QUICK_TCP_CHECK);
    let mut servers = BTreeMap::new();
    for (host, port) in topology.backends.iter().zip([8081, 9000, 30080]) {
        let name = format!("b{port}");
        servers.insert(port, TalkServer::start(&host.namespace, &name, port)?);
        service = service.host(&name, host, port);
    }
    let agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    let to = SocketAddr::new(VIP4.into(), 80);
    let mut survivors: Vec<(String, Talk)> = Vec::new();
    while survivors.len() < 12 {
        let mut talk = Talk::connect(&topology.client, to, PATIENCE)?;
        let name = talk.ask()?;
        if name != "b9000" {
            survivors.push((name, talk));
        }
    }

    drop(servers.remove(&9000));
    let died = Instant::now();
    agent.client().wait_for("b9000 to be out", |status| {
        ["b9000-v4", "b9000-v6"]
            .iter()
            .all(|name| backend_row(status, name).is_ok_and(|backend| !backend.is_up()))
    })?;
    let noticed = died.elapsed();
    // Two probes of 200 ms, and what a busy machine adds.
    ensure!(noticed < Duration::from_secs(3), "it took {noticed:?} to notice");
    let status = agent.client().status()?;
    let row = backend_row(&status, "b9000-v4")?;
    ensure!(row.port_verdict() == "refused", "{}", row.row);
    ensure!(row.health_text().contains("9000"), "no word of the port: {}", row.row);
    let table = agent.client().output(&["status"])?;
    ensure!(
        table.status.code() == Some(1),
        "a degraded status ends with {}",
        table.status
    );
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    ensure!(table.contains("refused") && table.contains("b9000-v4"), "{table}");

    let load = Load::start(&topology.client, &targets(80), REQUEST_INTERVAL)?;
    sleep(Duration::from_secs(1));
    let report = load.finish()?;
    report.ensure_no_failure(100)?;
    ensure!(!report.answers.contains_key("b9000"), "{report:?}");
    for (name, talk) in &mut survivors {
        ensure!(talk.ask()? == *name, "a connection moved from {name}");
    }

    let host = &topology.backends[1];
    servers.insert(9000, TalkServer::start(&host.namespace, "b9000", 9000)?);
    agent.client().wait_all_up()?;
    let load = Load::start(&topology.client, &targets(80), REQUEST_INTERVAL)?;
    sleep(Duration::from_secs(1));
    let report = load.finish()?;
    report.ensure_no_failure(100)?;
    ensure!(
        report.answers.get("b9000").is_some_and(|count| *count > 20),
        "{report:?}"
    );
    for (name, talk) in &mut survivors {
        ensure!(talk.ask()? == *name, "a connection moved from {name}");
    }
    Ok(())
}

#[test]
fn a_filtered_port_is_told_from_a_refused_one_and_an_http_error_from_both() -> Result<()> {
    require!("ip", "ethtool", "nft", "nginx", "curl");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(3))?;
    let mut service = ServiceText::v4("web", "tcp", 80).key("check", QUICK_HTTP_CHECK);
    let mut servers = Vec::new();
    for (host, name) in topology.backends.iter().zip(["good", "filtered", "talking"]) {
        match name {
            // Speaks, but not HTTP.
            "talking" => servers.push((None, Some(TalkServer::start(&host.namespace, name, 8081)?))),
            _ => servers.push((Some(Nginx::start(&topology.room, &host.namespace, name, 8081)?), None)),
        }
        service = service.backend(name, host.address4, 8081);
    }
    let file = topology.room.file("filter.nft");
    std::fs::write(
        &file,
        "table inet f {\n chain in {\n type filter hook input priority 0;\n tcp dport 8081 drop\n }\n}\n",
    )?;
    run(topology.backends[1].namespace.command("nft").arg("-f").arg(&file))?;
    let agent = Agent::start(&topology, service.text())?;
    for (name, verdict) in [
        ("good", "open"),
        ("filtered", "filtered"),
        ("talking", "wrong_protocol"),
    ] {
        agent.client().wait_for(&format!("{name} to be {verdict}"), |status| {
            backend_row(status, name).is_ok_and(|row| row.port_verdict() == verdict)
        })?;
    }
    let url = format!("http://{}/", host_port(VIP4, 80));
    for _ in 0..20 {
        ensure!(xlb_tests::peers::http_get(&topology.client, &url)? == "good\n");
    }
    Ok(())
}

#[test]
fn kill_9_and_restarts_of_the_agent_fail_no_request_and_break_no_transfer() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let mut web = ServiceText::new("web", "tcp", 80).key("check", QUICK_HTTP_CHECK);
    let mut talk = ServiceText::new("talk", "tcp", 81).key("check", QUICK_TCP_CHECK);
    let mut servers = Vec::new();
    let file = topology.room.file("original");
    let hash = make_file(&file, 100)?;
    for (host, port) in topology.backends.iter().zip([8081, 9000]) {
        let nginx = Nginx::start(&topology.room, &host.namespace, "any", port)?;
        std::fs::copy(&file, nginx.files().join("bulk"))?;
        servers.push((
            nginx,
            TalkServer::start(&host.namespace, &format!("t{port}"), port + 1)?,
        ));
        web = web.host(&format!("n{port}"), host, port);
        talk = talk.host(&format!("t{port}"), host, port + 1);
    }
    let mut agent = Agent::start(&topology, &format!("{}\n{}", web.text(), talk.text()))?;
    agent.client().wait_all_up()?;
    let programs = attached_programs(&topology)?;

    let load = Load::start(&topology.client, &targets(81), REQUEST_INTERVAL)?;
    let mut held = Vec::new();
    for target in targets(81) {
        for _ in 0..10 {
            let mut talk = Talk::connect(&topology.client, target, PATIENCE)?;
            held.push((talk.ask()?, talk));
        }
    }
    let mut transfers = Vec::new();
    for (index, vip) in VIPS.into_iter().enumerate() {
        let url = |path: &str| format!("http://{}/files/{path}", host_port(vip, 80));
        let down = topology.room.file(&format!("down-{index}"));
        // 100 MB at 2 MB/s last longer than all that follows, on a busy machine too.
        transfers.push(start_download(&topology.client, &url("bulk"), &down, 2)?);
        transfers.push(start_upload(&topology.client, &file, &url(&format!("up-{index}")), 2)?);
    }

    for round in 0..3 {
        agent.kill()?;
        // Nobody is there: new connections must still be made.
        sleep(Duration::from_millis(600));
        agent.run(&topology.balancer)?;
        sleep(Duration::from_millis(600));
        let status = agent.client().status()?;
        ensure!(
            status["program"]["adoption"] == "adopted",
            "round {round}: the new agent did not adopt the maps: {status}"
        );
        ensure!(
            backends(&status).iter().all(BackendStatus::is_up),
            "round {round}: a restart put a backend out: {status}"
        );
    }
    for transfer in &mut transfers {
        transfer.ensure_running()?;
    }
    let swapped = attached_programs(&topology)?;
    ensure!(
        swapped.len() == 2
            && programs
                .iter()
                .all(|(link, id)| swapped.get(link).is_some_and(|new| new != id)),
        "the programs were not swapped: {programs:?} then {swapped:?}"
    );

    for (name, talk) in &mut held {
        ensure!(talk.ask()? == *name, "a held connection moved from {name}");
    }
    load.finish()?.ensure_no_failure(500)?;
    for transfer in &mut transfers {
        transfer.finish(Duration::from_mins(1))?;
        ensure!(
            sha256_of(&transfer.file)? == hash,
            "{} differs",
            transfer.file.display()
        );
    }
    for index in 0..2 {
        let name = format!("up-{index}");
        let found: Vec<String> = servers
            .iter()
            .map(|(nginx, _)| nginx.files().join(&name))
            .filter(|path| path.is_file())
            .map(|path| sha256_of(&path))
            .collect::<Result<_>>()?;
        ensure!(found == [hash.clone()], "{name}: {found:?}");
    }
    Ok(())
}

/// Where the balancer has the IPv4 VIP.
fn vip_link(topology: &Topology) -> Result<Option<String>> {
    let all = topology.balancer.ip_show("-o -4 addr")?;
    let line = all.lines().find(|line| line.contains(&format!(" {VIP4}/32 ")));
    Ok(line.and_then(|line| line.split_whitespace().nth(1)).map(str::to_owned))
}

#[test]
fn an_agent_that_adopts_what_it_wants_checks_its_backends_and_sees_to_its_vips_all_the_same() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let mut service = ServiceText::new("talk", "tcp", 80).key("check", QUICK_TCP_CHECK);
    let mut servers = Vec::new();
    for (host, port) in topology.backends.iter().zip([8081, 9000]) {
        servers.push(TalkServer::start(&host.namespace, &format!("b{port}"), port)?);
        service = service.host(&format!("b{port}"), host, port);
    }
    let mut agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    let link = vip_link(&topology)?.context("the agent has not added the VIP")?;

    agent.kill()?;
    topology.balancer.ip(&format!("addr del {VIP4}/32 dev {link}\n"))?;
    agent.run(&topology.balancer)?;
    agent
        .client()
        .wait_for("every backend to have been checked", |status| {
            backends(status).iter().all(|backend| backend.port_verdict() == "open")
        })?;
    wait_until("the VIP to be back", PATIENCE, || {
        Ok(vip_link(&topology)?.is_some_and(|found| found == link))
    })?;
    servers.pop();
    agent.client().wait_for("the dead backend to be out", |status| {
        backend_row(status, "b9000-v4").is_ok_and(|row| !row.is_up() && row.port_verdict() == "refused")
    })
}

#[test]
fn sigterm_leaves_traffic_flowing_and_unload_leaves_nothing() -> Result<()> {
    require!("ip", "ethtool", "bpftool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let _server = TalkServer::start(&host.namespace, "one", 8081)?;
    let service = ServiceText::new("talk", "tcp", 80)
        .key("check", QUICK_TCP_CHECK)
        .host("one", host, 8081);
    let mut agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    let mut held = Talk::connect(&topology.client, SocketAddr::new(VIP4.into(), 80), PATIENCE)?;
    ensure!(held.ask()? == "one");

    agent.terminate()?;
    let load = Load::start(&topology.client, &targets(80), REQUEST_INTERVAL)?;
    sleep(Duration::from_secs(1));
    load.finish()?.ensure_no_failure(100)?;
    ensure!(held.ask()? == "one");
    ensure!(attached_programs(&topology)?.len() == 2);

    let answer = agent.client().xlb(&["unload"])?;
    ensure!(!answer.trim().is_empty(), "unload says nothing");
    ensure!(attached_programs(&topology)?.is_empty(), "a program is still attached");
    let pins = agent.client().pin_dir();
    let left: Vec<_> = std::fs::read_dir(pins)
        .map(|entries| entries.flatten().collect())
        .unwrap_or_default();
    ensure!(left.is_empty(), "pins are left in {}: {left:?}", pins.display());
    ensure!(held.ask().is_err(), "traffic flows although the program is gone");
    // A second time there is nothing to do, and it says so without failing.
    agent.client().xlb(&["unload"])?;
    Ok(())
}

#[test]
fn backends_added_and_removed_by_command_take_effect_and_survive_a_restart() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let [first, second] = &topology.backends[..] else {
        anyhow::bail!("two backends were planned");
    };
    let _servers = [
        TalkServer::start(&first.namespace, "one", 8081)?,
        TalkServer::start(&second.namespace, "two", 9000)?,
    ];
    let service = ServiceText::v4("talk", "tcp", 80)
        .key("check", QUICK_TCP_CHECK)
        .backend("one", first.address4, 8081);
    let mut agent = Agent::start(&topology, &format!("# kept: a comment\n{}", service.text()))?;
    agent.client().wait_all_up()?;
    let to = SocketAddr::new(VIP4.into(), 80);
    let mut held = Talk::connect(&topology.client, to, PATIENCE)?;
    ensure!(held.ask()? == "one");

    let target = host_port(second.address4, 9000);
    agent
        .client()
        .xlb(&["backend", "add", "talk", &target, "--name", "two", "--weight", "300"])?;
    agent.client().wait_for("two to be up", |status| {
        backend_row(status, "two").is_ok_and(|row| row.is_up() && row.number("weight") == 300)
    })?;
    let load = Load::start(&topology.client, &[to], Duration::from_millis(2))?;
    sleep(Duration::from_secs(1));
    let report = load.finish()?;
    report.ensure_no_failure(100)?;
    ensure!(
        report.answers.len() == 2 && report.answers["two"] > report.answers["one"],
        "{report:?}"
    );

    agent.client().xlb(&["backend", "remove", "talk", "one"])?;
    let load = Load::start(&topology.client, &[to], Duration::from_millis(2))?;
    sleep(Duration::from_millis(500));
    let report = load.finish()?;
    report.ensure_no_failure(50)?;
    ensure!(!report.answers.contains_key("one"), "{report:?}");
    ensure!(held.ask()? == "one", "removing a backend broke its open connection");

    let text = std::fs::read_to_string(agent.config())?;
    ensure!(
        text.contains("# kept: a comment") && text.contains("two") && !text.contains("\"one\""),
        "{text}"
    );
    agent.kill()?;
    agent.run(&topology.balancer)?;
    let status = agent.client().status()?;
    ensure!(backend_row(&status, "two")?.is_up(), "{status}");
    ensure!(
        held.ask()? == "one",
        "a restart broke the last connection of a removed backend"
    );
    Ok(())
}

#[test]
fn status_and_bpftool_show_the_same_truth() -> Result<()> {
    require!("ip", "ethtool", "bpftool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let mut service = ServiceText::new("talk", "tcp", 80).key("check", QUICK_TCP_CHECK);
    let mut servers = Vec::new();
    for (host, port) in topology.backends.iter().zip([8081, 9000]) {
        servers.push(TalkServer::start(&host.namespace, &format!("b{port}"), port)?);
        service = service.host(&format!("b{port}"), host, port);
    }
    // One that is out.
    service = service.backend("dead", topology.backends[0].address4, 4444);
    let agent = Agent::start(&topology, service.text())?;
    agent
        .client()
        .wait_for("the live ones up and the dead one out", |status| {
            backends(status).iter().filter(|row| row.is_up()).count() == 4
                && backend_row(status, "dead").is_ok_and(|row| row.port_verdict() == "refused")
        })?;
    let load = Load::start(&topology.client, &targets(80), REQUEST_INTERVAL)?;
    sleep(Duration::from_secs(1));
    let report = load.finish()?;
    report.ensure_no_failure(100)?;
    // The last ACKs arrive, and the agent reads its counters again.
    sleep(Duration::from_millis(2500));

    let status = agent.client().status()?;
    let entries = agent.client().map_dump("xlb_backends")?;
    let counters = agent.client().map_dump("xlb_backend_st")?;
    let names = agent.client().map_dump("xlb_names")?;
    let mut new_flows = 0;
    for backend in backends(&status) {
        let id = backend.row["id"].as_u64().context("an id")?;
        let entry = entry_of(&entries, id).with_context(|| format!("no backend {id} in xlb_backends"))?;
        ensure!(
            entry["internal_port"] == backend.row["internal_port"],
            "port: {entry} against {}",
            backend.row
        );
        let address: IpAddr = backend.row["address"].as_str().context("an address")?.parse()?;
        ensure!(
            address_of(&entry["address"])? == address.to_canonical(),
            "{entry} against {}",
            backend.row
        );
        let active = u64::from(lb_common::abi::backend_state::ACTIVE);
        ensure!(
            (entry["state"].as_u64() == Some(active)) == backend.is_up(),
            "{entry} against {}",
            backend.row
        );
        let name = names
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| &item["formatted"])
            .find(|item| {
                item["key"]["id"].as_u64() == Some(id)
                    && item["key"]["kind"].as_u64() == Some(u64::from(lb_common::abi::name_kind::BACKEND))
            })
            .with_context(|| format!("no name of backend {id}: {names}"))?;
        ensure!(
            text_of(&name["value"]["name"])? == format!("talk/{}", backend.name()),
            "{name} against {}",
            backend.row
        );
        for field in [
            "packets_in",
            "bytes_in",
            "packets_out",
            "bytes_out",
            "flows_new",
            "flows_opened",
        ] {
            let kernel = sum_over_cpus(&counters, id, field)?;
            ensure!(
                kernel == backend.counter(field),
                "{} {field}: bpftool {kernel}, status {}",
                backend.name(),
                backend.counter(field)
            );
        }
        new_flows += backend.counter("flows_new");
    }
    ensure!(
        new_flows == report.answered(),
        "the maps count {new_flows} new flows, the client made {}",
        report.answered()
    );
    Ok(())
}

/// `ifname -> program id` of the XDP programs on the balancer's interfaces.
fn attached_programs(topology: &Topology) -> Result<BTreeMap<String, u64>> {
    let text = run(Command::new("ip").args(["-n", topology.balancer.name(), "-d", "-j", "link", "show"]))?;
    let links: Value = serde_json::from_str(&text).context("ip's JSON")?;
    Ok(links
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|link| Some((link["ifname"].as_str()?.to_owned(), link["xdp"]["prog"]["id"].as_u64()?)))
        .collect())
}

/// The formatted value of an array map's entry.
fn entry_of(dump: &Value, id: u64) -> Option<&Value> {
    let item = dump
        .as_array()?
        .iter()
        .find(|item| item["formatted"]["key"].as_u64() == Some(id))?;
    Some(&item["formatted"]["value"])
}

fn sum_over_cpus(dump: &Value, id: u64, field: &str) -> Result<u64> {
    let item = dump
        .as_array()
        .into_iter()
        .flatten()
        .find(|item| item["formatted"]["key"].as_u64() == Some(id))
        .with_context(|| format!("no entry {id}"))?;
    let cpus = item["formatted"]["values"].as_array().context("values by CPU")?;
    Ok(cpus.iter().filter_map(|cpu| cpu["value"][field].as_u64()).sum())
}

/// A zero-terminated name: bpftool prints it as a string, or as numbers where the BTF does not say that they are
/// characters.
fn text_of(value: &Value) -> Result<String> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let bytes: Vec<u8> = serde_json::from_value(value.clone()).with_context(|| format!("a name: {value}"))?;
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8(text.to_vec())?)
}

/// bpftool prints 16 bytes as an array of numbers.
fn address_of(value: &Value) -> Result<IpAddr> {
    let bytes: Vec<u8> = serde_json::from_value(value.clone()).with_context(|| format!("an address: {value}"))?;
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| anyhow::anyhow!("not 16 bytes: {value}"))?;
    Ok(IpAddr::from(bytes).to_canonical())
}
