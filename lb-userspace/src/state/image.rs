//! The exact contents of the maps the agent writes, and single writes to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_common::abi::{
    AddrKey, AddrRole, Backend, Endpoint, EndpointKey, Iface, Name, NameKey, Service, Settings, SnatAddr, name_kind,
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
    /// `xlb_rings` by offset: the rings that services name. Retired ones are absent. Images share those that stay.
    pub rings: BTreeMap<u32, Arc<Vec<u32>>>,
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
        slots: Arc<Vec<u32>>,
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

impl Image {
    /// Spans of the arena that services name: (offset, size).
    pub fn ring_spans(&self) -> impl Iterator<Item = (u32, u32)> {
        self.services.values().flat_map(service_spans)
    }

    /// Services in use: those with an entry, a name, or a backend.
    pub fn service_ids(&self) -> impl Iterator<Item = u32> {
        let named = self
            .names
            .keys()
            .filter(|key| key.kind == name_kind::SERVICE)
            .map(|key| key.id);
        let of_backends = self.backends.values().map(|backend| backend.service_id);
        self.services.keys().copied().chain(named).chain(of_backends)
    }

    /// Does to the image what the op does to the maps.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Settings(settings) => self.settings = *settings,
            Op::IfaceSet(iface) => drop(self.ifaces.insert(iface.ifindex, *iface)),
            Op::IfaceClear(ifindex) => drop(self.ifaces.remove(ifindex)),
            Op::TxPortSet(ifindex) => drop(self.tx_ports.insert(*ifindex)),
            Op::TxPortClear(ifindex) => drop(self.tx_ports.remove(ifindex)),
            Op::OursSet { block, bits: 0 } => drop(self.ours.remove(block)),
            Op::OursSet { block, bits } => drop(self.ours.insert(*block, *bits)),
            Op::EndpointSet(key, value) => drop(self.endpoints.insert(*key, *value)),
            Op::EndpointDelete(key) => drop(self.endpoints.remove(key)),
            Op::AddrSet(key, value) => drop(self.addrs.insert(*key, *value)),
            Op::AddrDelete(key) => drop(self.addrs.remove(key)),
            Op::ServiceSet { id, value } => {
                let before = self.services.insert(*id, *value);
                self.forget_rings_of(before);
            }
            Op::ServiceClear(id) => {
                let before = self.services.remove(id);
                self.forget_rings_of(before);
            }
            Op::BackendSet { id, value } => drop(self.backends.insert(*id, *value)),
            Op::BackendClear(id) => drop(self.backends.remove(id)),
            Op::RingWrite { offset, slots } => self.write_ring(*offset, slots),
            Op::SnatSet { index, value } => drop(self.snat.insert(*index, *value)),
            Op::SnatClear(index) => drop(self.snat.remove(index)),
            Op::NameSet(key, value) => drop(self.names.insert(*key, *value)),
            Op::NameDelete(key) => drop(self.names.remove(key)),
        }
    }

    /// A ring that no service names any more is retired: absent.
    fn forget_rings_of(&mut self, service: Option<Service>) {
        for (offset, size) in service.iter().flat_map(service_spans) {
            if !self.ring_spans().any(|span| span == (offset, size)) {
                self.rings.remove(&offset);
            }
        }
    }

    /// What stood in these slots is gone, also where it was written and never named.
    fn write_ring(&mut self, offset: u32, slots: &Arc<Vec<u32>>) {
        let end = offset.saturating_add(slots.len() as u32);
        self.rings
            .retain(|start, ring| *start >= end || start.saturating_add(ring.len() as u32) <= offset);
        self.rings.insert(offset, Arc::clone(slots));
    }
}

fn service_spans(service: &Service) -> impl Iterator<Item = (u32, u32)> + use<> {
    let spans = [
        (service.ring4_offset, service.ring4_size),
        (service.ring6_offset, service.ring6_size),
    ];
    spans.into_iter().filter(|(_, size)| *size > 0)
}
