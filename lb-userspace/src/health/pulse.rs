//! Whether this process itself is on time. A timer that fires late means that the runtime got no CPU, or was kept
//! busy; a probe that timed out meanwhile is our fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// From one beat to the next.
const BEAT: Duration = Duration::from_millis(20);
/// A beat may be so late without meaning anything.
const TOLERATED: Duration = Duration::from_millis(10);

/// A beating task's findings, shared by all probes of a runtime.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse {
    held_up_ns: Arc<AtomicU64>,
}

impl Pulse {
    /// Beats for ever.
    pub(super) async fn beat(self) {
        loop {
            let started = Instant::now();
            sleep(BEAT).await;
            let late = started.elapsed().saturating_sub(BEAT);
            if late > TOLERATED {
                let late_ns = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
                self.held_up_ns.fetch_add(late_ns, Ordering::Relaxed);
            }
        }
    }

    /// How long we were held up since the start, in sum.
    pub(super) fn held_up(&self) -> Duration {
        Duration::from_nanos(self.held_up_ns.load(Ordering::Relaxed))
    }

    /// How long we were held up since the start, in sum, with a hold-up that ended just now.
    pub(super) async fn held_up_by_now(&self) -> Duration {
        sleep(BEAT + TOLERATED).await;
        self.held_up()
    }
}
