//! The least that an XDP program does to forward between two interfaces: it swaps the MAC addresses and redirects
//! through a device map. No forwarder in XDP can be faster on the same interfaces.

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use aya::maps::xdp::DevMapHash;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;
use aya::{Ebpf, EbpfLoader};
use lb_common::bench::names;
use lb_userspace::dataplane::uninterrupted;
use nix::net::if_::if_nametoindex;

use crate::kernel::typed;
use crate::netns::Namespace;
use crate::process::run as run_command;

/// Interface and where its frames go.
const SIDES: [(&str, &str); 2] = [("front0", "back0"), ("back0", "front0")];
/// Frames an interface must have carried for its figures to be the program's.
const LEAST_FRAMES: u64 = 1_000;

/// The program on both interfaces of the balancer. Dropping it takes it away.
pub(super) struct Relay {
    /// Each with a device map of its own.
    _programs: [Ebpf; 2],
    redirected_before: [u64; 2],
}

impl Relay {
    /// Attaches it.
    pub(super) fn attach(balancer: &Namespace) -> Result<Self> {
        let redirected_before = redirected(balancer)?;
        // Interfaces go by the namespace of the thread, for the device map too.
        let programs = balancer.enter(|| -> Result<[Ebpf; 2]> {
            let [front, back] = SIDES.map(|(link, out)| attach(link, out));
            Ok([front?, back?])
        })??;
        Ok(Self {
            _programs: programs,
            redirected_before,
        })
    }

    /// That it, and not the kernel, carried the frames of both directions.
    pub(super) fn check(&self, balancer: &Namespace) -> Result<()> {
        let now = redirected(balancer)?;
        for ((link, _), (now, before)) in SIDES.iter().zip(now.iter().zip(self.redirected_before)) {
            let frames = now.saturating_sub(before);
            ensure!(frames > LEAST_FRAMES, "only {frames} frames were redirected at {link}");
        }
        Ok(())
    }
}

fn attach(link: &str, out: &str) -> Result<Ebpf> {
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
    program
        .attach(link, XdpMode::Driver)
        .with_context(|| format!("attach {name} to {link}"))?;
    Ok(bpf)
}

/// Frames that an XDP program has redirected at each side since the interface was made.
fn redirected(balancer: &Namespace) -> Result<[u64; 2]> {
    let [front, back] = SIDES.map(|(link, _)| -> Result<u64> {
        let text = run_command(balancer.command("ethtool").args(["-S", link]))?;
        sum(&text, "_xdp_redirect").with_context(|| format!("ethtool -S {link}:\n{text}"))
    });
    Ok([front?, back?])
}

/// Sum over the queues of a statistic, from lines such as `rx_queue_0_xdp_redirect: 12`.
fn sum(text: &str, ending: &str) -> Result<u64> {
    let mut values = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.ends_with(ending) {
            values.push(value.trim().parse::<u64>().with_context(|| line.to_owned())?);
        }
    }
    ensure!(!values.is_empty(), "no statistic ends in {ending}");
    Ok(values.into_iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statistic_is_summed_over_the_queues() {
        let text = "NIC statistics:\n     peer_ifindex: 2\n     rx_queue_0_xdp_packets: 90\n     \
                    rx_queue_0_xdp_redirect: 12\n     rx_queue_1_xdp_redirect: 30\n";
        assert_eq!(sum(text, "_xdp_redirect").expect("a sum"), 42);
        assert!(sum(text, "_xdp_tx").is_err());
    }
}
