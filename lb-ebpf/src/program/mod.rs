//! BPF only: entry points, maps, packet access, the one counting exit, licence and panic handler.

mod exit;
#[cfg(feature = "log")]
mod log;
mod maps;
mod packet;
mod tables;
mod trace;

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_ABORTED, XDP_PASS},
        xdp_md,
    },
    macros::xdp,
    programs::XdpContext,
};
use lb_common::reason::{DropReason, PassReason};
use lb_ebpf::{
    family::{V4, V6},
    fast::{Fast, Known, fast},
    pipeline::{Parse, decide, prepare, prepare_plain},
    sweep::{moved_in, sweep},
    tables::FlowTables,
    verdict::Verdict,
};

use self::{
    packet::XdpPacket,
    tables::{HasWork, Maps},
};

/// Connections of each family that one run of `xlb_sweep` looks at.
const SWEEP_LOOKS: u32 = 256;

/// Entry point on every interface.
#[xdp(frags)]
fn xlb(ctx: XdpContext) -> u32 {
    // No subprogram: where the kernel guards returns, one costs an eighth of such a packet.
    let action = fast::<_, _, exit::Leave>(&mut XdpPacket::new(ctx.ctx), &Maps).word();
    if action < Fast::FIRST_SLOW {
        return action;
    }
    match action {
        SLOW4 => slow(ctx.ctx, Known::Nothing, prepare4, decide4),
        SLOW4_PLAIN => slow(ctx.ctx, Known::Plain, prepare4_plain, decide4),
        SLOW4_MISS => slow(ctx.ctx, Known::NotEstablished, prepare4_plain, decide4),
        SLOW6 => slow(ctx.ctx, Known::Nothing, prepare6, decide6),
        SLOW6_PLAIN => slow(ctx.ctx, Known::Plain, prepare6_plain, decide6),
        SLOW6_MISS => slow(ctx.ctx, Known::NotEstablished, prepare6_plain, decide6),
        action => action,
    }
}

// What a subprogram returns besides an XDP action.
const SLOW4: u32 = Fast::slow4(Known::Nothing).word();
const SLOW4_PLAIN: u32 = Fast::slow4(Known::Plain).word();
const SLOW4_MISS: u32 = Fast::slow4(Known::NotEstablished).word();
const SLOW6: u32 = Fast::slow6(Known::Nothing).word();
const SLOW6_PLAIN: u32 = Fast::slow6(Known::Plain).word();
const SLOW6_MISS: u32 = Fast::slow6(Known::NotEstablished).word();
const PREPARED: u32 = 32;

// Subprograms: the 512 bytes of stack are shared by all that are active at once, so the parser's frame must be gone before
// the claim. They take the context, not the packet, because the verifier does not follow a context that was spilled to the
// caller's frame.

#[inline(always)]
fn slow(ctx: *mut xdp_md, known: Known, prepare: fn(*mut xdp_md) -> u32, decide: fn(*mut xdp_md, Known) -> u32) -> u32 {
    match prepare(ctx) {
        PREPARED => decide(ctx, known),
        action => action,
    }
}

#[inline(never)]
fn prepare4(ctx: *mut xdp_md) -> u32 {
    prepare_family::<V4>(ctx)
}

#[inline(never)]
fn prepare6(ctx: *mut xdp_md) -> u32 {
    prepare_family::<V6>(ctx)
}

#[inline(never)]
fn prepare4_plain(ctx: *mut xdp_md) -> u32 {
    prepare_plain_family::<V4>(ctx)
}

#[inline(never)]
fn prepare6_plain(ctx: *mut xdp_md) -> u32 {
    prepare_plain_family::<V6>(ctx)
}

#[inline(never)]
fn decide4(ctx: *mut xdp_md, known: Known) -> u32 {
    decide_family::<V4>(ctx, known)
}

#[inline(never)]
fn decide6(ctx: *mut xdp_md, known: Known) -> u32 {
    decide_family::<V6>(ctx, known)
}

#[inline(always)]
fn prepare_family<F: Parse>(ctx: *mut xdp_md) -> u32
where
    Maps: FlowTables<F> + HasWork<F>,
{
    let mut packet = XdpPacket::new(ctx);
    let Some(work) = HasWork::<F>::work(&Maps) else {
        return exit::exit(&packet, Verdict::drop(DropReason::MapInconsistent));
    };
    match prepare::<F, _, _>(&mut packet, &Maps, work) {
        Some(verdict) => exit::exit(&packet, verdict),
        None => PREPARED,
    }
}

#[inline(always)]
fn prepare_plain_family<F: Parse>(ctx: *mut xdp_md) -> u32
where
    Maps: FlowTables<F> + HasWork<F>,
{
    let packet = XdpPacket::new(ctx);
    let Some(work) = HasWork::<F>::work(&Maps) else {
        return exit::exit(&packet, Verdict::drop(DropReason::MapInconsistent));
    };
    match prepare_plain::<F, _, _>(&packet, &Maps, work) {
        Some(()) => PREPARED,
        None => exit::exit(&packet, Verdict::pass(PassReason::UnknownInterface)),
    }
}

#[inline(always)]
fn decide_family<F: Parse>(ctx: *mut xdp_md, known: Known) -> u32
where
    Maps: FlowTables<F> + HasWork<F>,
{
    let mut packet = XdpPacket::new(ctx);
    let Some(work) = HasWork::<F>::work(&Maps) else {
        return exit::exit(&packet, Verdict::drop(DropReason::MapInconsistent));
    };
    let verdict = decide::<F, _, _>(&mut packet, &Maps, work, known);
    exit::exit(&packet, verdict)
}

/// Never attached: the agent runs it by BPF_PROG_TEST_RUN to reclaim expired connections, so that the same code with
/// the same atomicity reclaims them as in the packet path. Its frame may name a neighbour that moved. Returns XDP_PASS, or XDP_ABORTED without scratch maps.
#[xdp]
fn xlb_sweep(ctx: XdpContext) -> u32 {
    let moved = moved_in(&XdpPacket::new(ctx.ctx));
    let (Some(work4), Some(work6)) = (HasWork::<V4>::work(&Maps), HasWork::<V6>::work(&Maps)) else {
        return XDP_ABORTED;
    };
    sweep::<V4, Maps>(&Maps, work4, SWEEP_LOOKS, moved);
    sweep::<V6, Maps>(&Maps, work6, SWEEP_LOOKS, moved);
    XDP_PASS
}

/// The GPL half lets the kernel hand out the helpers the program needs.
// SAFETY: the section name is one that the loader reads and nothing else writes to.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: `cargo xtask check` refuses an object with a panicking symbol.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
