//! `cargo xtask demo` as people use it: it tells its story to a pipe, obeys Ctrl-C, and keeps and ends a scene.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use xlb_tests::alone::alone;
use xlb_tests::binary::xlb_binary;
use xlb_tests::process::{Process, wait_until};
use xlb_tests::{netns, require};

/// The demo says a minute; a busy machine may need more.
const PATIENCE: Duration = Duration::from_secs(150);

/// A demo under a name of its own, with a log outside its directory.
struct Demo {
    name: String,
    log: PathBuf,
}

impl Demo {
    fn new(what: &str) -> Self {
        netns::sweep_stale();
        let name = format!("xlbt{}-{what}", std::process::id());
        let log = std::env::temp_dir().join(format!("{name}.log"));
        Self { name, log }
    }

    fn start(&self, arguments: &[&str]) -> Result<Process> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xlb-demo"));
        command
            .args(arguments)
            .env("XLB_DEMO_NAME", &self.name)
            .env("XLB_BIN", xlb_binary()?);
        Process::start("xlb-demo", &mut command, &self.log)
    }

    fn leftovers(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for parent in ["/run/netns", "/run"] {
            for entry in std::fs::read_dir(parent).into_iter().flatten() {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name.starts_with(&self.name) {
                    found.push(format!("{parent}/{name}"));
                }
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        found.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&self.name))
                .map(str::to_owned),
        );
        Ok(found)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // For a test that failed; otherwise there is nothing.
        netns::end_scene(&self.name, &Path::new("/run").join(&self.name));
        let _ = std::fs::remove_file(&self.log);
    }
}

#[test]
fn the_demo_tells_its_story_and_leaves_nothing() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool", "bpftool");
    let _machine = alone();
    let demo = Demo::new("story");
    let mut process = demo.start(&[])?;
    let status = process.wait(PATIENCE)?;
    let output = process.output();
    ensure!(status.success(), "{status}:\n{output}");
    for part in [
        "SERVICE",
        "NEW/s",
        "refused",
        "9000",
        "$ xlb backend add web",
        "bpftool map dump pinned",
    ] {
        ensure!(output.contains(part), "'{part}' is not in:\n{output}");
    }
    ensure!(!output.contains('\x1b'), "cursor control in a pipe:\n{output}");
    let left = demo.leftovers()?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

#[test]
fn ctrl_c_ends_the_demo_and_leaves_nothing() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool", "bpftool");
    let _machine = alone();
    let demo = Demo::new("ctrlc");
    let mut process = demo.start(&[])?;
    wait_until("the first table", PATIENCE, || Ok(process.output().contains("SERVICE")))?;
    process.signal(Signal::SIGINT)?;
    let status = process.wait(Duration::from_secs(20))?;
    ensure!(status.code() == Some(130), "{status}:\n{}", process.output());
    let left = demo.leftovers()?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

#[test]
fn a_kept_demo_serves_until_it_is_ended() -> Result<()> {
    require!("ip", "nginx", "curl", "ethtool", "bpftool");
    let _machine = alone();
    let demo = Demo::new("keep");
    let mut process = demo.start(&["--keep"])?;
    let status = process.wait(PATIENCE)?;
    let output = process.output();
    ensure!(status.success(), "{status}:\n{output}");
    let curl = output
        .lines()
        .find(|line| line.contains("curl http://203"))
        .context("no curl command in the instructions")?;
    let mut words = curl.split_whitespace();
    let answer = Command::new(words.next().context("an empty line")?)
        .args(words)
        .output()?;
    ensure!(
        answer.status.success() && answer.stdout.starts_with(b"b"),
        "{curl}: {answer:?}"
    );
    let again = demo.start(&[])?.wait(PATIENCE)?;
    ensure!(
        again.code() == Some(1),
        "a second demo over a kept one ended with {again}"
    );
    let mut end = demo.start(&["--end"])?;
    ensure!(end.wait(PATIENCE)?.success(), "{}", end.output());
    let left = demo.leftovers()?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
