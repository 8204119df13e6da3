//! Runs programs: quietly, shown as they are, or with elapsed time and the last output line.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Lines of output that are shown again when a step fails.
const TAIL_LINES: usize = 60;
/// How often a step says where it is when the output is no terminal.
const QUIET_INTERVAL: Duration = Duration::from_secs(15);
/// Columns of the progress line; cut so that it never wraps.
const LINE_COLUMNS: usize = 100;

/// The cargo that runs us, in the checkout's root.
pub(crate) fn cargo<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(crate::root());
    command
}

/// The target directory this program was built into: cargo has its reasons for it
/// (`CARGO_TARGET_DIR`, config files).
pub(crate) fn target_directory() -> Result<PathBuf> {
    let own = env::current_exe().context("path of this program")?;
    own.ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file())
        .map(PathBuf::from)
        .with_context(|| format!("{} is in no target directory of cargo", own.display()))
}

/// As typed, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    command.get_args().fold(name, |mut line, argument| {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
        line
    })
}

/// Runs with our own input and output; an exit code other than 0 is an error.
pub(crate) fn run_inherited(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start '{}'", shown(command)))?;
    ensure_success(command, status)
}

/// Standard output of a short command. Its messages are not translated.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = shown(command);
    let output = command
        .env("LC_ALL", "C")
        .output()
        .with_context(|| format!("start '{name}'"))?;
    if !output.status.success() {
        bail!("'{name}' failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a long step: shows elapsed time and the last output line, and the end of the output when
/// it fails.
pub(crate) fn run_with_progress(label: &str, command: &mut Command) -> Result<()> {
    let mut progress = Progress::new(label);
    let status = stream(command, Duration::from_secs(1), |event| progress.on(event))?;
    progress.finish(status.success());
    ensure_success(command, status)
}

/// Something that happened while a program ran.
pub(crate) enum Event<'a> {
    /// A line of its standard output or standard error.
    Line(&'a str),
    /// Nothing for a while.
    Idle,
}

/// Runs a program without input and reports each line that it prints as it comes.
pub(crate) fn stream(command: &mut Command, idle: Duration, mut on: impl FnMut(Event<'_>)) -> Result<ExitStatus> {
    let name = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start '{name}'"))?;
    let (sender, lines) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        forward_lines(stdout, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        forward_lines(stderr, sender);
    }
    loop {
        match lines.recv_timeout(idle) {
            Ok(line) => on(Event::Line(&line)),
            Err(RecvTimeoutError::Timeout) => on(Event::Idle),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    child.wait().with_context(|| format!("wait for '{name}'"))
}

fn forward_lines(source: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut bytes = Vec::new();
        // Lossy: a test may print any byte.
        while matches!(source.read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

fn ensure_success(command: &Command, status: ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("'{}' failed ({status})", shown(command));
}

/// The progress display of one step.
struct Progress {
    label: String,
    start: Instant,
    last_shown: Instant,
    tail: VecDeque<String>,
    terminal: bool,
}

impl Progress {
    fn new(label: &str) -> Self {
        let now = Instant::now();
        let terminal = io::stdout().is_terminal();
        println!("  ....  {label}");
        Self {
            label: label.to_owned(),
            start: now,
            last_shown: now,
            tail: VecDeque::new(),
            terminal,
        }
    }

    fn on(&mut self, event: Event<'_>) {
        if let Event::Line(line) = event
            && !line.trim().is_empty()
        {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(line.to_owned());
        }
        let interval = if self.terminal {
            Duration::from_millis(200)
        } else {
            QUIET_INTERVAL
        };
        if self.last_shown.elapsed() >= interval {
            self.last_shown = Instant::now();
            self.show();
        }
    }

    fn show(&self) {
        let last = self.tail.back().map_or("", |line| line.trim());
        let line = format!("  {:>3}s  {last}", self.start.elapsed().as_secs());
        let line: String = line.chars().filter(|c| !c.is_control()).take(LINE_COLUMNS).collect();
        if self.terminal {
            print!("\r\x1b[K{line}");
            // A progress line that cannot be shown is no reason to stop.
            let _shown = io::stdout().flush();
        } else {
            println!("{line}");
        }
    }

    fn finish(&self, success: bool) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let seconds = self.start.elapsed().as_secs();
        if success {
            println!("{clear}  done  {} ({seconds} s)", self.label);
            return;
        }
        println!("{clear}  FAIL  {} ({seconds} s); the end of its output:", self.label);
        for line in &self.tail {
            println!("        {line}");
        }
    }
}
