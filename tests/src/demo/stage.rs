//! Builds the demo's scene: namespaces, nginx and echo servers on internal ports of their own, the agent.

use std::cell::RefCell;
use std::env;
use std::time::Duration;

use anyhow::{Context, Result};

use super::interrupt::Interrupt;
use super::kept;
use super::screen::Screen;
use super::traffic::{ECHO_PORT, WEB_PORT};
use crate::agent::Agent;
use crate::client::Client;
use crate::config_text::ServiceText;
use crate::netns::{Lifetime, Room};
use crate::peers::Nginx;
use crate::process::{Process, wait_until};
use crate::topology::{BackendHost, Plan, Topology, VIP4, VIP6};

/// (name, internal port of the web server, internal port of the echo server). The last one is not in the config: it is
/// added by command.
pub(super) const HOSTS: [(&str, u16, u16); 4] = [
    ("b1", 8081, 7001),
    ("b2", 9000, 7002),
    ("b3", 30080, 7003),
    ("b4", 8443, 7004),
];
/// Hosts that the config file names.
pub(super) const CONFIGURED: usize = 3;

/// Lines of the config that are shown: the first service with two of its backends.
const SHOWN_CONFIG_LINES: usize = 17;
const CHECK: &str =
    r#"{ http = { path = "/healthz", status = [200] }, interval = "500ms", timeout = "400ms", rise = 2, fall = 2 }"#;

/// Everything that runs. Dropping it ends all of it.
#[derive(Debug)]
pub(super) struct Stage {
    // In this order: the agent goes first, the network last.
    agent: Agent,
    web: RefCell<Vec<Option<Nginx>>>,
    echo: Vec<Process>,
    pub(super) topology: Topology,
}

impl Stage {
    /// Builds it, saying what it does.
    pub(super) fn build(screen: &mut Screen, interrupt: &Interrupt) -> Result<Self> {
        screen.headline("Building a client, a router, a balancer, a switch and four backends as network namespaces")?;
        let room = Room::new(&kept::prefix(), &kept::dir())?;
        kept::write_player()?;
        let topology = Topology::build_in(room, Plan::full_nat(HOSTS.len() as u8))?;
        let mut web = Vec::new();
        let mut echo = Vec::new();
        for (host, (name, web_port, echo_port)) in topology.backends.iter().zip(HOSTS) {
            interrupt.check()?;
            web.push(Some(Nginx::start(&topology.room, &host.namespace, name, web_port)?));
            echo.push(start_echo(&topology, host, name, echo_port)?);
            screen.indented(&format!(
                "{name}  {}  {}  nginx on {web_port}, UDP echo on {echo_port}",
                host.address4, host.address6
            ))?;
        }
        screen.headline("Starting the agent in the balancer with this config")?;
        let services = services(&topology);
        let shown: Vec<&str> = services.lines().take(SHOWN_CONFIG_LINES).collect();
        screen.indented(&shown.join("\n"))?;
        screen.indented(&format!("... and so on, {} lines", services.lines().count()))?;
        let agent = Agent::start(&topology, &services)?;
        interrupt.check()?;
        agent.client().wait_all_up()?;
        Ok(Self {
            agent,
            web: web.into(),
            echo,
            topology,
        })
    }

    /// The `xlb` client.
    pub(super) fn xlb(&self) -> &Client {
        self.agent.client()
    }

    /// The agent's config file.
    pub(super) fn config(&self) -> &std::path::Path {
        self.agent.config()
    }

    /// Stops the web server of a host.
    pub(super) fn stop_web(&self, index: usize) -> Result<()> {
        let mut web = self.web.borrow_mut();
        let server = web
            .get_mut(index)
            .and_then(Option::take)
            .context("a running web server")?;
        drop(server);
        Ok(())
    }

    /// Starts it again.
    pub(super) fn start_web(&self, index: usize) -> Result<()> {
        let (name, port, _) = *HOSTS.get(index).context("a host of the demo")?;
        let host = self.topology.backends.get(index).context("a host of the demo")?;
        let server = Nginx::start(&self.topology.room, &host.namespace, name, port)?;
        if let Some(slot) = self.web.borrow_mut().get_mut(index) {
            *slot = Some(server);
        }
        Ok(())
    }

    /// Lets everything run on after this process.
    pub(super) fn keep(mut self) -> Result<()> {
        self.topology.set_lifetime(Lifetime::Kept);
        self.agent.release();
        for server in self.web.into_inner().into_iter().flatten() {
            server.release();
        }
        for server in self.echo {
            server.release();
        }
        kept::write_kept()
    }
}

/// The config's services: three hosts of four.
fn services(topology: &Topology) -> String {
    let mut web = ServiceText::new("web", "tcp", WEB_PORT).key("check", CHECK);
    let mut echo = ServiceText::new("echo", "udp", ECHO_PORT);
    for (host, (name, web_port, echo_port)) in topology.backends.iter().zip(HOSTS).take(CONFIGURED) {
        web = web.host(name, host, web_port);
        echo = echo.host(name, host, echo_port);
    }
    format!(
        "# Clients dial {VIP4} or {VIP6}; every backend listens on ports of its own.\n{}\n{}",
        web.text(),
        echo.text()
    )
}

/// An echo server in a process of its own: this program again.
fn start_echo(topology: &Topology, host: &BackendHost, name: &str, port: u16) -> Result<Process> {
    let own = env::current_exe().context("path of this program")?;
    let mut command = host.namespace.command(&own.to_string_lossy());
    command.args([super::SERVE_DATAGRAMS, name, &port.to_string()]);
    let process = Process::start(
        &format!("echo {name}"),
        &mut command,
        &topology.room.file(&format!("echo-{name}.log")),
    )?;
    let to = std::net::SocketAddr::new(host.address4.into(), port);
    wait_until(&format!("the echo server of {name}"), Duration::from_secs(3), || {
        host.namespace.enter(|| {
            let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            crate::peers::ask_datagram(&socket, to, b"ready?").map(|_| true)
        })?
    })?;
    Ok(process)
}
