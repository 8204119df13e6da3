//! The XDP program: packet access, map definitions and the one counting exit around `lb_ebpf`.
//!
//! On the host this is an empty binary, so that `cargo build --workspace` passes; the real one is
//! built for `bpfel-unknown-none` by lb-userspace's build script.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    println!("xlb-bpf is a BPF object; `cargo build -p lb-userspace` builds and embeds it");
}
