//! Finds what compiles and links the BPF object.
//!
//! Shared by path between xtask and lb-userspace's build script, so it uses std alone and installs
//! nothing; installing is `setup`'s job.
//!
//! What is needed: a compiler with the source of `core` (`-Z build-std=core`), and a bpf-linker
//! whose LLVM is at least the compiler's.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Forces one way: `nightly` (or a dated `nightly-YYYY-MM-DD`) or `debian`.
pub(crate) const TOOLCHAIN_VAR: &str = "XLB_BPF_TOOLCHAIN";
const LINKER: &str = "bpf-linker";

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

/// A bpf-linker that starts.
#[derive(Debug, Clone)]
pub(crate) struct Linker {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The LLVM it is linked with; none for a static one, which is taken to be new enough.
    pub(crate) llvm_major: Option<u32>,
}

/// A compiler and a linker that fit together.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Compiles.
    pub(crate) toolchain: Toolchain,
    /// Links.
    pub(crate) linker: Linker,
}

/// Why one way does not work.
#[derive(Debug)]
pub(crate) struct Unusable {
    /// The way that was tried.
    pub(crate) way: Way,
    /// What is missing, for a sentence: "component rust-src is not installed".
    pub(crate) why: String,
}

/// Why there are no usable tools.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The environment variable holds something else than the two ways.
    BadVariable(String),
    /// Each way that was tried.
    NoWay(Vec<Unusable>),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadVariable(value) => write!(f, "{TOOLCHAIN_VAR}={value}: expected 'nightly' or 'debian'"),
            Self::NoWay(tried) => {
                f.write_str("nothing here can build the BPF object (")?;
                for (index, unusable) in tried.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{}: {}", unusable.way, unusable.why)?;
                }
                f.write_str("); run 'cargo xtask setup'")
            }
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

/// The first way with a compiler and a linker for it. `minimum` is the workspace's rust-version,
/// as "1.95".
pub(crate) fn find(minimum: &str) -> Result<Tools, Missing> {
    let linker = find_linker();
    let mut tried = Vec::new();
    for way in ways()? {
        let tools = probe(&way, minimum).and_then(|toolchain| {
            let linker = linker.clone()?;
            linker.check(&toolchain)?;
            Ok(Tools { toolchain, linker })
        });
        match tools {
            Ok(tools) => return Ok(tools),
            Err(why) => tried.push(Unusable { way, why }),
        }
    }
    Err(Missing::NoWay(tried))
}

/// bpf-linker in PATH or in cargo's bin directory; the error is what is missing.
pub(crate) fn find_linker() -> Result<Linker, String> {
    let path = find_program(LINKER).ok_or_else(|| format!("{LINKER} is not installed"))?;
    // One that was built with an LLVM that is gone is there and does not start.
    output(Command::new(&path).arg("--version"))?;
    let llvm_major = linked_llvm(&path);
    Ok(Linker { path, llvm_major })
}

impl Linker {
    /// Whether it reads what the compiler writes: its LLVM must not be the older one.
    pub(crate) fn check(&self, toolchain: &Toolchain) -> Result<(), String> {
        match self.llvm_major {
            Some(own) if own < toolchain.llvm_major => Err(format!(
                "{LINKER} has LLVM {own}, older than the compiler's {}",
                toolchain.llvm_major
            )),
            _ => Ok(()),
        }
    }
}

/// The LLVM major that a dynamically linked bpf-linker names ("libLLVM.so.22.1").
fn linked_llvm(linker: &Path) -> Option<u32> {
    const NAME: &[u8] = b"libLLVM.so.";
    let binary = fs::read(linker).ok()?;
    let start = binary.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = binary.get(start..)?.iter().take_while(|byte| byte.is_ascii_digit());
    String::from_utf8(digits.copied().collect()).ok()?.parse().ok()
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
            "nothing here can build the BPF object (rustup's nightly: is not installed; \
             Debian's Rust: /usr/bin/rustc is not there); run 'cargo xtask setup'"
        );
    }

    #[test]
    fn a_linker_fits_unless_its_llvm_is_known_to_be_older() {
        let toolchain = Toolchain {
            way: Way::Debian,
            rustc: PathBuf::new(),
            cargo: PathBuf::new(),
            sysroot: PathBuf::new(),
            release: "1.96.0".into(),
            host: "x86_64-unknown-linux-gnu".into(),
            llvm_major: 22,
        };
        let linker = |llvm_major| Linker {
            path: PathBuf::new(),
            llvm_major,
        };
        assert!(linker(None).check(&toolchain).is_ok());
        assert!(linker(Some(22)).check(&toolchain).is_ok());
        assert!(linker(Some(23)).check(&toolchain).is_ok());
        assert!(linker(Some(21)).check(&toolchain).is_err());
    }

    #[test]
    fn a_directory_is_no_program() {
        assert_eq!(find_program("no-such-program-of-xlb"), None);
        assert_eq!(find_program("."), None);
    }
}
