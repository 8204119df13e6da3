//! Packets that the program turns into an answer to their sender: echo replies for VIPs, resets for TCP packets
//! without a flow.

mod echo;
mod reset;

pub use echo::{Echo, Echoes, echo};
pub use reset::{Resets, reset};

use lb_common::abi::flow_flag;

use crate::{forward::Ingress, verdict::WayWord};

/// Back where it came from.
#[inline(always)]
pub(crate) fn way_back(ingress: &Ingress) -> WayWord {
    if ingress.tx_flag & flow_flag::TX != 0 {
        WayWord::TX
    } else {
        WayWord::redirect(ingress.ifindex)
    }
}

/// TTL or hop limit of what we send ourselves.
pub(crate) const OUR_TTL: u8 = 64;
