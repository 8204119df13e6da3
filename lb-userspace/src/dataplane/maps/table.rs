//! A hash map: entries by key.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::{HashMap, Map, MapData};
use bytemuck::Pod;

use super::{Raw, descriptor, failed, is_absent, typed};
use crate::dataplane::error::DataplaneError;

/// A hash map.
pub(in crate::dataplane) struct Table<K: Pod, V: Pod> {
    name: &'static str,
    map: HashMap<MapData, Raw<K>, Raw<V>>,
    /// aya's map keeps its descriptor to itself; batches need one.
    fd: OwnedFd,
}

impl<K: Pod, V: Pod> Table<K, V> {
    pub(super) fn take(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<Self, DataplaneError> {
        let fd = descriptor(ebpf, name, |map| match map {
            Map::HashMap(data) | Map::LruHashMap(data) => Some(data),
            _ => None,
        })?;
        Ok(Self {
            name,
            map: typed(ebpf, name)?,
            fd,
        })
    }

    /// Its descriptor.
    pub(in crate::dataplane) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes one entry.
    pub(in crate::dataplane) fn insert(&mut self, key: K, value: V) -> Result<(), DataplaneError> {
        self.map
            .insert(Raw(key), Raw(value), 0)
            .map_err(failed(self.name, "write"))
    }

    /// Deletes one entry; none is fine.
    pub(in crate::dataplane) fn delete(&mut self, key: K) -> Result<(), DataplaneError> {
        match self.map.remove(&Raw(key)) {
            Err(error) if is_absent(&error) => Ok(()),
            result => result.map_err(failed(self.name, "delete")),
        }
    }

    /// Every entry.
    pub(in crate::dataplane) fn all(&self) -> Result<Vec<(K, V)>, DataplaneError> {
        let entries = self.map.iter().map(|entry| entry.map(|(key, value)| (key.0, value.0)));
        entries.collect::<Result<_, _>>().map_err(failed(self.name, "read"))
    }
}
