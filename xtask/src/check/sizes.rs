//! STYLE's size rule, as hints: a module that outgrew its name is split by noun.

use std::path::Path;

use anyhow::Result;

use super::{Findings, read_text, rust_files, without_tests};

/// Lines of a module without its unit tests.
const MODULE_LINES: usize = 250;

/// Hints at modules that are too long.
pub(super) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    for krate in ["lb-common", "lb-ebpf", "lb-userspace", "xtask"] {
        for file in rust_files(&root.join(krate).join("src"))? {
            let source = read_text(&file)?;
            let lines = without_tests(&source).lines().count();
            if lines > MODULE_LINES {
                let name = file.strip_prefix(root).unwrap_or(&file).display();
                findings.hints.push(format!(
                    "{name}: {lines} lines without its tests, most modules stay under {MODULE_LINES}; can it be split by noun?"
                ));
            }
        }
    }
    Ok(())
}
