//! Rings of a service: how large, and which backend stands in each slot. Alike on every node with the same config: made
//! from addresses, ports, weights and the seed; ids only fill the slots.

use lb_common::limits::MAX_RING_SIZE;
use lb_common::net::Addr;

use crate::spread;

use super::ids::RingKey;
use super::maglev::{self, Member};

/// Smallest ring. 256 slots are one KiB, and weights of a service with two or three backends still come out to within
/// half a percent.
pub const MIN_RING_SIZE: u32 = 256;

/// Slots a backend has on average at least. A backend's share is then right to within 1 %, and removing one moves few
/// slots of others (the paper's figure 12 uses the same ratio).
const SLOTS_PER_BACKEND: u64 = 100;

/// Slots that the smallest weight has at least: one far below the others is right to within an eighth. More would make
/// a single canary of weight 1 eat the arena.
const SLOTS_OF_SMALLEST: u64 = 4;

/// Slots that one CPU builds in about a millisecond: for fewer a thread is not worth its start.
const SLOTS_OF_A_THREAD: u64 = 1 << 15;

/// One backend that takes new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingMember {
    /// Its address (IPv4 mapped).
    pub address: Addr,
    /// Its internal port.
    pub port: u16,
    /// Its weight, not 0.
    pub weight: u32,
    /// What stands in its slots.
    pub id: u32,
}

/// Slots of a ring for these weights, a power of two; 0 without a weight.
///
/// Callers give the weights of all configured backends, healthy or not: a ring whose size changed would move nearly
/// every slot.
pub fn ring_size(weights: impl Iterator<Item = u32>) -> u32 {
    let (mut count, mut total, mut smallest) = (0_u64, 0_u64, u64::MAX);
    for weight in weights.filter(|weight| *weight > 0).map(u64::from) {
        count += 1;
        total += weight;
        smallest = smallest.min(weight);
    }
    if count == 0 {
        return 0;
    }
    let for_smallest = total.saturating_mul(SLOTS_OF_SMALLEST) / smallest;
    let wanted = count.saturating_mul(SLOTS_PER_BACKEND).max(for_smallest);
    let wanted = wanted.clamp(MIN_RING_SIZE.into(), MAX_RING_SIZE.into());
    (wanted as u32).next_power_of_two()
}

/// The ring: backend ids by slot.
pub fn build(seed: u32, size: u32, members: &[RingMember]) -> Vec<u32> {
    let table = maglev::fill(
        size,
        &members.iter().map(|member| keyed(seed, member)).collect::<Vec<_>>(),
    );
    let id = |index: u32| members.get(index as usize).map_or(0, |member| member.id);
    table.into_iter().map(id).collect()
}

/// The rings of all keys, in their order, built on as many CPUs as are worth it. Which one builds a ring makes no difference to it.
pub(super) fn build_all(keys: &[&RingKey]) -> Vec<Vec<u32>> {
    let slots: u64 = keys.iter().map(|key| u64::from(key.size)).sum();
    let worth = usize::try_from(slots / SLOTS_OF_A_THREAD).unwrap_or(usize::MAX);
    // How many CPUs there are is asked of the system, and most changes touch a ring or two.
    let threads = if worth > 1 { worth.min(spread::cpus()) } else { 1 };
    spread::over(threads, keys, |key| build(key.seed, key.size, &key.members))
}

fn keyed(seed: u32, member: &RingMember) -> Member {
    let [high, low] = halves(&member.address);
    let key = [u64::from(seed), high, low, u64::from(member.port)]
        .into_iter()
        .fold(0, |hash, word| maglev::mix(hash ^ word));
    Member {
        key,
        weight: member.weight,
    }
}

/// Big-endian whatever the machine: a fleet may mix them.
fn halves(address: &Addr) -> [u64; 2] {
    let number = u128::from_be_bytes(*address);
    [(number >> 64) as u64, number as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::net::map_v4;

    fn member(last: u8, weight: u32, id: u32) -> RingMember {
        RingMember {
            address: map_v4([10, 0, 0, last]),
            port: 8080,
            weight,
            id,
        }
    }

    #[test]
    fn sizes_are_powers_of_two_that_give_each_backend_a_hundred_slots() {
        let sizes = [0, 1, 2, 3, 10, 100, 600, 1_000, 100_000].map(|n| ring_size(std::iter::repeat_n(100, n)));
        assert_eq!(sizes, [0, 256, 256, 512, 1_024, 16_384, 65_536, 65_536, 65_536]);
    }

    #[test]
    fn a_small_weight_beside_large_ones_makes_the_ring_larger() {
        assert_eq!(ring_size([1_000, 1, 0].into_iter()), 4_096);
        assert_eq!(ring_size([0].into_iter()), 0);
    }

    #[test]
    fn other_ids_fill_the_same_ring() {
        let one = [member(1, 100, 1), member(2, 50, 2), member(3, 100, 3)];
        let other = [member(3, 100, 9), member(1, 100, 7), member(2, 50, 8)];
        let renamed: Vec<u32> = build(5, 512, &one).iter().map(|id| id + 6).collect();
        assert_eq!(renamed, build(5, 512, &other));
    }

    #[test]
    fn rings_built_together_are_those_built_alone() {
        let key = |at: u32| RingKey {
            seed: 7,
            size: if at.is_multiple_of(5) { 4_096 } else { 256 },
            members: vec![member(1, 100, at), member(2, 50 + at, at + 1)],
        };
        let keys: Vec<RingKey> = (1..200).map(key).collect();
        let alone: Vec<_> = keys.iter().map(|key| build(key.seed, key.size, &key.members)).collect();
        // Enough slots for several threads.
        assert_eq!(build_all(&keys.iter().collect::<Vec<_>>()), alone);
        assert!(build_all(&[]).is_empty());
    }

    #[test]
    fn another_seed_gives_another_ring() {
        let members = [member(1, 100, 1), member(2, 100, 2)];
        assert_ne!(build(0, 256, &members), build(1, 256, &members));
    }
}
