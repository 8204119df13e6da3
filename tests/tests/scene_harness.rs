//! The harness itself: its network carries every kind of traffic with the kernel's own NAT in the balancer's place, so
//! that a failure of the other scenes is the balancer's.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xlb_tests::alone::shared;
use xlb_tests::netns::Namespace;
use xlb_tests::peers::{Capture, DatagramServer, Nginx, Talk, TalkServer, Verdict};
use xlb_tests::peers::{ask_datagram, download, http_get, make_file, ping, upload};
use xlb_tests::process::run;
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4, VIP6, host_port};

const PATIENCE: Duration = Duration::from_secs(5);

/// Kernel NAT from the VIPs' port 80 (TCP) and 53 (UDP) to the first backend's internal ports.
fn kernel_balancer(topology: &Topology, tcp_port: u16, udp_port: u16) -> Result<()> {
    let balancer = &topology.balancer;
    balancer.sysctl("net/ipv4/ip_forward", "1")?;
    balancer.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    let backend = topology.backends.first().context("a backend")?;
    for (family, vip, to) in [
        ("ip", IpAddr::from(VIP4), IpAddr::from(backend.address4)),
        ("ip6", IpAddr::from(VIP6), IpAddr::from(backend.address6)),
    ] {
        let rules = format!(
            "table {family} nat {{
                chain pre {{ type nat hook prerouting priority -100;
                    {family} daddr {vip} tcp dport 80 dnat to {}
                    {family} daddr {vip} udp dport 53 dnat to {}
                }}
                chain post {{ type nat hook postrouting priority 100; oifname back0 masquerade; }}
            }}",
            host_port(to, tcp_port),
            host_port(to, udp_port)
        );
        let file = topology.room.file(&format!("{family}.nft"));
        std::fs::write(&file, rules)?;
        run(balancer.command("nft").arg("-f").arg(&file))?;
    }
    Ok(())
}

#[test]
fn the_network_carries_http_talk_and_datagrams_in_both_families() -> Result<()> {
    require!("ip", "nft", "nginx", "curl", "ethtool", "tcpdump", "tshark");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    topology.complete_checksums_everywhere()?;
    let backend = &topology.backends[0].namespace;
    kernel_balancer(&topology, 8081, 5300)?;
    let nginx = Nginx::start(&topology.room, backend, "one", 8081)?;
    let _datagrams = DatagramServer::start(backend, "one", 5300)?;
    let capture = Capture::start(&topology.room, backend, "eth0", "tcp or udp")?;
    let file = topology.room.file("upload");
    let hash = make_file(&file, 4)?;
    for vip in [IpAddr::from(VIP4), IpAddr::from(VIP6)] {
        let url = |path: &str| format!("http://{}{path}", host_port(vip, 80));
        ensure!(http_get(&topology.client, &url("/"))? == "one\n");
        upload(&topology.client, &file, &url("/files/up"))?;
        ensure!(xlb_tests::peers::sha256_of(&nginx.files().join("up"))? == hash);
        let down = topology.room.file("down");
        ensure!(download(&topology.client, &url("/files/up"), &down)? == hash);
        let any: IpAddr = if vip.is_ipv4() {
            [0, 0, 0, 0].into()
        } else {
            [0_u16; 8].into()
        };
        let socket = topology.client.enter(|| UdpSocket::bind(SocketAddr::new(any, 0)))??;
        socket.set_read_timeout(Some(PATIENCE))?;
        ensure!(ask_datagram(&socket, SocketAddr::new(vip, 53), b"payload")? == "one");
    }
    let segments = capture.segments()?;
    ensure!(segments.len() > 100, "only {} packets captured", segments.len());
    for segment in &segments {
        ensure!(segment.checksum == Verdict::Good, "{segment:?}");
        ensure!(
            segment.header_checksum.is_none_or(|verdict| verdict == Verdict::Good),
            "{segment:?}"
        );
        let ports = [segment.source_port, segment.destination_port];
        ensure!(ports.contains(&8081) || ports.contains(&5300), "{segment:?}");
    }
    Ok(())
}

#[test]
fn a_talk_connection_outlives_many_lines_and_ends_with_its_server() -> Result<()> {
    require!("ip");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let backend = &topology.backends[0];
    let server = TalkServer::start(&backend.namespace, "one", 9000)?;
    let to = SocketAddr::new(backend.address4.into(), 9000);
    let mut talk = Talk::connect(&topology.balancer, to, PATIENCE)?;
    for _ in 0..100 {
        ensure!(talk.ask()? == "one");
    }
    ensure!(server.accepted() == 1 && server.answered() == 100, "{server:?}");
    drop(server);
    ensure!(talk.ask().is_err(), "the server is gone but answers");
    ensure!(
        Talk::connect(&topology.balancer, to, PATIENCE).is_err(),
        "the port is still open"
    );
    Ok(())
}

#[test]
fn a_dropped_topology_leaves_no_namespace_no_mount_and_no_process() -> Result<()> {
    require!("ip", "nginx", "curl");
    let _share = shared();
    let topology = Topology::build(Plan::gateway(2))?;
    ping(&topology.client, [198, 51, 100, 1])?;
    ping(&topology.backends[1].namespace, topology.backends[0].address6)?;
    let nginx = Nginx::start(&topology.room, &topology.backends[0].namespace, "one", 8081)?;
    let pid = nginx.pid();
    let names: Vec<std::path::PathBuf> = [&topology.client, &topology.switch, &topology.backends[1].namespace]
        .map(Namespace::path)
        .to_vec();
    let bpffs = topology.room.bpffs();
    // A leaked guard stands for a process that nobody stops.
    std::mem::forget(nginx);
    drop(topology);
    for name in names {
        ensure!(!name.exists(), "{} is still there", name.display());
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    ensure!(!mounts.contains(&*bpffs.to_string_lossy()), "bpffs is still mounted");
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    ensure!(!command.contains("nginx"), "nginx still runs: {command}");
    Ok(())
}
