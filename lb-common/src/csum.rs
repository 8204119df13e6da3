//! Internet checksum arithmetic (RFC 1071, RFC 1624): differences that are computed once when a flow is made and
//! added to every packet's checksum.
//!
//! Every 16-bit word here is in *native* order as loaded from wire bytes: one's complement addition does not depend
//! on byte order as long as both operands use the same (RFC 1071, 2(B)).

/// A one's complement sum that is not folded yet. Words of 32 bits go in whole: 2^16 is 1 modulo 2^16 - 1, so their
/// halves need not be taken apart. It holds at least 2^31 words without overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// An empty sum.
    #[inline(always)]
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds one native-order word.
    #[inline(always)]
    #[must_use]
    pub const fn add(self, word: u16) -> Self {
        Self(self.0.wrapping_add(word as u64))
    }

    /// Takes one native-order word away (adds its one's complement).
    #[inline(always)]
    #[must_use]
    pub const fn sub(self, word: u16) -> Self {
        self.add(!word)
    }

    /// Adds a native-order 32-bit word, that is two words.
    #[inline(always)]
    #[must_use]
    pub const fn add32(self, word: u32) -> Self {
        Self(self.0.wrapping_add(word as u64))
    }

    /// Takes a native-order 32-bit word away.
    #[inline(always)]
    #[must_use]
    pub const fn sub32(self, word: u32) -> Self {
        self.add32(!word)
    }

    /// Adds a native-order 64-bit word, that is four words.
    #[inline(always)]
    #[must_use]
    pub const fn add64(self, word: u64) -> Self {
        self.add32(word as u32).add32((word >> 32) as u32)
    }

    /// Folds the carries in: the one's complement sum in 16 bits.
    #[inline(always)]
    #[must_use]
    pub const fn fold(self) -> u16 {
        let words = (self.0 & 0xffff_ffff).wrapping_add(self.0 >> 32);
        let words = (words & 0xffff)
            .wrapping_add((words >> 16) & 0xffff)
            .wrapping_add(words >> 32);
        let words = (words & 0xffff).wrapping_add(words >> 16);
        let words = (words & 0xffff).wrapping_add(words >> 16);
        words as u16
    }
}

/// Applies a difference to a checksum field: `!(!check + delta)` (RFC 1624, equation 3), as a subtraction whose borrow is taken
/// once more, which is the same for every pair and two instructions shorter.
#[inline(always)]
#[must_use]
pub const fn apply(check: u16, delta: u16) -> u16 {
    let difference = (check as i32).wrapping_sub(delta as i32);
    // -1 where it borrowed.
    difference.wrapping_add(difference >> 31) as u16
}

/// [`apply`] for UDP: a computed 0 is sent as 0xffff (RFC 768). The caller keeps a 0 that came in.
#[inline(always)]
#[must_use]
pub const fn apply_udp(check: u16, delta: u16) -> u16 {
    match apply(check, delta) {
        0 => 0xffff,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(words: &[u16]) -> u16 {
        !words.iter().fold(Sum::new(), |sum, word| sum.add(*word)).fold()
    }

    #[test]
    fn rfc1624_example_holds() {
        // RFC 1624, section 4: header sum 0x22d5 + 0x5555 -> 0x3285 must give 0x0000, not 0xffff.
        assert_eq!(apply(0xdd2f, Sum::new().sub(0x5555).add(0x3285).fold()), 0x0000);
    }

    #[test]
    fn one_borrow_is_as_good_as_the_folded_sum() {
        for check in 0..=u16::MAX {
            for delta in [0, 1, 0x00ff, 0x0100, 0x7fff, 0x8000, 0xfffe, 0xffff, check, !check] {
                let folded = !Sum::new().add(!check).add(delta).fold();
                assert_eq!(apply(check, delta), folded, "{check:#06x} {delta:#06x}");
            }
        }
    }

    #[test]
    fn a_difference_gives_the_checksum_of_the_changed_words() {
        let before = [0x1234, 0xabcd, 0x00ff, 0xffff];
        let after = [0x1234, 0x0001, 0x00ff, 0x8000];
        let delta = Sum::new()
            .sub(before[1])
            .add(after[1])
            .sub(before[3])
            .add(after[3])
            .fold();
        assert_eq!(apply(checksum(&before), delta), checksum(&after));
    }

    #[test]
    fn a_computed_udp_zero_is_sent_as_all_ones() {
        let delta = Sum::new().sub(0x5555).add(0x3285).fold();
        assert_eq!(apply_udp(0xdd2f, delta), 0xffff);
    }
}
