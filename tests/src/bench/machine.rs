//! What a run was measured on, of what and how, so that figures of different machines or kinds of runs are not compared
//! by accident.

use std::process::Command;
use std::{env, fmt, fs};

use lb_userspace::view::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Effort, Groups};
use crate::process::run as run_command;

/// The commit, where it is known better than by asking git (sources without their repository).
const COMMIT: &str = "XLB_BENCH_COMMIT";

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

/// A run's own circumstances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// How long it took its time.
    pub effort: Effort,
    /// The text that what was measured holds in its name; `None`: all was measured.
    pub only: Option<String>,
    /// The sources' commit, with a `+` where they differed from it.
    pub commit: Option<String>,
    /// When it began.
    pub date: Timestamp,
}

impl Run {
    /// One that begins now.
    #[must_use]
    pub(super) fn now(effort: Effort, groups: &Groups) -> Self {
        Self {
            effort,
            only: match groups {
                Groups::All => None,
                Groups::Holding(text) => Some(text.clone()),
            },
            commit: env::var(COMMIT).ok().filter(|text| !text.is_empty()).or_else(commit),
            date: Timestamp::now(),
        }
    }

    /// What was measured and for how long, for people.
    pub(super) fn kind(&self) -> String {
        match &self.only {
            None => format!("a {} run", self.effort),
            Some(only) => format!("a {} run of only '{only}'", self.effort),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = self.commit.as_deref().unwrap_or("unknown");
        write!(f, "{}, commit {commit}, {}", self.kind(), self.date)
    }
}

/// Of the sources that this was built from, as far as they are still there.
fn commit() -> Option<String> {
    let head = git(&["rev-parse", "--short", "HEAD"])?;
    // Without its lock: what merely looks must not fail another git, nor leave an index that root owns.
    let changes = git(&["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"])?;
    let mark = if changes.is_empty() { "" } else { "+" };
    Some(format!("{head}{mark}"))
}

/// What git prints; `None` where there is no git, or no repository that it trusts.
fn git(arguments: &[&str]) -> Option<String> {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let text = run_command(Command::new("git").args(["-C", sources]).args(arguments)).ok()?;
    Some(text.trim().to_owned())
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

    /// Whether figures of both may be compared.
    #[must_use]
    pub(super) fn is_like(&self, other: &Self) -> bool {
        // The kernel keeps a little more or less of it to itself at each start.
        let is_memory_alike = self.memory_bytes.abs_diff(other.memory_bytes) <= self.memory_bytes / 32;
        is_memory_alike && (&self.processor, self.cpus, &self.kernel) == (&other.processor, other.cpus, &other.kernel)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_like_itself_but_not_with_other_cpus_or_memory() {
        let here = Machine {
            processor: "p".to_owned(),
            cpus: 2,
            kernel: "k".to_owned(),
            load: 0.1,
            memory_bytes: 8 << 30,
        };
        let changed = |change: fn(&mut Machine)| {
            let mut other = here.clone();
            change(&mut other);
            here.is_like(&other)
        };
        assert!(changed(|other| other.load = 3.0));
        assert!(changed(|other| other.memory_bytes -= 8 << 20));
        assert!(!changed(|other| other.memory_bytes *= 2));
        assert!(!changed(|other| other.cpus = 4));
        assert!(!changed(|other| other.kernel = "l".to_owned()));
    }

    #[test]
    fn a_run_says_what_was_measured_of_what() {
        let mut run = Run {
            effort: Effort::Full,
            only: None,
            commit: Some("7c03542+".to_owned()),
            date: Timestamp { unix_s: 0 },
        };
        assert_eq!(run.to_string(), "a full run, commit 7c03542+, 1970-01-01T00:00:00Z");
        (run.effort, run.only, run.commit) = (Effort::Quick, Some("udp".to_owned()), None);
        assert_eq!(
            run.to_string(),
            "a quick run of only 'udp', commit unknown, 1970-01-01T00:00:00Z"
        );
    }
}
