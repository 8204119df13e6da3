//! What the kernel failed to transmit after the program had said redirect: the raw tracepoints `xdp_redirect_err` and
//! `xdp_devmap_xmit`. Their arguments are unchanged since Linux 5.14; where the kernel keeps an interface's number and
//! namespace, the agent says.

use aya_ebpf::{
    Global, bindings::BPF_NOEXIST, helpers::bpf_probe_read_kernel, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use lb_common::abi::TxErrors;

use super::maps::xlb_tx_errors;

/// `net_device.ifindex`: bytes from the device.
#[unsafe(no_mangle)]
// SAFETY: the symbol's name is the loader's handle; nothing else in the object defines it.
static XLB_IFINDEX_AT: Global<u32> = Global::new(0);
/// `net_device.nd_net`: bytes from the device.
#[unsafe(no_mangle)]
// SAFETY: as above.
static XLB_NET_AT: Global<u32> = Global::new(0);
/// `net.ns.inum`: bytes from the namespace.
#[unsafe(no_mangle)]
// SAFETY: as above.
static XLB_INUM_AT: Global<u32> = Global::new(0);
/// The agent's network namespace.
#[unsafe(no_mangle)]
// SAFETY: as above.
static XLB_NETNS: Global<u32> = Global::new(0);

/// Arguments: the device a frame came in on, the program, target, error, kind of map, map id, map index.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
fn xlb_redir_err(ctx: RawTracePointContext) -> i32 {
    if !is_ours(ctx.arg(0)) {
        return 0;
    }
    let (err, index): (u64, u64) = (ctx.arg(3), ctx.arg(6));
    // The device map's key is the interface index.
    change(index as u32, |errors| {
        errors.redirect_errors = errors.redirect_errors.wrapping_add(1);
        errors.last_redirect_errno = (err as i32).unsigned_abs();
    });
    0
}

/// Arguments: the device frames came in on, the device they were to leave by, sent, dropped, error.
#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
fn xlb_devmap_tx(ctx: RawTracePointContext) -> i32 {
    let (device, drops, err): (u64, u64, u64) = (ctx.arg(1), ctx.arg(3), ctx.arg(4));
    let drops = drops as i32;
    if drops <= 0 || !is_ours(device) {
        return 0;
    }
    let ifindex: u32 = field(device, XLB_IFINDEX_AT.load());
    change(ifindex, |errors| {
        errors.xmit_drops = errors.xmit_drops.wrapping_add(drops as u64);
        if err as i32 != 0 {
            errors.last_xmit_errno = (err as i32).unsigned_abs();
        }
    });
    0
}

/// Interface numbers repeat between network namespaces, and tracepoints fire in all of them.
#[inline(always)]
fn is_ours(device: u64) -> bool {
    let net: u64 = field(device, XLB_NET_AT.load());
    let inum: u32 = field(net, XLB_INUM_AT.load());
    inum == XLB_NETNS.load()
}

/// A field of a kernel struct; zero where it cannot be read.
#[inline(always)]
fn field<T: Default>(of: u64, at: u32) -> T {
    let address = of.wrapping_add(at as u64) as *const T;
    // SAFETY: the helper checks the address itself and fails on a bad one.
    unsafe { bpf_probe_read_kernel(address) }.unwrap_or_default()
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
