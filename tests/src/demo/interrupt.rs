//! Ctrl-C and SIGTERM become a flag that every wait of the demo looks at, so that clean-up is the ordinary way out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

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
    /// Takes the signals over. Call it before the first thread is made. Children start with no signal blocked: the
    /// standard library empties their mask.
    pub(super) fn install() -> Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block().context("block SIGINT, SIGTERM and SIGHUP")?;
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                while signals.wait().is_ok() {
                    flag.store(true, Ordering::Relaxed);
                }
            })
            .context("start the thread that waits for signals")?;
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
