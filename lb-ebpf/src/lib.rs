//! The packet logic: no std, no aya, no panics; compiles and is unit-tested on the host. `main.rs`
//! carries it as an XDP program.
#![no_std]
