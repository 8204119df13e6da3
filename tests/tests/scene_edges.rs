//! The hard corners: source ports used again at once, too few SNAT ports, a router whose MAC changes, neighbours nobody
//! has asked for yet, ten thousand flows beside a thousand checks a second.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xlb_tests::agent::{Agent, agent_section};
use xlb_tests::alone::{alone, shared};
use xlb_tests::client::backends;
use xlb_tests::config_text::{QUICK_TCP_CHECK, ServiceText};
use xlb_tests::netns::Namespace;
use xlb_tests::peers::{LATER_DELAY, Nginx, Talk, TalkServer};
use xlb_tests::peers::{make_file, sha256_of, start_upload};
use xlb_tests::process::{run, wait_until};
use xlb_tests::require;
use xlb_tests::topology::{CLIENT4, CLIENT6, Plan, Topology, VIP4, VIP6, host_port};

const PATIENCE: Duration = Duration::from_secs(5);
const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];

fn client_address(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => CLIENT4.into(),
        IpAddr::V6(_) => CLIENT6.into(),
    }
}

/// Packets dropped for `reason`, by `xlb drops`.
fn dropped(agent: &Agent, reason: &str) -> Result<u64> {
    let drops = agent.client().drops()?;
    Ok(find_reason(&drops, reason).unwrap_or_default())
}

/// The count of a reason, wherever the document lists it.
fn find_reason(value: &Value, reason: &str) -> Option<u64> {
    match value {
        Value::Object(fields) => {
            if fields.get("reason").and_then(Value::as_str) == Some(reason) {
                return fields.get("packets").and_then(Value::as_u64);
            }
            fields.values().find_map(|value| find_reason(value, reason))
        }
        Value::Array(items) => items.iter().find_map(|value| find_reason(value, reason)),
        _ => None,
    }
}

/// How the end of a connection looks to the balancer.
#[derive(Debug, Clone, Copy)]
enum Close {
    /// The client resets.
    ClientResets,
    /// The backend sends the first FIN and keeps TIME_WAIT.
    BackendFirst,
}

#[test]
fn a_source_port_used_again_at_once_is_served_without_a_stall() -> Result<()> {
    require!("ip", "ethtool");
    let _machine = alone();
    let topology = Topology::build(Plan::full_nat(3))?;
    let mut service = ServiceText::new("talk", "tcp", 80).key("check", QUICK_TCP_CHECK);
    let mut servers = Vec::new();
    for (host, port) in topology.backends.iter().zip([8081, 9000, 30080]) {
        servers.push(TalkServer::start(&host.namespace, &format!("b{port}"), port)?);
        service = service.host(&format!("b{port}"), host, port);
    }
    let agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    for vip in VIPS {
        for close in [Close::ClientResets, Close::BackendFirst] {
            // One port inside snat_ports (kept towards the backend), one outside (translated).
            for port in [20_000, 45_000] {
                let from = SocketAddr::new(client_address(vip), port);
                let mut slowest = Duration::ZERO;
                topology.client.enter(|| -> Result<()> {
                    for round in 0..30 {
                        let before = Instant::now();
                        let mut talk = connect_when_free(from, SocketAddr::new(vip, 80))
                            .with_context(|| format!("round {round}, {close:?}"))?;
                        talk.ask().with_context(|| format!("round {round}, {close:?}"))?;
                        slowest = slowest.max(before.elapsed());
                        match close {
                            Close::ClientResets => {
                                socket2::SockRef::from(talk.stream()).set_linger(Some(Duration::ZERO))?;
                            }
                            Close::BackendFirst => {
                                talk.bye()?;
                            }
                        }
                    }
                    Ok(())
                })??;
                ensure!(
                    slowest < Duration::from_millis(200),
                    "{from} to {vip}, {close:?}: the slowest of 30 connections took {slowest:?}"
                );
            }
        }
    }
    Ok(())
}

/// Connects as soon as the client's own kernel lets go of the port: until the last ACK of the old connection arrives it
/// holds it. That wait is part of the measured time.
fn connect_when_free(from: SocketAddr, to: SocketAddr) -> Result<Talk> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Talk::connect_from(from, to, PATIENCE) {
            Err(error) if is_address_in_use(&error) && Instant::now() < deadline => sleep(Duration::from_millis(1)),
            result => return result,
        }
    }
}

