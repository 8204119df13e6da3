//! What the kernel says of the agent's process: CPU time, memory, maps.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::super::report::{Report, Unit};
use super::row;
use crate::agent::Agent;

/// `BPF_MAP_TYPE_PERCPU_HASH`, `_PERCPU_ARRAY`, `_LRU_PERCPU_HASH`.
const PER_CPU: [u64; 3] = [5, 6, 10];

/// Rows of the agent's memory.
pub(super) fn add_memory(report: &mut Report, group: &str, agent: &mut Agent) -> Result<f64> {
    let pid = agent.process()?.pid();
    let resident = resident_bytes(pid)?;
    let maps = Maps::of(pid)?;
    for (name, bytes) in [
        ("agent's memory (RSS)", resident),
        ("maps, per-CPU ones apart", maps.other_bytes),
        ("per-CPU maps", maps.per_cpu_bytes),
    ] {
        report.rows.push(row(group, name, Unit::Bytes, vec![bytes]));
    }
    Ok(resident)
}

/// CPU time of all its threads so far.
pub(super) fn cpu_time(pid: Pid) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent's CPU time")?;
    // After the name, which may hold anything: utime and stime are the 12th and 13th.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let ticks: u32 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u32>().context("ticks"))
        .sum::<Result<u32>>()?;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(Duration::from_secs(1) * ticks / u32::try_from(per_second)?)
}

fn resident_bytes(pid: Pid) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent's memory")?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .split_whitespace()
            .next()?
            .parse::<f64>()
            .ok()
    });
    Ok(kib.context("no VmRSS")? * 1024.0)
}

/// Memory that the kernel accounts the maps with that a process has open.
struct Maps {
    per_cpu_bytes: f64,
    other_bytes: f64,
}

impl Maps {
    fn of(pid: Pid) -> Result<Self> {
        let mut maps = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("the agent's descriptors")? {
            // A descriptor may be closed meanwhile.
            let Ok(text) = fs::read_to_string(entry?.path()) else {
                continue;
            };
            let field = |name: &str| {
                text.lines()
                    .find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
            };
            if let (Some(kind), Some(id), Some(bytes)) = (field("map_type:"), field("map_id:"), field("memlock:")) {
                maps.insert(id, (kind, bytes));
            }
        }
        let (per_cpu, other): (Vec<_>, Vec<_>) = maps.into_values().partition(|(kind, _)| PER_CPU.contains(kind));
        let sum = |maps: Vec<(u64, u64)>| {
            let kib: u64 = maps.iter().map(|(_, bytes)| bytes / 1024).sum();
            f64::from(kib as u32) * 1024.0
        };
        Ok(Self {
            per_cpu_bytes: sum(per_cpu),
            other_bytes: sum(other),
        })
    }
}
