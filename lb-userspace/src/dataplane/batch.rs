//! Reads and writes of many array entries in one call.

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

/// Writes `values` to the array entries from `first`. Returns how many were written; fewer only with an error inside
/// the kernel's loop.
pub(super) fn update<V: Pod>(map: BorrowedFd<'_>, first: u32, values: &[V]) -> io::Result<u32> {
    let count = values.len() as u32;
    let keys: Vec<u32> = (first..first.saturating_add(count)).collect();
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
