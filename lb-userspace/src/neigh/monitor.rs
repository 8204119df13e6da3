//! The task that watches: events and a slow poll in, whole truths out. One loop owns all state; a change is read,
//! neighbours are tended, and what differs from the last update is sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::client::Client;
use super::error::NeighError;
use super::events::{Event, Events};
use super::hops::{HopProblem, resolve};
use super::keeper::{Keeper, Keeping};
use super::links::LinkTable;
use super::routes::{Route, lookup};
use super::table::{NeighKey, Neighbours};
use super::{NetUpdate, Wanted};
use crate::state::{Hop, Links};

/// Unresolved neighbours are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// Everything is read again this often, whatever the events said.
const POLL: Duration = Duration::from_secs(10);
/// The first next hops wait this long for neighbours to answer, so that an agent that starts does not take hops away
/// from a running data plane only to give them back.
const SETTLE: Duration = Duration::from_millis(500);
/// Looking up every route takes at most one part in this many of the time, however fast routes change.
const ROUTE_SHARE: u32 = 10;
/// Events taken in one go before the state is acted on.
const BATCH: usize = 4096;

/// What must be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    Links,
    Addresses,
    Neighbours,
    Routes,
}

pub(super) struct Monitor {
    client: Client,
    events: Events,
    wanted: watch::Receiver<Wanted>,
    updates: mpsc::Sender<NetUpdate>,
    keeper: Keeper,
    links: LinkTable,
    neighbours: Neighbours,
    routes: HashMap<IpAddr, Route>,
    sources: Vec<IpAddr>,
    stale: BTreeSet<Stale>,
    routes_not_before: Instant,
    polled_at: Instant,
    settled_by: Option<Instant>,
    interfaces: BTreeMap<String, &'static str>,
    sent_links: Option<Links>,
    sent_hops: Option<HashMap<IpAddr, Hop>>,
    sent_problems: Option<BTreeMap<IpAddr, HopProblem>>,
}

/// Why the loop ends: nobody listens or nobody wants anything.
struct Over;

impl Monitor {
    pub(super) fn open(
        keeping: Keeping,
        wanted: watch::Receiver<Wanted>,
        updates: mpsc::Sender<NetUpdate>,
    ) -> Result<Self, NeighError> {
        let now = Instant::now();
        Ok(Self {
            // The events first: what changes after the first dump is then told, not missed.
            events: Events::open()?,
            client: Client::open()?,
            wanted,
            updates,
            keeper: Keeper::new(keeping),
            links: LinkTable::default(),
            neighbours: Neighbours::default(),
            routes: HashMap::new(),
            sources: Vec::new(),
            stale: everything(),
            routes_not_before: now,
            polled_at: now,
            settled_by: None,
            interfaces: BTreeMap::new(),
            sent_links: None,
            sent_hops: None,
            sent_problems: None,
        })
    }

