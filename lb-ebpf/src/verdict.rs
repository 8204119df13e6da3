//! What happens to a packet, and why. Nothing is counted here: the program has one counting exit.
//!
//! A [`Verdict`] is one word. As an enum, the fields of the variants that were not taken are undefined where paths
//! meet, and LLVM then reads whatever a stack slot held before, which the verifier refuses.

use lb_common::reason::{AnswerReason, DropReason, PassReason};

/// How a frame leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Out of the interface it came in on.
    Tx,
    /// Through the device map to this interface.
    Redirect(u32),
}

/// What happens to a packet, packed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verdict(u64);

/// What happens to a packet, to be matched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The kernel gets it untouched; index of a [`PassReason`].
    Pass(u32),
    /// Nobody gets it; index of a [`DropReason`].
    Drop(u32),
    /// Turned into an answer to its sender; index of an [`AnswerReason`].
    Answer(u32, Way),
    /// Rewritten, from a client to this backend.
    ToBackend(u32, Way),
    /// Rewritten, from this backend to a client.
    ToClient(u32, Way),
}

/// A [`Way`], packed: the interface, or 0 for out of the one it came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WayWord(u32);

impl WayWord {
    /// Out of the interface it came in on.
    pub const TX: Self = Self(0);

    /// Through the device map.
    #[inline(always)]
    #[must_use]
    pub const fn redirect(ifindex: u32) -> Self {
        Self(ifindex)
    }

    /// Packs it.
    #[inline(always)]
    #[must_use]
    pub const fn of(way: Way) -> Self {
        match way {
            Way::Tx => Self::TX,
            Way::Redirect(ifindex) => Self::redirect(ifindex),
        }
    }

    /// To be matched on.
    #[inline(always)]
    #[must_use]
    pub const fn way(self) -> Way {
        match self.0 {
            0 => Way::Tx,
            ifindex => Way::Redirect(ifindex),
        }
    }
}

const PASS: u64 = 0;
const DROP: u64 = 1;
const ANSWER: u64 = 2;
const TO_BACKEND: u64 = 3;
const TO_CLIENT: u64 = 4;

/// Backend ids and reasons share the bits from 8 to 31.
pub const MAX_BACKEND_ID: u32 = (1 << 24) - 1;

impl Verdict {
    #[inline(always)]
    const fn pack(kind: u64, index: u32, way: WayWord) -> Self {
        Self(kind | (index as u64) << 8 | (way.0 as u64) << 32)
    }

    /// The kernel gets it untouched.
    #[inline(always)]
    #[must_use]
    pub const fn pass(reason: PassReason) -> Self {
        Self::pack(PASS, reason.index(), WayWord::TX)
    }

    /// Nobody gets it.
    #[inline(always)]
    #[must_use]
    pub const fn drop(reason: DropReason) -> Self {
        Self::pack(DROP, reason.index(), WayWord::TX)
    }

    /// Turned into an answer to its sender.
    #[inline(always)]
    #[must_use]
    pub const fn answer(reason: AnswerReason, way: WayWord) -> Self {
        Self::pack(ANSWER, reason.index(), way)
    }

    /// Rewritten, from a client to this backend.
    #[inline(always)]
    #[must_use]
    pub const fn to_backend(backend_id: u32, way: WayWord) -> Self {
        Self::pack(TO_BACKEND, backend_id & MAX_BACKEND_ID, way)
    }

    /// Rewritten, from this backend to a client.
    #[inline(always)]
    #[must_use]
    pub const fn to_client(backend_id: u32, way: WayWord) -> Self {
        Self::pack(TO_CLIENT, backend_id & MAX_BACKEND_ID, way)
    }

    /// To be matched on.
    #[inline(always)]
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        let index = (self.0 >> 8) as u32 & MAX_BACKEND_ID;
        let way = WayWord((self.0 >> 32) as u32).way();
        match self.0 & 0xff {
            PASS => Outcome::Pass(index),
            ANSWER => Outcome::Answer(index, way),
            TO_BACKEND => Outcome::ToBackend(index, way),
            TO_CLIENT => Outcome::ToClient(index, way),
            _ => Outcome::Drop(index),
        }
    }
}

impl core::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.outcome().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_matching_give_the_same() {
        let way = WayWord::redirect(u32::MAX);
        assert_eq!(
            Verdict::to_backend(MAX_BACKEND_ID, way).outcome(),
            Outcome::ToBackend(MAX_BACKEND_ID, Way::Redirect(u32::MAX))
        );
        assert_eq!(
            Verdict::to_client(7, WayWord::TX).outcome(),
            Outcome::ToClient(7, Way::Tx)
        );
        let reason = DropReason::SnatExhausted;
        assert_eq!(Verdict::drop(reason).outcome(), Outcome::Drop(reason.index()));
        let reason = PassReason::NotOurs;
        assert_eq!(Verdict::pass(reason).outcome(), Outcome::Pass(reason.index()));
    }
}
