//! Traffic through the real agent and the loaded program: bulk, many connections, datagrams, both families, both
//! modes, and what is on the wire on each side.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::client::backends;
use xlb_tests::config_text::{QUICK_HTTP_CHECK, QUICK_TCP_CHECK, ServiceText};
use xlb_tests::netns::Namespace;
use xlb_tests::peers::{Capture, DatagramServer, Nginx, Segment, Talk, TalkServer, Verdict};
use xlb_tests::peers::{ask_datagram, count_names, download, http_get, make_file, ping, sha256_of, upload};
use xlb_tests::require;
use xlb_tests::topology::{CLIENT4, CLIENT6, Plan, SNAT4, SNAT6, Topology, VIP4, VIP6, host_port};

const PATIENCE: Duration = Duration::from_secs(5);
const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];

fn any_address(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => [0, 0, 0, 0].into(),
        IpAddr::V6(_) => [0_u16; 8].into(),
    }
}

fn datagram_socket(client: &Namespace, vip: IpAddr) -> Result<UdpSocket> {
    let socket = client.enter(|| UdpSocket::bind((any_address(vip), 0)))??;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// 100 MB up and down through one nginx for each family, compared by hash.
fn bulk_arrives_intact(topology: &Topology, mode: &str) -> Result<()> {
    let host = topology.backends.first().context("a backend")?;
    let nginx = Nginx::start(&topology.room, &host.namespace, "one", 8081)?;
    let service = ServiceText::new("web", "tcp", 80)
        .key("mode", &format!("\"{mode}\""))
        .key("check", QUICK_HTTP_CHECK)
        .host("one", host, 8081);
    let agent = Agent::start(topology, service.text())?;
    agent.client().wait_all_up()?;
    let file = topology.room.file("original");
    let hash = make_file(&file, 100)?;
    for vip in VIPS {
        let url = format!("http://{}/files/bulk", host_port(vip, 80));
        upload(&topology.client, &file, &url).with_context(|| format!("upload to {vip}"))?;
        ensure!(
            sha256_of(&nginx.files().join("bulk"))? == hash,
            "the upload to {vip} is not what was sent"
        );
        let down = topology.room.file("down");
        ensure!(
            download(&topology.client, &url, &down)? == hash,
            "the download from {vip} is not what is there"
        );
    }
    Ok(())
}

#[test]
fn a_hundred_megabytes_up_and_down_arrive_intact_in_both_families() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool");
    let _share = shared();
    bulk_arrives_intact(&Topology::build(Plan::full_nat(1))?, "full_nat")
}

#[test]
fn a_hundred_megabytes_arrive_intact_in_gateway_mode() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool");
    let _share = shared();
    bulk_arrives_intact(&Topology::build(Plan::gateway(1))?, "gateway")
}

#[test]
fn a_hundred_megabytes_arrive_intact_through_a_single_interface() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool");
    let _share = shared();
    bulk_arrives_intact(&Topology::build(Plan::one_arm(1))?, "full_nat")
}

#[test]
fn a_thousand_open_connections_spread_by_weight_and_stay_where_they_are() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(4))?;
    let weights = [100, 100, 200, 50];
    let ports = [8081, 9000, 30080, 81];
    let mut service = ServiceText::new("talk", "tcp", 80).key("check", QUICK_TCP_CHECK);
    let mut servers = Vec::new();
    for (index, host) in topology.backends.iter().enumerate() {
        let name = format!("b{index}");
        servers.push(TalkServer::start(&host.namespace, &name, ports[index])?);
        service = service.weighted_host(&name, host, ports[index], weights[index]);
    }
    let agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    for vip in VIPS {
        let to = SocketAddr::new(vip, 80);
        let mut talks = topology.client.enter(|| {
            (0..1000)
                .map(|_| {
                    let stream = std::net::TcpStream::connect_timeout(&to, PATIENCE)?;
                    Talk::over(stream, PATIENCE)
                })
                .collect::<Result<Vec<Talk>>>()
        })??;
        let ask = |talks: &mut Vec<Talk>| talks.iter_mut().map(Talk::ask).collect::<Result<Vec<String>>>();
        let first = ask(&mut talks)?;
        ensure!(ask(&mut talks)? == first, "a connection changed its backend");
        let counts = count_names(first);
        let total: u32 = weights.iter().sum();
        for (index, weight) in weights.iter().enumerate() {
            let count = f64::from(counts.get(&format!("b{index}")).copied().unwrap_or_default());
            let expected = 1000.0 * f64::from(*weight) / f64::from(total);
            // Five standard deviations of a binomial share, and 2 % of rounding in the ring.
            let share = expected / 1000.0;
            let tolerance = 5.0 * (1000.0 * share * (1.0 - share)).sqrt() + 0.02 * expected;
            ensure!(
                (count - expected).abs() <= tolerance,
                "{vip}: b{index} has {count} of 1000 connections, expected {expected:.0} +- {tolerance:.0}: {counts:?}"
            );
        }
        let status = agent.client().status()?;
        let family = if vip.is_ipv4() { "-v4" } else { "-v6" };
        let flows: u64 = backends(&status)
            .iter()
            .filter(|backend| backend.name().ends_with(family))
            .map(|backend| backend.number("flows"))
            .sum();
        ensure!(
            flows == 1000,
            "status counts {flows} of the 1000 open connections: {status}"
        );
    }
    for server in &servers {
        ensure!(server.peers().iter().all(|peer| {
            let ip = peer.ip().to_canonical();
            ip == IpAddr::from(SNAT4) || ip == IpAddr::from(SNAT6)
        }));
    }
    Ok(())
}

