//! The real agent: `xlb run` in the balancer's namespace with a config file.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::binary::xlb_binary;
use crate::client::Client;
use crate::netns::Namespace;
use crate::process::{Process, wait_until};
use crate::topology::{FRONT4, FRONT6, SNAT4, SNAT6, Topology, Wiring};

/// How long a start may take on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// The agent of one scene. Dropping it stops it and detaches the programs.
#[derive(Debug)]
pub struct Agent {
    process: Option<Process>,
    client: Client,
    config: PathBuf,
    log: PathBuf,
    launch: Launch,
    end: End,
}

/// How the agent's process is started, where that matters.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// The config file; `None`: `xlb.toml` in the room.
    pub config: Option<PathBuf>,
    /// Words before `xlb`, such as `setpriv` with its options.
    pub before: Vec<String>,
    /// More arguments of `xlb run`.
    pub arguments: Vec<String>,
    /// More of the environment.
    pub environment: Vec<(String, String)>,
}

/// What dropping an [`Agent`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Stops it and unloads.
    Unload,
    /// Leaves it alone.
    Nothing,
}

impl Agent {
    /// Writes the config (the `[agent]` section of the topology, then `services`), starts the agent and waits until
    /// it answers.
    pub fn start(topology: &Topology, services: &str) -> Result<Self> {
        Self::start_with(topology, &agent_section(topology), services)
    }

    /// As [`Agent::start`] with an `[agent]` section of the test's own.
    pub fn start_with(topology: &Topology, section: &str, services: &str) -> Result<Self> {
        Self::launch(topology, section, services, Launch::default())
    }

    /// As [`Agent::start_with`], in a process of the test's own making.
    pub fn launch(topology: &Topology, section: &str, services: &str, launch: Launch) -> Result<Self> {
        let room = &topology.room;
        let config = launch.config.clone().unwrap_or_else(|| room.file("xlb.toml"));
        fs::write(&config, format!("{section}\n{services}")).with_context(|| format!("write {}", config.display()))?;
        let client = Client::new(room, &topology.balancer);
        let mut agent = Self {
            process: None,
            client,
            config,
            log: room.file("agent.log"),
            launch,
            end: End::Unload,
        };
        agent.run(&topology.balancer)?;
        Ok(agent)
    }

    /// Starts the agent (again) and waits until it answers.
    pub fn run(&mut self, balancer: &Namespace) -> Result<()> {
        let own = xlb_binary()?.to_string_lossy().into_owned();
        let mut words = self.launch.before.iter().chain([&own]);
        let mut command = balancer.command(words.next().context("a program")?);
        command
            .args(words)
            .args(["run", "--config"])
            .arg(&self.config)
            .args(&self.launch.arguments)
            .env("XLB_LOG", "info")
            .envs(self.launch.environment.iter().cloned());
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
            eprintln!("{}--- the agent's log\n{}", self.client.evidence(), self.log());
        }
        self.process = None;
        // The namespace goes next and takes the links along; unloading first removes the pins in any case.
        let _ = self.client.xlb(&["unload"]);
    }
}

/// The `[agent]` section for a topology: every interface of the balancer, and the addresses of the side of the backends
/// to translate to. A test may append keys of its own.
pub fn agent_section(topology: &Topology) -> String {
    let client = Client::new(&topology.room, &topology.balancer);
    let (interfaces, snat) = match topology.wiring {
        Wiring::TwoArms | Wiring::Line => ("\"front0\", \"back0\"", format!("\"{SNAT4}\", \"{SNAT6}\"")),
        Wiring::OneArm => ("\"front0\"", format!("\"{FRONT4}\", \"{FRONT6}\"")),
    };
    format!(
        "[agent]
interfaces = [{interfaces}]
snat_addresses = [{snat}]
manage_vip = true
socket = \"{}\"
pin_dir = \"{}\"
state_dir = \"{}\"
",
        client.socket().display(),
        client.pin_dir().display(),
        topology.room.file("state").display(),
    )
}

fn loop_until_answered(process: &mut Process, client: &Client, log: &Path) -> Result<()> {
    let mut ended = None;
    wait_until("the agent's first answer", START_PATIENCE, || {
        ended = process.ended()?;
        if ended.is_some() {
            return Ok(true);
        }
        client
            .output(&["status"])
            .map(|output| matches!(output.status.code(), Some(0 | 1 | 4)))
    })?;
    if let Some(status) = ended {
        bail!(
            "xlb run ended with {status}:\n{}",
            fs::read_to_string(log).unwrap_or_default()
        );
    }
    Ok(())
}
