//! Changes made with `--runtime` outlive the agent that made them, however it ended; what cannot be kept is said.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::config_text::{QUICK_TCP_CHECK, ServiceText};
use xlb_tests::peers::{Talk, TalkServer};
use xlb_tests::process::kill_at;
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology, VIP4};

const PATIENCE: Duration = Duration::from_secs(10);
const KILLED_WITHIN: Duration = Duration::from_mins(1);
const PORT: u16 = 81;
const NEW_CONNECTIONS: usize = 40;

struct Scene {
    agent: Agent,
    _servers: Vec<TalkServer>,
    topology: Topology,
}

impl Scene {
    /// Three backends that listen; the first two are in the config file.
    fn start() -> Result<Self> {
        let topology = Topology::build(Plan::full_nat(3))?;
        let mut servers = Vec::new();
        let mut service = ServiceText::v4("talk", "tcp", PORT).key("check", QUICK_TCP_CHECK);
        for (index, host) in topology.backends.iter().enumerate() {
            let name = format!("h{index}");
            servers.push(TalkServer::start(&host.namespace, &name, 9000)?);
            if index < 2 {
                service = service.backend(&name, host.address4, 9000);
            }
        }
        let agent = Agent::start(&topology, service.text())?;
        agent.client().wait_all_up()?;
        Ok(Self {
            agent,
            _servers: servers,
            topology,
        })
    }

    /// Names of the backends that new connections reach.
    fn reached(&self) -> Result<Vec<String>> {
        let target = SocketAddr::new(IpAddr::V4(VIP4), PORT);
        let mut names = (0..NEW_CONNECTIONS)
            .map(|_| Talk::connect(&self.topology.client, target, PATIENCE)?.bye())
            .collect::<Result<Vec<_>>>()?;
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn ensure_reached(&self, wanted: &[&str]) -> Result<()> {
        let reached = self.reached()?;
        ensure!(reached == wanted, "new connections reached {reached:?}, not {wanted:?}");
        Ok(())
    }

    fn wait_active(&self, wanted: usize) -> Result<()> {
        self.agent.client().wait_for("the backends to be up", |status| {
            let rows = status["services"][0]["backends"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            rows.iter().filter(|row| row["state"] == "active").count() == wanted
        })
    }

    /// `action service/backend` of each, and the whole list.
    fn overrides(&self) -> Result<(Vec<String>, Value)> {
        let listed = self.agent.client().xlb(&["override", "list", "-o", "json"])?;
        let listed: Value = serde_json::from_str(&listed).context("JSON of override list")?;
        let rows = listed["overrides"].as_array().context("a list")?;
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let words = rows
            .iter()
            .map(|row| format!("{} {}", text(row, "action"), text(row, "backend")));
        Ok((words.collect(), listed["overrides"].clone()))
    }

    fn warnings(&self) -> Result<Vec<String>> {
        let status = self.agent.client().status()?;
        let warnings = status["warnings"].as_array().context("warnings")?;
        Ok(warnings.iter().map(|warning| warning["message"].to_string()).collect())
    }

    fn file(&self) -> Result<String> {
        Ok(fs::read_to_string(self.agent.config())?)
    }

    fn kept(&self) -> PathBuf {
        self.topology.room.file("state").join("overrides.json")
    }
}

#[test]
fn overrides_outlive_the_agent_until_they_are_saved_or_dropped() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let mut scene = Scene::start()?;
    let before = scene.file()?;
    let third = format!("{}:9000", scene.topology.backends[2].address4);
    let client = scene.agent.client().clone();
    client.xlb(&["backend", "drain", "talk", "h0", "--runtime"])?;
    client.xlb(&["backend", "weight", "talk", "h1", "50", "--runtime"])?;
    client.xlb(&["backend", "add", "talk", &third, "--name", "h2", "--runtime"])?;
    scene.wait_active(2)?;
    scene.ensure_reached(&["h1", "h2"])?;
    let (words, listed) = scene.overrides()?;
    ensure!(words == ["drain h0", "weight h1", "add h2"], "{words:?}");

    // Killed: neither the traffic nor the next agent forgets.
    scene.agent.kill()?;
    scene.ensure_reached(&["h1", "h2"])?;
    scene.agent.run(&scene.topology.balancer)?;
    let (_, again) = scene.overrides()?;
    ensure!(again == listed, "after kill -9: {again}");
    scene.wait_active(2)?;
    scene.ensure_reached(&["h1", "h2"])?;
    ensure!(scene.file()? == before, "--runtime wrote the file");

    // The file loses h1 while no agent runs: its override is dropped, and said until somebody sees to it.
    scene.agent.terminate()?;
    fs::write(
        scene.agent.config(),
        before.replace("name = \"h1\"", "name = \"renamed\""),
    )?;
    scene.agent.run(&scene.topology.balancer)?;
    let (words, _) = scene.overrides()?;
    ensure!(words == ["drain h0", "add h2"], "{words:?}");
    let said = scene.warnings()?.join("\n");
    ensure!(
        said.contains("the runtime change weight 50 talk/h1 by api uid 0")
            && said.contains("no backend h1 in service talk"),
        "{said}"
    );
    let dropped = scene.agent.log();
    ensure!(
        dropped.contains("weight 50") && dropped.contains("talk/h1"),
        "{dropped}"
    );
    client.xlb(&["reload"])?;
    scene.agent.kill()?;
    scene.agent.run(&scene.topology.balancer)?;
    let said = scene.warnings()?.join("\n");
    ensure!(
        said.contains("weight 50 talk/h1"),
        "after a reload and another start: {said}"
    );
    let seen = client.xlb(&["override", "drop", "talk", "h1"])?;
    ensure!(seen.contains("status no longer tells of 1"), "{seen}");
    let said = scene.warnings()?.join("\n");
    ensure!(!said.contains("talk/h1"), "{said}");

    // One is saved, the other taken back.
    let file = scene.file()?;
    let said = client.xlb(&["override", "save", "talk", "h0"])?;
    ensure!(
        said.starts_with("drain talk/h0\nsaved 1 override; 1 left; generation "),
        "{said}"
    );
    let saved = scene.file()?;
    ensure!(
        saved.lines().count() == file.lines().count() + 1 && saved.contains("weight = 100\nstate = \"drain\"\n"),
        "{saved}"
    );
    client.xlb(&["override", "drop", "--all"])?;
    ensure!(scene.file()? == saved, "a drop wrote the file");
    scene.wait_active(1)?;
    // The server calls itself h1; its backend was renamed.
    scene.ensure_reached(&["h1"])?;
    let nothing = client.output(&["override", "save", "talk", "h2"])?;
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    ensure!(
        nothing.status.code() == Some(1) && said.contains("no override of talk/h2; there are: none"),
        "{}: {said}",
        nothing.status
    );
    Ok(())
}

#[test]
fn an_agent_killed_while_it_keeps_an_override_starts_again_with_the_old_or_the_new_ones() -> Result<()> {
    require!("ip", "ethtool", "strace");
    let _share = shared();
    let mut scene = Scene::start()?;
    scene
        .agent
        .client()
        .xlb(&["backend", "weight", "talk", "h0", "50", "--runtime"])?;
    let directory = scene.topology.room.file("state").to_string_lossy().into_owned();
    let temporary = format!("{directory}/.overrides.json.new");
    for (call, path, is_new) in [
        ("write", &temporary, false),
        ("fsync", &temporary, false),
        ("rename", &temporary, false),
        ("fsync", &directory, true),
    ] {
        let log = scene.topology.room.file("strace.log");
        let _strace = kill_at(scene.agent.process()?.pid(), call, path, &log)?;
        let answer = scene
            .agent
            .client()
            .output(&["backend", "drain", "talk", "h1", "--runtime"])?;
        ensure!(!answer.status.success(), "{call} of {path}: {answer:?}");
        scene
            .agent
            .process()?
            .wait(KILLED_WITHIN)
            .context("the agent was not killed")?;
        scene.agent.kill()?;
        scene.agent.run(&scene.topology.balancer)?;
        let (words, _) = scene.overrides()?;
        let wanted: &[&str] = if is_new {
            &["weight h0", "drain h1"]
        } else {
            &["weight h0"]
        };
        ensure!(words == wanted, "killed at {call} of {path}: {words:?}");
    }
    Ok(())
}

#[test]
fn an_unreadable_override_file_is_set_aside_and_the_agent_starts() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let mut scene = Scene::start()?;
    scene
        .agent
        .client()
        .xlb(&["backend", "maint", "talk", "h1", "--runtime"])?;
    let whole = fs::read_to_string(scene.kept())?;
    scene.agent.terminate()?;
    let half = &whole[..whole.len() / 2];
    fs::write(scene.kept(), half)?;
    scene.agent.run(&scene.topology.balancer)?;
    ensure!(scene.overrides()?.0.is_empty(), "half a file was taken for a whole one");
    let said = scene.warnings()?.join("\n");
    ensure!(
        said.contains("was set aside as") && said.contains("overrides.json.bad"),
        "{said}"
    );
    let aside = scene.kept().with_file_name("overrides.json.bad");
    ensure!(fs::read_to_string(&aside)? == half, "what was there is not kept");
    scene
        .agent
        .client()
        .xlb(&["backend", "maint", "talk", "h1", "--runtime"])?;
    ensure!(fs::read_to_string(scene.kept())?.contains("maint"), "new ones are kept");
    Ok(())
}

