//! Bulk transfers with curl, checked by SHA-256 at both ends (coreutils' sha256sum).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::netns::Namespace;
use crate::process::{Process, run};

/// A transfer that goes on while the test does something else.
#[derive(Debug)]
pub struct Transfer {
    process: Process,
    start: Instant,
    /// The local file that is read or written.
    pub file: PathBuf,
}

impl Transfer {
    /// An error unless it still goes on: what the test did would prove nothing about it.
    pub fn ensure_running(&mut self) -> Result<()> {
        let seconds = self.start.elapsed().as_secs_f32();
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => bail!(
                "the transfer of {} ended with {status} within {seconds:.1} s: {}",
                self.file.display(),
                self.process.output()
            ),
        }
    }

    /// Waits for the end; an error if curl failed.
    pub fn finish(&mut self, patience: Duration) -> Result<()> {
        let status = self.process.wait(patience)?;
        ensure!(status.success(), "curl: {status}: {}", self.process.output());
        Ok(())
    }
}

/// Makes a file of random bytes; its hash.
pub fn make_file(path: &Path, megabytes: u32) -> Result<String> {
    run(Command::new("dd")
        .arg("if=/dev/urandom")
        .arg(format!("of={}", path.display()))
        .args(["bs=1M", &format!("count={megabytes}"), "status=none"]))?;
    sha256_of(path)
}

/// SHA-256 of a file, in hex.
pub fn sha256_of(path: &Path) -> Result<String> {
    let output = run(Command::new("sha256sum").arg(path))?;
    let hash = output.split_whitespace().next().context("sha256sum printed nothing")?;
    Ok(hash.to_owned())
}

/// GET; the body.
pub fn http_get(from: &Namespace, url: &str) -> Result<String> {
    run(from
        .command("curl")
        .args(["-sS", "--fail", "--globoff", "--max-time", "5", url]))
}

/// Downloads at full speed; the hash of what came.
pub fn download(from: &Namespace, url: &str, to: &Path) -> Result<String> {
    let mut command = from.command("curl");
    command
        .args(["-sS", "--fail", "--globoff", "--max-time", "60", "-o"])
        .arg(to)
        .arg(url);
    run(&mut command)?;
    sha256_of(to)
}

/// Uploads (PUT) at full speed.
pub fn upload(from: &Namespace, file: &Path, url: &str) -> Result<()> {
    let mut command = from.command("curl");
    command
        .args(["-sS", "--fail", "--globoff", "--max-time", "60", "-T"])
        .arg(file)
        .arg(url);
    run(&mut command).map(drop)
}

/// Starts a download that is held to `megabytes_per_second`.
pub fn start_download(from: &Namespace, url: &str, to: &Path, megabytes_per_second: u32) -> Result<Transfer> {
    let mut command = from.command("curl");
    command
        .args([
            "-sS",
            "--fail",
            "--globoff",
            "--limit-rate",
            &format!("{megabytes_per_second}M"),
        ])
        .arg("-o")
        .arg(to)
        .arg(url);
    start(command, to)
}

/// Starts an upload that is held to `megabytes_per_second`.
pub fn start_upload(from: &Namespace, file: &Path, url: &str, megabytes_per_second: u32) -> Result<Transfer> {
    let mut command = from.command("curl");
    command
        .args([
            "-sS",
            "--fail",
            "--globoff",
            "--limit-rate",
            &format!("{megabytes_per_second}M"),
        ])
        .arg("-T")
        .arg(file)
        .arg(url);
    start(command, file)
}

fn start(mut command: Command, file: &Path) -> Result<Transfer> {
    // An upload reads a file that other transfers read as well.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let log = file.with_extension(format!("curl-{}.log", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let process = Process::start("curl", &mut command, &log)?;
    Ok(Transfer {
        process,
        start: Instant::now(),
        file: file.to_owned(),
    })
}
