//! The neighbour watch as the agent uses it, and a way to wait for what it says.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lb_userspace::neigh::{self, HopProblem, Keeping, NetUpdate, Wanted};
use lb_userspace::state::{Hop, Links};
use tokio::sync::{mpsc, watch};

/// Longer than anything here may take, shorter than the slow poll (10 s): what arrives in this time came by an event.
const PATIENCE: Duration = Duration::from_secs(8);

/// The last of each update.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Interfaces and addresses.
    pub(crate) links: Links,
    /// Next hops.
    pub(crate) hops: HashMap<IpAddr, Hop>,
    /// Why others have none.
    pub(crate) problems: BTreeMap<IpAddr, HopProblem>,
}

impl Seen {
    /// MAC of the next hop towards an address.
    pub(crate) fn mac(&self, destination: IpAddr) -> Option<[u8; 6]> {
        self.hops.get(&destination).map(|hop| hop.dst_mac)
    }
}

/// A running watch.
pub(crate) struct Watcher {
    wanted: watch::Sender<Wanted>,
    updates: mpsc::Receiver<NetUpdate>,
    /// What it said so far.
    pub(crate) seen: Seen,
    /// How many updates of next hops came.
    pub(crate) hop_updates: u32,
}

impl Watcher {
    /// Starts it for `destinations`.
    pub(crate) fn start(destinations: &[IpAddr]) -> Result<Self> {
        Self::start_with(Keeping::Managed, destinations)
    }

    /// Starts it with a way of keeping neighbours.
    pub(crate) fn start_with(keeping: Keeping, destinations: &[IpAddr]) -> Result<Self> {
        let wanted = Wanted {
            interfaces: vec!["u0".to_owned()],
            destinations: destinations.to_vec(),
            sources: Vec::new(),
        };
        let (wanted, wanted_of_watch) = watch::channel(wanted);
        let (to_us, updates) = mpsc::channel(16);
        neigh::start_with(keeping, wanted_of_watch, to_us)?;
        Ok(Self {
            wanted,
            updates,
            seen: Seen::default(),
            hop_updates: 0,
        })
    }

    /// Changes what is wanted.
    pub(crate) fn want(&self, change: impl FnOnce(&mut Wanted)) {
        self.wanted.send_modify(change);
    }

    /// Waits until `done`; how long it took. The error says what was seen instead.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Seen) -> bool) -> Result<Duration> {
        let started = Instant::now();
        while !done(&self.seen) {
            let left = PATIENCE.saturating_sub(started.elapsed());
            let Ok(update) = tokio::time::timeout(left, self.updates.recv()).await else {
                bail!("{what}: not within {PATIENCE:?}; seen: {:#?}", self.seen);
            };
            self.take(update.context("the watch ended")?);
        }
        Ok(started.elapsed())
    }

    /// Takes updates for a while and expects the watch to live.
    pub(crate) async fn linger(&mut self, time: Duration) -> Result<()> {
        let until = tokio::time::Instant::now() + time;
        while let Ok(update) = tokio::time::timeout_at(until, self.updates.recv()).await {
            self.take(update.context("the watch ended")?);
        }
        Ok(())
    }

    fn take(&mut self, update: NetUpdate) {
        match update {
            NetUpdate::Links(links) => self.seen.links = links,
            NetUpdate::Hops(hops) => {
                self.seen.hops = hops;
                self.hop_updates += 1;
            }
            NetUpdate::Problems(problems) => self.seen.problems = problems,
            NetUpdate::Moved(_) => {}
        }
    }
}
