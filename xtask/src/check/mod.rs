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
    let directory = command::target_directory()?.join("bpf");
    for name in ["xlb.bpf.o", "xlb-log.bpf.o", "xlb-bench.bpf.o"] {
        let path = directory.join(name);
        let bytes = read(&path)?;
        object::check(name, &bytes, findings).with_context(|| path.display().to_string())?;
        if name == "xlb.bpf.o" {
            abi::check(root, &bytes, golden, findings).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
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

/// Every Rust source file below a directory, sorted, without the modules that only tests have. A
/// directory that is not there has none.
fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut test_modules = Vec::new();
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
                let source = read_text(&path)?;
                let children = directory_of_children(&path);
                test_modules.extend(test_modules_of(&source).map(|name| children.join(name)));
                files.push(path);
            }
        }
    }
    files.retain(|file| {
        !test_modules
            .iter()
            .any(|module| file.with_extension("").starts_with(module))
    });
    files.sort();
    Ok(files)
}

/// Where the modules that a file declares lie: beside `mod.rs` and crate roots, else in a
/// directory of the file's name.
fn directory_of_children(file: &Path) -> PathBuf {
    let own = ["mod.rs", "lib.rs", "main.rs"].iter().any(|root| file.ends_with(root));
    if own {
        file.with_file_name("")
    } else {
        file.with_extension("")
    }
}

/// Names of the modules in files of their own that stand under `#[cfg(test)]`.
fn test_modules_of(source: &str) -> impl Iterator<Item = &str> {
    source.split("#[cfg(test)]\n").skip(1).filter_map(|after| {
        let line = after.lines().next()?.trim();
        let declaration = line.strip_suffix(';')?;
        let (_visibility, name) = declaration.split_once("mod ")?;
        Some(name)
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// The part of a source file before its unit tests.
fn without_tests(source: &str) -> &str {
    let tests = |start: &usize| {
        let declaration = source.get(*start..).and_then(|rest| rest.lines().nth(2));
        declaration.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    let end = source
        .match_indices("\n#[cfg(test)]\n")
        .map(|(start, _)| start)
        .find(tests);
    end.and_then(|end| source.get(..end)).unwrap_or(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_before_the_unit_tests_is_looked_at() {
        let source = "mod a;\n#[cfg(test)]\nmod testing;\nfn f() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(without_tests(source), "mod a;\n#[cfg(test)]\nmod testing;\nfn f() {}");
        assert_eq!(without_tests("fn f() {}\n"), "fn f() {}\n");
        assert_eq!(test_modules_of(source).collect::<Vec<_>>(), ["testing"]);
    }

    #[test]
    fn modules_lie_beside_roots_and_below_other_files() {
        assert_eq!(
            directory_of_children(Path::new("src/lib.rs")).join("a"),
            Path::new("src/a")
        );
        assert_eq!(
            directory_of_children(Path::new("src/a/mod.rs")).join("b"),
            Path::new("src/a/b")
        );
        assert_eq!(
            directory_of_children(Path::new("src/a.rs")).join("b"),
            Path::new("src/a/b")
        );
    }
}