#[test]
fn datagrams_of_every_size_come_back_from_one_backend_per_flow() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(3))?;
    let mut service = ServiceText::new("echo", "udp", 53);
    let mut servers = Vec::new();
    for (host, port) in topology.backends.iter().zip([5300, 1053, 40000]) {
        let name = format!("u{port}");
        servers.push(DatagramServer::start(&host.namespace, &name, port)?);
        service = service.host(&name, host, port);
    }
    let agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    for vip in VIPS {
        let to = SocketAddr::new(vip, 53);
        let mut names = Vec::new();
        for _ in 0..60 {
            let socket = datagram_socket(&topology.client, vip)?;
            let name = ask_datagram(&socket, to, b"")?;
            for length in [1, 2, 17, 512, 1399, 1400] {
                let payload: Vec<u8> = (0..length).map(|_| fastrand::u8(..)).collect();
                let again = ask_datagram(&socket, to, &payload)?;
                ensure!(again == name, "{vip}: one flow was answered by {name} and {again}");
            }
            names.push(name);
        }
        let counts = count_names(names);
        ensure!(counts.len() == 3, "{vip}: 60 flows reached {counts:?}");
    }
    Ok(())
}

#[test]
fn in_gateway_mode_the_backends_see_the_client_itself() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::gateway(2))?;
    let mut tcp = ServiceText::new("talk", "tcp", 80)
        .key("mode", "\"gateway\"")
        .key("check", QUICK_TCP_CHECK);
    let mut udp = ServiceText::new("echo", "udp", 53).key("mode", "\"gateway\"");
    let mut servers = Vec::new();
    let mut echoes = Vec::new();
    for (host, port) in topology.backends.iter().zip([8081, 9000]) {
        let name = format!("g{port}");
        servers.push(TalkServer::start(&host.namespace, &name, port)?);
        echoes.push(DatagramServer::start(&host.namespace, &name, port)?);
        tcp = tcp.host(&name, host, port);
        udp = udp.host(&name, host, port);
    }
    let agent = Agent::start(&topology, &format!("{}\n{}", tcp.text(), udp.text()))?;
    agent.client().wait_all_up()?;
    for vip in VIPS {
        let mut names = Vec::new();
        for _ in 0..40 {
            let mut talk = Talk::connect(&topology.client, SocketAddr::new(vip, 80), PATIENCE)?;
            names.push(talk.ask()?);
            let socket = datagram_socket(&topology.client, vip)?;
            ask_datagram(&socket, SocketAddr::new(vip, 53), b"payload")?;
        }
        ensure!(count_names(names).len() == 2, "{vip}: only one backend was reached");
    }
    let peers: Vec<IpAddr> = servers
        .iter()
        .flat_map(TalkServer::peers)
        .map(|peer| peer.ip().to_canonical())
        .collect();
    ensure!(peers.len() == 80, "the backends talked {} times, not 80", peers.len());
    ensure!(
        peers
            .iter()
            .all(|ip| [IpAddr::from(CLIENT4), IpAddr::from(CLIENT6)].contains(ip)),
        "the backends saw {peers:?}"
    );
    Ok(())
}

#[test]
fn a_virtual_address_answers_echo_and_other_ports_of_it_refuse() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let _server = TalkServer::start(&host.namespace, "one", 8081)?;
    let service = ServiceText::new("talk", "tcp", 80).host("one", host, 8081);
    let agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    for vip in VIPS {
        ping(&topology.client, vip)?;
        ensure!(Talk::connect(&topology.client, SocketAddr::new(vip, 80), PATIENCE)?.ask()? == "one");
        ensure!(
            Talk::connect(&topology.client, SocketAddr::new(vip, 81), PATIENCE).is_err(),
            "{vip}: port 81 belongs to no service but answers"
        );
    }
    Ok(())
}

/// Where a capture was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Backend,
}

