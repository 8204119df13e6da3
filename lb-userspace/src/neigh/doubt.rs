//! Doubts about a next hop: whether a destination's silence is its next hop's, and asking the kernel to make sure of a
//! MAC that may be of yesterday. A neighbour whose MAC changed without a word stays wrong for up to a minute otherwise.

use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourState};

use super::client::Client;
use super::error::NeighError;
use super::keeper::{Keeping, keep_request};
use super::routes::{Route, lookup};
use super::table::{Neigh, NeighKey, entry, parse};

/// A next hop that answered so lately is not doubted.
const TRUSTED: Duration = Duration::from_secs(1);

/// Who does not answer on the way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// The address is on the link and answers no ARP or neighbour solicitation.
    Host,
    /// The gateway towards it answers none.
    Gateway(IpAddr),
}

/// To be asked when `destination` does not answer: whether its next hop does not answer ARP or neighbour discovery at
/// this moment. `None`: it does, or did a moment ago, or there is no route to ask about.
///
/// A next hop of ours that was last heard more than a second ago is questioned by this: the kernel sends up to
/// three unicast questions, a second apart, and gives the MAC up when none is answered. Frames are sent to it until then.
pub async fn silence_of(
    client: &Client,
    destination: IpAddr,
    source: Option<IpAddr>,
) -> Result<Option<Silence>, NeighError> {
    let Route::Via { ifindex, next_hop } = lookup(client, destination, source).await? else {
        return Ok(None);
    };
    let key = NeighKey {
        ifindex,
        address: next_hop,
    };
    let message = client.neighbour(&key.to_string(), entry(key)).await?;
    let Some((_, neigh)) = message.as_ref().and_then(parse) else {
        return Ok(None);
    };
    if neigh.usable_mac().is_some() {
        question(client, key, &neigh).await?;
        return Ok(None);
    }
    Ok(Some(if next_hop == destination {
        Silence::Host
    } else {
        Silence::Gateway(next_hop)
    }))
}

async fn question(client: &Client, key: NeighKey, neigh: &Neigh) -> Result<(), NeighError> {
    let already_asked = matches!(neigh.state, NeighbourState::Probe | NeighbourState::Delay);
    let trusted = neigh.confirmed_ago.is_some_and(|ago| ago < TRUSTED);
    let (true, false, false, Some(mac)) = (neigh.is_ours_to_change(), already_asked, trusted, neigh.usable_mac())
    else {
        return Ok(());
    };
    let mut probing = entry(key);
    probing.header.state = NeighbourState::Probe;
    probing
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    client.neighbour_set(&key.to_string(), probing).await?;
    if neigh.managed {
        // The kernel takes a state only without the flag, and drops the flag with it.
        client
            .neighbour_set(&key.to_string(), keep_request(Keeping::Managed, key))
            .await?;
    }
    Ok(())
}
