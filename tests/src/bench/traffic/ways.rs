//! The ways to balance that `bench traffic` puts side by side, each on a network of its own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::network::{self, Offloads};
use super::part::BLOB_MEGABYTES;
use super::relay::Relay;
use crate::agent::{Agent, agent_section};
use crate::client::backends;
use crate::config_text::ServiceText;
use crate::netns::Namespace;
use crate::peers::Nginx;
use crate::process::{Process, run as run_command};
use crate::topology::{SNAT4, Topology, VIP4, host_port};

/// Port that nginx, the server, listens on.
const SERVER_PORT: u16 = 8080;
const PORT: u16 = 80;

/// Where the kernel runs an XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// In the driver, before there is a socket buffer. Veth has to turn a local socket's into a frame, and back.
    Native,
    /// Behind the driver, on the socket buffer as it came.
    Generic,
}

/// A way from the client to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The balancer's kernel routes; the client knows the server.
    Direct,
    /// The same again: what two equal ways differ by.
    DirectAgain,
    /// As direct, over a program that does the least that an XDP program can.
    BareRedirect(Hook),
    FullNat(Hook),
    Gateway,
    Nftables,
    Haproxy,
    NginxStream,
}

impl Way {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::DirectAgain => "direct, once more",
            Self::BareRedirect(Hook::Native) => "bare redirect",
            Self::BareRedirect(Hook::Generic) => "bare redirect, generic XDP",
            Self::FullNat(Hook::Native) => "xlb full_nat",
            Self::FullNat(Hook::Generic) => "xlb full_nat, generic XDP",
            Self::Gateway => "xlb gateway",
            Self::Nftables => "nftables DNAT and SNAT",
            Self::Haproxy => "HAProxy, TCP mode",
            Self::NginxStream => "nginx stream",
        }
    }

    /// Whether the client asks the server's own address, not the VIP.
    const fn asks_the_server(self) -> bool {
        matches!(self, Self::Direct | Self::DirectAgain | Self::BareRedirect(_))
    }
}

/// A way that carries traffic, between a client and a server of its own. Dropping it takes all of that away.
pub(super) struct Lane {
    way: Way,
    offloads: Offloads,
    target: Ipv4Addr,
    /// Before what it stands on.
    what: What,
    _server: Nginx,
    topology: Topology,
}

enum What {
    Kernel,
    Relay(Relay),
    Agent(Box<Agent>),
    Proxy(Process),
}

impl Lane {
    /// Builds it, starts it and waits for the first answer.
    pub(super) fn start(way: Way, offloads: Offloads) -> Result<Self> {
        let topology = network::build(offloads)?;
        let host = network::server(&topology)?;
        let nginx = Nginx::start(&topology.room, &host.namespace, "server", SERVER_PORT)?;
        fs::write(nginx.files().join("blob"), vec![0_u8; (BLOB_MEGABYTES as usize) << 20]).context("write the blob")?;
        let server = host.address4;
        let lane = Self {
            way,
            offloads,
            target: if way.asks_the_server() { server } else { VIP4 },
            what: balance(&topology, way, server)?,
            _server: nginx,
            topology,
        };
        let answer = wait_for_answer(lane.client(), lane.target(), lane.port());
        match &lane.what {
            What::Proxy(process) => answer.with_context(|| process.output())?,
            _ => answer?,
        }
        offloads.check(&lane.topology)?;
        Ok(lane)
    }

    /// Which way it is.
    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// Its client, balancer and server.
    pub(super) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Where its client is.
    pub(super) fn client(&self) -> &Namespace {
        &self.topology.client
    }

    /// Where the client connects to.
    pub(super) fn target(&self) -> IpAddr {
        self.target.into()
    }

    /// And on which port.
    pub(super) fn port(&self) -> u16 {
        if self.way.asks_the_server() { SERVER_PORT } else { PORT }
    }

    /// That the program, and not the kernel, carried what was measured, and the interfaces are what they were.
    pub(super) fn check(&self) -> Result<()> {
        self.offloads.check(&self.topology)?;
        let agent = match &self.what {
            What::Agent(agent) => agent,
            What::Relay(relay) => return relay.check(&self.topology.balancer),
            What::Kernel | What::Proxy(_) => return Ok(()),
        };
        let status = agent.client().status()?;
        let forwarded: u64 = backends(&status)
            .iter()
            .map(|backend| backend.counter("packets_in"))
            .sum();
        ensure!(
            forwarded > 1_000,
            "xlb forwarded only {forwarded} packets:\n{}",
            agent.client().evidence()
        );
        Ok(())
    }
}

