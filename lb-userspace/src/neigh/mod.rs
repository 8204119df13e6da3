//! What the kernel knows about the network around us, over netlink: interfaces, addresses, and the MAC of the next
//! hop towards every backend, kept current. Also adds and removes VIPs.
//!
//! It decides which neighbour entries must exist and which MAC stands for which destination. It never touches a map
//! and never sends a packet itself: the kernel resolves, we ask it to (`NTF_EXT_MANAGED`, Linux 5.16; before that by
//! asking again and again with `NTF_USE`). Every socket is opened in the network namespace of the calling thread.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::state::{Hop, Links, Moved};

mod client;
mod doubt;
mod driver;
mod error;
mod events;
mod hops;
mod keeper;
mod known;
mod links;
mod monitor;
mod routes;
mod survey;
mod table;
mod told;
mod vip;

pub use client::Client;
pub use doubt::{Silence, silence_of};
pub use error::NeighError;
pub use hops::HopProblem;
pub use keeper::{Keeping, release_neighbours};
pub use routes::{NoRoute, Route};
pub use survey::{Fit, Interface, Survey, Way, survey};
pub use vip::{VipAdded, VipRemoved, VipStatus, local_addresses, vip_add, vip_remove, vip_status, vips_ours};

/// Marks neighbours (`NDA_PROTOCOL`) and addresses (`IFA_PROTO`) that we made, so that they can be told from the
/// operator's own. A number that no routing daemon uses (compare rtnetlink.h and /etc/iproute2/rt_protos).
pub const OUR_PROTOCOL: u8 = 120;

/// What the rest of the agent wants to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Interfaces from the config. They need not exist; a change of one of them is logged.
    pub interfaces: Vec<String>,
    /// Backend addresses, removed ones that still have flows included.
    pub destinations: Vec<IpAddr>,
    /// Our sources towards backends: the first of each family is used in the route lookup, so that source-based
    /// policy routing is honoured. May be empty.
    pub sources: Vec<IpAddr>,
}

/// What changed. Each carries the whole new truth, not a difference, and is sent only when it differs from the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetUpdate {
    /// Ethernet interfaces, and the addresses of every interface (loopback and link-local ones too).
    Links(Links),
    /// Next hops of the wanted destinations that have one.
    Hops(HashMap<IpAddr, Hop>),
    /// Why the other wanted destinations have none.
    Problems(BTreeMap<IpAddr, HopProblem>),
    /// Neighbours, wanted or not, that have another MAC than before: connections that reply to one must follow. The
    /// one update that is a difference.
    Moved(Vec<Moved>),
}

/// Starts to watch. The task ends when the sender of `wanted` or the receiver of `updates` is gone; neighbours stay as
/// they are then, as packets do (see [`release_neighbours`]).
///
/// The sockets are opened before this returns, in the calling thread's network namespace. Needs a tokio runtime.
pub fn start(wanted: watch::Receiver<Wanted>, updates: mpsc::Sender<NetUpdate>) -> Result<JoinHandle<()>, NeighError> {
    start_with(Keeping::Managed, wanted, updates)
}

/// As [`start`], with a choice of how neighbours are kept: [`Keeping::Asked`] is what a kernel before 5.16 gets.
pub fn start_with(
    keeping: Keeping,
    wanted: watch::Receiver<Wanted>,
    updates: mpsc::Sender<NetUpdate>,
) -> Result<JoinHandle<()>, NeighError> {
    let monitor = monitor::Monitor::open(keeping, wanted, updates)?;
    Ok(tokio::spawn(monitor.run()))
}
