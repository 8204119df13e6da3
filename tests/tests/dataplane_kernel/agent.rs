//! The real agent and what the kernel takes away under it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_common::names;
use serde_json::Value;
use xlb_tests::agent::Agent;
use xlb_tests::alone::shared;
use xlb_tests::config_text::ServiceText;
use xlb_tests::process::{run, wait_until};
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_device_map_entry_that_went_is_put_back_by_the_agent() -> Result<()> {
    require!("ip", "ethtool", "bpftool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let host = topology.backends.first().context("no backend")?;
    let service = ServiceText::new("web", "tcp", 80).host("a", host, 8_080);
    let agent = Agent::start(&topology, service.text())?;

    let map = agent.client().pin_dir().join(names::TX_PORTS);
    let map = map.to_str().context("path")?.to_owned();
    let keys = || -> Result<Vec<Vec<String>>> {
        let dump: Value = serde_json::from_str(&run(
            Command::new("bpftool").args(["-j", "map", "dump", "pinned", &map])
        )?)?;
        let entries = dump.as_array().context("no list")?;
        let key = |entry: &Value| serde_json::from_value(entry.get("key").cloned().unwrap_or_default());
        Ok(entries.iter().map(key).collect::<Result<_, _>>()?)
    };
    wait_until("both interfaces in the device map", PATIENCE, || Ok(keys()?.len() == 2))?;
    // As the kernel does when the interface leaves the namespace.
    let gone = keys()?.pop().context("no entry")?;
    run(Command::new("bpftool")
        .args(["map", "delete", "pinned", &map, "key"])
        .args(&gone))?;
    ensure!(keys()?.len() == 1);
    wait_until("the entry to be put back", PATIENCE, || Ok(keys()?.contains(&gone)))
}