fn is_address_in_use(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse))
}

#[test]
fn snat_exhaustion_is_counted_and_leaves_everybody_else_alone() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let [first, second] = &topology.backends[..] else {
        anyhow::bail!("two backends were planned");
    };
    let _servers = [
        TalkServer::start(&first.namespace, "small", 8081)?,
        TalkServer::start(&second.namespace, "other", 8081)?,
    ];
    let services = [
        ServiceText::new("small", "tcp", 80).host("small", first, 8081),
        ServiceText::new("other", "tcp", 81).host("other", second, 8081),
    ];
    let section = format!("{}snat_ports = \"20000-20007\"\n", agent_section(&topology));
    let agent = Agent::start_with(
        &topology,
        &section,
        &format!("{}\n{}", services[0].text(), services[1].text()),
    )?;
    agent.client().wait_all_up()?;
    for vip in VIPS {
        let to = SocketAddr::new(vip, 80);
        let before = dropped(&agent, "snat_exhausted")?;
        let mut held = Vec::new();
        for number in 0..8 {
            let mut talk =
                Talk::connect(&topology.client, to, PATIENCE).with_context(|| format!("connection {number} of 8"))?;
            ensure!(talk.ask()? == "small");
            held.push(talk);
        }
        ensure!(
            dropped(&agent, "snat_exhausted")? == before,
            "exhausted before all 8 tuples were in use"
        );
        ensure!(
            Talk::connect(&topology.client, to, Duration::from_millis(700)).is_err(),
            "{vip}: a ninth connection over 8 ports"
        );
        ensure!(
            dropped(&agent, "snat_exhausted")? > before,
            "{vip}: the drop was not counted: {}",
            agent.client().drops()?
        );
        for talk in &mut held {
            ensure!(talk.ask()? == "small", "{vip}: exhaustion broke an open connection");
        }
        // Towards another backend the same eight ports are free.
        let other = Talk::connect(&topology.client, SocketAddr::new(vip, 81), PATIENCE)?.ask()?;
        ensure!(other == "other");
        // One that ended makes room.
        held.pop().context("eight are held")?.bye()?;
        let mut next = Talk::connect(&topology.client, to, PATIENCE).context("after one had ended")?;
        ensure!(next.ask()? == "small");
        for talk in &mut held {
            ensure!(
                talk.ask()? == "small",
                "{vip}: the reused tuple broke another connection"
            );
        }
    }
    Ok(())
}

/// The router gets another MAC, announced as after a failover. Locally administered, unicast.
fn change_router_mac(topology: &Topology, number: u8) -> Result<()> {
    topology.router.sysctl("net/ipv4/conf/f0/arp_notify", "1")?;
    topology.router.sysctl("net/ipv6/conf/f0/ndisc_notify", "1")?;
    topology
        .router
        .ip(&format!("link set f0 address 02:00:5e:00:53:{number:02x}\n"))
}

#[test]
fn the_routers_mac_may_change_while_clients_send() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let nginx = Nginx::start(&topology.room, &host.namespace, "one", 8081)?;
    let _server = TalkServer::start(&host.namespace, "one", 8082)?;
    let services = [
        ServiceText::new("web", "tcp", 80).host("one", host, 8081),
        ServiceText::new("talk", "tcp", 81).host("one", host, 8082),
    ];
    let agent = Agent::start(&topology, &format!("{}\n{}", services[0].text(), services[1].text()))?;
    agent.client().wait_all_up()?;
    let file = topology.room.file("original");
    let hash = make_file(&file, 60)?;
    let mut transfers = Vec::new();
    let mut held = Vec::new();
    for (index, vip) in VIPS.into_iter().enumerate() {
        let url = format!("http://{}/files/up-{index}", host_port(vip, 80));
        transfers.push(start_upload(&topology.client, &file, &url, 10)?);
        let mut talk = Talk::connect(&topology.client, SocketAddr::new(vip, 81), PATIENCE)?;
        ensure!(talk.ask()? == "one");
        held.push(talk);
    }
    for number in 1..=3 {
        sleep(Duration::from_millis(700));
        change_router_mac(&topology, number)?;
        for talk in &mut held {
            ensure!(talk.ask()? == "one", "after change {number}");
        }
    }
    for transfer in &mut transfers {
        transfer.ensure_running()?;
    }
    for (index, transfer) in transfers.iter_mut().enumerate() {
        transfer.finish(Duration::from_secs(30))?;
        let name = format!("up-{index}");
        ensure!(sha256_of(&nginx.files().join(&name))? == hash, "{name} differs");
    }
    Ok(())
}

