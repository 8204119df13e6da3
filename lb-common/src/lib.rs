//! What the kernel program and the agent share: the layout of every map, the reasons a packet can end with, names,
//! limits and the hashes both sides must compute alike.
//!
//! It must not name aya, allocate, or do I/O. A change of any type in [`abi`] bumps [`abi::ABI_VERSION`].
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod bench;
pub mod csum;
pub mod hash;
pub mod limits;
pub mod names;
pub mod net;
pub mod reason;
