//! BPF only: the maps and programs of the benchmark. Names are lb-common's (`bench::names`).

use core::ptr::{read_volatile, with_exposed_provenance_mut};

use aya_ebpf::{
    bindings::{
        BPF_F_MMAPABLE, BPF_NOEXIST,
        xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX},
        xdp_md,
    },
    btf_maps::{Array, DevMapHash, HashMap, LruHashMap, PerCpuArray, ProgramArray},
    helpers::{bpf_jiffies64, bpf_redirect_map, bpf_xdp_adjust_tail},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use lb_common::{
    abi::{BackendStats, Endpoint, EndpointKey, FlowValue4, FlowValue6},
    bench::{FRAME_BYTES, FRAME_WORDS, Frame, VARY4_AT, VARY6_AT, Vary4, Vary6, Walk},
    limits::MAX_TX_PORTS,
    net::IPPROTO_TCP,
};

macro_rules! maps {
    ($($name:ident: $ty:ty;)*) => {$(
        #[btf_map]
        #[expect(non_upper_case_globals, reason = "the static's name is the map's name in bpftool")]
        static $name: $ty = <$ty>::new();
    )*};
}

/// A million connections are written by one copy, not by a million system calls.
const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// The Ethernet header and what fills its second word.
const ETHERNET_WORDS_BYTES: usize = 16;
/// As two bytes off the wire read in this machine's order.
const ETHERTYPE_IPV4: u64 = 0x0800_u16.to_be() as u64;

// Sizes are set at load.
maps! {
    bench_frame: Array<Frame, 1>;
    bench_walk: Array<Walk, 1>;
    bench_vary4: Array<Vary4, 1, MMAPABLE>;
    bench_vary6: Array<Vary6, 1, MMAPABLE>;
    bench_target: ProgramArray<1>;
    bench_flows4: HashMap<[u64; 2], FlowValue4, 1>;
    bench_flows6: HashMap<[u64; 5], FlowValue6, 1>;
    bench_half4: LruHashMap<[u64; 2], FlowValue4, 1>;
    bench_half6: LruHashMap<[u64; 5], FlowValue6, 1>;
    bench_endpoints: HashMap<EndpointKey, Endpoint, 1>;
    bench_stats: PerCpuArray<BackendStats, 1>;
    bench_tx_ports: DevMapHash<{ MAX_TX_PORTS as usize }>;
}

/// The frame's words, its length restored where the program before cut it.
#[inline(always)]
fn words(ctx: *mut xdp_md) -> Option<*mut u64> {
    let (start, end) = bounds(ctx);
    if start + FRAME_BYTES != end {
        let missing = FRAME_BYTES as i32 - end.wrapping_sub(start) as i32;
        // SAFETY: the context is valid; the bounds are read anew below.
        unsafe { bpf_xdp_adjust_tail(ctx, missing) };
    }
    // Volatile, as LLVM would otherwise know them equal where the verifier does not.
    let (start, end) = bounds(ctx);
    if start + FRAME_BYTES > end {
        return None;
    }
    Some(with_exposed_provenance_mut(start))
}

#[inline(always)]
fn bounds(ctx: *mut xdp_md) -> (usize, usize) {
    // SAFETY: the kernel hands every XDP program a valid context.
    let md = unsafe { &*ctx };
    // SAFETY: a reference is valid for reads.
    let start = unsafe { read_volatile(&raw const md.data) };
    // SAFETY: as above.
    let end = unsafe { read_volatile(&raw const md.data_end) };
    (start as usize, end as usize)
}

/// Writes the template, with `own` from word `AT` on.
#[inline(always)]
fn restore<const AT: usize, const N: usize>(ctx: *mut xdp_md, own: &[u64; N]) -> Option<()> {
    let frame = bench_frame.get(0)?;
    let to = words(ctx)?;
    for at in 0..FRAME_WORDS {
        let own = at.checked_sub(AT).and_then(|at| own.get(at));
        let word = *own.or_else(|| frame.words.get(at))?;
        // SAFETY: `words` has checked the bounds; a frame begins at a multiple of 8 in its page.
        unsafe { to.add(at).write(word) };
    }
    settle();
    Some(())
}

/// Waits until the frame stands in the cache. A frame off a wire does; one that was just written is still in the store
/// buffer, and a field that lies across two of its words would be read only when both have left it: a stall of this
/// loop's making, in the program that is measured. A locked operation waits for them, in every loop alike.
#[inline(always)]
fn settle() {
    let Some(walk) = bench_walk.get_ptr_mut(0) else { return };
    // SAFETY: one CPU runs the benchmark.
    let good = unsafe { &raw mut (*walk).good };
    // SAFETY: the operation adds nothing to a valid aligned word.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({good} + 0) += {nothing}",
            good = in(reg) good,
            nothing = in(reg) 0_u64,
        );
    }
}

