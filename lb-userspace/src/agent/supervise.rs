//! What the service manager is told (sd_notify(3)): that packets are taken, reloads, the end, a line of status, and that
//! the writer lives. Says nothing where there is no manager; decides nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::config::many;
use crate::reconcile::{Event, PortState, Snapshot};

/// The API must answer within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The status line changes at most this often.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Signs of life within the time after which the manager gives the service up.
const SIGNS: u32 = 3;

/// Tells the manager, if there is one.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(object = "service manager", cause = %error, "not told");
    }
}

/// The end is near, and traffic goes on.
pub(super) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("stopping; traffic goes on with the state in the maps"),
    ]);
}

/// A reload, for as long as the value lives.
pub(super) struct Reloading(());

impl Reloading {
    pub(super) fn begin() -> Self {
        // The time must come with it (systemd 253), and is read before anything of the reload is done.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell(&[NotifyState::Reloading, now]);
        }
        Self(())
    }
}

impl Drop for Reloading {
    fn drop(&mut self) {
        tell(&[NotifyState::Ready]);
    }
}

/// Says "ready" once the API answers (the writer has attached the program and applied the first image before there is an
/// API), then keeps the status line up to date.
pub(super) async fn run(socket: std::path::PathBuf, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    match timeout(ANSWER_WITHIN, answer(&socket)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return not_ready(&error.to_string()),
        Err(_) => return not_ready("no answer in time"),
    }
    let mut told = line(&snapshots.borrow_and_update());
    tell(&[NotifyState::Ready, NotifyState::Status(&told)]);
    while snapshots.changed().await.is_ok() {
        let now = line(&snapshots.borrow_and_update());
        if now != told {
            tell(&[NotifyState::Status(&now)]);
            told = now;
        }
        sleep(STATUS_EVERY).await;
    }
}

fn not_ready(cause: &str) {
    tracing::error!(
        object = "api",
        old = "starting",
        new = "not answering",
        cause,
        "the service manager is not told that the agent is ready"
    );
}

/// One request of our own.
async fn answer(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: xlb\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let status = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if status.ends_with(b" 200 OK") {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(status).into_owned()))
    }
}

/// `generation 3; 2 services, 6 backends; front0 native, back0 missing`.
fn line(snapshot: &Snapshot) -> String {
    let services = &snapshot.desired.config.services;
    let backends: usize = services.iter().map(|service| service.backends.len()).sum();
    let ports: Vec<String> = snapshot
        .ports
        .iter()
        .map(|port| {
            let state = match &port.state {
                PortState::Attached { mode, .. } => mode.as_str(),
                PortState::Adopted => "adopted",
                PortState::Missing => "missing",
                PortState::Failed { .. } => "not attached",
            };
            format!("{} {state}", port.name)
        })
        .collect();
    format!(
        "generation {}; {}, {}; {}",
        snapshot.generation,
        many(services.len(), "service"),
        many(backends, "backend"),
        ports.join(", ")
    )
}

/// Signs of life, each of them an answer of the writer: one that hangs lets the manager's watchdog bite, however well the
/// rest of the process is.
pub(super) async fn watchdog(events: mpsc::Sender<Event>) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut tick = interval(limit / SIGNS);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let (reply, answer) = oneshot::channel();
        if events.send(Event::Sample { reply }).await.is_err() {
            return;
        }
        if answer.await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}
