//! A per-CPU array map: counters by index.

use std::os::fd::OwnedFd;

use aya::maps::{Map, MapData, PerCpuArray, PerCpuValues};
use bytemuck::Pod;

use super::{Raw, bounds, descriptor, failed, fill, typed};
use crate::dataplane::error::DataplaneError;

/// Most entries of one batch read: bounds the buffer where there are many CPUs.
const CHUNK: u32 = 4_096;

/// A per-CPU array map.
pub(in crate::dataplane) struct Counters<V: Pod> {
    name: &'static str,
    array: PerCpuArray<MapData, Raw<V>>,
    fd: OwnedFd,
    cpus: usize,
}

impl<V: Pod> Counters<V> {
    /// The kernel rounds a CPU's value up to 8 bytes; ours are whole.
    const WHOLE_WORDS: () = assert!(size_of::<V>().is_multiple_of(8));

    pub(super) fn take(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let () = Self::WHOLE_WORDS;
        let fd = descriptor(ebpf, name, |map| match map {
            Map::PerCpuArray(data) => Some(data),
            _ => None,
        })?;
        let cpus = aya::util::nr_cpus().map_err(|(path, source)| DataplaneError::pin_dir("read", path)(source))?;
        Ok(Self {
            name,
            array: typed(ebpf, name)?,
            fd,
            cpus,
        })
    }

    /// Entries.
    pub(in crate::dataplane) fn len(&self) -> u32 {
        self.array.len()
    }

    /// Each entry from `first`, as its values on all CPUs, handed to `each` with its index.
    pub(in crate::dataplane) fn for_each(
        &self,
        first: u32,
        count: u32,
        mut each: impl FnMut(u32, &[V]),
    ) -> Result<(), DataplaneError> {
        bounds(self.name, self.array.len(), first, count)?;
        let end = first + count;
        let mut values = vec![V::zeroed(); count.min(CHUNK) as usize * self.cpus];
        for start in (first..end).step_by(CHUNK as usize) {
            let entries = (end - start).min(CHUNK) as usize;
            let chunk = values.get_mut(..entries * self.cpus).unwrap_or_default();
            fill(&self.fd, self.name, start, chunk, self.cpus)?;
            (start..)
                .zip(chunk.chunks_exact(self.cpus))
                .for_each(|(index, cpus)| each(index, cpus));
        }
        Ok(())
    }

    /// Sets one entry to zero on every CPU.
    pub(in crate::dataplane) fn clear(&mut self, index: u32) -> Result<(), DataplaneError> {
        let zeros = PerCpuValues::try_from(vec![Raw(V::zeroed()); self.cpus])
            .map_err(|error| failed(self.name, "write")(error.into()))?;
        self.array.set(index, zeros, 0).map_err(failed(self.name, "write"))
    }
}
