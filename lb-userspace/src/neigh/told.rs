//! What the rest of the agent has been told, and telling it what differs. Holds the first next hops back until
//! neighbours had time to answer.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::NetUpdate;
use super::hops::HopProblem;
use super::known::Known;
use super::links::LinkTable;
use crate::state::{Hop, Links, Moved};

/// The first next hops wait this long for neighbours to answer, so that an agent that starts does not take hops away
/// from a running data plane only to give them back.
const SETTLE: Duration = Duration::from_millis(500);

/// Nobody listens any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over;

/// The receiver, and what it knows.
#[derive(Debug)]
pub(super) struct Told {
    updates: mpsc::Sender<NetUpdate>,
    links: Option<Links>,
    hops: Option<HashMap<IpAddr, Hop>>,
    problems: Option<BTreeMap<IpAddr, HopProblem>>,
    settled_by: Option<Instant>,
    interfaces: BTreeMap<String, &'static str>,
}

impl Told {
    pub(super) fn nothing(updates: mpsc::Sender<NetUpdate>) -> Self {
        Self {
            updates,
            links: None,
            hops: None,
            problems: None,
            settled_by: None,
            interfaces: BTreeMap::new(),
        }
    }

    /// Returns when nobody listens any more.
    pub(super) async fn closed(&self) {
        self.updates.closed().await;
    }

    /// When the first next hops are told at the latest, while they are held back.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.settled_by.filter(|_| self.hops.is_none())
    }

    /// Tells what differs.
    pub(super) async fn tell(&mut self, known: &Known) -> Result<(), Over> {
        let links = known.links.to_links();
        if self.links.as_ref() != Some(&links) {
            self.links = Some(links.clone());
            self.send(NetUpdate::Links(links)).await?;
        }
        let (hops, problems) = known.hops();
        if !self.may_tell_hops(&problems) {
            return Ok(());
        }
        if self.hops.as_ref() != Some(&hops) {
            self.hops = Some(hops.clone());
            self.send(NetUpdate::Hops(hops)).await?;
        }
        if self.problems.as_ref() != Some(&problems) {
            self.problems = Some(problems.clone());
            self.send(NetUpdate::Problems(problems)).await?;
        }
        Ok(())
    }

    /// Tells which neighbours moved.
    pub(super) async fn tell_moved(&self, moved: Vec<Moved>) -> Result<(), Over> {
        if moved.is_empty() {
            return Ok(());
        }
        self.send(NetUpdate::Moved(moved)).await
    }

    /// One log line for each configured interface that appears, goes up or down, or vanishes.
    pub(super) fn log_interfaces(&mut self, names: &[String], links: &LinkTable) {
        for name in names {
            let now = match links.by_name(name) {
                None => "absent",
                Some(seen) if seen.ethernet.is_none() => "not_ethernet",
                Some(seen) if seen.up => "up",
                Some(_) => "down",
            };
            let before = self.interfaces.insert(name.clone(), now);
            if before != Some(now) {
                tracing::info!(object = %name, old = before.unwrap_or("unknown"), new = now, cause = "netlink", "link");
            }
        }
    }

    /// Always after the first time; before it when all are known or the wait is over.
    fn may_tell_hops(&mut self, problems: &BTreeMap<IpAddr, HopProblem>) -> bool {
        let waiting = problems
            .values()
            .any(|problem| matches!(problem, HopProblem::Resolving { .. }));
        if self.hops.is_some() {
            return true;
        }
        if !waiting {
            return true;
        }
        let now = Instant::now();
        now >= *self.settled_by.get_or_insert(now + SETTLE)
    }

    async fn send(&self, update: NetUpdate) -> Result<(), Over> {
        self.updates.send(update).await.map_err(|_| Over)
    }
}
