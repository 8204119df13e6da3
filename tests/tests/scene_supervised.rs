//! What a service manager gets to hear, over a real NOTIFY_SOCKET, and what the journal gets, over a real socket of its
//! protocol.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use xlb_tests::agent::{Agent, Launch, agent_section};
use xlb_tests::alone::shared;
use xlb_tests::api;
use xlb_tests::config_text::ServiceText;
use xlb_tests::process::{Process, wait_until};
use xlb_tests::require;
use xlb_tests::topology::{Plan, Topology};

const PATIENCE: Duration = Duration::from_mins(1);
/// What the "manager" asks for.
const WATCHDOG: Duration = Duration::from_secs(6);

/// When a datagram came, and what it said.
type Message = (Instant, Vec<u8>);

/// Datagrams as they came.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<Message>>>);

impl Heard {
    /// Listens at `path`; `at` is called with each message.
    fn listen(path: &Path, mut at: impl FnMut(&str) + Send + 'static) -> Result<Self> {
        let socket = UnixDatagram::bind(path).with_context(|| format!("bind {}", path.display()))?;
        let heard = Self::default();
        let into = heard.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 256 * 1024];
            // Ends with the test's process.
            while let Ok(length) = socket.recv(&mut buffer) {
                let message = buffer.get(..length).unwrap_or_default().to_vec();
                at(&String::from_utf8_lossy(&message));
                into.locked().push((Instant::now(), message));
            }
        });
        Ok(heard)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<Message>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn texts(&self) -> Vec<String> {
        let heard = self.locked();
        heard
            .iter()
            .map(|(_, message)| String::from_utf8_lossy(message).into_owned())
            .collect()
    }

    fn wait(&self, what: &str, check: impl Fn(&[String]) -> bool) -> Result<()> {
        wait_until(what, PATIENCE, || Ok(check(&self.texts()))).with_context(|| format!("{:#?}", self.texts()))
    }

    /// Time since the newest message that holds `part`.
    fn silent_for(&self, part: &str) -> Option<Duration> {
        let heard = self.locked();
        let newest = heard
            .iter()
            .rev()
            .find(|(_, message)| String::from_utf8_lossy(message).contains(part))?;
        Some(newest.0.elapsed())
    }
}

fn service(topology: &Topology) -> String {
    let host = &topology.backends[0];
    let service = ServiceText::v4("web", "tcp", 80).backend("a", host.address4, 8081);
    service.text().to_owned()
}

fn launch(topology: &Topology, launch: Launch) -> Result<Agent> {
    Agent::launch(topology, &agent_section(topology), &service(topology), launch)
}

#[test]
fn the_manager_hears_ready_reloads_and_the_end_when_they_are_true() -> Result<()> {
    require!("ip", "ethtool");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let path = topology.room.file("notify");
    let api_socket = topology.room.file("api.sock");
    let at_ready = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&at_ready);
    let heard = Heard::listen(&path, move |message| {
        if message.contains("READY=1") {
            let status = api::get(&api_socket, "/v1/status").map_err(|error| format!("{error:#}"));
            into.lock().unwrap_or_else(PoisonError::into_inner).push(status);
        }
    })?;
    let mut agent = launch(
        &topology,
        Launch {
            environment: vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())],
            ..Launch::default()
        },
    )?;
    heard.wait("READY=1", |texts| texts.iter().any(|text| text.contains("READY=1")))?;
    {
        let answers = at_ready.lock().unwrap_or_else(PoisonError::into_inner);
        let status = answers.first().context("an answer")?.clone();
        let status = status.map_err(anyhow::Error::msg).context("ready, and no answer")?;
        ensure!(status["agent"]["generation"].as_u64() >= Some(1), "{status}");
        for index in 0..2 {
            ensure!(status["interfaces"][index]["xdp_mode"] == "native", "{status}");
        }
    }
    let line = "STATUS=generation 1; 1 service, 1 backend; back0 native, front0 native";
    heard.wait("the status line", |texts| texts.iter().any(|text| text.contains(line)))?;
    let quiet = heard.texts();
    ensure!(!quiet.iter().any(|text| text.contains("WATCHDOG")), "{quiet:?}");

    let before = heard.texts().len();
    agent.process()?.signal(Signal::SIGHUP)?;
    heard.wait("a reload and its end", |texts| {
        let new = texts.get(before..).unwrap_or_default();
        let begin = new.iter().position(|text| text.contains("RELOADING=1"));
        begin.is_some_and(|begin| {
            let with_time = new[begin].contains("MONOTONIC_USEC=");
            with_time && new[begin..].iter().any(|text| text.contains("READY=1"))
        })
    })?;
    // A reload that is refused ends, too.
    let before = heard.texts().len();
    fs::write(agent.config(), "[agent\n").context("break the config")?;
    heard.wait("a refused reload and its end", |texts| {
        let new = texts.get(before..).unwrap_or_default();
        let begin = new.iter().position(|text| text.contains("RELOADING=1"));
        begin.is_some_and(|begin| new[begin..].iter().any(|text| text.contains("READY=1")))
    })?;

    agent.terminate()?;
    heard.wait("the end", |texts| {
        texts
            .iter()
            .any(|text| text.contains("STOPPING=1") && text.contains("traffic goes on"))
    })?;
    ensure!(
        agent.log().contains("traffic goes on with the state in the maps"),
        "{}",
        agent.log()
    );
    Ok(())
}

