//! What the benchmark's driver programs (`lb-ebpf/src/bench`) and `xlb-bench` agree on. No part of the product.
//!
//! BPF_PROG_TEST_RUN does not restore the packet between repeats, so a driver program writes it anew before every turn:
//! a template of [`FRAME_WORDS`] words, of which the words that differ between connections come from an array that is
//! walked in order.

use bytemuck::{Pod, Zeroable};

/// Words of every frame; what an IP length does not cover is padding.
pub const FRAME_WORDS: usize = 12;
/// Bytes of every frame.
pub const FRAME_BYTES: usize = FRAME_WORDS * 8;
/// First word of an IPv4 frame that differs between connections: header checksum to transport checksum.
pub const VARY4_AT: usize = 3;
/// First word of an IPv6 frame that differs between connections: source address to transport checksum.
pub const VARY6_AT: usize = 2;

/// The template, in wire order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Frame {
    /// The frame's bytes.
    pub words: [u64; FRAME_WORDS],
}

/// What is an IPv4 connection's own in a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Vary4 {
    /// Words from [`VARY4_AT`] on.
    pub words: [u64; 4],
}

/// What is an IPv6 connection's own in a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Vary6 {
    /// Words from [`VARY6_AT`] on.
    pub words: [u64; 7],
}

/// Where the driver is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Walk {
    /// Index of the next connection.
    pub next: u32,
    /// How many connections there are; 0 walks nothing.
    pub count: u32,
    /// Turns in which a bare operation did what was expected of it.
    pub good: u64,
}

impl Vary4 {
    /// Key of the connection in the tables of bare operations: source, destination, ports in wire order, protocol.
    #[inline(always)]
    pub const fn key(&self, protocol: u8) -> [u64; 2] {
        let [third, fourth, ..] = self.words;
        [
            (third >> 16) | (fourth << 48),
            ((fourth >> 16) & 0xffff_ffff) | (protocol as u64) << 32,
        ]
    }
}

impl Vary6 {
    /// As [`Vary4::key`].
    #[inline(always)]
    pub const fn key(&self, protocol: u8) -> [u64; 5] {
        let [w2, w3, w4, w5, w6, w7, _] = self.words;
        [
            (w2 >> 48) | (w3 << 16),
            (w3 >> 48) | (w4 << 16),
            (w4 >> 48) | (w5 << 16),
            (w5 >> 48) | (w6 << 16),
            (((w6 >> 48) | (w7 << 16)) & 0xffff_ffff) | (protocol as u64) << 32,
        ]
    }
}

/// Names in the benchmark's object.
pub mod names {
    /// One [`super::Frame`].
    pub const FRAME: &str = "bench_frame";
    /// One [`super::Walk`].
    pub const WALK: &str = "bench_walk";
    /// [`super::Vary4`] of every connection.
    pub const VARY4: &str = "bench_vary4";
    /// [`super::Vary6`] of every connection.
    pub const VARY6: &str = "bench_vary6";
    /// Slot 0: the program that is driven.
    pub const TARGET: &str = "bench_target";
    /// A table of the kind of `xlb_flows4`.
    pub const FLOWS4: &str = "bench_flows4";
    /// A table of the kind of `xlb_flows6`.
    pub const FLOWS6: &str = "bench_flows6";
    /// A table of the kind of `xlb_half4`.
    pub const HALF4: &str = "bench_half4";
    /// A table of the kind of `xlb_half6`.
    pub const HALF6: &str = "bench_half6";
    /// A table of the kind of `xlb_endpoints`.
    pub const ENDPOINTS: &str = "bench_endpoints";
    /// An empty program: XDP_PASS.
    pub const PASS: &str = "bench_pass";
    /// MAC addresses swapped, XDP_TX.
    pub const SWAP: &str = "bench_swap";
    /// Interfaces that `REDIRECT` and `RELAY` send to, by any key.
    pub const TX_PORTS: &str = "bench_tx_ports";
    /// Sends IPv4 connections' packets as live frames.
    pub const SEND4: &str = "bench_send4";
    /// Counts and drops.
    pub const SINK: &str = "bench_sink";
    /// MAC addresses swapped, redirected through a device map.
    pub const REDIRECT: &str = "bench_redirect";
    /// As `REDIRECT`, for frames of any length; what is not IPv4 passes.
    pub const RELAY: &str = "bench_relay";
    /// Drives the template alone.
    pub const DRIVE: &str = "bench_drive";
    /// Drives IPv4 connections.
    pub const DRIVE4: &str = "bench_drive4";
    /// Drives IPv6 connections.
    pub const DRIVE6: &str = "bench_drive6";
    /// As the driver of IPv4 connections, and nothing is called.
    pub const LOOP4: &str = "bench_loop4";
    /// As the driver of IPv6 connections, and nothing is called.
    pub const LOOP6: &str = "bench_loop6";
    /// A lookup of the connection's key in `FLOWS4`.
    pub const LOOKUP4: &str = "bench_lookup4";
    /// A lookup of the connection's key in `FLOWS6`.
    pub const LOOKUP6: &str = "bench_lookup6";
    /// What every redirected packet of a connection asks, IPv4.
    pub const PACKET4: &str = "bench_packet4";
    /// What every redirected packet of a connection asks, IPv6.
    pub const PACKET6: &str = "bench_packet6";
    /// The lookups and inserts that a SYN cannot do without, IPv4.
    pub const SYN4: &str = "bench_syn4";
    /// The lookups and inserts that a SYN cannot do without, IPv6.
    pub const SYN6: &str = "bench_syn6";
}
