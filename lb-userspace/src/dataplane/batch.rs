//! Reads and writes of many entries in one call: ranges of arrays, runs of whole buckets of hash maps.

use std::io;
use std::os::fd::BorrowedFd;

use bytemuck::{Pod, Zeroable};

use super::sys::{Command, bpf, raw};

#[repr(C)]
#[derive(Clone, Copy, Zeroable, Pod)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Writes each of `values` under its key, in their order. Returns how many were written; after an error that is not known.
pub(super) fn update<K: Pod, V: Pod>(map: BorrowedFd<'_>, keys: &[K], values: &[V]) -> io::Result<u32> {
    let count = keys.len().min(values.len()) as u32;
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd: raw(map),
        ..Zeroable::zeroed()
    };
    bpf(Command::MapUpdateBatch, &mut attr)?;
    Ok(attr.count)
}

/// Reads array entries from `first` into `values`, `width` values an entry (1, or the number of possible CPUs). Returns
/// how many entries were read.
///
/// The caller passes a buffer for whole entries: its length is a multiple of `width`.
pub(super) fn lookup<V: Pod>(map: BorrowedFd<'_>, first: u32, values: &mut [V], width: usize) -> io::Result<u32> {
    let count = values.len().checked_div(width).unwrap_or(0) as u32;
    let mut keys = vec![0_u32; count as usize];
    // The kernel starts after `in_batch`; none means from the start.
    let previous = first.checked_sub(1);
    let mut next = 0_u32;
    let mut attr = BatchAttr {
        in_batch: previous.as_ref().map_or(0, |key| std::ptr::from_ref(key) as u64),
        out_batch: std::ptr::from_mut(&mut next) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map_fd: raw(map),
        ..Zeroable::zeroed()
    };
    match bpf(Command::MapLookupBatch, &mut attr) {
        Ok(_) => Ok(attr.count),
        // The end of the map: what was read counts.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(attr.count),
        Err(error) => Err(error),
    }
}

/// Where a walk through a hash map stands, and its buffers.
///
/// The kernel copies whole buckets, each under its lock, and an entry never changes its bucket: an entry that is there for
/// the whole walk is read exactly once, whatever comes and goes beside it.
pub(super) struct HashWalk<K, V> {
    /// The kernel's next bucket; `None` before the first call.
    bucket: Option<u32>,
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Pod, V: Pod> HashWalk<K, V> {
    /// A walk that reads up to `entries` entries a call; more only where one bucket holds more.
    pub(super) fn new(entries: usize) -> Self {
        Self {
            bucket: None,
            keys: vec![K::zeroed(); entries.max(1)],
            values: vec![V::zeroed(); entries.max(1)],
        }
    }

    /// The next entries; `None` at the end.
    pub(super) fn next(&mut self, map: BorrowedFd<'_>) -> io::Result<Option<impl Iterator<Item = (&K, &V)>>> {
        if self.bucket == Some(END) {
            return Ok(None);
        }
        let count = loop {
            match self.call(map) {
                Ok(count) => break count,
                // A bucket with more entries than the buffers hold.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    let entries = self.keys.len() * 2;
                    self.keys.resize(entries, K::zeroed());
                    self.values.resize(entries, V::zeroed());
                }
                Err(error) => return Err(error),
            }
        };
        Ok(Some(self.keys.iter().zip(&self.values).take(count)))
    }

    fn call(&mut self, map: BorrowedFd<'_>) -> io::Result<usize> {
        let mut next = 0_u32;
        let mut attr = BatchAttr {
            in_batch: self
                .bucket
                .as_ref()
                .map_or(0, |bucket| std::ptr::from_ref(bucket) as u64),
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: self.keys.as_mut_ptr() as u64,
            values: self.values.as_mut_ptr() as u64,
            count: self.keys.len() as u32,
            map_fd: raw(map),
            ..Zeroable::zeroed()
        };
        match bpf(Command::MapLookupBatch, &mut attr) {
            Ok(_) => self.bucket = Some(next),
            // The end of the map: what was read counts.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.bucket = Some(END),
            Err(error) => return Err(error),
        }
        Ok(attr.count as usize)
    }
}

/// No bucket: a map has at most 2^31 of them.
const END: u32 = u32::MAX;
