//! Finds what compiles and links the BPF object.
//!
//! Shared by path between xtask and lb-userspace's build script, so it uses std alone and installs
//! nothing; installing is `setup`'s job.
//!
//! What is needed: a compiler with the source of `core` (`-Z build-std=core`), and a bpf-linker
//! whose LLVM is at least the compiler's.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Forces one way: `nightly` (or a dated `nightly-YYYY-MM-DD`) or `debian`.
pub(crate) const TOOLCHAIN_VAR: &str = "XLB_BPF_TOOLCHAIN";
/// The file name of the linker, as rustc is told it.
pub(crate) const LINKER: &str = "bpf-linker";

/// Where a compiler comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// A rustup toolchain of this name with the `rust-src` component.
    Nightly(String),
    /// Debian's `rustc-web cargo-web rust-web-src` in /usr.
    Debian,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly(name) => write!(f, "rustup's {name}"),
            Self::Debian => f.write_str("Debian's Rust"),
        }
    }
}

/// A compiler that can build `core` for BPF.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    /// Where it comes from.
    pub(crate) way: Way,
    /// Path of the real rustc, not of rustup's proxy.
    pub(crate) rustc: PathBuf,
    /// Path of the real cargo that goes with it.
    pub(crate) cargo: PathBuf,
    /// Root that holds `lib/rustlib`.
    pub(crate) sysroot: PathBuf,
    /// `rustc -vV`'s release, for messages.
    pub(crate) release: String,
    /// Host triple.
    pub(crate) host: String,
    /// Major version of the LLVM inside.
    pub(crate) llvm_major: u32,
}

/// Why one way does not work.
#[derive(Debug)]
pub(crate) struct Unusable {
    /// The way that was tried.
    pub(crate) way: Way,
    /// What is missing, for a sentence: "rust-src is not installed".
    pub(crate) why: String,
}

/// Why there is no usable toolchain.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The environment variable holds something else than the two ways.
    BadVariable(String),
    /// Each way that was tried.
    NoWay(Vec<Unusable>),
    /// The compiler is there, the linker is not.
    Linker,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadVariable(value) => {
                write!(f, "{TOOLCHAIN_VAR}={value}: expected 'nightly' or 'debian'")
            }
            Self::NoWay(tried) => {
                f.write_str("no Rust toolchain here can build the BPF object (")?;
                for (index, unusable) in tried.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{}: {}", unusable.way, unusable.why)?;
                }
                f.write_str("); run 'cargo xtask setup'")
            }
            Self::Linker => write!(
                f,
                "{LINKER} is not in PATH nor in cargo's bin directory; run 'cargo xtask setup'"
            ),
        }
    }
}

/// The ways to try, best first, or the one that the environment forces.
pub(crate) fn ways() -> Result<Vec<Way>, Missing> {
    let Some(value) = env::var_os(TOOLCHAIN_VAR).filter(|value| !value.is_empty()) else {
        return Ok(vec![Way::Nightly("nightly".into()), Way::Debian]);
    };
    match value.to_str() {
        Some("debian") => Ok(vec![Way::Debian]),
        Some(name) if name == "nightly" || name.starts_with("nightly-") => Ok(vec![Way::Nightly(name.into())]),
        _ => Err(Missing::BadVariable(value.to_string_lossy().into_owned())),
    }
}

/// The first usable toolchain. `minimum` is the workspace's rust-version, as "1.95".
pub(crate) fn find(minimum: &str) -> Result<Toolchain, Missing> {
    let mut tried = Vec::new();
    for way in ways()? {
        match probe(&way, minimum) {
            Ok(toolchain) => return Ok(toolchain),
            Err(why) => tried.push(Unusable { way, why }),
        }
    }
    Err(Missing::NoWay(tried))
}

