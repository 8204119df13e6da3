//! The programs that `cargo xtask bench` measures with: drivers that restore a packet and tail-call the program under
//! test, and the bare map operations that its cost is compared with. A second object; never shipped, never attached.
//!
//! On the host this is an empty binary, as `src/main.rs` is.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod program;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    println!("xlb-bench-bpf is a BPF object; `cargo build -p lb-userspace` builds and embeds it");
}
