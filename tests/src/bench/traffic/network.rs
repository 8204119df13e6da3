//! The network of a way of `bench traffic`, a client, the balancer and a server in a line, and the settings of its
//! interfaces' offloads.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::netns::Namespace;
use crate::process::run as run_command;
use crate::topology::{Plan, Topology};

/// The client's and the server's, each alone on its network: swapping a frame's MAC addresses then addresses it to the
/// other.
const PEERS_MAC: &str = "02:00:00:00:00:0a";

/// Which interfaces behave as if a wire began there: they send complete checksums and single segments (`tx off`) and
/// receive through NAPI (`gro on`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offloads {
    /// The client's and the server's.
    AtPeers,
    /// The balancer's two as well, so that the kernel's forwarding receives frames as it does from a NIC. Otherwise
    /// veth hands them to the forwarding directly, which no wire does.
    Everywhere,
}

impl Offloads {
    /// Sets the balancer's interfaces; the others are as a line has them.
    pub(super) fn set(self, topology: &Topology) -> Result<()> {
        let (gro, tx) = match self {
            Self::AtPeers => ("off", "on"),
            Self::Everywhere => ("on", "off"),
        };
        for link in ["front0", "back0"] {
            run_command(
                topology
                    .balancer
                    .command("ethtool")
                    .args(["-K", link, "gro", gro, "tx", tx]),
            )?;
        }
        Ok(())
    }

    /// That all four interfaces are as this setting says.
    pub(super) fn check(self, topology: &Topology) -> Result<()> {
        for link in ["front0", "back0"] {
            ensure_features(&topology.balancer, link, self == Self::Everywhere)?;
        }
        ensure_features(&topology.client, "c0", true)?;
        ensure_features(&server(topology)?.namespace, "eth0", true)
    }
}

/// Builds it.
pub(super) fn build(offloads: Offloads) -> Result<Topology> {
    let topology = Topology::build(Plan::line())?;
    topology.client.ip(&format!("link set c0 address {PEERS_MAC}\n"))?;
    server(&topology)?
        .namespace
        .ip(&format!("link set eth0 address {PEERS_MAC}\n"))?;
    topology.balancer.sysctl("net/ipv4/ip_forward", "1")?;
    for link in ["all", "front0", "back0"] {
        topology
            .balancer
            .sysctl(&format!("net/ipv4/conf/{link}/rp_filter"), "0")?;
    }
    // New connections by the thousand: their ports must not run out, nor the sockets that wait for late segments.
    for namespace in [&topology.client, &topology.balancer] {
        namespace.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        namespace.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
    }
    offloads.set(&topology)?;
    Ok(topology)
}

/// The server's host.
pub(super) fn server(topology: &Topology) -> Result<&crate::topology::BackendHost> {
    topology.backends.first().context("a line has one backend")
}

/// The server's congestion control, which sends nearly all there is to send.
pub(super) fn congestion_control(topology: &Topology) -> Result<String> {
    let path = "/proc/sys/net/ipv4/tcp_congestion_control";
    let name = server(topology)?.namespace.enter(|| fs::read_to_string(path))?;
    Ok(name.with_context(|| format!("read {path}"))?.trim().to_owned())
}

fn ensure_features(namespace: &Namespace, link: &str, as_wire: bool) -> Result<()> {
    let text = run_command(namespace.command("ethtool").args(["-k", link]))?;
    for (feature, is_wanted) in [
        ("generic-receive-offload", as_wire),
        ("tx-checksumming", !as_wire),
        ("tx-tcp-segmentation", !as_wire),
    ] {
        let state = state_of(&text, feature).with_context(|| format!("ethtool -k {link} has no {feature}:\n{text}"))?;
        let wanted = if is_wanted { "on" } else { "off" };
        ensure!(
            state == wanted,
            "{link} in {} has {feature} {state}, this setting needs {wanted}",
            namespace.name()
        );
    }
    Ok(())
}

/// `on` or `off`, from a line such as `tx-checksumming: off [fixed]`.
fn state_of<'a>(text: &'a str, feature: &str) -> Option<&'a str> {
    let value = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(feature)?.strip_prefix(':'))?;
    value.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_features_state_is_read_from_its_own_line() {
        let text = "Features for c0:\nrx-checksumming: on\ntx-checksumming: off\n\ttx-checksum-ipv4: off [fixed]\n";
        assert_eq!(state_of(text, "tx-checksumming"), Some("off"));
        assert_eq!(state_of(text, "tx-checksum-ipv4"), Some("off"));
        assert_eq!(state_of(text, "checksumming"), None);
    }
}
