//! Decides whether a test can run here, and says so where it cannot.
//!
//! `SKIP why` goes straight to standard error: the test runner hides what a passing test prints. In CI (`CI` or
//! `XLB_NO_SKIP` set) a missing privilege or program is a failure, never a pass.

use std::env;
use std::fs;
use std::io::{Write, stderr};

use crate::process;

/// Capabilities the namespace and kernel tests use: (bit in `CapEff`, name).
const CAPABILITIES: [(u32, &str); 4] = [
    (12, "CAP_NET_ADMIN"),
    (13, "CAP_NET_RAW"),
    (21, "CAP_SYS_ADMIN"),
    (39, "CAP_BPF"),
];

/// What is missing to make namespaces, load programs and run `programs`; `None` when nothing is.
pub fn missing(programs: &[&str]) -> Option<String> {
    missing_capability().or_else(|| {
        let program = programs.iter().find(|name| process::find_program(name).is_none())?;
        Some(format!(
            "the program '{program}' is not installed; run 'cargo xtask setup'"
        ))
    })
}

/// Says that `test` does not run because of `why`; panics in CI.
pub fn skip(test: &str, why: &str) {
    let strict = ["CI", "XLB_NO_SKIP"]
        .iter()
        .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0"));
    assert!(!strict, "SKIP {test}: {why} (in CI a SKIP is a failure)");
    // The test's verdict does not depend on whether anybody reads this line.
    let _ = writeln!(stderr(), "SKIP {test}: {why}");
}

/// Returns from the calling test with `SKIP why` unless this process may make namespaces and load programs, and every
/// named program is installed.
#[macro_export]
macro_rules! require {
    ($($program:literal),* $(,)?) => {
        if let Some(why) = $crate::skip::missing(&[$($program),*]) {
            $crate::skip::skip(concat!(module_path!(), ":", line!()), &why);
            return Ok(());
        }
    };
}

fn missing_capability() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    let (_, name) = CAPABILITIES.iter().find(|(bit, _)| effective & (1 << bit) == 0)?;
    Some(format!("{name} is missing; run the tests as root"))
}
