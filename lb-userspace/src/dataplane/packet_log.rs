//! Packet log lines of the logging object, handed to the `log` facade (and so to `tracing`): at most so many a second,
//! because each costs more than its packet; what is over is counted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::{Dataplane, DataplaneError};

/// Lines that one second may bring.
const LINES_A_SECOND: u32 = 1_000;

/// Reads what the program logged. Readable (as a file descriptor) when there is something.
pub struct PacketLog {
    fd: OwnedFd,
    budget: Arc<Mutex<Budget>>,
    flush: Box<dyn FnMut() + Send>,
}

impl PacketLog {
    /// Hands waiting lines on, and says how many there were too many.
    pub fn flush(&mut self) {
        (self.flush)();
        let over = locked(&self.budget).over(Instant::now());
        if let Some(over) = over {
            tracing::warn!(
                object = "packet log",
                lines = over,
                at_most = LINES_A_SECOND,
                "lines left out in a second"
            );
        }
    }
}

impl AsRawFd for PacketLog {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Dataplane {
    /// Takes the packet log; the object must be the logging one ([`super::LogObject::On`]).
    pub fn packet_log(&mut self) -> Result<PacketLog, DataplaneError> {
        let fail = |error| DataplaneError::kernel("packet log; load the object with logging on")(error);
        let budget = Arc::new(Mutex::new(Budget::new(Instant::now())));
        let limited = Limited(Arc::clone(&budget));
        let mut logger =
            EbpfLogger::init_with_logger(&mut self.ebpf, limited).map_err(|error| fail(io::Error::other(error)))?;
        let fd = logger.as_fd().try_clone_to_owned().map_err(fail)?;
        Ok(PacketLog {
            fd,
            budget,
            flush: Box::new(move || logger.flush()),
        })
    }
}

/// The process's logger, as far as the budget goes.
struct Limited(Arc<Mutex<Budget>>);

impl Log for Limited {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        log::logger().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if locked(&self.0).take(Instant::now()) {
            log::logger().log(record);
        }
    }

    fn flush(&self) {
        log::logger().flush();
    }
}

fn locked(budget: &Mutex<Budget>) -> std::sync::MutexGuard<'_, Budget> {
    // Two numbers and a time: nothing that a panic could leave half done.
    budget.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines of the running second.
#[derive(Debug)]
struct Budget {
    since: Instant,
    taken: u32,
    left_out: u64,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            taken: 0,
            left_out: 0,
        }
    }

    /// Whether one more line may go.
    fn take(&mut self, now: Instant) -> bool {
        if self.left_out == 0 && self.second_is_over(now) {
            *self = Self::new(now);
        }
        let may = self.taken < LINES_A_SECOND;
        if may {
            self.taken += 1;
        } else {
            self.left_out += 1;
        }
        may
    }

    /// At the end of a second with lines left out, how many; a new second starts.
    fn over(&mut self, now: Instant) -> Option<u64> {
        if self.left_out == 0 || !self.second_is_over(now) {
            return None;
        }
        let left_out = self.left_out;
        *self = Self::new(now);
        Some(left_out)
    }

    fn second_is_over(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= Duration::from_secs(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_takes_so_many_lines_and_counts_the_rest() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut budget = Budget::new(start);
        let taken = (0..LINES_A_SECOND + 5).filter(|_| budget.take(at(10))).count();
        assert_eq!(taken, LINES_A_SECOND as usize);
        assert_eq!(budget.over(at(999)), None);
        assert_eq!(budget.over(at(1_000)), Some(5));
        assert!(budget.take(at(1_001)));
        assert_eq!(budget.over(at(5_000)), None);
        assert!(budget.take(at(5_001)));
    }
}
