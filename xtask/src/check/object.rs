//! A BPF object that may panic is refused by the verifier, with a message that does not say so:
//! look for the symbols before loading.

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol};

use super::Findings;

/// Refuses symbols of core::panicking, and an object without BTF.
pub(super) fn check(name: &str, bytes: &[u8], findings: &mut Findings) -> Result<()> {
    let file = object::File::parse(bytes).context("parse as ELF")?;
    for symbol in file.symbols() {
        // Names of another encoding cannot be ours.
        let symbol_name = symbol.name().unwrap_or_default();
        if symbol_name.contains("panicking") {
            findings.errors.push(format!(
                "{name}: symbol {symbol_name}: something in lb-ebpf can panic (an index, a slice, an expect, a division); use get() or checked arithmetic"
            ));
        }
    }
    for section in [".BTF", ".BTF.ext", "license"] {
        let present = file.section_by_name(section).is_some_and(|section| section.size() > 0);
        if !present {
            findings
                .errors
                .push(format!("{name}: no section {section}; see lb-userspace/build.rs"));
        }
    }
    Ok(())
}
