//! Clients that open connections to the agent and leave them must not keep anybody else from it, nor files from the agent.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xlb_tests::agent::{Agent, Launch, agent_section};
use xlb_tests::alone::shared;
use xlb_tests::config_text::ServiceText;
use xlb_tests::process::{run, wait_until};
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology};

/// More than the agent may have files.
const CROWD: usize = 1_100;
/// Files that the agent may have: the default of most systems.
const FILES: usize = 1_024;
const PATIENCE: Duration = Duration::from_secs(30);

fn open_files(pid: nix::unistd::Pid) -> Result<usize> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).context("list the agent's files")?;
    Ok(files.count())
}

fn may_open(pid: nix::unistd::Pid, files: usize) -> Result<()> {
    let mut command = Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--nofile={files}:{FILES}")]);
    run(&mut command).map(drop)
}

/// `path` of the read-only listener.
fn get(http: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(http).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE)).context("read timeout")?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").context("send")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read")?;
    Ok(answer)
}

#[test]
fn a_crowd_of_idle_connections_leaves_the_api_and_the_metrics_in_reach() -> Result<()> {
    require!("ip", "ethtool", "prlimit");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let service = ServiceText::v4("web", "tcp", 80).backend("a", host.address4, 8081);
    topology.balancer.enter(|| -> Result<()> {
        let free = TcpListener::bind("127.0.0.1:0").context("a free port")?;
        let http = free.local_addr().context("its address")?;
        drop(free);
        let mut agent = Agent::launch(
            &topology,
            &format!("{}http = \"{http}\"\n", agent_section(&topology)),
            service.text(),
            Launch {
                before: ["prlimit", &format!("--nofile={FILES}:{FILES}")]
                    .map(str::to_owned)
                    .to_vec(),
                ..Launch::default()
            },
        )?;
        let pid = agent.process()?.pid();
        ensure!(
            get(http, "/readyz")?.ends_with("\r\n\r\nready\n"),
            "{}",
            get(http, "/readyz")?
        );

        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            crowd.push(TcpStream::connect(http).context("one of the crowd")?);
        }
        let status = agent.client().output(&["status"])?;
        ensure!(matches!(status.status.code(), Some(0 | 1)), "{status:?}");
        let metrics = get(http, "/metrics")?;
        ensure!(metrics.contains("\nxlb_"), "{metrics}");
        wait_until("room for others", PATIENCE, || Ok(open_files(pid)? < FILES / 2))?;
        ensure!(
            agent.log().contains("object=\"http\" old=\"open\" new=\"full\""),
            "{}",
            agent.log()
        );
        drop(crowd);

        // No new file at all for a while: the limit is on their numbers.
        may_open(pid, 1)?;
        let failing = "old=\"accepting\" new=\"not accepting\"";
        let waiting = TcpStream::connect(http).context("a connection that waits")?;
        wait_until("the agent to say so", PATIENCE, || Ok(agent.log().contains(failing)))?;
        may_open(pid, FILES)?;
        drop(waiting);
        ensure!(get(http, "/livez")?.ends_with("ok\n"));
        let lines = agent.log().lines().filter(|line| line.contains(failing)).count();
        ensure!(lines == 1, "{lines} lines: {}", agent.log());
        Ok(())
    })?
}
