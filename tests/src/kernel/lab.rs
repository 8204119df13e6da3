//! A network namespace of the calling thread's own, with the interfaces that test run needs to exist. It goes away
//! with the thread.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

/// The interfaces of the namespace this thread is in.
#[derive(Clone, Copy, Debug)]
pub struct Lab {
    /// Ours, towards clients.
    pub client_side: u32,
    /// Ours, towards backends.
    pub backend_side: u32,
    /// Ours, a third one (the client's second router).
    pub other_side: u32,
    /// Exists, but the program is not told about it.
    pub foreign: u32,
}

impl Lab {
    /// Moves the calling thread into a fresh namespace and makes two veth pairs there.
    pub fn enter() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        for (end, peer) in [("xm0", "xm1"), ("xm2", "xm3")] {
            ip(&["link", "add", end, "type", "veth", "peer", "name", peer])?;
        }
        let index = |name: &str| nix::net::if_::if_nametoindex(name).with_context(|| format!("index of {name}"));
        Ok(Self {
            client_side: index("xm0")?,
            backend_side: index("xm1")?,
            other_side: index("xm2")?,
            foreign: index("xm3")?,
        })
    }
}

/// Pins the calling thread, so that per-CPU state and the LRU's per-CPU lists behave the same in every run.
pub fn pin_to_cpu(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).context("CPU number")?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pin to CPU {cpu}"))
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("run ip (iproute2)")?;
    if !output.status.success() {
        bail!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
