//! Reads the counters, summed over CPUs, many entries a call.

use std::collections::{BTreeMap, HashMap};

use bytemuck::Pod;
use lb_common::abi::{BackendStats, CpuState, ReasonStats, TxErrors};

use super::{Dataplane, DataplaneError};

/// Ids closer together than this are read in one call, the unused ones between them included.
const GAP: u32 = 32;

/// [`CpuState`] summed over CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTotals {
    /// Connections made.
    pub connections: u64,
    /// See [`CpuState::hops_moved`].
    pub hops_moved: u64,
    /// See [`CpuState::tuples_reused_early`].
    pub tuples_reused_early: u64,
}

impl Dataplane {
    /// Counters of these backends. Ids past the map are an error.
    pub fn backend_stats(
        &self,
        ids: impl IntoIterator<Item = u32>,
    ) -> Result<HashMap<u32, BackendStats>, DataplaneError> {
        let mut ids: Vec<u32> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut stats = HashMap::with_capacity(ids.len());
        for run in ids.chunk_by(|a, b| b - a <= GAP) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                continue;
            };
            self.maps.backend_stats.for_each(*first, last - first + 1, |id, cpus| {
                if run.binary_search(&id).is_ok() {
                    stats.insert(id, sum(cpus));
                }
            })?;
        }
        Ok(stats)
    }

    /// Counters of every reason, by [`lb_common::reason`] index.
    pub fn reason_stats(&self) -> Result<Vec<ReasonStats>, DataplaneError> {
        let counters = &self.maps.reason_stats;
        let mut stats = Vec::with_capacity(counters.len() as usize);
        counters.for_each(0, counters.len(), |_, cpus| stats.push(sum(cpus)))?;
        Ok(stats)
    }

    /// What each CPU counts for itself, summed.
    pub fn cpu_totals(&self) -> Result<CpuTotals, DataplaneError> {
        let mut totals = CpuTotals::default();
        self.maps.cpu.for_each(0, 1, |_, cpus: &[CpuState]| {
            for cpu in cpus {
                totals.connections = totals.connections.wrapping_add(cpu.connections);
                totals.hops_moved = totals.hops_moved.wrapping_add(cpu.hops_moved);
                totals.tuples_reused_early = totals.tuples_reused_early.wrapping_add(cpu.tuples_reused_early);
            }
        })?;
        Ok(totals)
    }

    /// What the kernel failed to transmit, by ifindex (0: the device map had no such interface).
    pub fn tx_errors(&self) -> Result<BTreeMap<u32, TxErrors>, DataplaneError> {
        self.maps.tx_errors.all().map(|entries| entries.into_iter().collect())
    }
}

/// Adds values that are nothing but 64-bit counters.
fn sum<V: Pod>(values: &[V]) -> V {
    const { assert!(align_of::<V>() == align_of::<u64>() && size_of::<V>().is_multiple_of(size_of::<u64>())) };
    let mut total = V::zeroed();
    let words: &mut [u64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut total));
    for value in values {
        let value: &[u64] = bytemuck::cast_slice(std::slice::from_ref(value));
        words
            .iter_mut()
            .zip(value)
            .for_each(|(total, word)| *total = total.wrapping_add(*word));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_all_cpus_are_added_field_by_field() {
        let cpu = |packets, bytes| ReasonStats { packets, bytes };
        assert_eq!(sum(&[cpu(1, 100), cpu(2, 30)]), cpu(3, 130));
    }
}
