//! Services that come and go by command, with traffic: they are in the maps, in the file, and in the next agent.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xlb_tests::agent::{Agent, agent_section};
use xlb_tests::alone::shared;
use xlb_tests::client::BackendStatus;
use xlb_tests::client::backends;
use xlb_tests::config_text::{QUICK_TCP_CHECK, ServiceText};
use xlb_tests::peers::{Talk, TalkServer};
use xlb_tests::process::wait_until;
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4};

const PATIENCE: Duration = Duration::from_secs(10);
/// The lifetimes of what is left of a removed service's connections, and a busy machine.
const GONE_WITHIN: Duration = Duration::from_mins(2);
const LISTENS: u16 = 9000;
const ALWAYS: u16 = 80;
const COMES: u16 = 81;

struct Scene {
    agent: Agent,
    _servers: Vec<TalkServer>,
    topology: Topology,
}

impl Scene {
    /// Two servers; one service, `always`, with comments around it.
    fn start() -> Result<Self> {
        let topology = Topology::build(Plan::full_nat(2))?;
        let servers = topology.backends.iter().enumerate();
        let servers = servers.map(|(index, host)| TalkServer::start(&host.namespace, &format!("h{index}"), LISTENS));
        let servers = servers.collect::<Result<_>>()?;
        let service = ServiceText::v4("always", "tcp", ALWAYS)
            .key("check", QUICK_TCP_CHECK)
            .backend("h0", topology.backends[0].address4, LISTENS);
        let section = agent_section(&topology);
        let section = format!("{section}\n[timeouts]\nhalf_open = \"2s\"\nclosing = \"2s\"\nudp = \"2s\"\n");
        let text = format!("# what is always here\n{}# the end\n", service.text());
        let agent = Agent::start_with(&topology, &section, &text)?;
        agent.client().wait_all_up()?;
        Ok(Self {
            agent,
            _servers: servers,
            topology,
        })
    }

    fn file(&self) -> Result<String> {
        Ok(fs::read_to_string(self.agent.config())?)
    }

    fn talk(&self, port: u16) -> Result<Talk> {
        let target = SocketAddr::new(IpAddr::V4(VIP4), port);
        Talk::connect(&self.topology.client, target, PATIENCE)
    }

    fn refuses(&self, port: u16) -> Result<()> {
        let target = SocketAddr::new(IpAddr::V4(VIP4), port);
        let answered =
            Talk::connect(&self.topology.client, target, Duration::from_secs(2)).and_then(|mut talk| talk.ask());
        ensure!(answered.is_err(), "port {port} answers: {answered:?}");
        Ok(())
    }

    /// Service entries that are in use in the map.
    fn in_the_map(&self) -> Result<usize> {
        let dump = self.agent.client().map_dump("xlb_services")?;
        let entries = dump.as_array().context("a list")?;
        let used = entries.iter().filter(|entry| {
            entry["formatted"]["value"]["mode"]
                .as_u64()
                .is_some_and(|mode| mode > 0)
        });
        Ok(used.count())
    }

    fn wait_up(&self, service: &str, wanted: usize) -> Result<()> {
        self.agent.client().wait_for("the service's backends", |status| {
            let rows = backends(status);
            rows.iter()
                .filter(|row| row.service == service && BackendStatus::is_up(row))
                .count()
                == wanted
        })
    }

    /// `xlb service add comes` with both servers as its backends.
    fn add(&self, more: &[&str]) -> Result<String> {
        let dialled = format!("{VIP4}:{COMES}");
        let named = self.topology.backends[0].address4.to_string();
        let with_port = format!("{}:{LISTENS}", self.topology.backends[1].address4);
        let mut words = vec![
            "service",
            "add",
            "comes",
            &dialled,
            "--internal-port",
            "9000",
            "--check",
            "tcp",
        ];
        words.extend(["--backend", &named, "--backend", &with_port]);
        words.extend(more);
        self.agent.client().xlb(&words)
    }
}

