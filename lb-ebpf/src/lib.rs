//! The packet logic: no std, no aya, no panics; compiles and is unit-tested on the host. `main.rs` carries it as an
//! XDP program. docs/packet-path.md says step by step what it does.
//!
//! Everything is generic over two seams, [`packet::Packet`] (bytes at an offset) and [`tables::Tables`] (the maps a
//! stage may ask), and over [`family::Family`] (IPv4 or IPv6).
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
// Everything here is one straight line of code in the kernel: a call costs stack and verifier trouble.
#![expect(
    clippy::inline_always,
    reason = "the BPF program is one function; calls cost stack and registers"
)]

#[cfg(test)]
extern crate std;

pub mod answer;
pub mod claim;
pub mod family;
pub mod fast;
pub mod flow;
pub mod forward;
pub mod miss;
pub mod packet;
pub mod parse;
pub mod pipeline;
pub mod rewrite;
pub mod select;
pub mod sweep;
pub mod tables;
pub mod verdict;
pub mod work;

#[cfg(test)]
mod pipeline_tests;
#[cfg(test)]
mod testing;