/// Checks one way; the error is what is missing.
pub(crate) fn probe(way: &Way, minimum: &str) -> Result<Toolchain, String> {
    let (rustc, cargo) = match way {
        Way::Nightly(name) => rustup_tools(name)?,
        Way::Debian => ("/usr/bin/rustc".into(), "/usr/bin/cargo".into()),
    };
    for tool in [&rustc, &cargo] {
        if !tool.is_file() {
            return Err(format!("{} is not there", tool.display()));
        }
    }
    let verbose = output(Command::new(&rustc).arg("-vV"))?;
    let field = |name: &str| {
        verbose
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .ok_or_else(|| format!("'{} -vV' names no {name}", rustc.display()))
    };
    let release = field("release")?.to_owned();
    if version(&release) < version(minimum) {
        return Err(format!("{} is {release}, {minimum} is needed", rustc.display()));
    }
    let llvm = field("LLVM version")?;
    let (llvm_major, _) = version(llvm);
    let sysroot = PathBuf::from(output(Command::new(&rustc).args(["--print", "sysroot"]))?);
    if !sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file() {
        let package = match way {
            Way::Nightly(_) => "component rust-src",
            Way::Debian => "package rust-web-src",
        };
        return Err(format!("{package} (the source of core) is not installed"));
    }
    let host = field("host")?.to_owned();
    Ok(Toolchain {
        way: way.clone(),
        rustc,
        cargo,
        sysroot,
        release,
        host,
        llvm_major,
    })
}

/// bpf-linker in PATH or in cargo's bin directory.
pub(crate) fn find_linker() -> Result<PathBuf, Missing> {
    find_program(LINKER).ok_or(Missing::Linker)
}

/// A program in PATH, or where `cargo install`, rustup and Debian put theirs: a user's PATH has no sbin.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_bin())
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Where `cargo install` puts programs.
pub(crate) fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    Some(home.join("bin"))
}

fn rustup_tools(name: &str) -> Result<(PathBuf, PathBuf), String> {
    let rustup = find_program("rustup").ok_or("rustup is not there")?;
    let mut command = Command::new(rustup);
    command.args(["run", name, "rustc", "--print", "sysroot"]);
    command.env("RUSTUP_AUTO_INSTALL", "0");
    let sysroot = output(&mut command).map_err(|_| "is not installed".to_owned())?;
    let bin = Path::new(&sysroot).join("bin");
    Ok((bin.join("rustc"), bin.join("cargo")))
}

/// The first two numbers of "1.96.0 (...)"; missing ones count as 0.
pub(crate) fn version(text: &str) -> (u32, u32) {
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Standard output of a program, trimmed; the error is one line.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("no message");
        return Err(format!("{program}: {last}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_releases_and_from_package_versions() {
        assert_eq!(version("1.96.0 (ac68faa20 2026-05-25)"), (1, 96));
        assert_eq!(version("1.97.0-nightly"), (1, 97));
        assert_eq!(version("1.96.0+dfsg1-1~deb12u2"), (1, 96));
        assert_eq!(version("22.1.8"), (22, 1));
        assert_eq!(version("1.95"), (1, 95));
        assert!(version("1.100.0") > version("1.95"));
    }

    #[test]
    fn what_is_missing_is_told_in_one_line_with_the_next_step() {
        let tried = vec![
            Unusable {
                way: Way::Nightly("nightly".into()),
                why: "is not installed".into(),
            },
            Unusable {
                way: Way::Debian,
                why: "/usr/bin/rustc is not there".into(),
            },
        ];
        assert_eq!(
            Missing::NoWay(tried).to_string(),
            "no Rust toolchain here can build the BPF object (rustup's nightly: is not installed; \
             Debian's Rust: /usr/bin/rustc is not there); run 'cargo xtask setup'"
        );
    }

    #[test]
    fn a_directory_of_a_program_is_not_the_program() {
        assert_eq!(find_program("no-such-program-of-xlb"), None);
        assert_eq!(find_program("."), None);
    }
}
