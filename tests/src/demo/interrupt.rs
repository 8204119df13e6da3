//! Ctrl-C and SIGTERM become a flag that every wait of the demo looks at, so that clean-up is the ordinary way out.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Whether somebody wants the demo to end.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    asked: Arc<AtomicBool>,
}

/// The error of a wait that was interrupted.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

impl Interrupt {
    /// Takes the signals over. They are handled, not blocked: our children must not inherit that.
    pub(super) fn install() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        let (ready, installed) = mpsc::channel();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || listen(&flag, &ready))
            .context("start the thread that waits for signals")?;
        installed.recv().context("the thread that waits for signals")??;
        Ok(Self { asked })
    }

    /// An error once somebody has asked.
    pub(super) fn check(&self) -> Result<()> {
        if self.asked.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        Ok(())
    }

    /// Sleeps, unless interrupted.
    pub(super) fn sleep(&self, duration: Duration) -> Result<()> {
        let deadline = Instant::now() + duration;
        loop {
            self.check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK_INTERVAL));
        }
    }
}

/// Sets the flag at every signal; says first whether the handlers are in place.
fn listen(asked: &AtomicBool, ready: &mpsc::Sender<Result<()>>) {
    let outcome: Result<Infallible> = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a runtime for signals")
        .and_then(|runtime| {
            runtime.block_on(async {
                let mut interrupt = signal(SignalKind::interrupt()).context("handle SIGINT")?;
                let mut terminate = signal(SignalKind::terminate()).context("handle SIGTERM")?;
                let mut hangup = signal(SignalKind::hangup()).context("handle SIGHUP")?;
                // Nobody listens any more: the demo is over.
                let _ = ready.send(Ok(()));
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    asked.store(true, Ordering::Relaxed);
                }
            })
        });
    let Err(error) = outcome;
    // As above.
    let _ = ready.send(Err(error));
}