#[test]
fn the_routers_mac_may_change_while_clients_only_listen() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let _server = TalkServer::start(&host.namespace, "one", 8082)?;
    let service = ServiceText::new("talk", "tcp", 81).host("one", host, 8082);
    let agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    let mut held = Vec::new();
    for vip in VIPS {
        let mut talk = Talk::connect(&topology.client, SocketAddr::new(vip, 81), PATIENCE)?;
        ensure!(talk.ask()? == "one");
        talk.ask_later()?;
        held.push(talk);
    }
    // The request is on its way, its answer is not: what comes next goes to a client that has nothing to say.
    sleep(LATER_DELAY / 2);
    change_router_mac(&topology, 1)?;
    for talk in &mut held {
        ensure!(talk.hear()? == "one", "the answer did not find the router's new MAC");
    }
    Ok(())
}

#[test]
fn the_first_connection_finds_neighbours_that_nobody_knows_yet() -> Result<()> {
    require!("ip", "ethtool");
    let _machine = alone();
    let topology = Topology::build(Plan::full_nat(2))?;
    let mut service = ServiceText::new("talk", "tcp", 80);
    let mut servers = Vec::new();
    for host in &topology.backends {
        servers.push(TalkServer::start(&host.namespace, "any", 8081)?);
        service = service.host(&host.address4.to_string(), host, 8081);
    }
    topology.flush_neighbours()?;
    for family in ["-4", "-6"] {
        let known = topology.balancer.ip_show(&format!("{family} neigh show dev back0"))?;
        ensure!(
            !known.contains("lladdr"),
            "a neighbour is known before the start: {known}"
        );
    }
    let agent = Agent::start(&topology, service.text())?;
    let started = Instant::now();
    for vip in [VIPS[1], VIPS[0]] {
        let mut talk = Talk::connect(&topology.client, SocketAddr::new(vip, 80), PATIENCE)?;
        ensure!(talk.ask()? == "any");
    }
    ensure!(
        started.elapsed() < Duration::from_millis(2500),
        "the first connections took {:?}",
        started.elapsed()
    );
    agent.client().wait_all_up()?;

    // A neighbour that is lost while we run is found again without anybody's help.
    topology.flush_neighbours()?;
    for vip in VIPS {
        for _ in 0..20 {
            let mut talk = Talk::connect(&topology.client, SocketAddr::new(vip, 80), PATIENCE)?;
            ensure!(talk.ask()? == "any");
        }
    }
    Ok(())
}

#[test]
fn a_backend_whose_mac_changes_is_followed() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let _server = TalkServer::start(&host.namespace, "one", 8081)?;
    let service = ServiceText::new("talk", "tcp", 80)
        .key("check", QUICK_TCP_CHECK)
        .host("one", host, 8081);
    let agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    let mut held: Vec<Talk> = Vec::new();
    for vip in VIPS {
        let mut talk = Talk::connect(&topology.client, SocketAddr::new(vip, 80), PATIENCE)?;
        ensure!(talk.ask()? == "one");
        held.push(talk);
    }
    // As after a failover: the new holder announces the addresses.
    host.namespace.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
    host.namespace.sysctl("net/ipv6/conf/eth0/ndisc_notify", "1")?;
    host.namespace.ip("link set eth0 address 02:00:5e:00:53:aa\n")?;
    for talk in &mut held {
        ensure!(talk.ask()? == "one", "an open connection did not follow the new MAC");
    }
    agent.client().wait_all_up()?;
    for vip in VIPS {
        ensure!(Talk::connect(&topology.client, SocketAddr::new(vip, 80), PATIENCE)?.ask()? == "one");
    }
    Ok(())
}