/// Every packet of one side has that side's port, and those that the balancer wrote have right checksums. (What a side
/// sends itself is captured before the wire; its checksum is looked at on the other side, rewritten.)
fn check_side(side: Side, segments: &[Segment], ours: &[IpAddr], port: u16, least: usize) -> Result<()> {
    ensure!(
        segments.len() >= least,
        "{side:?}: only {} packets captured",
        segments.len()
    );
    let mut written = 0;
    for segment in segments {
        let source: IpAddr = segment.source.parse()?;
        let destination: IpAddr = segment.destination.parse()?;
        let to_us = ours.contains(&destination) && segment.destination_port == port;
        let from_us = ours.contains(&source) && segment.source_port == port;
        ensure!(to_us || from_us, "{side:?}: expected {ours:?} port {port}: {segment:?}");
        let by_balancer = match side {
            Side::Client => from_us,
            Side::Backend => to_us,
        };
        if by_balancer {
            written += 1;
            let header = segment.header_checksum.unwrap_or(Verdict::Good);
            ensure!(
                (segment.checksum, header) == (Verdict::Good, Verdict::Good),
                "{side:?}: {segment:?}"
            );
        }
    }
    ensure!(
        written >= least / 3,
        "{side:?}: only {written} packets came from the balancer"
    );
    Ok(())
}

#[test]
fn captures_on_both_sides_show_right_checksums_and_the_right_ports() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool", "tcpdump", "tshark");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    topology.complete_checksums_everywhere()?;
    let host = &topology.backends[0];
    let _nginx = Nginx::start(&topology.room, &host.namespace, "one", 8081)?;
    let _echo = DatagramServer::start(&host.namespace, "one", 5300)?;
    // Without checks: the backend's capture then holds nothing but clients' traffic.
    let services = [
        ServiceText::new("web", "tcp", 80).host("one", host, 8081),
        ServiceText::new("echo", "udp", 53).host("one", host, 5300),
    ];
    let agent = Agent::start(&topology, &format!("{}\n{}", services[0].text(), services[1].text()))?;
    agent.client().wait_all_up()?;
    let ours = [IpAddr::from(VIP4), IpAddr::from(VIP6)];
    let theirs = [IpAddr::from(host.address4), IpAddr::from(host.address6)];
    let file = topology.room.file("original");
    make_file(&file, 1)?;

    let front = Capture::start(&topology.room, &topology.client, "c0", "tcp")?;
    let back = Capture::start(&topology.room, &host.namespace, "eth0", "tcp")?;
    for vip in VIPS {
        let url = |path: &str| format!("http://{}{path}", host_port(vip, 80));
        ensure!(http_get(&topology.client, &url("/"))? == "one\n");
        upload(&topology.client, &file, &url("/files/bulk"))?;
        download(&topology.client, &url("/files/bulk"), &topology.room.file("down"))?;
    }
    check_side(Side::Client, &front.segments()?, &ours, 80, 100)?;
    check_side(Side::Backend, &back.segments()?, &theirs, 8081, 100)?;

    let front = Capture::start(&topology.room, &topology.client, "c0", "udp")?;
    let back = Capture::start(&topology.room, &host.namespace, "eth0", "udp")?;
    for vip in VIPS {
        let socket = datagram_socket(&topology.client, vip)?;
        for length in 0..40 {
            ask_datagram(&socket, SocketAddr::new(vip, 53), &vec![0x5a; length])?;
        }
    }
    check_side(Side::Client, &front.segments()?, &ours, 53, 160)?;
    check_side(Side::Backend, &back.segments()?, &theirs, 5300, 160)?;
    Ok(())
}

#[test]
fn transfers_in_every_direction_at_once_all_arrive() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(2))?;
    let mut service = ServiceText::new("web", "tcp", 80).key("check", QUICK_HTTP_CHECK);
    let mut servers = Vec::new();
    let file = topology.room.file("original");
    let hash = make_file(&file, 10)?;
    for (host, port) in topology.backends.iter().zip([8081, 9000]) {
        let nginx = Nginx::start(&topology.room, &host.namespace, "any", port)?;
        std::fs::copy(&file, nginx.files().join("bulk"))?;
        servers.push(nginx);
        service = service.host(&format!("n{port}"), host, port);
    }
    let agent = Agent::start(&topology, service.text())?;
    agent.client().wait_all_up()?;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for worker in 0..8 {
            let (topology, file, hash) = (&topology, &file, &hash);
            let vip = VIPS[worker % 2];
            running.push(scope.spawn(move || -> Result<()> {
                let url = |path: &str| format!("http://{}/files/{path}", host_port(vip, 80));
                let down = topology.room.file(&format!("down-{worker}"));
                ensure!(
                    download(&topology.client, &url("bulk"), &down)? == *hash,
                    "worker {worker}"
                );
                upload(&topology.client, file, &url(&format!("up-{worker}")))
            }));
        }
        for worker in running {
            worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    for worker in 0..8 {
        let name = format!("up-{worker}");
        let found: Vec<String> = servers
            .iter()
            .map(|server| server.files().join(&name))
            .filter(|path| path.is_file())
            .map(|path| sha256_of(&path))
            .collect::<Result<_>>()?;
        ensure!(found == [hash.clone()], "{name}: {found:?}");
    }
    Ok(())
}
