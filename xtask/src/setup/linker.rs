//! bpf-linker: whether the one that is there fits the compiler, and building one that does.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow, bail};

use super::{Apt, apt};
use crate::command;
use crate::toolchain::{self, Toolchain, find_program};

/// The version that is installed.
const VERSION: &str = "0.13.0";
/// The LLVM majors that this version can be built with.
const LLVM_MAJORS: std::ops::RangeInclusive<u32> = 21..=23;

/// What was found.
pub(super) enum State {
    /// It starts, and its LLVM reads the compiler's output.
    Ready(PathBuf),
    /// Not usable: why.
    Missing(String),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(path) => write!(f, "have  BPF linker: {}", path.display()),
            Self::Missing(why) => {
                write!(
                    f,
                    "need  BPF linker: bpf-linker {VERSION}, built from source in 1 to 4 minutes; now: {why}"
                )
            }
        }
    }
}

/// Checks the linker against the compiler; without one only that it starts.
pub(super) fn look(compiler: Option<&Toolchain>) -> State {
    let Ok(path) = toolchain::find_linker() else {
        return State::Missing("not installed".into());
    };
    if let Err(error) = command::output(Command::new(&path).arg("--version")) {
        return State::Missing(format!("{error:#}"));
    }
    match (linked_llvm(&path), compiler) {
        (Some(own), Some(compiler)) if own < compiler.llvm_major => State::Missing(format!(
            "{} has LLVM {own}, the compiler LLVM {}",
            path.display(),
            compiler.llvm_major
        )),
        _ => State::Ready(path),
    }
}

/// Builds and installs it with the lowest LLVM that is not older than the compiler's.
pub(super) fn install(compiler: &Toolchain, apt: &mut Apt) -> Result<()> {
    let majors = compiler.llvm_major.max(*LLVM_MAJORS.start())..=*LLVM_MAJORS.end();
    if majors.is_empty() {
        bail!(
            "{} {} has LLVM {}; bpf-linker {VERSION} knows up to {}; choose the other way with {}=debian or a dated nightly",
            compiler.way,
            compiler.release,
            compiler.llvm_major,
            LLVM_MAJORS.end(),
            toolchain::TOOLCHAIN_VAR
        );
    }
    match find_llvm(majors.clone(), apt)? {
        Some(major) => build(major)?,
        None => fetch_binary(majors)?,
    }
    match look(Some(compiler)) {
        State::Ready(_) => Ok(()),
        State::Missing(why) => Err(anyhow!("bpf-linker was installed and still cannot be used: {why}")),
    }
}

/// An LLVM with headers that is installed, or that apt can install.
fn find_llvm(majors: std::ops::RangeInclusive<u32>, apt: &mut Apt) -> Result<Option<u32>> {
    let present = |major: &u32| Path::new(&format!("{}/bin/llvm-config", prefix(*major))).is_file();
    if let Some(major) = majors.clone().find(present) {
        return Ok(Some(major));
    }
    if !apt::present() {
        return Ok(None);
    }
    for major in majors {
        let package = package(major);
        if apt.missing(std::slice::from_ref(&package))?.is_empty() {
            apt.install(&[package], &[])?;
            return Ok(Some(major));
        }
    }
    Ok(None)
}

fn build(major: u32) -> Result<()> {
    let mut cargo = command::cargo(["install", "bpf-linker", "--version", VERSION, "--locked", "--force"]);
    cargo.args(["--no-default-features", "--features", &format!("llvm-{major}")]);
    cargo.env("LLVM_PREFIX", prefix(major));
    command::run_with_progress(
        &format!("cargo install bpf-linker {VERSION} with LLVM {major}"),
        &mut cargo,
    )
}

/// Without an LLVM to build with: the project's own binary, where cargo-binstall is there to get it.
fn fetch_binary(mut majors: std::ops::RangeInclusive<u32>) -> Result<()> {
    if find_program("cargo-binstall").is_none() {
        let wanted = majors.next().map(package).unwrap_or_default();
        bail!("bpf-linker needs the package {wanted} to be built, or the command cargo-binstall to be fetched");
    }
    let mut cargo = command::cargo(["binstall", "--no-confirm", "--force"]);
    cargo.arg(format!("bpf-linker@{VERSION}"));
    command::run_with_progress(&format!("cargo binstall bpf-linker {VERSION}"), &mut cargo)
}

fn package(major: u32) -> String {
    format!("llvm-{major}-dev")
}

fn prefix(major: u32) -> String {
    format!("/usr/lib/llvm-{major}")
}

/// The LLVM major that a dynamically linked bpf-linker names ("libLLVM.so.22.1"); none for a
/// static one.
fn linked_llvm(linker: &Path) -> Option<u32> {
    const NAME: &[u8] = b"libLLVM.so.";
    let binary = fs::read(linker).ok()?;
    let start = binary.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = binary.get(start..)?.iter().take_while(|byte| byte.is_ascii_digit());
    String::from_utf8(digits.copied().collect()).ok()?.parse().ok()
}
