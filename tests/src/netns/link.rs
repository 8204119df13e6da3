//! Veth pairs between namespaces, and the offload settings that XDP on veth needs at the far end.

use anyhow::Result;

use super::Namespace;
use crate::process::run;

/// Connects two namespaces with a veth pair, both ends up.
pub fn connect(a: &Namespace, a_link: &str, b: &Namespace, b_link: &str) -> Result<()> {
    a.ip(&format!(
        "link add {a_link} type veth peer name {b_link} netns {}\nlink set {a_link} up",
        b.name()
    ))?;
    b.ip(&format!("link set {b_link} up"))
}

/// For the end that faces the balancer: GRO gives it the NAPI context without which it cannot receive XDP frames, and
/// frames it sends must carry complete checksums, which XDP can then update incrementally.
pub fn offload_for_balancer(namespace: &Namespace, link: &str) -> Result<()> {
    run(namespace
        .command("ethtool")
        .args(["-K", link, "gro", "on", "tx", "off"]))
    .map(drop)
}

/// Makes a link send complete checksums, so that a capture on it shows what is on the wire.
pub fn plain_checksums(namespace: &Namespace, link: &str) -> Result<()> {
    run(namespace.command("ethtool").args(["-K", link, "tx", "off"])).map(drop)
}