    pub(super) async fn run(mut self) {
        loop {
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "netlink_failed");
                self.stale = everything();
                self.reopen().await;
            }
            if self.publish().await.is_err() || self.wait().await.is_err() {
                return;
            }
        }
    }

    /// Reads what is stale and tends the neighbours.
    async fn refresh(&mut self) -> Result<(), NeighError> {
        if self.stale.contains(&Stale::Links) {
            self.links.set_links(&self.client.links().await?);
            self.stale.remove(&Stale::Links);
            self.tell_interfaces();
        }
        if self.stale.contains(&Stale::Addresses) {
            self.links.set_addresses(&self.client.addresses().await?);
            self.stale.remove(&Stale::Addresses);
        }
        if self.stale.contains(&Stale::Neighbours) {
            self.neighbours = Neighbours::from_dump(&self.client.neighbours().await?);
            self.stale.remove(&Stale::Neighbours);
        }
        self.refresh_routes().await?;
        let needed = self.needed();
        self.keeper.tend(&self.client, &needed, &self.neighbours).await
    }

    /// New destinations at once, all of them when routes changed and the pause since the last time is over.
    async fn refresh_routes(&mut self) -> Result<(), NeighError> {
        let wanted = self.wanted.borrow_and_update().clone();
        let started = Instant::now();
        let mut all = self.stale.contains(&Stale::Routes) && started >= self.routes_not_before;
        if wanted.sources != self.sources {
            self.sources.clone_from(&wanted.sources);
            all = true;
        }
        let destinations: HashSet<IpAddr> = wanted.destinations.iter().copied().collect();
        self.routes.retain(|destination, _| destinations.contains(destination));
        for destination in destinations {
            if all || !self.routes.contains_key(&destination) {
                let source = self
                    .sources
                    .iter()
                    .find(|source| source.is_ipv4() == destination.is_ipv4());
                let route = lookup(&self.client, destination, source.copied()).await?;
                self.routes.insert(destination, route);
            }
        }
        if all {
            self.stale.remove(&Stale::Routes);
            self.routes_not_before = Instant::now() + started.elapsed() * ROUTE_SHARE;
        }
        Ok(())
    }

    /// The neighbours that routes lead to, on interfaces that can reach them now.
    fn needed(&self) -> HashSet<NeighKey> {
        let keys = self.routes.values().filter_map(|route| match *route {
            Route::Via { ifindex, next_hop } => Some(NeighKey {
                ifindex,
                address: next_hop,
            }),
            Route::Local | Route::None(_) => None,
        });
        keys.filter(|key| self.can_ask_on(key.ifindex)).collect()
    }

    fn can_ask_on(&self, ifindex: u32) -> bool {
        self.links
            .get(ifindex)
            .and_then(|seen| seen.ethernet.as_ref())
            .is_some_and(|link| link.up)
    }

    async fn publish(&mut self) -> Result<(), Over> {
        let links = self.links.to_links();
        if self.sent_links.as_ref() != Some(&links) {
            self.sent_links = Some(links.clone());
            self.send(NetUpdate::Links(links)).await?;
        }
        let (mut hops, mut problems) = (HashMap::new(), BTreeMap::new());
        for (destination, route) in &self.routes {
            match resolve(*route, &self.links, &self.neighbours) {
                Ok(hop) => drop(hops.insert(*destination, hop)),
                Err(problem) => drop(problems.insert(*destination, problem)),
            }
        }
        if !self.settled(&problems) {
            return Ok(());
        }
        if self.sent_hops.as_ref() != Some(&hops) {
            self.sent_hops = Some(hops.clone());
            self.send(NetUpdate::Hops(hops)).await?;
        }
        if self.sent_problems.as_ref() != Some(&problems) {
            self.sent_problems = Some(problems.clone());
            self.send(NetUpdate::Problems(problems)).await?;
        }
        Ok(())
    }

    async fn send(&self, update: NetUpdate) -> Result<(), Over> {
        self.updates.send(update).await.map_err(|_| Over)
    }

    /// Whether next hops may be told: always after the first time; before it when all are known or the wait is over.
    fn settled(&mut self, problems: &BTreeMap<IpAddr, HopProblem>) -> bool {
        let waiting = problems
            .values()
            .any(|problem| matches!(problem, HopProblem::Resolving { .. }));
        if self.sent_hops.is_some() || !waiting {
            return !self.routes.is_empty() || self.sent_hops.is_some();
        }
        let now = Instant::now();
        now >= *self.settled_by.get_or_insert(now + SETTLE)
    }

    /// Waits for the next thing to do, and takes all events that are there already.
    async fn wait(&mut self) -> Result<(), Over> {
        let mut until = Instant::now() + TICK;
        if self.stale.contains(&Stale::Routes) {
            until = until.min(self.routes_not_before);
        }
        if let Some(settled_by) = self.settled_by.filter(|_| self.sent_hops.is_none()) {
            until = until.min(settled_by);
        }
        tokio::select! {
            event = self.events.next() => self.take(event).await,
            changed = self.wanted.changed() => changed.map_err(|_| Over)?,
            () = self.updates.closed() => return Err(Over),
            () = sleep_until(until) => {}
        }
        for _ in 0..BATCH {
            match timeout(Duration::ZERO, self.events.next()).await {
                Ok(event) => self.take(event).await,
                Err(_) => break,
            }
        }
        if self.polled_at.elapsed() >= POLL {
            self.polled_at = Instant::now();
            self.sweep().await;
            self.stale = everything();
        }
        Ok(())
    }

    async fn take(&mut self, event: Option<Event>) {
        match event {
            // A link that came up resolves its neighbours anew; a route may hang on links and addresses.
            Some(Event::Links) => self.stale.extend([Stale::Links, Stale::Routes]),
            // An IPv6 address that has just become usable is the source that solicitations waited for.
            Some(Event::Addresses) => {
                self.stale.extend([Stale::Addresses, Stale::Routes]);
                self.keeper.hurry();
            }
            Some(Event::Routes) => drop(self.stale.insert(Stale::Routes)),
            Some(Event::NeighbourSet(message)) => self.neighbours.set(&message),
            Some(Event::NeighbourGone(message)) => self.neighbours.remove(&message),
            Some(Event::Lost) => {
                tracing::warn!("netlink_events_lost");
                self.stale = everything();
            }
            Some(Event::Nothing) => {}
            None => self.reopen().await,
        }
    }

    /// New sockets after an error; a failure is retried by the next round.
    async fn reopen(&mut self) {
        tokio::time::sleep(TICK).await;
        match (Events::open(), Client::open()) {
            (Ok(events), Ok(client)) => {
                self.events = events;
                self.client = client;
                self.stale = everything();
            }
            (Err(error), _) | (_, Err(error)) => tracing::warn!(%error, "netlink_failed"),
        }
    }

    async fn sweep(&self) {
        let swept = self.keeper.sweep(&self.client, &self.needed(), &self.neighbours).await;
        if let Err(error) = swept {
            tracing::warn!(%error, "netlink_failed");
        }
    }

    /// One line for each configured interface that appears, goes up or down, or vanishes.
    fn tell_interfaces(&mut self) {
        let names = self.wanted.borrow().interfaces.clone();
        for name in names {
            let now = match self.links.by_name(&name) {
                None => "absent",
                Some(seen) if seen.ethernet.is_none() => "not_ethernet",
                Some(seen) if seen.up => "up",
                Some(_) => "down",
            };
            let before = self.interfaces.insert(name.clone(), now);
            if before != Some(now) {
                tracing::info!(interface = %name, old = before.unwrap_or("unknown"), new = now, "interface_changed");
            }
        }
    }
}

fn everything() -> BTreeSet<Stale> {
    BTreeSet::from([Stale::Links, Stale::Addresses, Stale::Neighbours, Stale::Routes])
}
