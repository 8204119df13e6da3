//! The least that an XDP program does to forward between two interfaces: it swaps the MAC addresses and redirects
//! through a device map. No forwarder in XDP can be faster between interfaces of the same build.

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use aya::maps::xdp::DevMapHash;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;
use aya::{Ebpf, EbpfLoader};
use lb_common::bench::names;
use lb_userspace::dataplane::uninterrupted;
use nix::net::if_::if_nametoindex;

use super::super::forwarded;
use super::ways::Hook;
use crate::kernel::typed;
use crate::netns::Namespace;

/// Interface and where its frames go.
const SIDES: [(&str, &str); 2] = [("front0", "back0"), ("back0", "front0")];

/// The program on both interfaces of the balancer. Dropping it takes it away.
pub(super) struct Relay {
    /// Each with a device map of its own.
    _programs: [Ebpf; 2],
    forwarded_before: u64,
}

impl Relay {
    /// Attaches it.
    pub(super) fn attach(balancer: &Namespace, hook: Hook) -> Result<Self> {
        // Interfaces go by the namespace of the thread, for the device map too.
        let programs = balancer.enter(|| -> Result<[Ebpf; 2]> {
            let [front, back] = SIDES.map(|(link, out)| attach(link, out, hook));
            Ok([front?, back?])
        })??;
        Ok(Self {
            _programs: programs,
            forwarded_before: balancer.enter(forwarded::here)??,
        })
    }

    /// That it, and not the kernel's routing, carried the packets.
    pub(super) fn check(&self, balancer: &Namespace) -> Result<()> {
        let by_kernel = balancer.enter(forwarded::here)??.saturating_sub(self.forwarded_before);
        ensure!(
            by_kernel < forwarded::BESIDE_A_PROGRAM,
            "the kernel forwarded {by_kernel} packets that were to be redirected"
        );
        Ok(())
    }
}

fn attach(link: &str, out: &str, hook: Hook) -> Result<Ebpf> {
    let mut bpf = EbpfLoader::new()
        .load(lb_userspace::BPF_OBJECT_BENCH)
        .context("load the benchmark's object")?;
    let name = names::RELAY;
    let program: &mut Xdp = bpf
        .program_mut(name)
        .with_context(|| format!("program {name} is not in the object"))?
        .try_into()?;
    uninterrupted(|| program.load()).with_context(|| format!("the kernel refuses program {name}"))?;
    // The loaded program keeps the map; it needs its entry before the first frame comes.
    let mut ports: DevMapHash<MapData> = typed(&mut bpf, names::TX_PORTS)?;
    ports.insert(0, if_nametoindex(out)?, None, 0)?;
    let program: &mut Xdp = bpf.program_mut(name).context("loaded above")?.try_into()?;
    let mode = match hook {
        Hook::Native => XdpMode::Driver,
        Hook::Generic => XdpMode::Skb,
    };
    program
        .attach(link, mode)
        .with_context(|| format!("attach {name} to {link}"))?;
    Ok(bpf)
}
