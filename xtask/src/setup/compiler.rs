//! The compiler of the BPF object: which one is there, and getting one.
//!
//! Order: rustup's nightly where rust-src is already there, else Debian's Rust, else rustup's
//! nightly from the network. The environment can force one way (see [`toolchain::TOOLCHAIN_VAR`]).

use std::fmt;
use std::process::Command;

use anyhow::{Result, anyhow, bail};

use super::{Apt, MINIMUM_RUST, apt};
use crate::command;
use crate::toolchain::{self, Missing, Toolchain, Unusable, Way};

const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// What was found.
pub(super) enum Compiler {
    /// It can be used.
    Ready(Toolchain),
    /// None can; each way with its reason.
    Missing(Vec<Unusable>),
}

impl Compiler {
    /// The usable one.
    pub(super) fn ready(&self) -> Option<&Toolchain> {
        match self {
            Self::Ready(toolchain) => Some(toolchain),
            Self::Missing(_) => None,
        }
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(found) => {
                write!(
                    f,
                    "have  BPF compiler: {} {}, LLVM {}",
                    found.way, found.release, found.llvm_major
                )
            }
            Self::Missing(tried) => {
                f.write_str("need  BPF compiler:")?;
                for (index, Unusable { way, why }) in tried.iter().enumerate() {
                    let separator = if index == 0 { " " } else { "; or " };
                    match way {
                        Way::Debian => write!(f, "{separator}packages {} ({way}: {why})", DEBIAN_PACKAGES.join(" "))?,
                        Way::Nightly(_) => write!(f, "{separator}{way} with rust-src ({why})")?,
                    }
                }
                Ok(())
            }
        }
    }
}

/// Looks for a usable compiler.
pub(super) fn look() -> Result<Compiler> {
    match toolchain::find(MINIMUM_RUST) {
        Ok(found) => Ok(Compiler::Ready(found)),
        Err(Missing::NoWay(tried)) => Ok(Compiler::Missing(tried)),
        Err(other) => bail!("{other}"),
    }
}

/// Gets one, by the ways that were tried in vain, Debian's first.
pub(super) fn install(missing: Compiler, apt: &mut Apt) -> Result<Toolchain> {
    let tried = match missing {
        Compiler::Ready(toolchain) => return Ok(toolchain),
        Compiler::Missing(tried) => tried,
    };
    let mut ways: Vec<Way> = tried.into_iter().map(|unusable| unusable.way).collect();
    ways.sort_by_key(|way| *way != Way::Debian);
    let mut failures = Vec::new();
    for way in ways {
        let outcome = match &way {
            Way::Debian => install_debian(apt),
            Way::Nightly(name) => install_nightly(name),
        };
        match outcome.and_then(|()| toolchain::probe(&way, MINIMUM_RUST).map_err(|why| anyhow!(why))) {
            Ok(found) => return Ok(found),
            Err(error) => failures.push(format!("  {way}: {error:#}")),
        }
    }
    bail!(
        "no compiler for the BPF object could be installed:\n{}",
        failures.join("\n")
    );
}

fn install_debian(apt: &mut Apt) -> Result<()> {
    if !apt::present() {
        bail!("no apt-get here; its packages are {}", DEBIAN_PACKAGES.join(" "));
    }
    let packages = DEBIAN_PACKAGES.map(str::to_owned);
    let missing = apt.missing(&packages)?;
    if !missing.is_empty() {
        bail!("apt offers no package {}", missing.join(", "));
    }
    if let apt::Offer::Version(version) = apt::offer(DEBIAN_PACKAGES[0])
        && toolchain::version(&version) < toolchain::version(MINIMUM_RUST)
    {
        bail!(
            "apt offers {} {version}, {MINIMUM_RUST} is needed; is bookworm-security in apt's sources?",
            DEBIAN_PACKAGES[0]
        );
    }
    apt.install(&packages, &[])
}

fn install_nightly(name: &str) -> Result<()> {
    let rustup = super::rustup()?;
    let mut command = Command::new(&rustup);
    let mut present = Command::new(&rustup);
    present
        .args(["run", name, "rustc", "-V"])
        .env("RUSTUP_AUTO_INSTALL", "0");
    if command::output(&mut present).is_ok() {
        // Not `toolchain install`, which would also move it to another version.
        command.args(["component", "add", "rust-src", "--toolchain", name]);
    } else {
        command.args([
            "toolchain",
            "install",
            name,
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]);
    }
    command::run_with_progress(&command::shown(&command), &mut command)
}
