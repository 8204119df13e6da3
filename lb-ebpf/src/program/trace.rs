//! What the kernel failed to transmit after the program had said redirect: the tracepoints `xdp:xdp_redirect_err` and
//! `xdp:xdp_devmap_xmit`. Offsets are those of the tracepoints' format files, unchanged since Linux 5.6.

use aya_ebpf::{bindings::BPF_NOEXIST, macros::tracepoint, programs::TracePointContext};
use lb_common::abi::TxErrors;

use super::maps::xlb_tx_errors;

/// `xdp_redirect_err`: 8 common bytes, prog_id, act, ifindex, err, to_ifindex, map_id, map_index.
mod redirect_err {
    pub(super) const ERR: usize = 20;
    pub(super) const TO_IFINDEX: usize = 24;
    pub(super) const MAP_INDEX: usize = 32;
}

/// `xdp_devmap_xmit`: 8 common bytes, from_ifindex, act, to_ifindex, drops, sent, err.
mod devmap_xmit {
    pub(super) const TO_IFINDEX: usize = 16;
    pub(super) const DROPS: usize = 20;
    pub(super) const ERR: usize = 28;
}

#[tracepoint]
fn xlb_redir_err(ctx: TracePointContext) -> u32 {
    // SAFETY: the offsets are inside the record; the helper checks the address all the same.
    let (err, to, index) = unsafe {
        (
            ctx.read_at::<i32>(redirect_err::ERR).unwrap_or(0),
            ctx.read_at::<u32>(redirect_err::TO_IFINDEX).unwrap_or(0),
            ctx.read_at::<u32>(redirect_err::MAP_INDEX).unwrap_or(0),
        )
    };
    // The device map's key is the interface index; the record names the device only where one was found.
    let ifindex = if to == 0 { index } else { to };
    change(ifindex, |errors| {
        errors.redirect_errors = errors.redirect_errors.wrapping_add(1);
        errors.last_redirect_errno = err.unsigned_abs();
    });
    0
}

#[tracepoint]
fn xlb_devmap_tx(ctx: TracePointContext) -> u32 {
    // SAFETY: the offsets are inside the record; the helper checks the address all the same.
    let drops = unsafe { ctx.read_at::<i32>(devmap_xmit::DROPS).unwrap_or(0) };
    if drops <= 0 {
        return 0;
    }
    // SAFETY: as above.
    let (to, err) = unsafe {
        (
            ctx.read_at::<u32>(devmap_xmit::TO_IFINDEX).unwrap_or(0),
            ctx.read_at::<i32>(devmap_xmit::ERR).unwrap_or(0),
        )
    };
    change(to, |errors| {
        errors.xmit_drops = errors.xmit_drops.wrapping_add(drops as u64);
        if err != 0 {
            errors.last_xmit_errno = err.unsigned_abs();
        }
    });
    0
}

/// Two CPUs may lose an increment to each other here: these are errors, not traffic.
#[inline(always)]
fn change(ifindex: u32, with: impl FnOnce(&mut TxErrors)) {
    if xlb_tx_errors.get_ptr_mut(ifindex).is_none() {
        let _ = xlb_tx_errors.insert(ifindex, TxErrors::default(), BPF_NOEXIST as u64);
    }
    if let Some(errors) = xlb_tx_errors.get_ptr_mut(ifindex) {
        // SAFETY: the map is preallocated; the worst another CPU's eviction does is misplace a count.
        with(unsafe { &mut *errors });
    }
}
