//! `xlb_tx_errors`: LRU_HASH by ifindex (0: the map had no such interface). What the kernel failed to transmit after
//! the program had said redirect; filled by the tracepoints `xdp_redirect_err` and `xdp_devmap_xmit`.

use bytemuck::{Pod, Zeroable};

/// Failures of one interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct TxErrors {
    /// Frames refused at redirect (interface down, MTU, no XDP transmit).
    pub redirect_errors: u64,
    /// Frames lost when the driver took the batch (full queue, no NAPI at the peer).
    pub xmit_drops: u64,
    /// `errno` of the latest redirect failure, positive; 0: none.
    pub last_redirect_errno: u32,
    /// `errno` of the latest transmit failure, positive; 0: none.
    pub last_xmit_errno: u32,
}

super::layout!(TxErrors, size 24, align 8, { redirect_errors: 0, xmit_drops: 8, last_redirect_errno: 16 });
