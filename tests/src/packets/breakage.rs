//! Ways to make a good frame bad. Offsets are those of an untagged Ethernet frame.

/// Bytes of the Ethernet header.
pub const ETH_BYTES: usize = 14;
/// Bytes of the IPv6 header.
pub const IPV6_BYTES: usize = 40;

/// One way to break a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breakage {
    /// The frame ends here (never below 14 bytes, which the kernel's test run refuses).
    CutTo(usize),
    /// The IP version nibble.
    Version(u8),
    /// IPv4 header length in words; IPv6: nothing.
    Ihl(u8),
    /// IPv4 total length or IPv6 payload length.
    IpLength(u16),
    /// TCP data offset in words, at the place of a header without options or extensions.
    TcpOffset(u8),
    /// UDP length, likewise.
    UdpLength(u16),
    /// TCP flags byte, likewise.
    TcpFlags(u8),
    /// Adds to the TCP or UDP checksum, likewise.
    L4Checksum(u16),
    /// One byte anywhere.
    Byte {
        /// Offset, taken modulo the frame's length.
        at: usize,
        /// What is xored in.
        xor: u8,
    },
    /// The Ethernet type.
    EtherType(u16),
    /// The IPv4 reserved ("evil") flag.
    ReservedFlag,
}

/// Applies one breakage; what does not fit into the frame leaves it as it is.
pub fn apply(frame: &mut Vec<u8>, breakage: Breakage) {
    let is_v4 = frame.get(12..14) == Some(&[0x08, 0x00]);
    let l4 = ETH_BYTES + if is_v4 { 20 } else { IPV6_BYTES };
    match breakage {
        Breakage::CutTo(len) => frame.truncate(len.max(ETH_BYTES)),
        Breakage::Version(version) => change(frame, ETH_BYTES, |b| (b & 0x0f) | (version << 4)),
        Breakage::Ihl(words) if is_v4 => change(frame, ETH_BYTES, |b| (b & 0xf0) | (words & 0x0f)),
        Breakage::Ihl(_) => {}
        Breakage::IpLength(length) => put16(frame, ETH_BYTES + if is_v4 { 2 } else { 4 }, length),
        Breakage::TcpOffset(words) => change(frame, l4 + 12, |b| (b & 0x0f) | (words << 4)),
        Breakage::UdpLength(length) => put16(frame, l4 + 4, length),
        Breakage::TcpFlags(bits) => change(frame, l4 + 13, |_| bits),
        Breakage::L4Checksum(error) => {
            let protocol = frame.get(if is_v4 { 23 } else { 20 }).copied();
            let at = l4 + if protocol == Some(17) { 6 } else { 16 };
            if let Some(&[high, low]) = frame.get(at..at + 2).and_then(|two| two.first_chunk::<2>()) {
                put16(frame, at, u16::from_be_bytes([high, low]).wrapping_add(error));
            }
        }
        Breakage::Byte { at, xor } => {
            let at = at % frame.len().max(1);
            change(frame, at, |b| b ^ xor);
        }
        Breakage::EtherType(kind) => put16(frame, 12, kind),
        Breakage::ReservedFlag if is_v4 => change(frame, ETH_BYTES + 6, |b| b | 0x80),
        Breakage::ReservedFlag => {}
    }
}

/// `frame` with one breakage applied.
#[must_use]
pub fn broken(mut frame: Vec<u8>, breakage: Breakage) -> Vec<u8> {
    apply(&mut frame, breakage);
    frame
}

fn change(frame: &mut [u8], at: usize, with: impl FnOnce(u8) -> u8) {
    if let Some(byte) = frame.get_mut(at) {
        *byte = with(*byte);
    }
}

fn put16(frame: &mut [u8], at: usize, value: u16) {
    if let Some(two) = frame.get_mut(at..at + 2) {
        two.copy_from_slice(&value.to_be_bytes());
    }
}
