//! Runs programs for the harness: one-shot commands whose failure is an error with their own words, and long-running
//! ones that end with the value that holds them.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a process may take to obey SIGTERM before it gets SIGKILL.
const TERM_PATIENCE: Duration = Duration::from_secs(3);
/// How long a busy machine may take to attach a tracer to every thread.
const STRACE_PATIENCE: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A program in PATH or in the directories of system programs, which root's PATH may lack.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Runs `command` to its end; its standard output, or an error that holds the command and its standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}: {}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Calls `check` until it says yes; the error names `what` and the last answer.
pub fn wait_until(what: &str, patience: Duration, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let answer = check();
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let last = answer.err().map_or("not yet".into(), |error| format!("{error:#}"));
            bail!("waited {patience:?} for {what}: {last}");
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// A running program. Dropping it ends it: SIGTERM, then SIGKILL.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    lifetime: Lifetime,
}

/// Whether a program ends with the value that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifetime {
    Scoped,
    Released,
}

impl Process {
    /// Starts `command` with both outputs in the file `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let errors = file.try_clone().context("clone the log's descriptor")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            // Ctrl-C in the terminal is for us; what it means for our children is decided here.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            lifetime: Lifetime::Scoped,
        })
    }

    /// Process id. `nsenter` executes in place, so this is the program itself.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal; an error if the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("wait for {}", self.name))
    }

    /// Waits for the end.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} still runs after {patience:?}", self.name);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// SIGKILL and wait: no farewell of any kind.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        Ok(())
    }

    /// SIGTERM and wait.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(TERM_PATIENCE)
    }

    /// Lets it run on after this process.
    pub fn release(mut self) {
        self.lifetime = Lifetime::Released;
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Released || !matches!(self.ended(), Ok(None)) {
            return;
        }
        if self.terminate().is_err() {
            // It may have ended in between; there is nobody left to tell.
            let _ = self.kill();
        }
    }
}

/// Lets strace kill a process at a system call about `path`, before the kernel does it. Returns when it is attached.
pub fn kill_at(pid: Pid, call: &str, path: &str, log: &Path) -> Result<Process> {
    let inject = format!("inject={call}:signal=SIGKILL");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-p", &pid.to_string(), "-P", path, "-e", &inject]);
    let strace = Process::start("strace", &mut strace, log)?;
    wait_until("strace to be attached", STRACE_PATIENCE, || is_traced(pid))?;
    Ok(strace)
}

/// Whether every thread is traced.
fn is_traced(pid: Pid) -> Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
        let status = fs::read_to_string(entry.context("a thread")?.path().join("status")).context("its status")?;
        if status.lines().any(|line| line == "TracerPid:\t0") {
            return Ok(false);
        }
    }
    Ok(true)
}
