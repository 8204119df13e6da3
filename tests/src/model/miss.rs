//! Section 5 of the page: packets without an established flow, and new flows.

use std::net::IpAddr;

use lb_common::abi::{Service, backend_state, direction, endpoint_kind, hop_flag, mode, on_miss, role};
use lb_common::hash::flow;
use lb_common::reason::{DropReason, PassReason};

use super::flows::source_mac;
use super::parse::View;
use super::{Arrival, Conn, Expected, Forbidden, Model, Observed, endpoint_key, mapped, word};
use crate::packets::flags;

impl Model {
    pub(super) fn miss(
        &mut self,
        arrival: Arrival<'_>,
        view: &View,
        observed: &dyn Observed,
    ) -> Result<Expected, Forbidden> {
        if let Some((id, side)) = self.find(&view.key)
            && let Some(done) = self.half_hit(id, side, arrival, view)
        {
            return Ok(done);
        }
        let dropped = |reason| Ok(Expected::drop(reason));
        if is_invalid_source(view.key.src) {
            return dropped(DropReason::SourceInvalid);
        }
        if view.key.src_port == 0 || view.key.dst_port == 0 {
            return dropped(DropReason::PortZero);
        }
        let key = endpoint_key(view.key.dst, view.key.dst_port, view.key.protocol);
        match self.world.endpoints.get(&key) {
            Some(endpoint) if endpoint.kind == endpoint_kind::SERVICE => {
                let Some(service) = self.world.services.get(&endpoint.service_id).copied() else {
                    return dropped(DropReason::MapInconsistent);
                };
                self.new_flow(arrival, view, endpoint.service_id, &service, observed)
            }
            _ => Ok(self.no_service(arrival, view)),
        }
    }
    /// Section 5.3 without a service.
    fn no_service(&self, arrival: Arrival<'_>, view: &View) -> Expected {
        if self.is_snat_tuple(view.key.dst, view.key.dst_port) {
            return Expected::drop(DropReason::SnatNoFlow);
        }
        if self.world.addrs.contains_key(&mapped(view.key.dst)) {
            return Expected::pass(PassReason::OtherPort, arrival.frame);
        }
        let source = endpoint_key(view.key.src, view.key.src_port, view.key.protocol);
        let kind = self.world.endpoints.get(&source).map(|endpoint| endpoint.kind);
        if kind == Some(endpoint_kind::GATEWAY_BACKEND) {
            return Expected::drop(DropReason::GatewayNoFlow);
        }
        Expected::pass(PassReason::NotOurs, arrival.frame)
    }

    fn is_snat_tuple(&self, address: IpAddr, port: u16) -> bool {
        let roles = self.world.addrs.get(&mapped(address)).copied().unwrap_or_default();
        let range = self.world.settings.snat_port_min..=self.world.settings.snat_port_max;
        roles & role::SNAT != 0 && range.contains(&port)
    }

    /// Sections 5.4 to 5.7.
    fn new_flow(
        &mut self,
        arrival: Arrival<'_>,
        view: &View,
        service_id: u32,
        service: &Service,
        observed: &dyn Observed,
    ) -> Result<Expected, Forbidden> {
        let dropped = |reason| Ok(Expected::drop(reason));
        let source = endpoint_key(view.key.src, view.key.src_port, view.key.protocol);
        let kind = self.world.endpoints.get(&source).map(|endpoint| endpoint.kind);
        if kind == Some(endpoint_kind::SERVICE) || self.is_snat_tuple(view.key.src, view.key.src_port) {
            return dropped(DropReason::SourceIsOurs);
        }
        if !view.is_tcp() && view.ip.src.is_ipv6() && view.udp_checksum == 0 {
            return dropped(DropReason::Udp6ZeroChecksum);
        }
        if view.ip.ttl <= 1 {
            return dropped(DropReason::TtlExpired);
        }
        if view.is_tcp() && view.has(flags::SYN) && view.tcp_flags & (flags::FIN | flags::RST) != 0 {
            return dropped(DropReason::BadTcpFlags);
        }
        let recovered = view.is_tcp() && !view.is_plain_syn();
        if recovered {
            if view.has(flags::RST) {
                return dropped(DropReason::TcpNoFlow);
            }
            if service.mode == mode::FULL_NAT {
                return match service.on_miss {
                    on_miss::DROP => dropped(DropReason::TcpNoFlow),
                    _ => self.reset(arrival, view, observed),
                };
            }
        }
        let hash = flow(
            self.world.settings.hash_seed,
            word(view.key.src),
            view.key.src_port,
            word(view.key.dst),
            view.key.dst_port,
        );
        let backend_id = match self.select(view, service_id, service, hash) {
            Ok(id) => id,
            Err(reason) => return dropped(reason),
        };
        let reply = match self.claim(view, service, backend_id, hash, observed)? {
            Ok(reply) => reply,
            Err(reason) => return dropped(reason),
        };
        let id = self.insert(Conn {
            forward: view.key,
            reply,
            backend_id,
            mode: service.mode,
            established: false,
            isn: None,
            recovered,
            answered: false,
            tcp_seen: [0, 0],
            last_seen: [self.now; 2],
            created: self.now,
            peer_mac: source_mac(arrival),
            iface: self.world.ifaces[&arrival.ifindex],
            reply_forgotten: false,
        });
        self.stats(backend_id).flows_new += 1;
        Ok(self.forward(id, direction::FORWARD, arrival, view))
    }

    /// Section 5.5.
    fn select(&self, view: &View, service_id: u32, service: &Service, hash: u32) -> Result<u32, DropReason> {
        let (offset, size) = match view.key.dst {
            IpAddr::V4(_) => (service.ring4_offset, service.ring4_size),
            IpAddr::V6(_) => (service.ring6_offset, service.ring6_size),
        };
        let is_usable = |id: u32| {
            let backend = self.backend(id);
            backend.service_id == service_id && backend.state == backend_state::ACTIVE
        };
        let slots = (0..if size == 0 { 0 } else { 4_u32 }).map(|k| offset + (hash.wrapping_add(k) & (size - 1)));
        let chosen = slots
            .map(|slot| self.world.rings[slot as usize])
            .find(|id| is_usable(*id));
        let id = chosen.ok_or(DropReason::NoBackend)?;
        if self.backend(id).hop_flags & hop_flag::VALID == 0 {
            return Err(DropReason::NoNeighbour);
        }
        Ok(id)
    }
}

/// Section 5.2.
fn is_invalid_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.to_ipv4_mapped().is_some(),
    }
}