/// Index of this turn's connection.
#[inline(always)]
fn step() -> Option<u32> {
    let walk = bench_walk.get_ptr_mut(0)?;
    // SAFETY: one CPU runs the benchmark.
    let walk = unsafe { &mut *walk };
    let at = walk.next;
    walk.next = if at + 1 >= walk.count { 0 } else { at + 1 };
    Some(at)
}

#[inline(always)]
fn good() {
    if let Some(walk) = bench_walk.get_ptr_mut(0) {
        // SAFETY: one CPU runs the benchmark.
        let walk = unsafe { &mut *walk };
        walk.good = walk.good.wrapping_add(1);
    }
}

#[inline(always)]
fn next4(ctx: &XdpContext) -> Option<&'static Vary4> {
    let vary = bench_vary4.get(step()?)?;
    restore::<VARY4_AT, 4>(ctx.ctx, &vary.words)?;
    Some(vary)
}

#[inline(always)]
fn next6(ctx: &XdpContext) -> Option<&'static Vary6> {
    let vary = bench_vary6.get(step()?)?;
    restore::<VARY6_AT, 7>(ctx.ctx, &vary.words)?;
    Some(vary)
}

/// Calls the program under test; what comes back is its action, or XDP_ABORTED where there was none to call.
#[inline(always)]
fn call(ctx: &XdpContext, restored: Option<()>) -> u32 {
    if restored.is_some() {
        // SAFETY: nothing is left to drop.
        unsafe { bench_target.tail_call(ctx, 0) };
    }
    XDP_ABORTED
}

/// The empty program.
#[xdp(frags)]
fn bench_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Counts and drops: where live frames end.
#[xdp(frags)]
fn bench_sink(_ctx: XdpContext) -> u32 {
    good();
    XDP_DROP
}

/// Sends the next IPv4 connection's packet out of the interface that the run names.
#[xdp(frags)]
fn bench_send4(ctx: XdpContext) -> u32 {
    next4(&ctx).map_or(XDP_ABORTED, |_| XDP_TX)
}

/// The least that forwarding between two interfaces is: MAC addresses swapped, one device map asked (key 0 is all it has).
#[xdp(frags)]
fn bench_redirect(ctx: XdpContext) -> u32 {
    if swap(ctx.ctx).is_none() {
        return XDP_ABORTED;
    }
    match bench_tx_ports.redirect(0, 0) {
        Ok(_) => XDP_REDIRECT,
        Err(_) => XDP_ABORTED,
    }
}

/// As [`bench_redirect`], between real peers: a frame keeps its length, and what is not IPv4 (ARP) is the kernel's.
#[xdp(frags)]
fn bench_relay(ctx: XdpContext) -> u32 {
    let (start, end) = bounds(ctx.ctx);
    if start + ETHERNET_WORDS_BYTES > end {
        return XDP_PASS;
    }
    let words: *mut u64 = with_exposed_provenance_mut(start);
    // SAFETY: the bounds were checked above.
    let second = unsafe { words.add(1).read() };
    if (second >> 32) & 0xffff != ETHERTYPE_IPV4 {
        return XDP_PASS;
    }
    swap_at(words);
    match bench_tx_ports.redirect(0, 0) {
        Ok(_) => XDP_REDIRECT,
        Err(_) => XDP_ABORTED,
    }
}

/// The least that forwarding is: MAC addresses swapped.
#[xdp(frags)]
fn bench_swap(ctx: XdpContext) -> u32 {
    swap(ctx.ctx).map_or(XDP_ABORTED, |()| XDP_TX)
}

#[inline(always)]
fn swap(ctx: *mut xdp_md) -> Option<()> {
    swap_at(words(ctx)?);
    Some(())
}

/// Swaps the MAC addresses of a frame whose first two words the caller has checked to exist.
#[inline(always)]
fn swap_at(words: *mut u64) {
    // SAFETY: the caller has checked the bounds.
    let (first, second) = unsafe { (words.read(), words.add(1).read()) };
    let src = (first >> 48) | ((second & 0xffff_ffff) << 16);
    let dst_end = (first >> 16) & 0xffff_ffff;
    // SAFETY: as above.
    unsafe { words.write(src | (first << 48)) };
    // SAFETY: as above.
    unsafe { words.add(1).write(dst_end | (second >> 32 << 32)) };
}

