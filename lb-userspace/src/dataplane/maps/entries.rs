//! An array map: entries by index.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{Array, Map, MapData};
use bytemuck::Pod;

use super::{Raw, bounds, descriptor, failed, fill, typed};
use crate::dataplane::batch;
use crate::dataplane::error::DataplaneError;

/// An array map.
pub(in crate::dataplane) struct Entries<V: Pod> {
    name: &'static str,
    array: Array<MapData, Raw<V>>,
    /// aya's array keeps its descriptor to itself; batches need one.
    fd: OwnedFd,
}

impl<V: Pod + PartialEq> Entries<V> {
    pub(super) fn take(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let fd = descriptor(ebpf, name, |map| match map {
            Map::Array(data) => Some(data),
            _ => None,
        })?;
        Ok(Self {
            name,
            array: typed(ebpf, name)?,
            fd,
        })
    }

    /// One entry.
    pub(in crate::dataplane) fn read(&self, index: u32) -> Result<V, DataplaneError> {
        self.bounds(index, 1)?;
        self.array
            .get(&index, 0)
            .map(|raw| raw.0)
            .map_err(failed(self.name, "read"))
    }

    /// Writes one entry.
    pub(in crate::dataplane) fn write(&mut self, index: u32, value: V) -> Result<(), DataplaneError> {
        self.bounds(index, 1)?;
        self.array.set(index, Raw(value), 0).map_err(failed(self.name, "write"))
    }

    /// Entries from `first`.
    pub(in crate::dataplane) fn read_range(&self, first: u32, count: u32) -> Result<Vec<V>, DataplaneError> {
        self.bounds(first, count)?;
        let mut values = vec![V::zeroed(); count as usize];
        fill(&self.fd, self.name, first, &mut values, 1)?;
        Ok(values)
    }

    /// Every entry that is not all zero, with its index.
    pub(in crate::dataplane) fn used(&self) -> Result<Vec<(u32, V)>, DataplaneError> {
        let values = self.read_range(0, self.array.len())?;
        Ok((0..).zip(values).filter(|(_, value)| *value != V::zeroed()).collect())
    }

    /// Writes entries from `first`, in one call where the kernel can.
    pub(in crate::dataplane) fn write_range(&mut self, first: u32, values: &[V]) -> Result<(), DataplaneError> {
        self.bounds(first, values.len() as u32)?;
        if values.is_empty() {
            return Ok(());
        }
        let keys: Vec<u32> = (first..).take(values.len()).collect();
        match batch::update(self.fd.as_fd(), &keys, values) {
            Ok(written) if written as usize == values.len() => Ok(()),
            // Short, or a kernel without batches for arrays (before 5.6): one by one.
            Ok(_) => self.write_singly(first, values),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | NOT_SUPPORTED)) => {
                self.write_singly(first, values)
            }
            Err(error) => Err(failed(self.name, "write")(error.into())),
        }
    }

    fn write_singly(&mut self, first: u32, values: &[V]) -> Result<(), DataplaneError> {
        (first..)
            .zip(values)
            .try_for_each(|(index, value)| self.write(index, *value))
    }

    /// Its descriptor.
    pub(in crate::dataplane) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether it has these entries.
    pub(super) fn bounds(&self, first: u32, count: u32) -> Result<(), DataplaneError> {
        bounds(self.name, self.array.len(), first, count)
    }
}

/// The kernel's own ENOTSUPP, which is not in libc.
const NOT_SUPPORTED: i32 = 524;
