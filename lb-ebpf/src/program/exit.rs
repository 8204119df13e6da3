//! The one exit of the program: it counts, sends, and has the packet logged where the object was built with `log`.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use lb_common::reason::DropReason;
use lb_ebpf::{
    tables::Tables,
    verdict::{Outcome, Verdict, Way},
};

use super::{
    maps::{xlb_reason_st, xlb_tx_ports},
    packet::XdpPacket,
    tables::Maps,
};

/// Carries a verdict out.
#[inline(always)]
pub(crate) fn exit(packet: &XdpPacket, verdict: Verdict) -> u32 {
    let bytes = packet.counted_bytes();
    #[cfg(feature = "log")]
    super::log::log(packet, verdict, bytes);
    match verdict.outcome() {
        Outcome::ToBackend(backend_id, way) => {
            Maps.count(backend_id, |stats| {
                stats.packets_in = stats.packets_in.wrapping_add(1);
                stats.bytes_in = stats.bytes_in.wrapping_add(bytes);
            });
            leave(bytes, way)
        }
        Outcome::ToClient(backend_id, way) => {
            Maps.count(backend_id, |stats| {
                stats.packets_out = stats.packets_out.wrapping_add(1);
                stats.bytes_out = stats.bytes_out.wrapping_add(bytes);
            });
            leave(bytes, way)
        }
        Outcome::Answer(reason, way) => {
            count(reason, bytes);
            leave(bytes, way)
        }
        Outcome::Drop(reason) => {
            count(reason, bytes);
            XDP_DROP
        }
        Outcome::Pass(reason) => {
            count(reason, bytes);
            XDP_PASS
        }
    }
}

#[inline(always)]
fn leave(bytes: u64, way: Way) -> u32 {
    match way {
        Way::Tx => XDP_TX,
        Way::Redirect(ifindex) => match xlb_tx_ports.redirect(ifindex, 0) {
            Ok(_) => XDP_REDIRECT,
            Err(_) => {
                count(DropReason::NoTxPort.index(), bytes);
                XDP_DROP
            }
        },
    }
}

#[inline(always)]
fn count(reason: u32, bytes: u64) {
    if let Some(stats) = xlb_reason_st.get_ptr_mut(reason) {
        // SAFETY: this CPU's slot; XDP programs do not interrupt each other on a CPU.
        let stats = unsafe { &mut *stats };
        stats.packets = stats.packets.wrapping_add(1);
        stats.bytes = stats.bytes.wrapping_add(bytes);
    }
}