#[test]
fn ten_thousand_flows_beside_a_thousand_checks_a_second_give_no_false_verdict() -> Result<()> {
    require!("ip", "ethtool", "nginx", "curl", "prlimit");
    const FLOWS: u32 = 10_000;
    const SERVICES: u16 = 500;
    /// As many as five seconds have; a machine that stands still now and then takes longer.
    const CHECKS: u64 = 5_000;
    let _machine = alone();
    raise_descriptor_limit(FLOWS)?;
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let server = Nginx::start(&topology.room, &host.namespace, "one", 8081)?;
    // Five hundred services with one backend, the same port for all, each checked twice a second: 1,000 checks.
    let check = r#"{ tcp = {}, interval = "500ms", timeout = "500ms", rise = 1, fall = 1 }"#;
    let text: String = (0..SERVICES)
        .map(|number| {
            ServiceText::v4(&format!("s{number}"), "tcp", 1000 + number)
                .key("check", check)
                .backend("one", host.address4, 8081)
                .text()
                .to_owned()
        })
        .collect();
    let agent = Agent::start(&topology, &text)?;
    agent.client().wait_all_up()?;

    let done = AtomicBool::new(false);
    let mut held = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_for_false_verdicts(&agent, &done));
        let held = topology.client.enter(|| hold_flows(FLOWS, SERVICES));
        let checked = match &held {
            Ok(Ok(_)) => checks_pass(&server, &host.namespace, CHECKS),
            _ => Ok(()),
        };
        done.store(true, Ordering::Relaxed);
        watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
        let held = held??;
        checked?;
        Ok::<_, anyhow::Error>(held)
    })?;
    for stream in &mut held {
        get_root(stream).context("a held connection")?;
    }
    let log = agent.log();
    ensure!(
        !log.lines()
            .any(|line| line.contains("refused") || line.contains("filtered")),
        "the log knows a failed check"
    );
    Ok(())
}

/// Waits until the server has accepted that many checks. Seldom asked: each question is a process beside the checks.
fn checks_pass(server: &Nginx, namespace: &Namespace, checks: u64) -> Result<()> {
    let before = server.accepted(namespace)?;
    let mut questions = 0;
    let what = format!("{checks} checks beside the flows");
    wait_until(&what, Duration::from_secs(60), || {
        sleep(Duration::from_millis(500));
        questions += 1;
        Ok(server.accepted(namespace)? - before >= questions + checks)
    })
}

/// Opens `count` connections and keeps them; each has made one request.
fn hold_flows(count: u32, services: u16) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|number| {
            let port = 1000 + (number % u32::from(services)) as u16;
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(VIP4.into(), port), PATIENCE)
                .with_context(|| format!("connection {number}"))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            get_root(&mut stream).with_context(|| format!("connection {number}"))?;
            Ok(stream)
        })
        .collect()
}

/// One HTTP request on an open connection; an error unless the answer ends with the backend's name.
fn get_root(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: one\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.ends_with(b"\r\n\r\none\n") {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "closed after {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
    Ok(())
}

/// Reads the status until `done`, five times at least. An error at the first backend that is not up.
fn watch_for_false_verdicts(agent: &Agent, done: &AtomicBool) -> Result<()> {
    let mut looks = 0;
    while looks < 5 || !done.load(Ordering::Relaxed) {
        let status = agent.client().status()?;
        let out: Vec<Value> = backends(&status)
            .into_iter()
            .filter(|backend| !backend.is_up())
            .map(|backend| backend.row.clone())
            .collect();
        ensure!(out.is_empty(), "a false verdict after {looks} looks: {out:?}");
        looks += 1;
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Raises the soft limit of this process to the hard one, which must allow `flows` sockets.
fn raise_descriptor_limit(flows: u32) -> Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .context("no limit of open files")?;
    let hard: u32 = line.split_whitespace().nth(4).context("no hard limit")?.parse()?;
    ensure!(
        hard > flows + 200,
        "the hard limit of open files is {hard}; this scene needs {flows}"
    );
    let pid = std::process::id().to_string();
    let limit = format!("--nofile={hard}:{hard}");
    run(std::process::Command::new("prlimit").args(["--pid", &pid, &limit])).map(drop)
}
