//! What we know at this moment: interfaces, neighbours, routes; which of it is stale, and reading that again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use tokio::time::Instant;

use super::Wanted;
use super::client::Client;
use super::error::NeighError;
use super::hops::{HopProblem, resolve};
use super::links::LinkTable;
use super::routes::{Route, lookup};
use super::table::{NeighKey, Neighbours};
use crate::state::Hop;

/// Looking up every route takes at most one part in this many of the time, however fast routes change.
const ROUTE_SHARE: u32 = 10;

/// What must be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stale {
    Links,
    Addresses,
    Neighbours,
    Routes,
}

impl Stale {
    pub(super) const ALL: [Self; 4] = [Self::Links, Self::Addresses, Self::Neighbours, Self::Routes];
}

/// Next hops, and why other destinations have none.
pub(super) type Hops = (HashMap<IpAddr, Hop>, BTreeMap<IpAddr, HopProblem>);

/// The whole picture.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) links: LinkTable,
    pub(super) neighbours: Neighbours,
    /// The neighbours that routes lead to, on interfaces that can reach them now.
    pub(super) needed: HashSet<NeighKey>,
    routes: HashMap<IpAddr, Route>,
    sources: Vec<IpAddr>,
    stale: BTreeSet<Stale>,
    routes_not_before: Instant,
}

impl Known {
    /// Nothing: all of it is stale.
    pub(super) fn nothing() -> Self {
        Self {
            links: LinkTable::default(),
            neighbours: Neighbours::default(),
            needed: HashSet::new(),
            routes: HashMap::new(),
            sources: Vec::new(),
            stale: BTreeSet::from(Stale::ALL),
            routes_not_before: Instant::now(),
        }
    }

    pub(super) fn must_read(&mut self, what: impl IntoIterator<Item = Stale>) {
        self.stale.extend(what);
    }

    /// When routes may be looked up again; `None`: they need not be.
    pub(super) fn routes_due(&self) -> Option<Instant> {
        self.stale.contains(&Stale::Routes).then_some(self.routes_not_before)
    }

    /// Reads what is stale.
    pub(super) async fn refresh(&mut self, client: &Client, wanted: &Wanted) -> Result<(), NeighError> {
        if self.stale.contains(&Stale::Links) {
            self.links.set_links(&client.links().await?);
            self.stale.remove(&Stale::Links);
        }
        if self.stale.contains(&Stale::Addresses) {
            self.links.set_addresses(&client.addresses().await?);
            self.stale.remove(&Stale::Addresses);
        }
        if self.stale.contains(&Stale::Neighbours) {
            self.neighbours.replace(&client.neighbours().await?);
            self.stale.remove(&Stale::Neighbours);
        }
        self.refresh_routes(client, wanted).await?;
        self.needed = self.find_needed();
        Ok(())
    }

    /// The way to each wanted destination.
    pub(super) fn hops(&self) -> Hops {
        let (mut hops, mut problems) = (HashMap::new(), BTreeMap::new());
        for (destination, route) in &self.routes {
            match resolve(*route, &self.links, &self.neighbours) {
                Ok(hop) => drop(hops.insert(*destination, hop)),
                Err(problem) => drop(problems.insert(*destination, problem)),
            }
        }
        (hops, problems)
    }

    /// New destinations at once, all of them when routes changed and the pause since the last time is over.
    async fn refresh_routes(&mut self, client: &Client, wanted: &Wanted) -> Result<(), NeighError> {
        let started = Instant::now();
        let mut all = self.routes_due().is_some_and(|due| started >= due);
        if wanted.sources != self.sources {
            self.sources.clone_from(&wanted.sources);
            all = true;
        }
        let destinations: HashSet<IpAddr> = wanted.destinations.iter().copied().collect();
        self.routes.retain(|destination, _| destinations.contains(destination));
        for destination in destinations {
            if all || !self.routes.contains_key(&destination) {
                let same_family = |source: &&IpAddr| source.is_ipv4() == destination.is_ipv4();
                let source = self.sources.iter().find(same_family).copied();
                let route = lookup(client, destination, source).await?;
                self.routes.insert(destination, route);
            }
        }
        if all {
            self.stale.remove(&Stale::Routes);
            self.routes_not_before = Instant::now() + started.elapsed() * ROUTE_SHARE;
        }
        Ok(())
    }

    fn find_needed(&self) -> HashSet<NeighKey> {
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
}
