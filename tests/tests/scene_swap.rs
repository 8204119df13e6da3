//! Program swaps are atomic on one interface, not across two: for a while each interface runs another program over the
//! same maps. Traffic that crosses both must not notice, however long that while is.

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_userspace::config::{Limits, XdpMode};
use lb_userspace::dataplane::{Adoption, Dataplane, LogObject, Options, kernel_hz};
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::client::Client;
use xlb_tests::config_text::{QUICK_TCP_CHECK, ServiceText};
use xlb_tests::peers::{Load, Nginx, Talk, TalkServer, make_file, sha256_of, start_download, start_upload};
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4, VIP6, host_port};

const PATIENCE: Duration = Duration::from_secs(5);
const VIPS: [IpAddr; 2] = [IpAddr::V4(VIP4), IpAddr::V6(VIP6)];
/// How long the two interfaces run different programs.
const PAUSE: Duration = Duration::from_millis(1500);

/// Loads the program again over the pinned maps and swaps it in on one interface after the other.
fn swap(topology: &Topology, client: &Client, log: LogObject) -> Result<()> {
    let options = Options {
        pin_dir: client.pin_dir().to_owned(),
        limits: Limits::default(),
        hz: kernel_hz()?,
        log,
        xdp_mode: XdpMode::Native,
    };
    topology.balancer.enter(|| -> Result<()> {
        let (mut dataplane, adoption) = Dataplane::open(&options)?;
        ensure!(matches!(adoption, Adoption::Adopted { .. }), "{adoption:?}");
        for link in ["front0", "back0"] {
            let index = nix::net::if_::if_nametoindex(link).with_context(|| format!("index of {link}"))?;
            let attached = dataplane.attach(link, index)?;
            ensure!(attached.replaced, "{link}: {attached:?}");
            sleep(PAUSE);
        }
        Ok(())
    })?
}

#[test]
fn swapping_one_interface_long_before_the_other_fails_no_request() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let nginx = Nginx::start(&topology.room, &host.namespace, "one", 8081)?;
    let _server = TalkServer::start(&host.namespace, "one", 9000)?;
    let services = [
        ServiceText::new("web", "tcp", 80).host("one", host, 8081),
        ServiceText::new("talk", "tcp", 81)
            .key("check", QUICK_TCP_CHECK)
            .host("one", host, 9000),
    ];
    let mut agent = Agent::start(&topology, &format!("{}\n{}", services[0].text(), services[1].text()))?;
    agent.client().wait_all_up()?;
    let file = nginx.files().join("bulk");
    let hash = make_file(&file, 100)?;
    let targets = VIPS.map(|vip| SocketAddr::new(vip, 81));
    let load = Load::start(&topology.client, &targets, Duration::from_millis(5))?;
    let mut held = Vec::new();
    let mut transfers = Vec::new();
    for (index, vip) in VIPS.into_iter().enumerate() {
        held.push(Talk::connect(&topology.client, SocketAddr::new(vip, 81), PATIENCE)?);
        let url = |path: &str| format!("http://{}/files/{path}", host_port(vip, 80));
        let down = topology.room.file(&format!("down-{index}"));
        transfers.push(start_download(&topology.client, &url("bulk"), &down, 8)?);
        transfers.push(start_upload(&topology.client, &file, &url(&format!("up-{index}")), 8)?);
    }
    agent.kill()?;
    // To the program with packet logging and back: as different as two versions with one map layout can be.
    for log in [LogObject::On, LogObject::Off] {
        swap(&topology, agent.client(), log)?;
        for talk in &mut held {
            ensure!(talk.ask()? == "one");
        }
    }
    for transfer in &mut transfers {
        transfer.ensure_running()?;
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
        ensure!(sha256_of(&nginx.files().join(&name))? == hash, "{name} differs");
    }
    // The maps were not harmed: an agent adopts them.
    agent.run(&topology.balancer)?;
    ensure!(agent.client().status()?["program"]["adoption"] == "adopted");
    Ok(())
}