/// Drives the template alone.
#[xdp(frags)]
fn bench_drive(ctx: XdpContext) -> u32 {
    call(&ctx, restore::<FRAME_WORDS, 0>(ctx.ctx, &[]))
}

/// Drives IPv4 connections.
#[xdp(frags)]
fn bench_drive4(ctx: XdpContext) -> u32 {
    call(&ctx, next4(&ctx).map(drop))
}

/// Drives IPv6 connections.
#[xdp(frags)]
fn bench_drive6(ctx: XdpContext) -> u32 {
    call(&ctx, next6(&ctx).map(drop))
}

/// The loop around a bare operation.
#[xdp(frags)]
fn bench_loop4(ctx: XdpContext) -> u32 {
    next4(&ctx).map_or(XDP_ABORTED, |_| {
        good();
        XDP_PASS
    })
}

/// The loop around a bare operation.
#[xdp(frags)]
fn bench_loop6(ctx: XdpContext) -> u32 {
    next6(&ctx).map_or(XDP_ABORTED, |_| {
        good();
        XDP_PASS
    })
}

/// Asks the device map as the program does, without [`DevMapHash::redirect`]'s absolute value.
#[inline(always)]
fn leave() -> bool {
    // SAFETY: the map is one of ours.
    let action = unsafe { bpf_redirect_map((&raw const bench_tx_ports).cast_mut().cast(), 0, 0) };
    action as u32 == XDP_REDIRECT
}

macro_rules! bare {
    ($lookup:ident, $packet:ident, $syn:ident, $next:ident, $value:ty, $flows:ident, $half:ident, $words:literal) => {
        /// One lookup.
        #[xdp(frags)]
        fn $lookup(ctx: XdpContext) -> u32 {
            let Some(vary) = $next(&ctx) else {
                return XDP_ABORTED;
            };
            if $flows.get_ptr(&vary.key(IPPROTO_TCP)).is_some() {
                good();
            }
            XDP_PASS
        }

        /// What every redirected packet of a connection asks as the program stands: its interface and whether the address is ours
        /// (two arrays; the frame's and the walk's stand for them), the flow, the backend's counters, the time, the way out.
        #[xdp(frags)]
        fn $packet(ctx: XdpContext) -> u32 {
            let Some(vary) = $next(&ctx) else {
                return XDP_ABORTED;
            };
            let is_ours = bench_frame.get(0).is_some() && bench_walk.get_ptr(0).is_some();
            let is_known = $flows.get_ptr(&vary.key(IPPROTO_TCP)).is_some();
            let is_counted = bench_stats.get_ptr_mut(0).is_some();
            // SAFETY: reads the kernel's clock.
            let is_timed = unsafe { bpf_jiffies64() } != 0;
            if is_ours && is_known && is_counted && is_timed && leave() {
                good();
            }
            XDP_PASS
        }

        /// What a SYN cannot do without: no established flow and no half-open one has its key, the endpoint is a
        /// service's, the tuple of its replies is free in both tables, and both directions are inserted.
        #[xdp(frags)]
        fn $syn(ctx: XdpContext) -> u32 {
            let Some(vary) = $next(&ctx) else {
                return XDP_ABORTED;
            };
            let key = vary.key(IPPROTO_TCP);
            let mut reply = key;
            reply[$words - 1] ^= 1 << 63;
            let known = $flows.get_ptr(&key).is_some() || $half.get_ptr(&key).is_some();
            let endpoint = EndpointKey::default();
            // SAFETY: one CPU runs the benchmark; nothing changes the table meanwhile.
            let is_service = unsafe { bench_endpoints.get(&endpoint) }.is_some();
            if known || !is_service {
                return XDP_ABORTED;
            }
            let value = <$value>::default();
            let claimed = $half.insert(&reply, &value, BPF_NOEXIST as u64).is_ok();
            if claimed && $flows.get_ptr(&reply).is_none() && $half.insert(&key, &value, BPF_NOEXIST as u64).is_ok() {
                good();
            }
            XDP_PASS
        }
    };
}

bare!(
    bench_lookup4,
    bench_packet4,
    bench_syn4,
    next4,
    FlowValue4,
    bench_flows4,
    bench_half4,
    2
);
bare!(
    bench_lookup6,
    bench_packet6,
    bench_syn6,
    next6,
    FlowValue6,
    bench_flows6,
    bench_half6,
    5
);

/// As in the production object.
// SAFETY: the section name is one that the loader reads and nothing else writes to.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: `cargo xtask check` refuses an object with a panicking symbol.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
