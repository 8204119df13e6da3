//! Finds the `xlb` program that belongs to this build.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::process::run;

/// The `xlb` of this build, made up to date once a process. `XLB_BIN` names another one.
pub fn xlb_binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| find_binary().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

fn find_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("XLB_BIN") {
        return Ok(path.into());
    }
    // target/PROFILE/deps/scene_x-HASH, or target/PROFILE/xlb-demo.
    let own = env::current_exe().context("path of this program")?;
    let directory = own
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .context("directory of this program")?;
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let target = directory.parent().context("target directory")?;
    // `cargo test -p xlb-tests` builds our library, not the program of another package.
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "--package",
            "lb-userspace",
            "--bin",
            "xlb",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    run(&mut cargo)?;
    let binary = directory.join("xlb");
    ensure!(
        binary.is_file(),
        "{} is not there after cargo build; set XLB_BIN",
        binary.display()
    );
    Ok(binary)
}
