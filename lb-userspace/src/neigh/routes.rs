//! Where a packet to an address goes next: the kernel's own answer to RTM_GETROUTE, so that policy rules, metrics,
//! multipath and next-hop objects count exactly as they do for the kernel's traffic.

use std::net::IpAddr;

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};

use super::client::{Client, family};
use super::error::NeighError;

/// The kernel's decision about one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Over Ethernet to a neighbour.
    Via {
        /// Our interface.
        ifindex: u32,
        /// The gateway, or the destination itself where it is on the link. Of either family (RFC 5549).
        next_hop: IpAddr,
    },
    /// One of our own addresses.
    Local,
    /// No route, or one that forbids.
    None(NoRoute),
}

/// Why there is no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No route matches (ENETUNREACH).
    Missing,
    /// An `unreachable` route (EHOSTUNREACH).
    Unreachable,
    /// A `prohibit` route (EACCES).
    Prohibited,
    /// A `blackhole` route (EINVAL).
    Blackhole,
    /// A broadcast, multicast or other route that has no single neighbour.
    NotUnicast,
}

impl NoRoute {
    fn from_errno(errno: i32) -> Option<Self> {
        match errno {
            libc::ENETUNREACH | libc::ESRCH => Some(Self::Missing),
            libc::EHOSTUNREACH => Some(Self::Unreachable),
            libc::EACCES | libc::EPERM => Some(Self::Prohibited),
            libc::EINVAL => Some(Self::Blackhole),
            _ => None,
        }
    }
}

/// Asks for the way to `destination`. With `source`, as a packet from that address; a source that is not local (yet)
/// is left out of the question, because the kernel refuses it.
pub(super) async fn lookup(client: &Client, destination: IpAddr, source: Option<IpAddr>) -> Result<Route, NeighError> {
    match ask(client, destination, source).await? {
        Route::None(NoRoute::Blackhole) if source.is_some() => ask(client, destination, None).await,
        route => Ok(route),
    }
}

async fn ask(client: &Client, destination: IpAddr, source: Option<IpAddr>) -> Result<Route, NeighError> {
    let what = match source {
        Some(source) => format!("route to {destination} from {source}"),
        None => format!("route to {destination}"),
    };
    match client.route(&what, question(destination, source)).await {
        Ok(answer) => Ok(answer.map_or(Route::None(NoRoute::Missing), |answer| read(&answer, destination))),
        Err(error) => match error.errno().and_then(NoRoute::from_errno) {
            Some(none) => Ok(Route::None(none)),
            None => Err(error),
        },
    }
}

fn question(destination: IpAddr, source: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = whole(destination);
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    if let Some(source) = source {
        message.header.source_prefix_length = whole(source);
        message.attributes.push(RouteAttribute::Source(source.into()));
    }
    message
}

/// Prefix length of a single address.
pub(super) const fn whole(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn read(answer: &RouteMessage, destination: IpAddr) -> Route {
    let (mut ifindex, mut next_hop) = (None, destination);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) | RouteAttribute::Via(RouteVia::Inet(v4)) => {
                next_hop = IpAddr::V4(*v4);
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) | RouteAttribute::Via(RouteVia::Inet6(v6)) => {
                next_hop = IpAddr::V6(*v6);
            }
            _ => {}
        }
    }
    match (answer.header.kind, ifindex) {
        (RouteType::Local, _) => Route::Local,
        (RouteType::Unicast, Some(ifindex)) => Route::Via { ifindex, next_hop },
        (RouteType::Unreachable, _) => Route::None(NoRoute::Unreachable),
        (RouteType::Prohibit, _) => Route::None(NoRoute::Prohibited),
        (RouteType::BlackHole, _) => Route::None(NoRoute::Blackhole),
        (RouteType::Unicast, None) => Route::None(NoRoute::Missing),
        _ => Route::None(NoRoute::NotUnicast),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 11));

    fn answer(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        message
    }

    #[test]
    fn without_a_gateway_the_destination_is_its_own_next_hop() {
        let answer = answer(RouteType::Unicast, vec![RouteAttribute::Oif(4)]);
        let want = Route::Via {
            ifindex: 4,
            next_hop: BACKEND,
        };
        assert_eq!(read(&answer, BACKEND), want);
    }

    #[test]
    fn an_ipv4_route_may_lead_through_an_ipv6_gateway() {
        let gateway = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let attributes = vec![RouteAttribute::Via(RouteVia::Inet6(gateway)), RouteAttribute::Oif(4)];
        let want = Route::Via {
            ifindex: 4,
            next_hop: IpAddr::V6(gateway),
        };
        assert_eq!(read(&answer(RouteType::Unicast, attributes), BACKEND), want);
    }

    #[test]
    fn our_own_address_and_a_broadcast_have_no_next_hop() {
        let local = answer(RouteType::Local, vec![RouteAttribute::Oif(1)]);
        assert_eq!(read(&local, BACKEND), Route::Local);
        let broadcast = answer(RouteType::Broadcast, vec![RouteAttribute::Oif(1)]);
        assert_eq!(read(&broadcast, BACKEND), Route::None(NoRoute::NotUnicast));
    }
}
