//! The one exit of the program: it counts, sends, and has the packet logged where the object was built with `log`.

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX},
    helpers::bpf_redirect_map,
};
use lb_common::reason::DropReason;
#[cfg(feature = "log")]
use lb_ebpf::verdict::WayWord;
use lb_ebpf::{
    fast::Exit,
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
        Outcome::ToBackend(backend_id, way) => to_backend(&backend_id, bytes, way),
        Outcome::ToClient(backend_id, way) => to_client(&backend_id, bytes, way),
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

/// The exit of the fast path.
pub(crate) enum Leave {}

impl Exit<XdpPacket> for Leave {
    #[inline(always)]
    fn to_backend(packet: &XdpPacket, backend_id: &u32, way: Way) -> u32 {
        let bytes = packet.counted_bytes();
        #[cfg(feature = "log")]
        super::log::log(packet, Verdict::to_backend(*backend_id, WayWord::of(way)), bytes);
        to_backend(backend_id, bytes, way)
    }

    #[inline(always)]
    fn ends(packet: &XdpPacket, verdict: Verdict) -> u32 {
        exit(packet, verdict)
    }

    #[inline(always)]
    fn to_client(packet: &XdpPacket, backend_id: &u32, way: Way) -> u32 {
        let bytes = packet.counted_bytes();
        #[cfg(feature = "log")]
        super::log::log(packet, Verdict::to_client(*backend_id, WayWord::of(way)), bytes);
        to_client(backend_id, bytes, way)
    }
}

#[inline(always)]
fn to_backend(backend_id: &u32, bytes: u64, way: Way) -> u32 {
    Maps.count(backend_id, |stats| {
        stats.packets_in = stats.packets_in.wrapping_add(1);
        stats.bytes_in = stats.bytes_in.wrapping_add(bytes);
    });
    leave(bytes, way)
}

#[inline(always)]
fn to_client(backend_id: &u32, bytes: u64, way: Way) -> u32 {
    Maps.count(backend_id, |stats| {
        stats.packets_out = stats.packets_out.wrapping_add(1);
        stats.bytes_out = stats.bytes_out.wrapping_add(bytes);
    });
    leave(bytes, way)
}

#[inline(always)]
fn leave(bytes: u64, way: Way) -> u32 {
    match way {
        Way::Tx => XDP_TX,
        Way::Redirect(ifindex) => {
            if redirect(ifindex) != XDP_REDIRECT {
                count(DropReason::NoTxPort.index(), bytes);
                return XDP_DROP;
            }
            XDP_REDIRECT
        }
    }
}

/// XDP_REDIRECT, or XDP_ABORTED (the helper's flags) where the device map has no such interface. Not aya's method: it
/// takes the absolute value of what the helper returns, for every packet.
#[inline(always)]
fn redirect(ifindex: u32) -> u32 {
    let map = (&raw const xlb_tx_ports).cast_mut().cast();
    // SAFETY: the address of a map's definition is what the loader turns into the map.
    unsafe { bpf_redirect_map(map, ifindex as u64, 0) as u32 }
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
