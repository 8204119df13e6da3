//! Routes, interfaces and neighbours to next hops. Pure. For a destination without one it says why, in words that name
//! the next command.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::neighbour::NeighbourState;

use super::links::LinkTable;
use super::routes::{NoRoute, Route};
use super::table::{NeighKey, Neighbours};
use crate::state::Hop;

/// Why a destination has no next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopProblem {
    /// The kernel has no way there.
    NoRoute(NoRoute),
    /// The destination is one of our own addresses.
    OwnAddress,
    /// The route's interface is down or has no carrier.
    LinkDown {
        /// Its name.
        interface: String,
    },
    /// The route leaves by something that has no MAC addresses (a tunnel, loopback).
    NotEthernet {
        /// Its name.
        interface: String,
    },
    /// The route's interface is gone; the route will be looked up again.
    LinkGone {
        /// Its index.
        ifindex: u32,
    },
    /// The neighbour has been asked for and has not answered yet.
    Resolving {
        /// The neighbour: gateway or destination.
        next_hop: IpAddr,
        /// Our interface.
        interface: String,
    },
    /// The neighbour does not answer.
    NoAnswer {
        /// The neighbour: gateway or destination.
        next_hop: IpAddr,
        /// Our interface.
        interface: String,
    },
}

impl HopProblem {
    /// One word for JSON and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoRoute(_) => "no_route",
            Self::OwnAddress => "own_address",
            Self::LinkDown { .. } => "link_down",
            Self::NotEthernet { .. } => "not_ethernet",
            Self::LinkGone { .. } => "link_gone",
            Self::Resolving { .. } => "resolving",
            Self::NoAnswer { .. } => "neighbour_silent",
        }
    }
}

impl fmt::Display for HopProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoute(NoRoute::Missing) => f.write_str("no route; see 'ip route get'"),
            Self::NoRoute(NoRoute::Unreachable) => f.write_str("its route is of type unreachable; see 'ip route get'"),
            Self::NoRoute(NoRoute::Prohibited) => f.write_str("its route is of type prohibit; see 'ip route get'"),
            Self::NoRoute(NoRoute::Blackhole) => f.write_str("its route is of type blackhole; see 'ip route get'"),
            Self::NoRoute(NoRoute::NotUnicast) => f.write_str("a broadcast or multicast address is no backend"),
            Self::OwnAddress => f.write_str("is an address of this host; a backend must be another machine"),
            Self::LinkDown { interface } => {
                write!(
                    f,
                    "interface {interface} is down or has no carrier; see 'ip link show {interface}'"
                )
            }
            Self::NotEthernet { interface } => {
                write!(
                    f,
                    "its route leaves by {interface}, which is not Ethernet; see 'ip route get'"
                )
            }
            Self::LinkGone { ifindex } => write!(f, "interface number {ifindex} of its route is gone; see 'ip link'"),
            Self::Resolving { next_hop, interface } => {
                write!(f, "next hop {next_hop} on {interface} has not answered yet")
            }
            Self::NoAnswer { next_hop, interface } => write!(
                f,
                "next hop {next_hop} on {interface} answers no {}; is it up, on this network? see 'ip neigh show dev {interface}'",
                if next_hop.is_ipv4() {
                    "ARP"
                } else {
                    "neighbour solicitation"
                }
            ),
        }
    }
}

/// The next hop that `route` leads to.
pub(super) fn resolve(route: Route, links: &LinkTable, neighbours: &Neighbours) -> Result<Hop, HopProblem> {
    let (ifindex, next_hop) = match route {
        Route::Via { ifindex, next_hop } => (ifindex, next_hop),
        Route::Local => return Err(HopProblem::OwnAddress),
        Route::None(why) => return Err(HopProblem::NoRoute(why)),
    };
    let seen = links.get(ifindex).ok_or(HopProblem::LinkGone { ifindex })?;
    let interface = || seen.name.clone();
    let link = seen
        .ethernet
        .as_ref()
        .ok_or_else(|| HopProblem::NotEthernet { interface: interface() })?;
    if !link.up {
        return Err(HopProblem::LinkDown { interface: interface() });
    }
    let neigh = neighbours.get(NeighKey {
        ifindex,
        address: next_hop,
    });
    match neigh.and_then(super::table::Neigh::usable_mac) {
        Some(dst_mac) => Ok(Hop {
            dst_mac,
            src_mac: link.mac,
            ifindex,
        }),
        None if neigh.is_some_and(|neigh| neigh.state == NeighbourState::Failed) => Err(HopProblem::NoAnswer {
            next_hop,
            interface: interface(),
        }),
        None => Err(HopProblem::Resolving {
            next_hop,
            interface: interface(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::net::Mac;
    use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};

    use super::super::table::fixture;
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const PEER: Mac = [2, 0, 0, 0, 0, 2];

    fn links(kind: LinkLayerType, flags: LinkFlags) -> LinkTable {
        let mut message = LinkMessage::default();
        message.header.index = 4;
        message.header.link_layer_type = kind;
        message.header.flags = flags;
        message.attributes = vec![
            LinkAttribute::IfName("no-such-link".to_owned()),
            LinkAttribute::Address(OWN.to_vec()),
        ];
        let mut table = LinkTable::default();
        table.set_links(&[message]);
        table
    }

    fn neighbours(state: NeighbourState, mac: Option<Mac>) -> Neighbours {
        Neighbours::from_dump(&[fixture::message(4, gateway(), state, mac)])
    }

    fn gateway() -> IpAddr {
        IpAddr::from([10, 0, 0, 1])
    }

    fn route() -> Route {
        Route::Via {
            ifindex: 4,
            next_hop: gateway(),
        }
    }

    #[test]
    fn a_hop_is_the_neighbours_mac_and_our_interfaces_mac() {
        let links = links(LinkLayerType::Ether, LinkFlags::Up | LinkFlags::LowerUp);
        let hop = resolve(route(), &links, &neighbours(NeighbourState::Stale, Some(PEER)));
        assert_eq!(
            hop,
            Ok(Hop {
                dst_mac: PEER,
                src_mac: OWN,
                ifindex: 4
            })
        );
    }

    #[test]
    fn a_link_without_carrier_has_no_hops() {
        let links = links(LinkLayerType::Ether, LinkFlags::Up);
        let hop = resolve(route(), &links, &neighbours(NeighbourState::Reachable, Some(PEER)));
        assert!(matches!(hop, Err(HopProblem::LinkDown { .. })), "{hop:?}");
    }

    #[test]
    fn a_failed_neighbour_and_one_not_asked_yet_are_told_apart() {
        let links = links(LinkLayerType::Ether, LinkFlags::Up | LinkFlags::LowerUp);
        let failed = resolve(route(), &links, &neighbours(NeighbourState::Failed, None));
        assert!(matches!(failed, Err(HopProblem::NoAnswer { .. })), "{failed:?}");
        let unknown = resolve(route(), &links, &Neighbours::default());
        assert!(matches!(unknown, Err(HopProblem::Resolving { .. })), "{unknown:?}");
    }

    #[test]
    fn a_tunnel_has_no_hop() {
        let links = links(LinkLayerType::Netrom, LinkFlags::Up | LinkFlags::LowerUp);
        let hop = resolve(route(), &links, &Neighbours::default());
        assert!(matches!(hop, Err(HopProblem::NotEthernet { .. })), "{hop:?}");
    }
}
