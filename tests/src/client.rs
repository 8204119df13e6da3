//! `xlb` as the client of one agent: its commands, its status, and the maps behind it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::binary::xlb_binary;
use crate::netns::{Namespace, Room};
use crate::process::{run, wait_until};

/// How long a change may take to show on a busy machine.
const CHANGE_PATIENCE: Duration = Duration::from_secs(20);

/// `xlb` commands against one agent, inside the balancer's namespace.
#[derive(Debug, Clone)]
pub struct Client {
    namespace: PathBuf,
    socket: PathBuf,
    pin_dir: PathBuf,
}

impl Client {
    /// For the agent that runs in `balancer` with the files of `room`.
    pub(crate) fn new(room: &Room, balancer: &Namespace) -> Self {
        Self {
            namespace: balancer.path(),
            socket: room.file("api.sock"),
            pin_dir: room.bpffs().join("xlb"),
        }
    }

    /// Runs `xlb ARGS`; standard output, or an error unless it ends with 0.
    pub fn xlb(&self, args: &[&str]) -> Result<String> {
        run(&mut self.command(args)?)
    }

    /// Runs `xlb ARGS`, whatever its exit status.
    pub fn output(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.command(args)?;
        command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {command:?}"))
    }

    /// The `xlb` command, to run inside the balancer.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.namespace.display()))
            .arg("--")
            .arg(xlb_binary()?)
            .args(args)
            .env("XLB_SOCKET", &self.socket);
        if args.first() == Some(&"unload") {
            command.arg("--pin-dir").arg(&self.pin_dir);
        }
        Ok(command)
    }

    /// `xlb status -o json`. A degraded status is an answer too.
    pub fn status(&self) -> Result<Value> {
        self.json(&["status", "-o", "json"])
    }

    /// GET of a path of the API, without the patience of a command: for agents with very much to say.
    pub fn get(&self, path: &str) -> Result<String> {
        run(Command::new("curl")
            .args(["-sS", "--max-time", "120", "--unix-socket"])
            .arg(&self.socket)
            .arg(format!("http://xlb{path}")))
    }

    /// `xlb drops -o json`.
    pub fn drops(&self) -> Result<Value> {
        self.json(&["drops", "--interval", "0s", "-o", "json"])
    }

    /// The socket of the API.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where maps, programs and links are pinned.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// `bpftool map dump` of a pinned map, as JSON.
    pub fn map_dump(&self, map: &str) -> Result<Value> {
        let text = run(Command::new("bpftool")
            .args(["-j", "map", "dump", "pinned"])
            .arg(self.pin_dir.join(map)))?;
        serde_json::from_str(&text).with_context(|| format!("bpftool's JSON of {map}"))
    }

    /// Waits until every backend of every service takes traffic.
    pub fn wait_all_up(&self) -> Result<()> {
        self.wait_for("every backend to be up", |status| {
            let backends = backends(status);
            !backends.is_empty() && backends.iter().all(BackendStatus::is_up)
        })
    }

    /// Waits until `check` likes the status.
    pub fn wait_for(&self, what: &str, mut check: impl FnMut(&Value) -> bool) -> Result<()> {
        wait_until(what, CHANGE_PATIENCE, || Ok(check(&self.status()?)))
            .with_context(|| format!("\n{}", self.evidence()))
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        let output = self.output(args)?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "xlb {args:?}: {}: {}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// What somebody who looks into a failure wants to see: the status and the drops.
    pub fn evidence(&self) -> String {
        [&["status", "-o", "wide"][..], &["drops", "--interval", "0s"]]
            .iter()
            .map(|args| {
                let shown = args.join(" ");
                match self.output(args) {
                    Ok(output) => format!("--- xlb {shown}\n{}", String::from_utf8_lossy(&output.stdout)),
                    Err(error) => format!("--- xlb {shown}: {error:#}\n"),
                }
            })
            .collect()
    }
}

/// One backend of the status.
#[derive(Debug, Clone)]
pub struct BackendStatus<'a> {
    /// Its service.
    pub service: &'a str,
    /// The row.
    pub row: &'a Value,
}

impl BackendStatus<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        self.row["name"].as_str().unwrap_or_default()
    }

    /// Whether new flows go to it.
    pub fn is_up(&self) -> bool {
        self.row["state"].as_str() == Some("active")
    }

    /// A counter of the row.
    pub fn number(&self, field: &str) -> u64 {
        self.row[field].as_u64().unwrap_or_default()
    }

    /// A counter of its `counters`.
    pub fn counter(&self, field: &str) -> u64 {
        self.row["counters"][field].as_u64().unwrap_or_default()
    }

    /// What the checks say, as a sentence.
    pub fn health_text(&self) -> &str {
        self.row["health"]["text"].as_str().unwrap_or_default()
    }

    /// The verdict of its newest probe: `open`, `refused`, `filtered` ...
    pub fn port_verdict(&self) -> &str {
        self.row["health"]["port_verdict"].as_str().unwrap_or_default()
    }
}

/// Every backend of every service.
pub fn backends(status: &Value) -> Vec<BackendStatus<'_>> {
    let services = status["services"].as_array().map(Vec::as_slice).unwrap_or_default();
    services
        .iter()
        .flat_map(|service| {
            let name = service["name"].as_str().unwrap_or_default();
            let rows = service["backends"].as_array().map(Vec::as_slice).unwrap_or_default();
            rows.iter().map(move |row| BackendStatus { service: name, row })
        })
        .collect()
}
