//! How the demo tells: the live table while something goes on, commands with their answers, the agent's status.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::interrupt::Interrupt;
use super::screen::{Kind, Screen};
use super::stage::Stage;
use super::table::table;
use crate::api;
use crate::client::backends;

/// How long a change may take to show.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);

/// Scene, screen and Ctrl-C together.
pub(super) struct Narrator<'a> {
    pub(super) stage: &'a Stage,
    pub(super) screen: &'a mut Screen,
    pub(super) interrupt: &'a Interrupt,
}

impl Narrator<'_> {
    /// Shows the live table for a while.
    pub(super) fn watch(&mut self, duration: Duration) -> Result<()> {
        let interval = match self.screen.kind() {
            Kind::Terminal => Duration::from_millis(500),
            Kind::Stream => Duration::from_secs(2),
        };
        let deadline = Instant::now() + duration;
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            self.interrupt.sleep(interval.min(left))?;
            let status = self.status()?;
            self.screen.block(&table(&status))?;
        }
        Ok(())
    }

    /// Waits for a change while the table goes on.
    pub(super) fn wait_for(&mut self, what: &str, check: impl Fn(&Value) -> bool) -> Result<()> {
        let deadline = Instant::now() + CHANGE_PATIENCE;
        loop {
            let status = self.status()?;
            if self.screen.kind() == Kind::Terminal {
                self.screen.block(&table(&status))?;
            }
            if check(&status) {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.screen.block(&table(&status))?;
                bail!("waited {CHANGE_PATIENCE:?} for {what}");
            }
            self.interrupt.sleep(Duration::from_millis(100))?;
        }
    }

    /// Runs an `xlb` command and shows it with its answer.
    pub(super) fn command(&mut self, args: &[&str]) -> Result<()> {
        self.screen.line(&format!("$ xlb {}", args.join(" ")))?;
        let answer = self.stage.xlb().xlb(args)?;
        self.screen.indented(&answer)
    }

    pub(super) fn status(&self) -> Result<Value> {
        api::get(self.stage.xlb().socket(), "/v1/status")
    }

    /// Requests by (service, host) as the kernel counts them, both families together: new connections where each
    /// request has one of its own, packets where each is one datagram (a source port may come up twice).
    pub(super) fn kernel_requests(&self) -> Result<BTreeMap<(String, String), u64>> {
        let status = self.status()?;
        let mut requests = BTreeMap::new();
        for backend in backends(&status) {
            let host = backend.name().split('-').next().unwrap_or_default();
            let counter = if backend.service == "web" {
                "flows_new"
            } else {
                "packets_in"
            };
            *requests
                .entry((backend.service.to_owned(), host.to_owned()))
                .or_default() += backend.counter(counter);
        }
        Ok(requests)
    }
}

/// The rows of one host in one service: `b2-v4` and `b2-v6` for `b2`.
pub(super) fn rows_of<'a>(status: &'a Value, service: &str, host: &str) -> Vec<&'a Value> {
    backends(status)
        .into_iter()
        .filter(|backend| backend.service == service && backend.name().split('-').next() == Some(host))
        .map(|backend| backend.row)
        .collect()
}
