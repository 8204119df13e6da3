//! The image as it stands in the kernel, and single writes to it. Both are literal: what is read is what the program
//! reads, and an op is one map write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aya::maps::MapError;
use aya::maps::xdp::XdpMapError;
use lb_common::abi::{Backend, IFACE_SLOTS, Iface, OursBlock, Service, SnatAddr};
use lb_common::names;

use super::error::DataplaneError;
use super::maps::{errno, failed, is_absent};
use super::{Dataplane, pins};
use crate::state::{Image, Op};

impl Dataplane {
    /// Reads the whole image. Rings are those that services name; interfaces that vanished from the device map are
    /// absent from `tx_ports`.
    pub fn read_image(&self) -> Result<Image, DataplaneError> {
        let maps = &self.maps;
        let services: BTreeMap<u32, Service> = maps.services.used()?.into_iter().collect();
        Ok(Image {
            settings: maps.settings.read(0)?,
            ifaces: maps
                .ifaces
                .used()?
                .into_iter()
                .map(|(_, iface)| (iface.ifindex, iface))
                .collect(),
            tx_ports: self.tx_ports()?,
            ours: maps
                .ours
                .used()?
                .into_iter()
                .map(|(block, value)| (block, value.bits))
                .collect(),
            endpoints: maps.endpoints.all()?.into_iter().collect(),
            addrs: maps.addrs.all()?.into_iter().collect(),
            rings: self.rings(&services)?,
            services,
            backends: maps.backends.used()?.into_iter().collect(),
            snat: maps.snat.used()?.into_iter().collect(),
            names: maps.names.all()?.into_iter().collect(),
        })
    }

    /// The device map as it is: entries go with their interfaces.
    pub fn tx_ports(&self) -> Result<BTreeSet<u32>, DataplaneError> {
        let keys = self.maps.tx_ports.keys();
        keys.collect::<Result<_, _>>().map_err(failed(names::TX_PORTS, "read"))
    }

    fn rings(&self, services: &BTreeMap<u32, Service>) -> Result<BTreeMap<u32, Arc<Vec<u32>>>, DataplaneError> {
        let spans = services
            .values()
            .flat_map(|service| {
                [
                    (service.ring4_offset, service.ring4_size),
                    (service.ring6_offset, service.ring6_size),
                ]
            })
            .filter(|(_, size)| *size > 0);
        spans
            .map(|(offset, size)| {
                let ring = self.maps.rings.read(offset, size)?;
                Ok((offset, Arc::new(ring)))
            })
            .collect()
    }

    fn set_iface(&mut self, iface: Iface) -> Result<(), DataplaneError> {
        let slot = iface.ifindex % IFACE_SLOTS;
        let other = self.maps.ifaces.read(slot)?.ifindex;
        // A slot left by an interface that is gone may be taken; one in use may not.
        let in_use = other != 0 && other != iface.ifindex;
        if in_use
            && pins::links(&self.options.pin_dir)?
                .iter()
                .any(|link| link.info.ifindex == other)
        {
            return Err(DataplaneError::IfaceSlotTaken {
                ifindex: iface.ifindex,
                other,
                slot,
            });
        }
        self.maps.ifaces.write(slot, iface)
    }

    fn clear_iface(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        let slot = ifindex % IFACE_SLOTS;
        if self.maps.ifaces.read(slot)?.ifindex != ifindex {
            return Ok(());
        }
        self.maps.ifaces.write(slot, Iface::default())
    }

    fn set_tx_port(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        let error = match self.maps.tx_ports.insert(ifindex, ifindex, None, 0) {
            Ok(()) => return Ok(()),
            Err(XdpMapError::MapError(error)) => error,
            Err(other) => MapError::from(std::io::Error::other(other)),
        };
        // The kernel says EINVAL when the namespace has no such interface.
        match errno(&error) {
            Some(libc::EINVAL | libc::ENODEV) => Err(DataplaneError::TxPortGone { ifindex }),
            _ => Err(failed(names::TX_PORTS, "write")(error)),
        }
    }

    fn clear_tx_port(&mut self, ifindex: u32) -> Result<(), DataplaneError> {
        match self.maps.tx_ports.remove(ifindex) {
            // It went with its interface.
            Err(error) if is_absent(&error) => Ok(()),
            result => result.map_err(failed(names::TX_PORTS, "delete")),
        }
    }

    /// Empties a backend's slot and its counters: the id's next backend starts at zero.
    fn clear_backend(&mut self, id: u32) -> Result<(), DataplaneError> {
        self.maps.backends.write(id, Backend::default())?;
        self.maps.backend_stats.clear(id)
    }
}

/// See [`Dataplane::apply`].
pub(super) fn apply(dataplane: &mut Dataplane, op: &Op) -> Result<(), DataplaneError> {
    let maps = &mut dataplane.maps;
    match op {
        Op::Settings(settings) => maps.settings.write(0, *settings),
        Op::IfaceSet(iface) => dataplane.set_iface(*iface),
        Op::IfaceClear(ifindex) => dataplane.clear_iface(*ifindex),
        Op::TxPortSet(ifindex) => dataplane.set_tx_port(*ifindex),
        Op::TxPortClear(ifindex) => dataplane.clear_tx_port(*ifindex),
        Op::OursSet { block, bits } => maps.ours.write(*block, OursBlock { bits: *bits }),
        Op::EndpointSet(key, endpoint) => maps.endpoints.insert(*key, *endpoint),
        Op::EndpointDelete(key) => maps.endpoints.delete(*key),
        Op::AddrSet(key, role) => maps.addrs.insert(*key, *role),
        Op::AddrDelete(key) => maps.addrs.delete(*key),
        Op::ServiceSet { id, value } => maps.services.write(*id, *value),
        Op::ServiceClear(id) => maps.services.write(*id, Service::default()),
        Op::BackendSet { id, value } => maps.backends.write(*id, *value),
        Op::BackendClear(id) => dataplane.clear_backend(*id),
        Op::RingWrite { offset, slots } => maps.rings.write(*offset, slots),
        Op::SnatSet { index, value } => maps.snat.write(*index, *value),
        Op::SnatClear(index) => maps.snat.write(*index, SnatAddr::default()),
        Op::NameSet(key, name) => maps.names.insert(*key, *name),
        Op::NameDelete(key) => maps.names.delete(*key),
    }
}
