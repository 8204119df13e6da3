//! What the kernel program and the agent share: address types, map layouts, names, limits and the
//! list of drop reasons. No aya, no std, no I/O.
#![no_std]
#![forbid(unsafe_code)]
