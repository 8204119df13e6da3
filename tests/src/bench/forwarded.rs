//! Whether a program carried the packets, or the kernel's routes beside it.

use std::fs;

use anyhow::{Context as _, Result};

/// Packets that the kernel may have forwarded where a program was to do it: neighbours and late ones.
pub(super) const BESIDE_A_PROGRAM: u64 = 100;

/// IPv4 packets that the kernel has forwarded in this thread's namespace.
pub(super) fn here() -> Result<u64> {
    const FILE: &str = "/proc/thread-self/net/snmp";
    let text = fs::read_to_string(FILE).with_context(|| format!("read {FILE}"))?;
    statistic(&text, "Ip:", "ForwDatagrams").with_context(|| format!("{FILE}:\n{text}"))
}

/// A number under its heading: lines come in pairs that begin alike, names and values.
fn statistic(text: &str, group: &str, name: &str) -> Result<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next(), lines.next());
    let both = names
        .context("no names")?
        .split_whitespace()
        .zip(values.context("no values")?.split_whitespace());
    let found = both.into_iter().find(|(heading, _)| *heading == name);
    let (_, value) = found.with_context(|| format!("no statistic {name}"))?;
    value.parse().with_context(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statistic_is_read_from_under_its_heading() {
        let text = "Ip: Forwarding DefaultTTL ForwDatagrams\nIp: 1 64 42\nIcmp: InMsgs\nIcmp: 7\n";
        assert_eq!(statistic(text, "Ip:", "ForwDatagrams").expect("a number"), 42);
        assert_eq!(statistic(text, "Icmp:", "InMsgs").expect("a number"), 7);
        assert!(statistic(text, "Ip:", "InMsgs").is_err());
        assert!(statistic(text, "Tcp:", "InSegs").is_err());
    }

    #[test]
    fn the_kernel_says_what_it_forwarded_here() {
        let found = here();
        assert!(found.is_ok(), "{found:?}");
    }
}
