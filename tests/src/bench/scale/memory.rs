//! What the kernel accounts the maps with, by what grows them.

use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use lb_common::names;

use crate::kernel::memlock_bytes;
use crate::model::sample::Family;

/// Bytes of each group of maps that are pinned here; of the connections' maps those of this family.
pub(super) fn groups(pin_dir: &Path, family: Family) -> Result<Vec<(&'static str, f64)>> {
    let [established, half_open]: [&[&str]; 2] = match family {
        Family::V4 => [&[names::FLOWS4, names::SWEEP4], &[names::HALF4]],
        Family::V6 => [&[names::FLOWS6, names::SWEEP6], &[names::HALF6]],
    };
    let groups: [(&'static str, &[&str]); 5] = [
        ("memory: services", &[names::SERVICES, names::ENDPOINTS, names::ADDRS]),
        ("memory: backends", &[names::BACKENDS, names::BACKEND_STATS]),
        ("memory: rings", &[names::RINGS]),
        ("memory: connections", established),
        ("memory: half-open", half_open),
    ];
    let sum = |maps: &[&str]| -> Result<f64> {
        let bytes: Vec<u64> = maps
            .iter()
            .map(|map| locked(&pin_dir.join(map)))
            .collect::<Result<_>>()?;
        // Whole pages, so that a f64 holds it exactly.
        let kib: u64 = bytes.iter().map(|bytes| bytes / 1024).sum();
        Ok(f64::from(u32::try_from(kib)?) * 1024.0)
    };
    groups.into_iter().map(|(name, maps)| Ok((name, sum(maps)?))).collect()
}

fn locked(pin: &Path) -> Result<u64> {
    let map = MapData::from_pin(pin).with_context(|| format!("open the pinned map {}", pin.display()))?;
    memlock_bytes(map.fd().as_fd())
}
