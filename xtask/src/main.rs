//! `cargo xtask`: set-up, build, test, check and demo.

mod toolchain;

fn main() {
    println!("xtask: not yet");
}
