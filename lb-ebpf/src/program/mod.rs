//! BPF only: entry point, licence and panic handler.

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Entry point on every interface.
#[xdp]
fn xlb(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
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
