//! `xlb_sweep4`, `xlb_sweep6`: QUEUE. Every established connection stands in it once; the sweep pops one, reclaims it
//! when it has expired and pushes it back otherwise.

use bytemuck::{Pod, Zeroable};

use super::{FlowKey4, FlowKey6};

/// One IPv4 connection to look at.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SweepItem4 {
    /// Key of its `FORWARD` entry.
    pub key: FlowKey4,
    /// Its id.
    pub conn_id: u64,
}

super::layout!(SweepItem4, size 24, align 8, { key: 0, conn_id: 16 });

/// One IPv6 connection to look at.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SweepItem6 {
    /// Key of its `FORWARD` entry.
    pub key: FlowKey6,
    /// Its id.
    pub conn_id: u64,
}

super::layout!(SweepItem6, size 48, align 8, { key: 0, conn_id: 40 });
