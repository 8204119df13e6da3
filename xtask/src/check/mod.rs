//! `cargo xtask check`: what the compiler cannot hold us to. Layer rules, no panic in the BPF
//! objects, the ABI golden file, and the docs that are generated from lb-common.

mod abi;
mod btf;
mod layers;
mod object;
mod reasons;
mod sizes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{command, root};

/// What to do with files that are derived from the code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Golden {
    /// A difference is an error.
    Compare,
    /// Rewrite them.
    Bless,
}

/// What a check found. Every finding names the file, what was found and what to do.
#[derive(Default)]
struct Findings {
    errors: Vec<String>,
    hints: Vec<String>,
}

/// Runs every check; all findings are shown before it ends.
pub(crate) fn run(golden: Golden) -> Result<ExitCode> {
    let root = root();
    let mut findings = Findings::default();
    layers::check(&root, &mut findings)?;
    sizes::check(&root, &mut findings)?;
    reasons::check(&root, golden, &mut findings)?;
    check_objects(&root, golden, &mut findings)?;

    for hint in &findings.hints {
        println!("hint: {hint}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    let (errors, hints) = (findings.errors.len(), findings.hints.len());
    println!("check: {errors} errors, {hints} hints");
    Ok(if errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check_objects(root: &Path, golden: Golden, findings: &mut Findings) -> Result<()> {
    // Type-checking the agent runs its build script, which makes the objects.
    let mut cargo = command::cargo(["check", "--quiet", "--package", "lb-userspace"]);
    command::run_inherited(&mut cargo).context("build the BPF objects")?;
    let directory = target_directory(root).join("bpf");
    for name in ["xlb.bpf.o", "xlb-log.bpf.o"] {
        let path = directory.join(name);
        let bytes = read(&path)?;
        object::check(name, &bytes, findings).with_context(|| path.display().to_string())?;
        if name == "xlb.bpf.o" {
            abi::check(root, &bytes, golden, findings).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Where this xtask was built, and so where cargo puts the objects.
fn target_directory(root: &Path) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file())
        .map_or_else(|| root.join("target"), Path::to_owned)
}

/// Compares a derived file with its source, or rewrites it.
fn golden(path: &Path, expected: &str, golden: Golden, findings: &mut Findings) -> Result<()> {
    let found = fs::read_to_string(path).unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    let name = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    if golden == Golden::Bless {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        }
        println!("blessed {name}");
        return fs::write(path, expected).with_context(|| format!("write {name}"));
    }
    let line = found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
    findings.errors.push(format!(
        "{name}:{}: found '{}', the code says '{}'; if the change is meant, run 'cargo xtask check --bless'",
        line + 1,
        found.lines().nth(line).unwrap_or("(end of file)"),
        expected.lines().nth(line).unwrap_or("(end of file)"),
    ));
    Ok(())
}

/// Every Rust source file below a directory, sorted. A directory that is not there has none.
fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        if !directory.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
            let path = entry.with_context(|| format!("list {}", directory.display()))?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The part of a source file before its unit tests.
fn without_tests(source: &str) -> &str {
    source
        .find("\n#[cfg(test)]\nmod ")
        .and_then(|end| source.get(..end))
        .unwrap_or(source)
}
