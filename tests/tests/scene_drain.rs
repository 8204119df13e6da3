//! A backend is taken out and put back by command: drain, ready, maint, weight; what it has goes on.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::client::backends;
use xlb_tests::config_text::{QUICK_TCP_CHECK, ServiceText};
use xlb_tests::peers::{Talk, TalkServer};
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4};

const PATIENCE: Duration = Duration::from_secs(10);
const PORT: u16 = 81;
const NEW_CONNECTIONS: usize = 40;

struct Scene {
    agent: Agent,
    _servers: Vec<TalkServer>,
    topology: Topology,
}

impl Scene {
    fn start() -> Result<Self> {
        let topology = Topology::build(Plan::full_nat(2))?;
        let mut servers = Vec::new();
        let mut service = ServiceText::v4("talk", "tcp", PORT).key("check", QUICK_TCP_CHECK);
        for (index, host) in topology.backends.iter().enumerate() {
            let name = format!("h{index}");
            servers.push(TalkServer::start(&host.namespace, &name, 9000)?);
            service = service.backend(&name, host.address4, 9000);
        }
        let agent = Agent::start(&topology, service.text())?;
        agent.client().wait_all_up()?;
        Ok(Self {
            agent,
            _servers: servers,
            topology,
        })
    }

    fn connect(&self) -> Result<Talk> {
        let target = SocketAddr::new(IpAddr::V4(VIP4), PORT);
        Talk::connect(&self.topology.client, target, PATIENCE)
    }

    /// Names of the backends that new connections reach.
    fn reached(&self) -> Result<Vec<String>> {
        let mut names = (0..NEW_CONNECTIONS)
            .map(|_| self.connect()?.bye())
            .collect::<Result<Vec<_>>>()?;
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// A connection that this backend answers.
    fn held_by(&self, name: &str) -> Result<Talk> {
        for _ in 0..NEW_CONNECTIONS {
            let mut talk = self.connect()?;
            if talk.ask()? == name {
                return Ok(talk);
            }
        }
        anyhow::bail!("no connection reached {name}")
    }

    fn file(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.agent.config())?)
    }

    fn state_of(&self, name: &str) -> Result<String> {
        let status = self.agent.client().status()?;
        let rows = backends(&status);
        let row = rows.iter().find(|row| row.name() == name);
        Ok(row
            .and_then(|row| row.row["state"].as_str())
            .unwrap_or_default()
            .to_owned())
    }
}

/// A config with a line more at the end of a backend.
fn with_line(config: &str, name: &str, line: &str) -> Result<String> {
    let (before, rest) = config
        .split_once(&format!("name = \"{name}\"\n"))
        .context("the backend stands in the file")?;
    let (own, after) = rest.split_once("weight = 100\n").context("the backend's last line")?;
    Ok(format!("{before}name = \"{name}\"\n{own}weight = 100\n{line}\n{after}"))
}

#[test]
fn a_drained_backend_keeps_what_it_has_and_gets_nothing_new() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let scene = Scene::start()?;
    let client = scene.agent.client();
    let before = scene.file()?;
    let mut held = scene.held_by("h0")?;

    // One connection stays: exit code 4, its number and the next step.
    let waited = client.output(&["backend", "drain", "talk", "h0", "--wait", "--timeout", "2s"])?;
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    ensure!(waited.status.code() == Some(4), "{}: {said}", waited.status);
    ensure!(
        said.contains("still has 1 open connection after 2 s")
            && said.contains("xlb flows --service talk --backend h0"),
        "{said}"
    );
    let drained = scene.file()?;
    ensure!(
        drained == with_line(&before, "h0", "state = \"drain\"")?,
        "the file after drain:\n{drained}"
    );
    ensure!(scene.state_of("h0")? == "draining", "{}", scene.state_of("h0")?);
    ensure!(
        scene.reached()? == ["h1"],
        "new connections reached {:?}",
        scene.reached()?
    );
    ensure!(held.ask()? == "h0", "the held connection moved");

    let listed = client.xlb(&["backend", "list", "talk"])?;
    let rows: Vec<&str> = listed.lines().skip(1).collect();
    ensure!(
        rows.len() == 2 && rows[0].contains("h0 ") && rows[0].contains(" draining "),
        "the drained one comes first:\n{listed}"
    );

    // It ends: nothing is left, long before the table forgets it.
    let waiting = client
        .command(&["backend", "drain", "talk", "h0", "--wait", "--timeout", "60s"])?
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    std::thread::sleep(Duration::from_millis(1_500));
    ensure!(held.bye()? == "h0", "the held connection moved");
    let waited = waiting.wait_with_output()?;
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    ensure!(waited.status.success(), "nothing was left, and yet: {said}");
    ensure!(
        said == "1 open connection left\n0 open connections left\nbackend h0 of service talk has no open connection\n",
        "one line for each change:\n{said}"
    );
    ensure!(scene.file()? == drained, "a drain of what is drained changes nothing");

    client.xlb(&["backend", "ready", "talk", "h0"])?;
    client.wait_all_up()?;
    ensure!(scene.reached()? == ["h0", "h1"], "{:?}", scene.reached()?);
    ensure!(
        scene.file()? == drained.replace("state = \"drain\"\n", ""),
        "the file after ready:\n{}",
        scene.file()?
    );
    Ok(())
}

#[test]
fn maintenance_ends_checks_and_weight_0_takes_no_share() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let scene = Scene::start()?;
    let client = scene.agent.client();
    let mut held = scene.held_by("h1")?;

    client.xlb(&["backend", "maint", "talk", "h1", "--runtime"])?;
    ensure!(scene.state_of("h1")? == "maint", "{}", scene.state_of("h1")?);
    ensure!(!scene.file()?.contains("maint"), "--runtime wrote the file");
    ensure!(scene.reached()? == ["h0"], "{:?}", scene.reached()?);
    ensure!(held.ask()? == "h1", "the held connection moved");
    let status = client.status()?;
    ensure!(
        status["overrides"][0]["action"] == "maint" && status["overrides"][0]["backend"] == "h1",
        "{}",
        status["overrides"]
    );
    client.xlb(&["backend", "ready", "talk", "h1", "--runtime"])?;
    client.wait_all_up()?;
    ensure!(scene.reached()? == ["h0", "h1"], "{:?}", scene.reached()?);

    let before = scene.file()?;
    let said = client.xlb(&["backend", "weight", "talk", "h0", "0"])?;
    ensure!(
        said.starts_with("backend h0 of service talk: weight 100 -> 0"),
        "{said}"
    );
    let weighed = before.replacen("weight = 100", "weight = 0", 1);
    ensure!(scene.file()? == weighed, "the file after weight 0:\n{}", scene.file()?);
    ensure!(scene.reached()? == ["h1"], "{:?}", scene.reached()?);
    client.xlb(&["backend", "weight", "talk", "h0", "70"])?;
    client.wait_all_up()?;
    ensure!(scene.reached()? == ["h0", "h1"], "{:?}", scene.reached()?);
    let weighed = before.replacen("weight = 100", "weight = 70", 1);
    ensure!(scene.file()? == weighed, "the file after weight 70:\n{}", scene.file()?);

    let unknown = client.output(&["backend", "drain", "talk", "h9"])?;
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    ensure!(
        unknown.status.code() == Some(1) && said.contains("no backend h9 in service talk; it has: h0, h1"),
        "{}: {said}",
        unknown.status
    );
    Ok(())
}
