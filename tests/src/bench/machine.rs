//! What a run was measured on, so that figures of different machines are not compared by accident.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine and its state when the run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor's model name.
    pub processor: String,
    /// CPUs online.
    pub cpus: usize,
    /// Kernel release.
    pub kernel: String,
    /// Load average over a minute when the run began.
    pub load: f64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Machine {
    /// This one, now.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, name)| name.trim());
        let memory_kib = read("/proc/meminfo")
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0_u64);
        let load = read("/proc/loadavg");
        Self {
            processor: model.to_owned(),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load
                .split_whitespace()
                .next()
                .and_then(|one| one.parse().ok())
                .unwrap_or(0.0),
            memory_bytes: memory_kib * 1024,
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, {} CPUs, {} GiB, kernel {}, load {:.1} at the start",
            self.processor,
            self.cpus,
            self.memory_bytes >> 30,
            self.kernel,
            self.load
        )
    }
}
