//! One log line a packet, behind `AYA_LOG_LEVEL`: only the object built with `log` has it.

use lb_ebpf::{
    packet::Packet,
    verdict::{Outcome, Verdict, Way},
};

use super::packet::XdpPacket;

/// Logs how a packet ended.
#[inline(always)]
pub(crate) fn log(packet: &XdpPacket, verdict: Verdict, bytes: u64) {
    let (kind, index, to) = match verdict.outcome() {
        Outcome::Pass(reason) => (Kind::Pass, reason, Way::Tx),
        Outcome::Drop(reason) => (Kind::Drop, reason, Way::Tx),
        Outcome::Answer(reason, way) => (Kind::Answer, reason, way),
        Outcome::ToBackend(backend_id, way) => (Kind::ToBackend, backend_id, way),
        Outcome::ToClient(backend_id, way) => (Kind::ToClient, backend_id, way),
    };
    let to = match to {
        Way::Tx => 0,
        Way::Redirect(ifindex) => ifindex,
    };
    xlb_log(kind as u32, index, packet.ingress_ifindex(), to, bytes as u32);
}

#[derive(Clone, Copy)]
#[repr(u32)]
enum Kind {
    Pass,
    Drop,
    Answer,
    ToBackend,
    ToClient,
}

/// A function of global linkage with numbers for arguments: the verifier looks into it once. Inlined, or as a static
/// subprogram, its two hundred byte copies were walked again on every path to the exit, past the limit of a million.
// SAFETY: nothing else in the object has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn xlb_log(kind: u32, index: u32, from_ifindex: u32, to_ifindex: u32, bytes: u32) -> u32 {
    // All of one length: the line's size is then known where the verifier looks.
    let kind = match kind {
        k if k == Kind::Pass as u32 => "pass      ",
        k if k == Kind::Drop as u32 => "drop      ",
        k if k == Kind::Answer as u32 => "answer    ",
        k if k == Kind::ToBackend as u32 => "to_backend",
        _ => "to_client ",
    };
    aya_log_ebpf::info!(
        (),
        "{} index={} from_ifindex={} to_ifindex={} bytes={}",
        kind,
        index,
        from_ifindex,
        to_ifindex,
        bytes,
    );
    0
}
