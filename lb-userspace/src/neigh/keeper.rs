//! Keeps the neighbours we need in the kernel's table: asks for each to be managed, asks again while one is
//! unresolved, and takes back those we no longer need. Never touches an entry set by hand.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;

use super::OUR_PROTOCOL;
use super::client::Client;
use super::error::NeighError;
use super::table::{Neigh, NeighKey, Neighbours, entry};

/// How neighbours are kept resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// The kernel probes by itself (`NTF_EXT_MANAGED`); one that cannot (before 5.16) ignores the attribute, which
    /// shows in its answer, and is asked as below.
    Managed,
    /// We ask the kernel to resolve (`NTF_USE`), again and again.
    Asked,
}

/// An unresolved neighbour is asked for this often; the kernel's own pause is five seconds.
const UNRESOLVED_PAUSE: Duration = Duration::from_secs(1);
/// A resolved one that the kernel does not manage is refreshed this often.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// The neighbours we asked for.
#[derive(Debug)]
pub(super) struct Keeper {
    keeping: Keeping,
    asked_at: HashMap<NeighKey, Instant>,
    /// The last complaint by neighbour, so that one that stays is logged once.
    complaints: HashMap<NeighKey, String>,
}

impl Keeper {
    pub(super) fn new(keeping: Keeping) -> Self {
        Self {
            keeping,
            asked_at: HashMap::new(),
            complaints: HashMap::new(),
        }
    }

    /// Something changed (an interface came up, an address became usable): ask for every unresolved one at once.
    pub(super) fn hurry(&mut self) {
        self.asked_at.values_mut().for_each(|at| *at = long_ago(*at));
    }

    /// Asks for those of `needed` that want asking and gives back those that are needed no longer.
    pub(super) async fn tend(
        &mut self,
        client: &Client,
        needed: &HashSet<NeighKey>,
        table: &Neighbours,
    ) -> Result<(), NeighError> {
        let now = Instant::now();
        for key in needed {
            let neigh = table.get(*key);
            let since_asked = self.asked_at.get(key).map(|at| now.saturating_duration_since(*at));
            if self.wants_asking(neigh, since_asked) {
                self.asked_at.insert(*key, now);
                let result = client
                    .neighbour_set(&key.to_string(), keep_request(self.keeping, *key))
                    .await;
                self.judge(*key, result)?;
            } else {
                self.asked_at.entry(*key).or_insert(now);
            }
        }
        let surplus: Vec<NeighKey> = self
            .asked_at
            .keys()
            .filter(|key| !needed.contains(key))
            .copied()
            .collect();
        for key in surplus {
            self.asked_at.remove(&key);
            self.complaints.remove(&key);
            give_back(client, key, table.get(key)).await?;
        }
        Ok(())
    }

    /// Removes entries that bear our mark and that nobody needs: an earlier agent's, from before a config change.
    pub(super) async fn sweep(
        &self,
        client: &Client,
        needed: &HashSet<NeighKey>,
        table: &Neighbours,
    ) -> Result<(), NeighError> {
        let strays: Vec<NeighKey> = table.ours().filter(|key| !needed.contains(key)).collect();
        for key in strays {
            give_back(client, key, table.get(key)).await?;
        }
        Ok(())
    }

    fn wants_asking(&self, neigh: Option<&Neigh>, since_asked: Option<Duration>) -> bool {
        if neigh.is_some_and(Neigh::is_static) {
            return false;
        }
        let resolved = neigh.is_some_and(|neigh| neigh.usable_mac().is_some());
        let managed = self.keeping == Keeping::Managed && neigh.is_some_and(|neigh| neigh.managed);
        // Also when it was so before us: by an earlier agent, or by the operator, whose entry must not get our mark.
        if resolved && managed {
            return false;
        }
        let Some(since_asked) = since_asked else {
            return true;
        };
        let fresh = neigh.is_some_and(|neigh| neigh.state == NeighbourState::Reachable);
        since_asked >= if fresh { REFRESH_PAUSE } else { UNRESOLVED_PAUSE }
    }