#[test]
fn a_service_added_by_command_takes_traffic_outlives_the_agent_and_goes_without_a_trace() -> Result<()> {
    require!("ip", "ethtool", "bpftool");
    let _share = shared();
    let mut scene = Scene::start()?;
    let before = scene.file()?;
    let said = scene.add(&[])?;
    ensure!(
        said.starts_with(&format!(
            "added service comes (tcp {VIP4}:{COMES}, 2 backends); saved in "
        )),
        "{said}"
    );
    scene.wait_up("comes", 2)?;
    ensure!(scene.in_the_map()? == 2, "{} services in the map", scene.in_the_map()?);
    let mut reached: Vec<String> = (0..40).map(|_| scene.talk(COMES)?.bye()).collect::<Result<_>>()?;
    reached.sort();
    reached.dedup();
    ensure!(reached == ["h0", "h1"], "{reached:?}");
    let with = scene.file()?;
    ensure!(
        before.lines().all(|line| with.lines().any(|other| other == line)) && with.ends_with("# the end\n"),
        "{with}"
    );

    // The agent ends; the service and its connection do not.
    let mut held = scene.talk(COMES)?;
    let name = held.ask()?;
    scene.agent.terminate()?;
    ensure!(held.ask()? == name, "the connection moved");
    scene.agent.run(&scene.topology.balancer)?;
    scene.wait_up("comes", 2)?;
    ensure!(scene.talk(COMES)?.bye().is_ok(), "a new connection");
    let shown = scene.agent.client().xlb(&["service", "show", "comes", "-o", "json"])?;
    let shown: Value = serde_json::from_str(&shown)?;
    ensure!(
        shown["service"]["port"] == COMES && shown["service"]["state"] == "up",
        "{shown}"
    );
    let typo = scene.agent.client().output(&["service", "remove", "come"])?;
    let said = String::from_utf8_lossy(&typo.stderr).into_owned();
    ensure!(
        typo.status.code() == Some(1)
            && said.contains("did you mean comes?")
            && said.contains("next: xlb service list"),
        "{}: {said}",
        typo.status
    );

    // The connection is one that the new agent found.
    let said = scene.agent.client().xlb(&["service", "remove", "comes"])?;
    ensure!(
        said.starts_with("removed service comes (tcp ")
            && said.ends_with("\n1 open connection of it may go on until they end: xlb flows --service comes\n"),
        "{said}"
    );
    ensure!(scene.file()? == before, "{}", scene.file()?);
    ensure!(held.ask()? == name, "the connection moved");
    scene.refuses(COMES)?;
    ensure!(scene.talk(ALWAYS)?.bye()? == "h0", "the other service");
    let listed = scene.agent.client().xlb(&["service", "list", "-o", "json"])?;
    let listed: Value = serde_json::from_str(&listed)?;
    let states = listed["services"].as_array().context("a list")?;
    let states: Vec<&str> = states.iter().filter_map(|row| row["state"].as_str()).collect();
    ensure!(states == ["up", "removed"], "{states:?}");
    ensure!(scene.in_the_map()? == 1, "{} services in the map", scene.in_the_map()?);
    held.bye()?;
    wait_until("the removed service to be gone from the status", GONE_WITHIN, || {
        let status = scene.agent.client().status()?;
        Ok(status["services"]
            .as_array()
            .is_some_and(|services| services.len() == 1))
    })?;
    Ok(())
}

#[test]
fn a_service_added_at_run_time_is_not_in_the_file_and_outlives_the_agent_all_the_same() -> Result<()> {
    require!("ip", "ethtool", "bpftool");
    let _share = shared();
    let mut scene = Scene::start()?;
    let before = scene.file()?;
    scene.add(&["--runtime"])?;
    scene.wait_up("comes", 2)?;
    ensure!(scene.talk(COMES)?.bye().is_ok(), "a new connection");
    scene.agent.kill()?;
    scene.agent.run(&scene.topology.balancer)?;
    scene.wait_up("comes", 2)?;
    ensure!(scene.talk(COMES)?.bye().is_ok(), "a new connection after kill -9");
    let listed = scene.agent.client().xlb(&["override", "list"])?;
    ensure!(listed.contains("add service"), "{listed}");
    scene.agent.client().xlb(&["service", "remove", "comes", "--runtime"])?;
    scene.refuses(COMES)?;
    let listed = scene.agent.client().xlb(&["override", "list"])?;
    ensure!(listed.starts_with("no overrides"), "{listed}");
    ensure!(scene.file()? == before, "--runtime wrote the file");
    Ok(())
}
