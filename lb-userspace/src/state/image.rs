//! The exact contents of the maps the agent writes, and single writes to them.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{
    AddrKey, AddrRole, Backend, Endpoint, EndpointKey, Iface, Name, NameKey, Service, Settings, SnatAddr,
};

/// Exact map contents; empty slots are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `xlb_settings`.
    pub settings: Settings,
    /// `xlb_ifaces` by ifindex.
    pub ifaces: BTreeMap<u32, Iface>,
    /// `xlb_tx_ports` by ifindex.
    pub tx_ports: BTreeSet<u32>,
    /// `xlb_ours` by block; zero blocks are absent.
    pub ours: BTreeMap<u32, u64>,
    /// `xlb_endpoints`.
    pub endpoints: BTreeMap<EndpointKey, Endpoint>,
    /// `xlb_addrs`.
    pub addrs: BTreeMap<AddrKey, AddrRole>,
    /// `xlb_services` by service id, from 1.
    pub services: BTreeMap<u32, Service>,
    /// `xlb_backends` by backend id, from 1.
    pub backends: BTreeMap<u32, Backend>,
    /// `xlb_rings` by offset: the rings that services name. Retired ones are absent.
    pub rings: BTreeMap<u32, Vec<u32>>,
    /// `xlb_snat` by index.
    pub snat: BTreeMap<u32, SnatAddr>,
    /// `xlb_names`: `web` for a service, `web/a` for a backend. Ids are recovered from it.
    pub names: BTreeMap<NameKey, Name>,
}

/// One map write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes `xlb_settings`.
    Settings(Settings),
    /// Writes the interface's slot of `xlb_ifaces`.
    IfaceSet(Iface),
    /// Empties the slot of this ifindex.
    IfaceClear(u32),
    /// Adds this ifindex to `xlb_tx_ports`.
    TxPortSet(u32),
    /// Removes this ifindex from `xlb_tx_ports`.
    TxPortClear(u32),
    /// Writes one block of `xlb_ours`.
    OursSet {
        /// Index of the block.
        block: u32,
        /// Its bits.
        bits: u64,
    },
    /// Writes one endpoint.
    EndpointSet(EndpointKey, Endpoint),
    /// Deletes one endpoint.
    EndpointDelete(EndpointKey),
    /// Writes one address.
    AddrSet(AddrKey, AddrRole),
    /// Deletes one address.
    AddrDelete(AddrKey),
    /// Writes one service.
    ServiceSet {
        /// Service id.
        id: u32,
        /// Its entry.
        value: Service,
    },
    /// Empties one service's slot.
    ServiceClear(u32),
    /// Writes one backend.
    BackendSet {
        /// Backend id.
        id: u32,
        /// Its entry.
        value: Backend,
    },
    /// Empties one backend's slot.
    BackendClear(u32),
    /// Writes a whole ring.
    RingWrite {
        /// First slot in the arena.
        offset: u32,
        /// Backend id of each slot.
        slots: Vec<u32>,
    },
    /// Writes one SNAT address.
    SnatSet {
        /// Index in `xlb_snat`.
        index: u32,
        /// The address.
        value: SnatAddr,
    },
    /// Empties one SNAT slot.
    SnatClear(u32),
    /// Writes one name.
    NameSet(NameKey, Name),
    /// Deletes one name.
    NameDelete(NameKey),
}

/// The writes that turn `old` into `new`, in an order that is safe after each of them.
pub fn diff(_old: &Image, _new: &Image) -> Vec<Op> {
    Vec::new()
}