    /// A refusal is logged when it is new; only a dead socket stops the round.
    fn judge(&mut self, key: NeighKey, result: Result<(), NeighError>) -> Result<(), NeighError> {
        match result {
            Ok(()) => {
                self.complaints.remove(&key);
                Ok(())
            }
            Err(closed @ NeighError::Closed { .. }) => Err(closed),
            Err(error) => {
                let text = error.to_string();
                if self.complaints.get(&key) != Some(&text) {
                    tracing::warn!(next_hop = %key.address, ifindex = key.ifindex, error = %text, "neighbour_not_kept");
                    self.complaints.insert(key, text);
                }
                Ok(())
            }
        }
    }
}

/// Removes every neighbour entry that an agent made in this network namespace (for `xlb unload`); says how many.
pub async fn release_neighbours() -> Result<usize, NeighError> {
    let client = Client::open()?;
    let table = Neighbours::from_dump(&client.neighbours().await?);
    let ours: Vec<NeighKey> = table.ours().collect();
    for key in &ours {
        give_back(&client, *key, table.get(*key)).await?;
    }
    Ok(ours.len())
}

/// Deletes our entry. One that was there before us and has no mark of ours, or is set by hand, stays.
async fn give_back(client: &Client, key: NeighKey, neigh: Option<&Neigh>) -> Result<(), NeighError> {
    if !neigh.is_some_and(Neigh::is_ours_to_change) {
        return Ok(());
    }
    match client.neighbour_delete(&key.to_string(), entry(key)).await {
        // The entry or its interface went away by itself.
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(()),
        result => result,
    }
}

/// `NTF_USE` starts resolving on any kernel, the managed flag keeps it going on those that know it.
pub(super) fn keep_request(keeping: Keeping, key: NeighKey) -> NeighbourMessage {
    let mut message = entry(key);
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    message
        .attributes
        .push(NeighbourAttribute::Protocol(RouteProtocol::Other(OUR_PROTOCOL)));
    if keeping == Keeping::Managed {
        message
            .attributes
            .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    }
    message
}

/// An instant so far back that every pause is over; the same instant where the clock does not reach that far.
fn long_ago(at: Instant) -> Instant {
    at.checked_sub(REFRESH_PAUSE).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::table::{fixture, parse};
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn neigh(state: NeighbourState, extra: Option<NeighbourAttribute>) -> Neigh {
        let mut message = fixture::message(3, IpAddr::from([10, 0, 0, 1]), state, Some(MAC));
        message.attributes.extend(extra);
        parse(&message).expect("a neighbour").1
    }

    fn managed() -> Option<NeighbourAttribute> {
        Some(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed))
    }

    #[test]
    fn a_neighbour_set_by_hand_is_never_asked_for() {
        let keeper = Keeper::new(Keeping::Managed);
        assert!(!keeper.wants_asking(Some(&neigh(NeighbourState::Permanent, None)), None));
    }

    #[test]
    fn one_nobody_asked_for_is_asked_for_even_when_it_is_resolved() {
        let keeper = Keeper::new(Keeping::Managed);
        assert!(keeper.wants_asking(Some(&neigh(NeighbourState::Reachable, None)), None));
    }

    #[test]
    fn a_managed_and_resolved_one_is_left_to_the_kernel_and_to_whoever_made_it() {
        let keeper = Keeper::new(Keeping::Managed);
        for since_asked in [None, Some(Duration::from_secs(86_400))] {
            assert!(!keeper.wants_asking(Some(&neigh(NeighbourState::Stale, managed())), since_asked));
        }
    }

    #[test]
    fn an_unmanaged_one_is_refreshed_for_ever() {
        let keeper = Keeper::new(Keeping::Asked);
        let reachable = neigh(NeighbourState::Reachable, None);
        assert!(!keeper.wants_asking(Some(&reachable), Some(Duration::from_secs(1))));
        assert!(keeper.wants_asking(Some(&reachable), Some(REFRESH_PAUSE)));
    }

    #[test]
    fn an_unresolved_one_is_asked_for_once_a_second() {
        let keeper = Keeper::new(Keeping::Managed);
        let failed = neigh(NeighbourState::Failed, managed());
        assert!(!keeper.wants_asking(Some(&failed), Some(Duration::from_millis(500))));
        assert!(keeper.wants_asking(Some(&failed), Some(UNRESOLVED_PAUSE)));
    }
}
