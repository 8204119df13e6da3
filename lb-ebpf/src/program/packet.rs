//! The frame under XDP. The one module that turns packet addresses into references.

use core::{
    hint::assert_unchecked,
    ptr::{read_volatile, with_exposed_provenance_mut},
};

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
};
use lb_ebpf::packet::{CutError, Header, Offset, Packet};

/// A frame, its bounds read once from the context.
pub(crate) struct XdpPacket {
    ctx: *mut xdp_md,
    start: usize,
    end: usize,
}

impl XdpPacket {
    /// Reads the bounds.
    #[inline(always)]
    pub(crate) fn new(ctx: *mut xdp_md) -> Self {
        let (start, end) = bounds(ctx);
        // SAFETY: a frame's address. So told, LLVM does not ask whether a reference to it is null.
        unsafe { assert_unchecked(start != 0) };
        Self { ctx, start, end }
    }

    /// Bytes of the whole frame, for the counters.
    ///
    /// Only a frame larger than one Ethernet frame comes in several buffers, of which the pointers show the first; the
    /// others are spared the helper, which costs a sixth of a lookup. The bounds are read anew, and opaquely: of those that are kept LLVM
    /// makes arithmetic on the end that the verifier refuses. `a_jumbo_frame_is_forwarded_and_counted_whole` fails without this.
    #[inline(always)]
    pub(crate) fn counted_bytes(&self) -> u64 {
        /// The largest frame at an MTU of 1,500, with two VLAN tags.
        const ETHERNET_BYTES: usize = 1_522;
        // SAFETY: the kernel hands every XDP program a valid context.
        let md = unsafe { &*self.ctx };
        // SAFETY: a reference is valid for reads.
        let start = unsafe { read_volatile(&raw const md.data) };
        // SAFETY: as above.
        let end = unsafe { read_volatile(&raw const md.data_end) };
        match (end as usize).wrapping_sub(start as usize) {
            linear @ 0..=ETHERNET_BYTES => linear as u64,
            _ => self.frame_bytes() as u64,
        }
    }

    #[inline(always)]
    fn address<T>(&self, at: Offset) -> Option<*mut T> {
        // SAFETY: a kernel address, whose frame and what is asked for beyond it do not reach the end of the address space. So told,
        // LLVM leaves out what a wider check has shown already.
        let (address, end) = unsafe {
            let address = self.start.unchecked_add(at.bytes() as usize);
            (address, address.unchecked_add(size_of::<T>()))
        };
        if end > self.end {
            return None;
        }
        Some(with_exposed_provenance_mut(address))
    }
}

#[inline(always)]
fn bounds(ctx: *mut xdp_md) -> (usize, usize) {
    // SAFETY: the kernel hands every XDP program a valid context.
    let md = unsafe { &*ctx };
    (md.data as usize, md.data_end as usize)
}

impl Packet for XdpPacket {
    #[inline(always)]
    fn get<T: Header>(&self, at: Offset) -> Option<&T> {
        // SAFETY: `address` has checked the bounds; `Header` promises alignment 1 and no invalid value.
        self.address(at).map(|header| unsafe { &*header })
    }

    #[inline(always)]
    fn get_mut<T: Header>(&mut self, at: Offset) -> Option<&mut T> {
        // SAFETY: as in `get`; `&mut self` makes it the only reference into the frame.
        self.address(at).map(|header| unsafe { &mut *header })
    }

    #[inline(always)]
    fn linear_bytes(&self) -> u32 {
        self.end.wrapping_sub(self.start) as u32
    }

    #[inline(always)]
    fn frame_bytes(&self) -> u32 {
        // SAFETY: the helper takes the context it was given.
        unsafe { bpf_xdp_get_buff_len(self.ctx) as u32 }
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        // SAFETY: the kernel hands every XDP program a valid context.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn cut(&mut self, bytes: u32) -> Result<(), CutError> {
        let delta = bytes.wrapping_sub(self.frame_bytes()) as i32;
        // SAFETY: the helper takes the context it was given; every packet pointer is read anew below.
        let done = unsafe { bpf_xdp_adjust_tail(self.ctx, delta) };
        (self.start, self.end) = bounds(self.ctx);
        if done == 0 { Ok(()) } else { Err(CutError) }
    }
}
