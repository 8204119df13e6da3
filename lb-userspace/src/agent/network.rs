//! The network side of a start, and the way of its news to the writer.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

use super::desired::Desired;
use super::run::AgentError;
use crate::neigh::{NetUpdate, Wanted};
use crate::reconcile::Event;
use crate::state::{Hop, Links};

/// How long the start waits for interfaces.
const LINKS_WITHIN: Duration = Duration::from_secs(10);
/// How long the start waits for next hops. Later ones are taken as they come.
const HOPS_WITHIN: Duration = Duration::from_millis(1_500);

/// What netlink is asked before there is an image.
pub(super) fn first_wanted(desired: &Desired) -> Wanted {
    let config = &desired.config;
    let backends = config.services.iter().flat_map(|service| &service.backends);
    let destinations: BTreeSet<_> = backends.map(|backend| backend.address).collect();
    Wanted {
        interfaces: config.agent.interfaces.clone(),
        destinations: destinations.into_iter().collect(),
        sources: config.agent.snat_addresses.clone(),
    }
}

/// Interfaces, and the next hops that are known at once.
///
/// Without interfaces there is no start: an interface that seems to be missing would be detached.
pub(super) async fn first_look(
    net: &mut mpsc::Receiver<NetUpdate>,
) -> Result<(Links, HashMap<IpAddr, Hop>), AgentError> {
    let begun = Instant::now();
    let (mut links, mut hops) = (None, None);
    loop {
        let until = match (&links, &hops) {
            (Some(_), Some(_)) => break,
            (Some(_), None) => begun + HOPS_WITHIN,
            (None, _) => begun + LINKS_WITHIN,
        };
        match timeout_at(until, net.recv()).await {
            Ok(Some(NetUpdate::Links(update))) => links = Some(update),
            Ok(Some(NetUpdate::Hops(update))) => hops = Some(update),
            // Nothing was seen before that could have moved.
            Ok(Some(NetUpdate::Problems(_) | NetUpdate::Moved(_))) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let links = links.ok_or(AgentError::NoLinks)?;
    Ok((links, hops.unwrap_or_default()))
}

/// Says which configured interfaces are not there.
pub(super) fn warn_missing(desired: &Desired, links: &Links) {
    for name in &desired.config.agent.interfaces {
        if !links.by_name.contains_key(name) {
            tracing::warn!(
                object = name,
                old = "unknown",
                new = "missing",
                cause = "no such interface; see 'ip link'",
                "interface"
            );
        }
    }
}

/// Hands items on as events until one of the ends is gone.
pub(super) async fn forward<T>(mut from: mpsc::Receiver<T>, to: mpsc::Sender<Event>, event: fn(T) -> Event) {
    while let Some(item) = from.recv().await {
        if to.send(event(item)).await.is_err() {
            return;
        }
    }
}

/// [`forward`] for netlink; wakes the presence task when interfaces or addresses changed.
pub(super) async fn forward_net(
    mut from: mpsc::Receiver<NetUpdate>,
    to: mpsc::Sender<Event>,
    links_changed: Arc<Notify>,
) {
    while let Some(update) = from.recv().await {
        let links = matches!(update, NetUpdate::Links(_));
        if to.send(Event::Net(update)).await.is_err() {
            return;
        }
        if links {
            links_changed.notify_one();
        }
    }
}
