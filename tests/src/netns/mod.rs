//! Network namespaces for tests: made, entered and deleted here.
//!
//! Things run inside by `setns` in a thread of their own or by `nsenter --net=`: `ip netns exec` would mount a new
//! /sys and hide bpffs. Nothing here touches an interface it did not create.

mod link;
mod room;
mod sweep;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::process::run;

pub use link::{connect, offload_for_balancer, plain_checksums};
pub use room::Room;
pub use sweep::{end_namespace, end_scene, sweep_stale};

/// Where iproute2 keeps names of namespaces.
const NETNS_DIR: &str = "/run/netns";

/// One network namespace. Dropping it kills what runs inside and deletes it, with every veth that ends in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    lifetime: Lifetime,
}

/// Whether a namespace ends with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Deleted on drop.
    Scoped,
    /// Stays until someone ends it by name (`cargo xtask demo --keep`).
    Kept,
}

impl Namespace {
    /// Makes the namespace `name` with loopback up and IPv6 duplicate address detection off.
    pub fn create(name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))?;
        let namespace = Self {
            name: name.to_owned(),
            lifetime: Lifetime::Scoped,
        };
        // DAD would keep every address tentative for a second or more.
        for scope in ["all", "default", "lo"] {
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/router_solicitations"), "0")?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip -n` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file to enter it by.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(NETNS_DIR).join(&self.name)
    }

    /// Sets what dropping does.
    pub fn set_lifetime(&mut self, lifetime: Lifetime) {
        self.lifetime = lifetime;
    }

    /// A command that will run inside. `nsenter` executes the program in place: same process id.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs lines of `ip` (without the word `ip`) as one batch; the first failing line is the error.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start ip")?;
        let stdin = child.stdin.take().context("ip's standard input")?;
        std::io::Write::write_all(&mut { stdin }, lines.as_bytes()).context("write to ip")?;
        let output = child.wait_with_output().context("wait for ip")?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("ip -n {}: {}\nin:\n{lines}", self.name, text.trim());
        }
        Ok(())
    }

    /// Output of one `ip` command inside.
    pub fn ip_show(&self, args: &str) -> Result<String> {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(args.split_whitespace()))
    }

    /// Calls `f` in a new thread that has entered the namespace; sockets made there stay in it.
    pub fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> Result<R> {
        let file = self.open()?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || -> Result<R> {
                setns(&file, CloneFlags::CLONE_NEWNET).context("setns")?;
                Ok(f())
            });
            match inside.join() {
                Ok(result) => result.with_context(|| format!("enter namespace {}", self.name)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Writes a value under /proc/sys, whose `net` part shows the caller's namespace.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let file = format!("/proc/sys/{path}");
        self.enter(|| fs::write(&file, value))?
            .with_context(|| format!("write '{value}' to {file} in {}", self.name))
    }

    /// An open descriptor of the namespace, for `setns`.
    pub fn open(&self) -> Result<File> {
        File::open(self.path()).with_context(|| format!("open {}", self.path().display()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Scoped {
            // A failure leaves a namespace that the next run's sweep deletes.
            let _ = end_namespace(&self.name);
        }
    }
}
