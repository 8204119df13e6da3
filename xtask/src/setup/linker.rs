//! bpf-linker: getting one that fits the compiler.

use std::path::Path;

use anyhow::{Result, bail};

use super::{Apt, apt};
use crate::command;
use crate::toolchain::{Toolchain, find_program};

/// The version that is installed.
pub(super) const VERSION: &str = "0.13.0";
/// The LLVM majors that this version can be built with.
const LLVM_MAJORS: std::ops::RangeInclusive<u32> = 21..=23;

/// Builds and installs it with the lowest LLVM that is not older than the compiler's.
pub(super) fn install(compiler: &Toolchain, apt: &mut Apt) -> Result<()> {
    let majors = compiler.llvm_major.max(*LLVM_MAJORS.start())..=*LLVM_MAJORS.end();
    if majors.is_empty() {
        bail!(
            "its LLVM is {}, bpf-linker {VERSION} knows up to {}",
            compiler.llvm_major,
            LLVM_MAJORS.end()
        );
    }
    match find_llvm(majors.clone(), apt)? {
        Some(major) => build(major)?,
        None => fetch_binary(majors)?,
    }
    Ok(())
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
        bail!("bpf-linker for it needs the package {wanted} to be built, or the command cargo-binstall to be fetched");
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
