//! The maps by name and type, and what their access has in common: single entries by aya, ranges by one batch call,
//! rings by stores.

mod counters;
mod entries;
mod rings;
mod table;

use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{DevMapHash, Map, MapData, MapError};
use bytemuck::Pod;
use lb_common::abi::{
    AddrKey, AddrRole, Backend, BackendStats, CpuState, Endpoint, EndpointKey, Iface, Name, NameKey, OursBlock,
    ReasonStats, Service, Settings, SnatAddr, TxErrors,
};
use lb_common::names;

use self::counters::Counters;
use self::entries::Entries;
pub use self::rings::RingWrites;
use self::rings::Rings;
use self::table::Table;
use super::batch;
use super::error::DataplaneError;

/// An ABI value as aya takes it. lb-common cannot implement aya's trait, for it must not name aya.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Raw<T>(pub(super) T);

// SAFETY: `bytemuck::Pod` promises the same: no padding, any bytes are a value; `transparent` keeps the layout.
unsafe impl<T: Pod> aya::Pod for Raw<T> {}

/// Every map the agent reads or writes.
pub(super) struct Maps {
    pub(super) settings: Entries<Settings>,
    pub(super) ours: Entries<OursBlock>,
    pub(super) ifaces: Entries<Iface>,
    pub(super) endpoints: Table<EndpointKey, Endpoint>,
    pub(super) addrs: Table<AddrKey, AddrRole>,
    pub(super) services: Entries<Service>,
    pub(super) backends: Entries<Backend>,
    pub(super) rings: Rings,
    pub(super) snat: Entries<SnatAddr>,
    pub(super) names: Table<NameKey, Name>,
    pub(super) backend_stats: Counters<BackendStats>,
    pub(super) reason_stats: Counters<ReasonStats>,
    pub(super) cpu: Counters<CpuState>,
    pub(super) tx_ports: DevMapHash<MapData>,
    pub(super) tx_errors: Table<u32, TxErrors>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(super) fn take(ebpf: &mut aya::Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            settings: Entries::take(ebpf, names::SETTINGS)?,
            ours: Entries::take(ebpf, names::OURS)?,
            ifaces: Entries::take(ebpf, names::IFACES)?,
            endpoints: Table::take(ebpf, names::ENDPOINTS)?,
            addrs: Table::take(ebpf, names::ADDRS)?,
            services: Entries::take(ebpf, names::SERVICES)?,
            backends: Entries::take(ebpf, names::BACKENDS)?,
            rings: Rings::take(ebpf)?,
            snat: Entries::take(ebpf, names::SNAT)?,
            names: Table::take(ebpf, names::NAMES)?,
            backend_stats: Counters::take(ebpf, names::BACKEND_STATS)?,
            reason_stats: Counters::take(ebpf, names::REASON_STATS)?,
            cpu: Counters::take(ebpf, names::CPU)?,
            tx_ports: typed(ebpf, names::TX_PORTS)?,
            tx_errors: Table::take(ebpf, names::TX_ERRORS)?,
        })
    }
}

/// Takes one map out and gives it its type.
fn typed<M: TryFrom<Map, Error = MapError>>(ebpf: &mut aya::Ebpf, name: &'static str) -> Result<M, DataplaneError> {
    let map = ebpf
        .take_map(name)
        .ok_or(DataplaneError::ObjectLacks { what: "map", name })?;
    M::try_from(map).map_err(failed(name, "open"))
}

/// Wraps an aya error with the map and what was tried.
pub(super) fn failed(map: &'static str, action: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map {
        map,
        action,
        hint: hint(&source),
        source: Box::new(source),
    }
}

fn hint(source: &MapError) -> &'static str {
    match errno(source) {
        Some(libc::E2BIG) => "; the map is full: raise the matching key in [limits]",
        Some(libc::EPERM) => "; the agent needs root or CAP_BPF and CAP_NET_ADMIN",
        _ => "",
    }
}

/// The kernel's errno behind an aya map error.
pub(super) fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => error.raw_os_error(),
        _ => None,
    }
}

/// Whether a delete failed because there was nothing to delete.
pub(super) fn is_absent(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound | MapError::ElementNotFound) || errno(error) == Some(libc::ENOENT)
}

/// Reads whole entries until `values` is full.
fn fill<V: Pod>(
    fd: &OwnedFd,
    name: &'static str,
    first: u32,
    values: &mut [V],
    width: usize,
) -> Result<(), DataplaneError> {
    let (mut index, mut rest) = (first, values);
    while !rest.is_empty() {
        let read = batch::lookup(fd.as_fd(), index, rest, width).map_err(|e| failed(name, "read")(e.into()))?;
        if read == 0 {
            return Err(failed(name, "read")(MapError::ElementNotFound));
        }
        index += read;
        rest = rest.get_mut(read as usize * width..).unwrap_or_default();
    }
    Ok(())
}

fn bounds(map: &'static str, entries: u32, first: u32, count: u32) -> Result<(), DataplaneError> {
    let end = u64::from(first) + u64::from(count);
    if end <= u64::from(entries) {
        Ok(())
    } else {
        Err(DataplaneError::OutOfRange {
            map,
            first,
            end,
            entries,
        })
    }
}

/// A second descriptor of a map that is still inside the object.
pub(super) fn descriptor(
    ebpf: &aya::Ebpf,
    name: &'static str,
    data: impl Fn(&Map) -> Option<&MapData>,
) -> Result<OwnedFd, DataplaneError> {
    let map = ebpf
        .map(name)
        .and_then(data)
        .ok_or(DataplaneError::ObjectLacks { what: "map", name })?;
    map.fd()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| failed(name, "open")(error.into()))
}
