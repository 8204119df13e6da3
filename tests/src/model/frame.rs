//! Frames as they must leave, and the checksum arithmetic of the model: every checksum is summed up over the whole
//! packet (RFC 1071). A wrong checksum that came in must leave wrong by the same amount, so that the receiver sees it.

use std::fmt::Write as _;
use std::net::IpAddr;

use lb_common::net::{IPPROTO_UDP, Mac};

use super::headers::{IP, Ip, be16};
use crate::packets::hex;

/// How a checksum field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SumRule {
    /// Bit for bit.
    Exact,
    /// Modulo 65,535: 0 and 0xffff are the same sum.
    Congruent,
    /// As `Congruent`, but never 0 (UDP: 0 says that there is no checksum).
    CongruentNotZero,
}

/// A frame as it must come out.
#[derive(Clone, Debug)]
pub struct ExpectedFrame {
    bytes: Vec<u8>,
    sums: Vec<(usize, SumRule)>,
}

impl ExpectedFrame {
    /// Exactly these bytes.
    #[must_use]
    pub fn exactly(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            sums: Vec::new(),
        }
    }

    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What differs, or `None`.
    #[must_use]
    pub fn difference(&self, actual: &[u8]) -> Option<String> {
        if self.bytes.len() != actual.len() {
            return Some(format!("{} bytes, must be {}", actual.len(), self.bytes.len()));
        }
        let mut comparable = actual.to_vec();
        for (at, rule) in &self.sums {
            let (wanted, found) = (be16(&self.bytes, *at)?, be16(actual, *at)?);
            let same = match rule {
                SumRule::Exact => wanted == found,
                SumRule::Congruent => wanted % 0xffff == found % 0xffff,
                SumRule::CongruentNotZero => wanted % 0xffff == found % 0xffff && found != 0,
            };
            if !same {
                return Some(format!(
                    "checksum at {at} is {found:#06x}, must be {wanted:#06x} ({rule:?})"
                ));
            }
            comparable[*at..at + 2].copy_from_slice(&self.bytes[*at..at + 2]);
        }
        if comparable == self.bytes {
            return None;
        }
        let mut text = String::new();
        for (at, (found, wanted)) in comparable.iter().zip(&self.bytes).enumerate() {
            if found != wanted {
                let _ = write!(text, "byte {at} is {found:02x}, must be {wanted:02x}; ");
            }
        }
        Some(format!("{text}must be {}", hex(&self.bytes)))
    }
}

/// What a rewrite writes.
pub(super) struct Rewrite {
    pub(super) src: (IpAddr, u16),
    pub(super) dst: (IpAddr, u16),
    pub(super) src_mac: Mac,
    pub(super) dst_mac: Mac,
}

/// The frame with addresses, ports, MACs and the decremented TTL in place and its checksums computed anew.
pub(super) fn rewrite(frame: &[u8], ip: &Ip, to: &Rewrite) -> ExpectedFrame {
    let mut out = frame.to_vec();
    out[..6].copy_from_slice(&to.dst_mac);
    out[6..12].copy_from_slice(&to.src_mac);
    put_addresses(&mut out, to.src.0, to.dst.0);
    out[ip.l4..ip.l4 + 2].copy_from_slice(&to.src.1.to_be_bytes());
    out[ip.l4 + 2..ip.l4 + 4].copy_from_slice(&to.dst.1.to_be_bytes());
    let ttl_at = if ip.src.is_ipv4() { IP + 8 } else { IP + 7 };
    out[ttl_at] -= 1;
    let mut sums = Vec::new();
    if ip.src.is_ipv4() {
        sums.push(carry_sum(frame, &mut out, IP + 10, Zero::IsANumber, |f| {
            ones_sum(&f[IP..IP + header_bytes(f)])
        }));
    }
    let (at, zero) = if ip.protocol == IPPROTO_UDP {
        (ip.l4 + 6, Zero::MeansNone)
    } else {
        (ip.l4 + 16, Zero::IsANumber)
    };
    let is_absent = zero == Zero::MeansNone && be16(frame, at) == Some(0);
    if !is_absent {
        sums.push(carry_sum(frame, &mut out, at, zero, |f| l4_sum(f, ip)));
    }
    ExpectedFrame { bytes: out, sums }
}

/// Whether a checksum of 0 is a value or says "none".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    IsANumber,
    MeansNone,
}

/// Writes the checksum at `at` so that the sum over `out` has the same error as the sum over `before`.
pub(super) fn carry_sum(
    before: &[u8],
    out: &mut [u8],
    at: usize,
    zero: Zero,
    sum: impl Fn(&[u8]) -> u16,
) -> (usize, SumRule) {
    let came = be16(before, at).unwrap_or_default();
    let error = sum(before) % 0xffff;
    out[at..at + 2].fill(0);
    let fresh = !sum(out);
    let carried = ((u32::from(fresh) + u32::from(error)) % 0xffff) as u16;
    // A sender never writes 0xffff where 0 is a number: what follows from it is only fixed up to the two zeros.
    let is_canonical = error == 0 && !(zero == Zero::IsANumber && came == 0xffff);
    let (value, rule) = match (is_canonical, zero) {
        (true, Zero::MeansNone) if fresh == 0 => (0xffff, SumRule::Exact),
        (true, _) => (fresh, SumRule::Exact),
        (false, Zero::MeansNone) => (carried, SumRule::CongruentNotZero),
        (false, Zero::IsANumber) => (carried, SumRule::Congruent),
    };
    out[at..at + 2].copy_from_slice(&value.to_be_bytes());
    (at, rule)
}

/// Sum over pseudo header and layer-4 bytes, the checksum field included.
pub(super) fn l4_sum(frame: &[u8], ip: &Ip) -> u16 {
    // UDP counts by its own length (RFC 768), everything else by what IP carries.
    let length = match ip.protocol {
        IPPROTO_UDP => usize::from(be16(frame, ip.l4 + 4).unwrap_or_default()),
        _ => ip.end - ip.l4,
    };
    let mut covered = Vec::with_capacity(40 + length);
    let addresses = if ip.src.is_ipv4() {
        &frame[26..34]
    } else {
        &frame[22..54]
    };
    covered.extend_from_slice(addresses);
    covered.extend_from_slice(&(length as u32).to_be_bytes());
    covered.extend_from_slice(&[0, 0, 0, ip.protocol]);
    covered.extend_from_slice(&frame[ip.l4..ip.l4 + length]);
    ones_sum(&covered)
}

/// One's complement sum of big-endian words, an odd byte padded with zero (RFC 1071, section 1).
pub(super) fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or_default());
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub(super) fn put_addresses(frame: &mut [u8], src: IpAddr, dst: IpAddr) {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            frame[26..30].copy_from_slice(&src.octets());
            frame[30..34].copy_from_slice(&dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            frame[22..38].copy_from_slice(&src.octets());
            frame[38..54].copy_from_slice(&dst.octets());
        }
        mixed => unreachable!("a flow has one family: {mixed:?}"),
    }
}

/// Bytes of the IPv4 header, options included.
pub(super) fn header_bytes(frame: &[u8]) -> usize {
    usize::from(frame[IP] & 0x0f) * 4
}

impl ExpectedFrame {
    /// Bytes with checksum fields that follow a rule.
    pub(super) fn with_sums(bytes: Vec<u8>, sums: Vec<(usize, SumRule)>) -> Self {
        Self { bytes, sums }
    }
}
