//! docs/reasons.md is written from lb-common's one list of reasons.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use lb_common::reason::{AnswerReason, DropReason, PassReason};

use super::{Findings, Golden, golden};

const HEAD: &str = "\
# Reasons

Every packet ends in one counter: forwarded, or one of these. `xlb drops` shows them, the metrics carry them as the
label `reason`, and `bpftool map dump pinned /sys/fs/bpf/xlb/xlb_reason_st` shows them by index. The list is
append-only: an index keeps its meaning.

This file is written by `cargo xtask check --bless` from `lb-common/src/reason.rs`; change it there.
";

/// Compares or rewrites the page.
pub(super) fn check(root: &Path, how: Golden, findings: &mut Findings) -> Result<()> {
    golden(&root.join("docs/reasons.md"), &page(), how, findings)
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    section(
        &mut page,
        "Dropped",
        DropReason::ALL.iter().map(|r| (r.index(), r.as_str(), r.meaning())),
    );
    section(
        &mut page,
        "Left to the kernel",
        PassReason::ALL.iter().map(|r| (r.index(), r.as_str(), r.meaning())),
    );
    section(
        &mut page,
        "Answered by the program",
        AnswerReason::ALL.iter().map(|r| (r.index(), r.as_str(), r.meaning())),
    );
    page
}

fn section(page: &mut String, title: &str, rows: impl Iterator<Item = (u32, &'static str, &'static str)>) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(page, "\n## {title}\n\n| index | reason | meaning |\n|---|---|---|");
    for (index, name, meaning) in rows {
        let meaning = meaning
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace('|', "\\|");
        let _infallible = writeln!(page, "| {index} | `{name}` | {meaning} |");
    }
}
