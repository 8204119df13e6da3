//! `cargo xtask setup`: from a bare Debian 12 with rustup's stable Rust to a machine that builds,
//! tests and shows xlb. Says what it will install, installs only what is missing.

mod apt;
mod compiler;
mod linker;
mod packages;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::toolchain::find_program;
use packages::{KERNEL_TOOLS, TOOLS, Tool};

pub(crate) use apt::{Root, root};

/// The workspace's rust-version: the BPF compiler may be newer, not older.
const MINIMUM_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// How much is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Compiler and linker for the BPF object.
    Build,
    /// The tools of tests and demo as well.
    Everything,
    /// And those that boot other kernels.
    Kernels,
}

/// Says what [`run`] would install.
pub(crate) fn describe(scope: Scope) -> Result<ExitCode> {
    let plan = Plan::make(scope)?;
    plan.print();
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing.
pub(crate) fn run(scope: Scope) -> Result<ExitCode> {
    let plan = Plan::make(scope)?;
    plan.print();
    plan.carry_out()?;
    Ok(ExitCode::SUCCESS)
}

/// What is there and what is not.
struct Plan {
    scope: Scope,
    components: Vec<&'static str>,
    compiler: compiler::State,
    tools: Vec<&'static Tool>,
}

impl Plan {
    fn make(scope: Scope) -> Result<Self> {
        let compiler = compiler::look()?;
        let mut tools = Vec::new();
        let mut components = Vec::new();
        if scope != Scope::Build {
            tools.extend(TOOLS);
            components = missing_components();
        }
        if scope == Scope::Kernels {
            tools.extend(KERNEL_TOOLS);
        }
        tools.retain(|tool| find_program(tool.program).is_none());
        Ok(Self {
            scope,
            components,
            compiler,
            tools,
        })
    }

    fn print(&self) {
        println!("xlb set-up");
        println!("{}", self.compiler);
        for component in &self.components {
            println!("  need  rustup component {component}: formatting and lints in 'cargo xtask test'");
        }
        for tool in &self.tools {
            println!("  need  {} (package {}): {}", tool.program, tool.package, tool.why);
        }
        if self.scope != Scope::Build && self.tools.is_empty() {
            println!("  have  all {} tools of tests and demo", TOOLS.len());
        }
    }

    fn carry_out(self) -> Result<()> {
        let mut apt = Apt::default();
        if let compiler::State::Missing(tried) = self.compiler {
            compiler::install(tried, &mut apt)?;
        }
        for component in self.components {
            let mut rustup = std::process::Command::new(rustup()?);
            crate::command::run_with_progress(
                &format!("rustup component add {component}"),
                rustup.args(["component", "add", component]),
            )?;
        }
        install_tools(&self.tools, &mut apt)
    }
}

/// apt with its rights asked for, and its lists refreshed, at most once and only when needed.
#[derive(Default)]
struct Apt {
    root: Option<Root>,
    updated: bool,
}

impl Apt {
    /// Which of these packages apt cannot offer, after a refresh if need be.
    fn missing(&mut self, packages: &[String]) -> Result<Vec<String>> {
        let lacking = |packages: &[String]| -> Vec<String> {
            let lacks = |package: &&String| matches!(apt::offer(package), apt::Offer::Nothing);
            packages.iter().filter(lacks).cloned().collect()
        };
        let first = lacking(packages);
        if first.is_empty() || self.updated {
            return Ok(first);
        }
        self.update()?;
        Ok(lacking(packages))
    }

    fn update(&mut self) -> Result<()> {
        self.updated = true;
        apt::update(self.root()?)
    }

    /// Lists that are too old name files that are gone: refreshes them and tries once more.
    fn install(&mut self, packages: &[String], services: &[&str]) -> Result<()> {
        let missing = self.missing(packages)?;
        if !missing.is_empty() {
            bail!(
                "apt offers no package {}; see apt's sources (bookworm-security included?)",
                missing.join(", ")
            );
        }
        let first = apt::install(self.root()?, packages, services);
        if first.is_ok() || self.updated {
            return first;
        }
        self.update()?;
        apt::install(self.root()?, packages, services)
    }

    fn root(&mut self) -> Result<&Root> {
        if self.root.is_none() {
            let root = root("installing Debian packages")?;
            if matches!(root, Root::Sudo) {
                println!("  not root: Debian packages are installed through sudo");
            }
            self.root = Some(root);
        }
        self.root.as_ref().context("root was just found")
    }
}

fn install_tools(tools: &[&Tool], apt: &mut Apt) -> Result<()> {
    if tools.is_empty() {
        return Ok(());
    }
    let packages: Vec<String> = tools.iter().map(|tool| tool.package.to_owned()).collect();
    if !apt::present() {
        let programs: Vec<&str> = tools.iter().map(|tool| tool.program).collect();
        bail!(
            "no apt-get here: install {} yourself (Debian's packages: {}), then run 'cargo xtask setup' again",
            programs.join(", "),
            packages.join(" ")
        );
    }
    let services: Vec<&str> = tools.iter().filter_map(|tool| tool.service).collect();
    apt.install(&packages, &services)
}

/// rustfmt and clippy: rustup's minimal profile has neither.
fn missing_components() -> Vec<&'static str> {
    [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")]
        .into_iter()
        .filter(|(subcommand, _)| {
            let mut probe = crate::command::cargo([subcommand.trim_start_matches("cargo-"), "--version"]);
            !probe.output().is_ok_and(|output| output.status.success())
        })
        .map(|(_, component)| component)
        .collect()
}

fn rustup() -> Result<std::path::PathBuf> {
    find_program("rustup").context("rustup is not in PATH nor in cargo's bin directory; see rustup.rs")
}
