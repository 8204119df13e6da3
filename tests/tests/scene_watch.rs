//! The config file is watched: whatever way an editor or a deployment replaces it, what it says last is in force.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xlb_tests::agent::{Agent, Launch, agent_section};
use xlb_tests::alone::shared;
use xlb_tests::client::{BackendStatus, backends};
use xlb_tests::config_text::ServiceText;
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology};

/// A service whose one backend is named after `mark`, so that the status tells which text is in force.
fn services(topology: &Topology, mark: &str) -> String {
    let host = &topology.backends[0];
    let service = ServiceText::v4("web", "tcp", 80).backend(mark, host.address4, 8081);
    service.text().to_owned()
}

fn text(topology: &Topology, mark: &str) -> String {
    format!("{}\n{}", agent_section(topology), services(topology, mark))
}

fn in_force(agent: &Agent, mark: &str) -> Result<()> {
    agent.client().wait_for(&format!("{mark} to be in force"), |status| {
        // Those of earlier texts are shown as removed for a while.
        let rows = backends(status);
        let names: Vec<_> = rows.iter().filter(|row| row.is_up()).map(BackendStatus::name).collect();
        names == [mark] && status["agent"]["config"]["last_error"] == Value::Null
    })
}

fn generation(agent: &Agent) -> Result<u64> {
    agent.client().status()?["agent"]["generation"]
        .as_u64()
        .context("a generation")
}

fn reloads(agent: &Agent) -> usize {
    let log = agent.log();
    log.lines().filter(|line| line.contains("file change")).count()
}

#[test]
fn a_file_that_is_written_renamed_over_or_made_again_is_in_force() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let agent = Agent::start(&topology, &services(&topology, "first"))?;
    let config = agent.config();

    fs::write(config, text(&topology, "in-place")).context("write in place")?;
    in_force(&agent, "in-place")?;

    // As vim does: the old one becomes a backup, the new one takes its name.
    fs::rename(config, config.with_extension("toml~")).context("keep a backup")?;
    fs::write(config, text(&topology, "vim")).context("write anew")?;
    in_force(&agent, "vim")?;

    // As sed -i, rsync and most tools do.
    let beside = config.with_file_name("4711");
    fs::write(&beside, text(&topology, "renamed")).context("write beside")?;
    fs::rename(&beside, config).context("rename over")?;
    in_force(&agent, "renamed")?;

    fs::remove_file(config).context("delete")?;
    agent.client().wait_for("the missing file to be told", |status| {
        let error = status["agent"]["config"]["last_error"].as_str();
        error.is_some_and(|error| error.contains("No such file"))
    })?;
    fs::write(config, text(&topology, "again")).context("create")?;
    in_force(&agent, "again")?;

    for round in 0..100 {
        fs::write(config, text(&topology, &format!("burst-{round}"))).context("write")?;
    }
    in_force(&agent, "burst-99")?;
    Ok(())
}

#[test]
fn the_same_text_is_no_change_whoever_writes_it() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let agent = Agent::start(&topology, &services(&topology, "first"))?;
    let target = format!("{}:9000", topology.backends[0].address4);
    agent
        .client()
        .xlb(&["backend", "add", "web", &target, "--name", "second"])?;
    let before = generation(&agent)?;
    let written = fs::read(agent.config()).context("read")?;
    fs::write(agent.config(), &written).context("write the same")?;
    let beside = agent.config().with_file_name("beside");
    fs::write(&beside, &written).context("write beside")?;
    fs::rename(&beside, agent.config()).context("rename the same over it")?;
    // A change after them has been seen, so they have been, too.
    let mut text = String::from_utf8(written)?;
    text = text.replace("second", "third");
    sleep(Duration::from_secs(1));
    ensure!(reloads(&agent) == 0, "{}", agent.log());
    ensure!(generation(&agent)? == before);
    fs::write(agent.config(), text).context("write another")?;
    agent.client().wait_for("the third backend", |status| {
        backends(status).iter().any(|row| row.name() == "third")
    })?;
    ensure!(reloads(&agent) == 1, "{}", agent.log());
    Ok(())
}