#[test]
fn a_command_made_against_a_state_that_has_moved_is_refused_and_changes_nothing() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let mut scene = Scene::start()?;
    let revision = |scene: &Scene| -> Result<String> {
        let status = scene.agent.client().status()?;
        let revision = status["agent"]["config"]["revision"].as_str().context("a revision")?;
        Ok(revision.to_owned())
    };
    let weigh = |scene: &Scene, weight: &str, revision: &str| {
        let words = ["backend", "weight", "talk", "h0", weight, "--if-revision", revision];
        scene.agent.client().output(&words)
    };
    let seen = revision(&scene)?;
    ensure!(weigh(&scene, "50", &seen)?.status.success(), "what was seen is there");
    let file = scene.file()?;
    let refused = weigh(&scene, "60", &seen)?;
    let now = revision(&scene)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1)
            && said.contains(&format!("made against revision {seen}, and {now} is what runs"))
            && said.contains(&format!("--if-revision {now}")),
        "{}: {said}",
        refused.status
    );
    ensure!(scene.file()? == file, "a refused command wrote the file");

    // The next agent counts anew, under another name.
    scene.agent.kill()?;
    scene.agent.run(&scene.topology.balancer)?;
    let refused = weigh(&scene, "60", &now)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(1) && said.contains("no state since this agent's start has that name"),
        "{}: {said}",
        refused.status
    );
    let again = revision(&scene)?;
    ensure!(weigh(&scene, "60", &again)?.status.success(), "what was seen is there");
    let same = scene.agent.client().xlb(&["reload", "-o", "json"])?;
    let same: Value = serde_json::from_str(&same).context("JSON of reload")?;
    ensure!(
        same["changed"] == false && same["revision"] == revision(&scene)?.as_str(),
        "{same}"
    );
    Ok(())
}
