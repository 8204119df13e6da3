//! Frames for the kernel tests: a description ([`Packet`]) that etherparse writes out, ways to break it ([`breakage`]),
//! and judges of what comes out ([`oracle`], [`scapy`]) that share no code with the program.

pub mod breakage;
mod build;
pub mod oracle;
pub mod scapy;

pub use build::{Extension, Fragment, Ipv4Checksum, More, Packet, Transport, UdpChecksum, flags};

/// A frame as hex, for failure messages: paste it into `text2pcap` or scapy's `bytes.fromhex`.
#[must_use]
pub fn hex(frame: &[u8]) -> String {
    use std::fmt::Write as _;
    frame
        .iter()
        .fold(String::with_capacity(frame.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
