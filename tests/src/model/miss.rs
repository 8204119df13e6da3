//! Section 5 of the page: half-open connections and new ones.

use std::net::IpAddr;

use lb_common::abi::{Service, backend_state, direction, endpoint_kind, hop_flag, mode, on_miss, role};
use lb_common::hash::flow;
use lb_common::limits::SNAT_PROBES;
use lb_common::reason::{DropReason, PassReason};

use super::flows::{gone, source_mac, unforwardable};
use super::parse::View;
use super::{Arrival, Conn, Expected, Forbidden, HZ, Model, Observed, endpoint_key, mapped, word};
use crate::kernel::Key;
use crate::packets::flags;

/// What stands on a SNAT tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tuple {
    Free,
    Expired(u64),
    /// Closing, since this tick.
    Closing(u64, u64),
    Live,
}

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

    /// Section 5.1. `None`: go on as if there had been no entry.
    fn half_hit(&mut self, id: u64, side: u8, arrival: Arrival<'_>, view: &View) -> Option<Expected> {
        let conn = self.conns[&id].clone();
        let state = self.backend(conn.backend_id).state;
        let must_choose_again = side == direction::FORWARD
            && if view.is_tcp() {
                view.is_plain_syn() && state != backend_state::ACTIVE
            } else {
                gone(state)
            };
        if must_choose_again {
            self.close(id);
            return None;
        }
        let effect = match self.half_effect(&conn, side, view) {
            Ok(effect) => effect,
            Err(reason) => return Some(Expected::drop(reason)),
        };
        if let Some(dropped) = unforwardable(view) {
            return Some(dropped);
        }
        self.follow_client(id, side, arrival);
        let now = self.now;
        self.conns.get_mut(&id)?.last_seen[usize::from(side)] = now;
        match effect {
            Effect::None => {}
            Effect::Retransmission => self.conns.get_mut(&id)?.created = self.now,
            Effect::Isn(isn) => self.conns.get_mut(&id)?.isn = Some(isn),
            Effect::Refused => self.stats(conn.backend_id).flows_refused += 1,
            Effect::Promote { answered } => {
                if let Err(reason) = self.may_promote(&conn) {
                    return Some(Expected::drop(reason));
                }
                let conn = self.conns.get_mut(&id)?;
                conn.last_seen = [now; 2];
                conn.established = true;
                conn.answered |= answered == Answered::Yes;
                self.stats(self.conns[&id].backend_id).flows_opened += 1;
            }
        }
        Some(self.forward(id, side, arrival, view))
    }

    fn may_promote(&self, conn: &Conn) -> Result<(), DropReason> {
        if conn.reply_forgotten {
            return Err(DropReason::HandshakeUnproven);
        }
        if self.planted.contains(&conn.reply) {
            return Err(DropReason::ClaimLost);
        }
        let is_v4 = conn.forward.src.is_ipv4();
        let full = self
            .conns
            .values()
            .filter(|c| c.established && c.forward.src.is_ipv4() == is_v4)
            .count();
        if full >= self.connections {
            Err(DropReason::FlowTableFull)
        } else {
            Ok(())
        }
    }

    fn half_effect(&self, conn: &Conn, side: u8, view: &View) -> Result<Effect, DropReason> {
        match (side == direction::FORWARD, view.is_tcp()) {
            (true, true) => {
                if view.is_plain_syn() {
                    return Ok(Effect::Retransmission);
                }
                if view.has(flags::RST) || conn.recovered {
                    return Ok(Effect::None);
                }
                let proves = view.has(flags::ACK) && conn.isn.is_some_and(|isn| view.ack == isn.wrapping_add(1));
                if proves {
                    Ok(Effect::Promote { answered: Answered::No })
                } else {
                    Err(DropReason::HandshakeUnproven)
                }
            }
            (false, true) => Ok(if view.has(flags::RST) {
                Effect::Refused
            } else if conn.recovered {
                Effect::Promote {
                    answered: Answered::Yes,
                }
            } else if view.has(flags::SYN | flags::ACK) {
                Effect::Isn(view.seq)
            } else {
                Effect::None
            }),
            (true, false) if self.now - conn.created > u64::from(HZ) => Ok(Effect::Promote { answered: Answered::No }),
            (true, false) => Ok(Effect::None),
            (false, false) => Ok(Effect::Promote {
                answered: Answered::Yes,
            }),
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

    /// Section 5.6: the REPLY key of the claimed tuple. The outer error is a choice that was not allowed.
    fn claim(
        &mut self,
        view: &View,
        service: &Service,
        backend_id: u32,
        hash: u32,
        observed: &dyn Observed,
    ) -> Result<Result<Key, DropReason>, Forbidden> {
        let backend = self.backend(backend_id);
        let backend_addr = match view.key.dst {
            IpAddr::V4(_) => IpAddr::from(<[u8; 4]>::try_from(&backend.address[12..]).expect("four bytes")),
            IpAddr::V6(_) => IpAddr::from(backend.address),
        };
        let reply_to = |(dst, dst_port): (IpAddr, u16)| Key {
            src: backend_addr,
            dst,
            src_port: backend.internal_port,
            dst_port,
            protocol: view.key.protocol,
        };
        if service.mode == mode::GATEWAY {
            let key = reply_to((view.key.src, view.key.src_port));
            return match self.tuple(&key) {
                Tuple::Free => Ok(Ok(key)),
                Tuple::Expired(id) | Tuple::Closing(id, _) => {
                    self.close(id);
                    Ok(Ok(key))
                }
                Tuple::Live => Ok(Err(DropReason::GatewayTupleInUse)),
            };
        }
        let candidates: Vec<Key> = self.candidates(view, hash).into_iter().map(reply_to).collect();
        if candidates.is_empty() {
            return Ok(Err(DropReason::NoSnatAddress));
        }
        let entry = observed
            .half_open(&view.key)
            .filter(|entry| entry.direction == direction::FORWARD);
        let chosen = entry.map(|entry| reply_to((entry.new_src, entry.new_src_port)));
        self.judge_choice(&candidates, chosen.as_ref())?;
        let Some(chosen) = chosen else {
            return Ok(Err(DropReason::SnatExhausted));
        };
        if let Tuple::Expired(id) | Tuple::Closing(id, _) = self.tuple(&chosen) {
            self.close(id);
        }
        Ok(Ok(chosen))
    }

    /// The tuples a claim tries, in order.
    fn candidates(&self, view: &View, hash: u32) -> Vec<(IpAddr, u16)> {
        let addresses = self.world.snat(view.key.dst);
        let settings = &self.world.settings;
        let (min, max) = (settings.snat_port_min, settings.snat_port_max);
        let range = u32::from(max) - u32::from(min) + 1;
        let stride = if range > 1_024 { 509 } else { 1 };
        let count = addresses.len() as u32;
        let own = view.key.src_port;
        (0..if count == 0 { 0 } else { SNAT_PROBES })
            .map(|k| {
                let address = addresses[(hash.wrapping_add(k) % count) as usize];
                let port = min + (((hash >> 8) + k / count * stride) % range) as u16;
                let keeps_own = k == 0 && (min..=max).contains(&own);
                (address, if keeps_own { own } else { port })
            })
            .collect()
    }

    /// The first candidate that is free or expired, else the one closed longest (at most a second is not told apart:
    /// `last_seen` is no finer), else none.
    fn judge_choice(&self, candidates: &[Key], chosen: Option<&Key>) -> Result<(), Forbidden> {
        let is_free = |key: &&Key| matches!(self.tuple(key), Tuple::Free | Tuple::Expired(_));
        let closed_at = |key: &Key| match self.tuple(key) {
            Tuple::Closing(_, since) => Some(since),
            _ => None,
        };
        let first_free = candidates.iter().find(is_free);
        let first_closed = candidates.iter().filter_map(closed_at).min();
        let is_right = match (first_free, first_closed, chosen) {
            (Some(free), _, Some(chosen)) => free == chosen,
            (None, Some(first), Some(chosen)) => {
                candidates.contains(chosen) && closed_at(chosen).is_some_and(|at| at <= first + u64::from(HZ))
            }
            (None, None, None) => true,
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        let all: Vec<_> = candidates
            .iter()
            .map(|key| (key.dst, key.dst_port, self.tuple(key)))
            .collect();
        Err(Forbidden(format!("claimed {chosen:?} out of {all:?}")))
    }

    fn tuple(&self, key: &Key) -> Tuple {
        let Some((id, _)) = self.find(key) else {
            return Tuple::Free;
        };
        let conn = &self.conns[&id];
        if self.has_expired(conn) {
            Tuple::Expired(id)
        } else if conn.established && conn.is_closing() {
            Tuple::Closing(id, conn.last_seen[0].max(conn.last_seen[1]))
        } else {
            Tuple::Live
        }
    }
}

/// What a packet does to the half-open connection it belongs to.
enum Effect {
    None,
    Retransmission,
    Isn(u32),
    Refused,
    Promote { answered: Answered },
}

#[derive(PartialEq, Eq)]
enum Answered {
    Yes,
    No,
}

/// Section 5.2.
fn is_invalid_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.to_ipv4_mapped().is_some(),
    }
}
