//! The dataplane against the real kernel: what is pinned, adopted, refused, attached, swapped and unloaded. Each test
//! has a BPF file system and network namespaces of its own.

mod agent;
mod attach;
mod bpftool;
mod counting;
mod interrupted;
mod lifetime;
mod live;
mod maps;
mod mounts;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use lb_userspace::dataplane::{
    Adoption, Attached, AttachedLink, Dataplane, DataplaneError, Limits, LogObject, Options, XdpMode, kernel_hz,
};
use xlb_tests::netns::{Namespace, Room};

/// Small enough that a test costs little memory.
const LIMITS: Limits = Limits {
    connections: 1_024,
    half_open: 1_024,
    services: 16,
    backends: 64,
    ring_slots: 262_144,
    endpoints: 64,
};

/// A room with one namespace that has a veth pair, `x0` and `x1`.
struct Stage {
    // Dropped first: the interfaces go before the BPF file system.
    namespace: Namespace,
    room: Room,
}

impl Stage {
    fn new() -> Result<Self> {
        let room = Room::for_test()?;
        let namespace = room.namespace("dp")?;
        namespace.ip("link add x0 type veth peer name x1\nlink set x0 up\nlink set x1 up")?;
        Ok(Self { namespace, room })
    }

    fn pin_dir(&self) -> PathBuf {
        self.room.bpffs().join("xlb")
    }

    fn options(&self) -> Result<Options> {
        options(self.pin_dir())
    }

    fn open(&self) -> Result<(Dataplane, Adoption)> {
        Ok(Dataplane::open(&self.options()?)?)
    }

    fn ifindex(&self, ifname: &str) -> Result<u32> {
        ifindex_in(&self.namespace, ifname)
    }

    /// Attaches from inside the namespace.
    fn attach(&self, dataplane: &mut Dataplane, ifname: &str) -> Result<Result<Attached, DataplaneError>> {
        let ifindex = self.ifindex(ifname)?;
        self.namespace.enter(|| dataplane.attach(ifname, ifindex))
    }

    /// What the dataplane says about its links, asked inside the namespace.
    fn attached(&self, dataplane: &Dataplane) -> Result<Vec<AttachedLink>> {
        Ok(self.namespace.enter(|| dataplane.attached())??)
    }

    /// The kernel's own words about an interface.
    fn ip_link(&self, ifname: &str) -> Result<String> {
        self.namespace.ip_show(&format!("-d link show dev {ifname}"))
    }

    /// Names of what is pinned.
    fn pinned(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.pin_dir())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

fn options(pin_dir: PathBuf) -> Result<Options> {
    Ok(Options {
        pin_dir,
        limits: LIMITS,
        hz: kernel_hz()?,
        log: LogObject::Off,
        xdp_mode: XdpMode::Native,
    })
}

fn ifindex_in(namespace: &Namespace, ifname: &str) -> Result<u32> {
    let shown = namespace.ip_show(&format!("-o link show dev {ifname}"))?;
    shown
        .split(':')
        .next()
        .and_then(|index| index.trim().parse().ok())
        .with_context(|| format!("no index in {shown}"))
}

/// Runs a command to its end; its standard output.
fn run(program: &str, args: &[&str]) -> Result<String> {
    xlb_tests::process::run(Command::new(program).args(args).stdin(Stdio::null()))
}