#[test]
fn a_swapped_link_beside_the_file_is_seen() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    // As the kubelet lays out a ConfigMap: xlb.toml -> ..data/xlb.toml, ..data -> ..1
    let volume = topology.room.file("volume");
    let version = |name: &str, mark: &str| -> Result<()> {
        fs::create_dir_all(volume.join(name)).context("make a version")?;
        fs::write(volume.join(name).join("xlb.toml"), text(&topology, mark)).context("write a version")
    };
    version("..1", "one")?;
    symlink("..1", volume.join("..data")).context("link the version")?;
    symlink("..data/xlb.toml", volume.join("xlb.toml")).context("link the file")?;
    let launch = Launch {
        config: Some(volume.join("xlb.toml")),
        ..Launch::default()
    };
    let agent = Agent::launch(
        &topology,
        &agent_section(&topology),
        &services(&topology, "one"),
        launch,
    )?;
    in_force(&agent, "one")?;
    for (name, mark) in [("..2", "two"), ("..3", "three")] {
        version(name, mark)?;
        let next = volume.join("..data_tmp");
        symlink(name, &next).context("link the next version")?;
        fs::rename(&next, volume.join("..data")).context("swap")?;
        in_force(&agent, mark)?;
    }
    ensure!(fs::read_link(volume.join("xlb.toml"))? == Path::new("..data/xlb.toml"));
    Ok(())
}

#[test]
fn a_bad_file_changes_nothing_and_is_said_everywhere_once() -> Result<()> {
    require!("ip", "ethtool", "curl");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let agent = Agent::start(&topology, &services(&topology, "good"))?;
    let before = generation(&agent)?;
    let bad = text(&topology, "bad").replace("port = 80\n", "prot = 80\n");
    fs::write(agent.config(), &bad).context("write the bad file")?;
    agent.client().wait_for("the bad file to be told", |status| {
        let error = status["agent"]["config"]["last_error"].as_str();
        error.is_some_and(|error| error.contains("XLB0101") && error.contains("prot"))
    })?;
    let status = agent.client().status()?;
    ensure!(status["overall"] == "degraded", "{status}");
    ensure!(backends(&status)[0].name() == "good", "{status}");
    ensure!(generation(&agent)? == before);
    let failed = || -> Result<String> {
        let socket = agent.client().socket().to_string_lossy().into_owned();
        let metrics = xlb_tests::process::run(std::process::Command::new("curl").args([
            "-s",
            "--unix-socket",
            &socket,
            "http://xlb/metrics",
        ]))?;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("xlb_config_reload_failed"));
        Ok(line.unwrap_or_default().to_owned())
    };
    ensure!(failed()?.ends_with(" 1.0"), "{}", failed()?);
    // The same bad text again is the same news.
    fs::write(agent.config(), &bad).context("write it again")?;
    sleep(Duration::from_secs(1));
    let again = agent.client().output(&["reload"])?;
    ensure!(again.status.code() == Some(1), "{again:?}");
    let log = agent.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("XLB0101")).collect();
    ensure!(
        log.matches("config reload failed").count() == 1 && lines.len() == 1,
        "{log}"
    );
    // Where it is and what, in the one line.
    let line = lines.first().copied().unwrap_or_default();
    ensure!(
        line.contains("new=\"refused\"") && line.contains(" XLB0101 ") && line.contains("prot"),
        "{line}"
    );
    // Set back to what runs: nothing to apply, and the error is gone.
    fs::write(agent.config(), text(&topology, "good")).context("set it back")?;
    in_force(&agent, "good")?;
    ensure!(failed()?.ends_with(" 0.0"), "{}", failed()?);
    Ok(())
}
