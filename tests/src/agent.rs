//! The real agent: `xlb run` in the balancer's namespace with a config file, and `xlb` as its client.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::netns::{Namespace, Room};
use crate::process::{Process, run, wait_until};
use crate::topology::{Arms, FRONT4, FRONT6, SNAT4, SNAT6, Topology};

/// How long a start may take on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Lines of the agent's log that a failing test shows.
const LOG_TAIL_LINES: usize = 60;

/// The agent of one scene. Dropping it stops it and detaches the programs.
#[derive(Debug)]
pub struct Agent {
    process: Option<Process>,
    client: Client,
    config: PathBuf,
    log: PathBuf,
    end: End,
}

/// What dropping an [`Agent`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Stops it and unloads.
    Unload,
    /// Leaves it alone.
    Nothing,
}

/// `xlb` commands against one agent, inside the balancer's namespace.
#[derive(Debug, Clone)]
pub struct Client {
    namespace: PathBuf,
    socket: PathBuf,
    pin_dir: PathBuf,
}

impl Agent {
    /// Writes the config (the `[agent]` section of the topology, then `services`), starts the agent and waits until
    /// it answers.
    pub fn start(topology: &Topology, services: &str) -> Result<Self> {
        Self::start_with(topology, &agent_section(topology), services)
    }

    /// As [`Agent::start`] with an `[agent]` section of the test's own.
    pub fn start_with(topology: &Topology, section: &str, services: &str) -> Result<Self> {
        let room = &topology.room;
        let config = room.file("xlb.toml");
        fs::write(&config, format!("{section}\n{services}")).with_context(|| format!("write {}", config.display()))?;
        let client = Client {
            namespace: topology.balancer.path(),
            socket: socket(room),
            pin_dir: pin_dir(room),
        };
        let mut agent = Self {
            process: None,
            client,
            config,
            log: room.file("agent.log"),
            end: End::Unload,
        };
        agent.run(&topology.balancer)?;
        Ok(agent)
    }

    /// Starts the agent (again) and waits until it answers.
    pub fn run(&mut self, balancer: &Namespace) -> Result<()> {
        let mut command = balancer.command(&xlb_binary()?.to_string_lossy());
        command
            .args(["run", "--config"])
            .arg(&self.config)
            .env("XLB_LOG", "info");
        self.process = Some(Process::start("xlb run", &mut command, &self.log)?);
        let (client, log) = (self.client.clone(), self.log.clone());
        let process = self.process.as_mut().context("just started")?;
        loop_until_answered(process, &client, &log)
    }

    /// The `xlb` client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The running agent.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the agent does not run")
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// SIGTERM; an error unless it ends with success.
    pub fn terminate(&mut self) -> Result<()> {
        let status = self.process()?.terminate()?;
        self.process = None;
        ensure!(status.success(), "xlb run ended with {status} after SIGTERM");
        Ok(())
    }

    /// Lets it run on after this process.
    pub fn release(mut self) {
        if let Some(process) = self.process.take() {
            process.release();
            self.end = End::Nothing;
        }
    }

    /// Its config file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.end == End::Nothing {
            return;
        }
        if thread::panicking() {
            self.client.print_evidence(&self.log());
        }
        self.process = None;
        // The namespace goes next and takes the links along; unloading first removes the pins in any case.
        let _ = self.client.xlb(&["unload"]);
    }
}

impl Client {
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
        let mut last = Value::Null;
        wait_until(what, START_PATIENCE, || {
            last = self.status()?;
            Ok(check(&last))
        })
        .with_context(|| format!("last status: {last}"))
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

    fn print_evidence(&self, log: &str) {
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(LOG_TAIL_LINES)..)
            .unwrap_or_default();
        eprintln!("--- the agent's log\n{}", tail.join("\n"));
        for args in [&["status"], &["drops"]] {
            if let Ok(output) = self.output(args) {
                eprintln!("--- xlb {}\n{}", args[0], String::from_utf8_lossy(&output.stdout));
            }
        }
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

/// The `[agent]` section for a topology: every interface of the balancer, and the addresses of the side of the backends
/// to translate to. A test may append keys of its own.
pub fn agent_section(topology: &Topology) -> String {
    let (interfaces, snat) = match topology.arms {
        Arms::Two => ("\"front0\", \"back0\"", format!("\"{SNAT4}\", \"{SNAT6}\"")),
        Arms::One => ("\"front0\"", format!("\"{FRONT4}\", \"{FRONT6}\"")),
    };
    format!(
        "[agent]
interfaces = [{interfaces}]
snat_addresses = [{snat}]
manage_vip = true
socket = \"{}\"
pin_dir = \"{}\"
",
        socket(&topology.room).display(),
        pin_dir(&topology.room).display()
    )
}

/// The `xlb` of this build, made up to date once a process. `XLB_BIN` names another one.
pub fn xlb_binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| find_binary().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

fn find_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("XLB_BIN") {
        return Ok(path.into());
    }
    // target/PROFILE/deps/scene_x-HASH, or target/PROFILE/xlb-demo.
    let own = env::current_exe().context("path of this program")?;
    let directory = own
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .context("directory of this program")?;
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let target = directory.parent().context("target directory")?;
    // `cargo test -p xlb-tests` builds our library, not the program of another package.
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "--package",
            "lb-userspace",
            "--bin",
            "xlb",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    run(&mut cargo)?;
    let binary = directory.join("xlb");
    ensure!(
        binary.is_file(),
        "{} is not there after cargo build; set XLB_BIN",
        binary.display()
    );
    Ok(binary)
}

fn loop_until_answered(process: &mut Process, client: &Client, log: &Path) -> Result<()> {
    let mut ended = None;
    wait_until("the agent's first answer", START_PATIENCE, || {
        ended = process.ended()?;
        if ended.is_some() {
            return Ok(true);
        }
        client.status().map(|_| true)
    })?;
    if let Some(status) = ended {
        bail!(
            "xlb run ended with {status}:\n{}",
            fs::read_to_string(log).unwrap_or_default()
        );
    }
    Ok(())
}

fn socket(room: &Room) -> PathBuf {
    room.file("api.sock")
}

fn pin_dir(room: &Room) -> PathBuf {
    room.bpffs().join("xlb")
}
