//! `xlb`: the command line and the agent.

fn main() {
    println!("xlb {}", env!("CARGO_PKG_VERSION"));
}
