//! The agent killed in the middle of a write-back, as a power cut or the OOM killer would: its config is the old or the new
//! one, whole, and the next agent starts with it. (write_back.rs does it at every system call, without an agent.)

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::client::{BackendStatus, backends};
use xlb_tests::config_text::ServiceText;
use xlb_tests::process::kill_at;
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology};

const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn an_agent_killed_in_a_write_back_starts_again_with_the_old_or_the_new_config() -> Result<()> {
    require!("ip", "ethtool", "strace");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = &topology.backends[0];
    let service = ServiceText::v4("web", "tcp", 80).backend("first", host.address4, 8081);
    let directory = topology.room.file("");
    let directory = directory.to_string_lossy().trim_end_matches('/').to_owned();
    let mut agent = Agent::start(&topology, service.text())?;
    let old = fs::read_to_string(agent.config())?;
    let temporary = format!("{directory}/.xlb.toml.xlb-new");
    for (call, path, is_new) in [
        ("write", &temporary, false),
        ("fsync", &temporary, false),
        ("rename", &temporary, false),
        ("fsync", &directory, true),
    ] {
        let _strace = kill_at(agent.process()?.pid(), call, path, &topology.room.file("strace.log"))?;
        let target = format!("{}:9000", host.address4);
        let answer = agent
            .client()
            .output(&["backend", "add", "web", &target, "--name", "second"])?;
        ensure!(!answer.status.success(), "{call} of {path}: {answer:?}");
        agent.process()?.wait(PATIENCE).context("the agent was not killed")?;
        agent.kill()?;

        let text = fs::read_to_string(agent.config())?;
        ensure!(
            if is_new {
                text.contains("\"second\"") && text.starts_with(&old)
            } else {
                text == old
            },
            "killed at {call} of {path}: {text}"
        );
        agent.run(&topology.balancer)?;
        let status = agent.client().status()?;
        let rows = backends(&status);
        let running: Vec<&str> = rows.iter().filter(|row| row.is_up()).map(BackendStatus::name).collect();
        let wanted: &[&str] = if is_new { &["first", "second"] } else { &["first"] };
        ensure!(
            running.len() == wanted.len() && wanted.iter().all(|name| running.contains(name)),
            "killed at {call} of {path}: {running:?}"
        );
    }
    Ok(())
}