/// The thread that owns the maps.
fn writer_thread(pid: nix::unistd::Pid) -> Result<String> {
    for entry in fs::read_dir(format!("/proc/{pid}/task")).context("list threads")? {
        let entry = entry.context("a thread")?;
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.trim() == "xlb-writer" {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("no thread xlb-writer")
}

#[test]
fn a_writer_that_hangs_lets_the_watchdog_bite() -> Result<()> {
    require!("ip", "ethtool", "strace");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let path = topology.room.file("notify");
    let heard = Heard::listen(&path, |_| {})?;
    let mut agent = launch(
        &topology,
        Launch {
            environment: vec![
                ("NOTIFY_SOCKET".to_owned(), path.display().to_string()),
                ("WATCHDOG_USEC".to_owned(), WATCHDOG.as_micros().to_string()),
            ],
            ..Launch::default()
        },
    )?;
    let signs = |texts: &[String]| texts.iter().filter(|text| text.contains("WATCHDOG=1")).count();
    heard.wait("signs of life", |texts| signs(texts) >= 3)?;

    // Each bpf(2) of that one thread now lasts five minutes; the rest of the process is well.
    let thread = writer_thread(agent.process()?.pid())?;
    let mut command = Command::new("strace");
    command.args([
        "-qq",
        "-p",
        &thread,
        "-e",
        "trace=bpf",
        "-e",
        "inject=bpf:delay_enter=300000000",
    ]);
    let hang = Process::start("strace", &mut command, &topology.room.file("strace.log"))?;
    wait_until("silence longer than the watchdog's time", PATIENCE, || {
        Ok(heard.silent_for("WATCHDOG=1") > Some(WATCHDOG))
    })?;
    let health = api::get(agent.client().socket(), "/healthz");
    let health = health.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(
        health.contains("503"),
        "the API should answer that the writer does not: {health}"
    );

    let before = signs(&heard.texts());
    drop(hang);
    heard.wait("signs of life again", |texts| signs(texts) > before)?;
    Ok(())
}

#[test]
fn the_journal_gets_object_old_new_and_cause_as_fields() -> Result<()> {
    require!("ip", "ethtool", "unshare");
    let _share = shared();
    let topology = Topology::build(Plan::full_nat(1))?;
    let run = topology.room.file("run");
    let journal = run.join("systemd/journal");
    fs::create_dir_all(&journal).context("make the journal's directory")?;
    let heard = Heard::listen(&journal.join("socket"), |_| {})?;
    let log = topology.room.file("agent.log");
    fs::write(&log, "").context("make the log")?;
    let found = fs::metadata(&log).context("stat the log")?;
    let script = format!("mount --bind '{}' /run && exec \"$@\"", run.display());
    let agent = launch(
        &topology,
        Launch {
            before: ["unshare", "--mount", "sh", "-c", &script, "sh"]
                .map(str::to_owned)
                .to_vec(),
            environment: vec![(
                "JOURNAL_STREAM".to_owned(),
                format!("{}:{}", found.st_dev(), found.st_ino()),
            )],
            ..Launch::default()
        },
    )?;
    heard.wait("the interface's entry", |texts| {
        texts.iter().any(|text| {
            text.starts_with("MESSAGE=interface object=\"front0\"")
                && [
                    "\nPRIORITY=6\n",
                    "\nOBJECT=front0\n",
                    "\nOLD=new\n",
                    "\nNEW=attached\n",
                    "\nCAUSE=native\n",
                ]
                .iter()
                .all(|field| text.contains(field))
        })
    })?;
    ensure!(agent.log().is_empty(), "also on standard error: {}", agent.log());
    Ok(())
}

#[test]
fn the_unit_passes_systemds_own_check() -> Result<()> {
    let Some(verify) = xlb_tests::process::find_program("systemd-analyze") else {
        xlb_tests::skip::skip("the_unit_passes_systemds_own_check", "systemd-analyze is not installed");
        return Ok(());
    };
    let unit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/xlb.service");
    let text = fs::read_to_string(&unit).with_context(|| format!("read {}", unit.display()))?;
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let copy = directory.path().join("xlb.service");
    // The check wants the programs to be there.
    let own = xlb_tests::binary::xlb_binary()?;
    fs::write(&copy, text.replace("/usr/bin/xlb", &own.to_string_lossy())).context("write the copy")?;
    let output = Command::new(verify)
        .args(["verify", "--man=no"])
        .arg(&copy)
        .output()
        .context("run systemd-analyze")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("xlb.service")).collect();
    ensure!(output.status.success() && ours.is_empty(), "{}: {said}", output.status);
    Ok(())
}