/// Starts what balances.
fn balance(topology: &Topology, way: Way, server: Ipv4Addr) -> Result<What> {
    Ok(match way {
        Way::Direct | Way::DirectAgain => What::Kernel,
        Way::BareRedirect(hook) => What::Relay(Relay::attach(&topology.balancer, hook)?),
        Way::FullNat(hook) => What::Agent(agent(topology, "full_nat", hook, server)?.into()),
        Way::Gateway => What::Agent(agent(topology, "gateway", Hook::Native, server)?.into()),
        Way::Nftables => {
            nft(
                topology,
                &format!(
                    "table ip balance {{\n chain pre {{ type nat hook prerouting priority dstnat; ip daddr {VIP4} tcp dport \
                     {PORT} dnat to {server}:{SERVER_PORT}; }}\n chain post {{ type nat hook postrouting priority srcnat; \
                     oifname \"back0\" snat to {SNAT4}; }}\n}}\n"
                ),
            )?;
            What::Kernel
        }
        Way::Haproxy => proxy(topology, "haproxy", &haproxy_config(server))?,
        Way::NginxStream => proxy(topology, "nginx", &nginx_config(topology, server))?,
    })
}

fn agent(topology: &Topology, mode: &str, hook: Hook, server: Ipv4Addr) -> Result<Agent> {
    let xdp_mode = match hook {
        Hook::Native => "native",
        Hook::Generic => "generic",
    };
    // As many source ports as the other ways have, which take theirs from ip_local_port_range or keep the client's.
    let section = format!(
        "{}xdp_mode = \"{xdp_mode}\"\nsnat_ports = \"2048-65535\"\ncheck_ports = \"1024-2047\"\n",
        agent_section(topology)
    );
    let service = ServiceText::v4("web", "tcp", PORT)
        .key("mode", &format!("\"{mode}\""))
        .backend("server", server, SERVER_PORT);
    let agent = Agent::start_with(topology, &section, service.text())?;
    agent.client().wait_all_up()?;
    Ok(agent)
}

/// Rules of the balancer's kernel.
fn nft(topology: &Topology, rules: &str) -> Result<()> {
    let path = topology.room.file("rules.nft");
    fs::write(&path, rules).with_context(|| format!("write {}", path.display()))?;
    run_command(topology.balancer.command("nft").arg("-f").arg(&path)).map(drop)
}

fn proxy(topology: &Topology, program: &str, config: &str) -> Result<What> {
    // It needs the VIP on the balancer itself.
    topology.balancer.ip(&format!("addr add {VIP4}/32 dev lo\n"))?;
    let room = &topology.room;
    let path = room.file(&format!("{program}-balancer.conf"));
    fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
    let mut command = topology.balancer.command(program);
    match program {
        "haproxy" => command.arg("-f").arg(&path),
        _ => command.arg("-e").arg(room.file("stream.err")).arg("-c").arg(&path),
    };
    let log = room.file(&format!("{program}-balancer.log"));
    Ok(What::Proxy(Process::start(program, &mut command, &log)?))
}

fn haproxy_config(server: Ipv4Addr) -> String {
    format!(
        "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         listen web\n  bind {VIP4}:{PORT}\n  server server {server}:{SERVER_PORT}\n"
    )
}

fn nginx_config(topology: &Topology, server: Ipv4Addr) -> String {
    let room = &topology.room;
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nuser root;\nworker_processes auto;\n\
         pid {};\nerror_log {} warn;\nevents {{ worker_connections 4096; }}\nstream {{\n \
         server {{ listen {VIP4}:{PORT} reuseport backlog=4096; proxy_pass {server}:{SERVER_PORT}; }}\n}}\n",
        room.file("stream.pid").display(),
        room.file("stream.log").display()
    )
}

/// Waits until an address answers.
fn wait_for_answer(client: &Namespace, to: IpAddr, port: u16) -> Result<()> {
    let url = format!("http://{}/healthz", host_port(to, port));
    for _ in 0..100 {
        let mut curl = client.command("curl");
        curl.args(["-sf", "-m", "1", "-o", "/dev/null", &url]);
        if run_command(&mut curl).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    bail!("{url} does not answer")
}
