//! Compiler and linker of the BPF object: which are there, and getting them.
//!
//! Order: a compiler that is already there (rustup's nightly with rust-src before Debian's Rust),
//! then Debian's Rust, then rustup's nightly from the network. A way counts only with a linker
//! for it. The environment can force one way (see [`toolchain::TOOLCHAIN_VAR`]).

use std::fmt;
use std::process::Command;

use anyhow::{Result, anyhow, bail};

use super::{Apt, MINIMUM_RUST, apt, linker};
use crate::command;
use crate::toolchain::{self, Linker, Missing, Toolchain, Tools, Unusable, Way};

const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// What was found.
pub(super) enum State {
    /// A compiler and a linker for it.
    Ready(Tools),
    /// Each way with what it lacks.
    Missing(Vec<Unusable>),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(Tools { toolchain, linker }) => {
                let Toolchain {
                    way,
                    release,
                    llvm_major,
                    ..
                } = toolchain;
                writeln!(f, "  have  BPF compiler: {way} {release}, LLVM {llvm_major}")?;
                write!(f, "  have  BPF linker: {}", linker.path.display())
            }
            Self::Missing(tried) => {
                f.write_str("  need  BPF compiler and linker, by one of these ways:")?;
                for Unusable { way, why } in tried {
                    write!(f, "\n          {way}: {why}")?;
                }
                let packages = DEBIAN_PACKAGES.join(" ");
                write!(
                    f,
                    "\n        from: packages {packages} or rustup; bpf-linker {} built",
                    linker::VERSION
                )?;
                f.write_str(" from source (1 to 4 minutes) with the package llvm-*-dev")
            }
        }
    }
}

/// Looks for usable tools.
pub(super) fn look() -> Result<State> {
    match toolchain::find(MINIMUM_RUST) {
        Ok(tools) => Ok(State::Ready(tools)),
        Err(Missing::NoWay(tried)) => Ok(State::Missing(tried)),
        Err(other) => bail!("{other}"),
    }
}

/// Gets them by the first way that works.
pub(super) fn install(tried: Vec<Unusable>, apt: &mut Apt) -> Result<()> {
    let mut ways: Vec<Way> = tried.into_iter().map(|unusable| unusable.way).collect();
    ways.sort_by_key(|way| (toolchain::probe(way, MINIMUM_RUST).is_err(), *way != Way::Debian));
    let mut failures = Vec::new();
    for way in &ways {
        match install_way(way, apt) {
            Ok(()) => break,
            Err(error) => {
                println!("  {way} cannot be used: {error:#}");
                failures.push(format!("\n  {way}: {error:#}"));
            }
        }
    }
    match look()? {
        State::Ready(_) => Ok(()),
        State::Missing(_) => Err(anyhow!(
            "no compiler and linker for the BPF object could be had:{}",
            failures.concat()
        )),
    }
}

fn install_way(way: &Way, apt: &mut Apt) -> Result<()> {
    let probe = || toolchain::probe(way, MINIMUM_RUST).map_err(|why| anyhow!(why));
    let compiler = match (probe(), way) {
        (Ok(compiler), _) => compiler,
        (Err(_), Way::Debian) => {
            install_debian(apt)?;
            probe()?
        }
        (Err(_), Way::Nightly(name)) => {
            install_nightly(name)?;
            probe()?
        }
    };
    let check = || toolchain::find_linker().and_then(|linker: Linker| linker.check(&compiler));
    if check().is_err() {
        linker::install(&compiler, apt)?;
    }
    check().map_err(|why| anyhow!(why))
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
        command.args(["toolchain", "install", name]);
        command.args(["--profile", "minimal", "--component", "rust-src"]);
    }
    command::run_with_progress(&command::shown(&command), &mut command)
}
